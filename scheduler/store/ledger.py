"""What is used and queued, summed for speed. Derived: rebuilt from the tables at every open.

The simple equivalent is a SUM over live attempts and a COUNT over queued jobs at each question;
that costs a scan of 100,000 rows a plan. The ledger is never stored, belongs to the one writer, and
every adjustment is undone when the transaction or savepoint that made it is rolled back.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from scheduler.core.power import Draws
from scheduler.core.quota import Usage, charge, lineage
from scheduler.model.ids import GpuClass, SiteId, TenantPath
from scheduler.store.schema import ATTEMPTS, JOB_CLASSES, JOBS, QUEUED, of_live


def _counts() -> defaultdict[TenantPath, int]:
    return defaultdict(int)


@dataclass(slots=True)
class Ledger:
    """Sums for every node of the tree: its own work and all below it."""

    queued_jobs: defaultdict[TenantPath, int] = field(default_factory=_counts)
    used: Usage = field(default_factory=lambda: {})
    draws: Draws = field(default_factory=Draws)
    """What is held at each site."""

    def add_queued(self, tenant: TenantPath, jobs: int) -> None:
        """`jobs` more (or fewer) of `tenant` wait."""
        for path in lineage(tenant):
            self.queued_jobs[path] += jobs
            assert self.queued_jobs[path] >= 0, f"{path} has fewer than no queued jobs"

    def add_used(self, tenant: TenantPath, site: SiteId, gpu_class: GpuClass, milli: int) -> None:
        """`milli` more (or fewer) of `gpu_class` are held at `site` by `tenant`."""
        charge(self.used, tenant, gpu_class, milli)
        self.draws.charge(site, gpu_class, milli)
        for path in lineage(tenant):
            assert self.used[path][gpu_class] >= 0, f"{path} uses less than no {gpu_class}"

    def usage(self) -> Usage:
        """What is used, where anything is: without the zeros that history leaves."""
        lines = {path: {k: v for k, v in line.items() if v} for path, line in self.used.items()}
        return {path: line for path, line in lines.items() if line}

    def queues(self) -> dict[TenantPath, int]:
        """How many wait, where any do."""
        return {key: jobs for key, jobs in sorted(self.queued_jobs.items()) if jobs}


def derive(connection: Connection) -> Ledger:
    """The ledger of the tables as they are."""
    ledger = Ledger()
    # By class: the index over queued jobs has it, and a class has one tenant.
    counts = select(JOBS.c.class_id, func.count().label("jobs")).where(QUEUED)
    by_class = counts.group_by(JOBS.c.class_id).subquery()
    queued = select(JOB_CLASSES.c.body, by_class.c.jobs).join(
        by_class, by_class.c.class_id == JOB_CLASSES.c.id
    )
    for body, jobs in connection.execute(queued):
        ledger.add_queued(TenantPath(json.loads(body)["tenant"]), int(jobs))
    lines = JOBS.c.tenant, ATTEMPTS.c.site, ATTEMPTS.c.gpu_class
    charged = select(*lines, func.sum(ATTEMPTS.c.gpu_milli))
    charged = charged.join(JOBS, JOBS.c.id == ATTEMPTS.c.job)
    for tenant, site, gpu_class, milli in connection.execute(of_live(charged).group_by(*lines)):
        ledger.add_used(TenantPath(tenant), SiteId(site), GpuClass(gpu_class), int(milli))
    return ledger
