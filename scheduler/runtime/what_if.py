"""What the queue would do under another tenant tree: the planner itself, on facts with that tree.

Each tree gets a state of its own, read from one snapshot of the store, so the planner's state in
use is never touched, and both are asked of the same moment. That costs a reading of the store for
each: with a million queued jobs, the better part of a minute in which nothing else is planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.core.quota import QuotaTree
from scheduler.model.ids import JobId
from scheduler.model.plan import (
    BudgetChanged,
    Change,
    JobChanged,
    JobClass,
    Plan,
    PlanBudget,
    QueueLoaded,
    TenantsChanged,
)
from scheduler.model.tenancy import Tenant
from scheduler.model.whatif import JobsWaiting, JobThere, Outcome, WhatIf
from scheduler.store.store import Snapshot

LISTED_MAX = 1_000
"""Jobs and classes that are listed of each kind; all are counted."""
BUDGET = PlanBudget(placements_max=1_000_000, attempts_max=10_000_000)
"""One plan for the whole queue: what is asked is where it ends, not what one round does."""


def what_if(snapshot: Snapshot, tenants: Sequence[Tenant], now_ms: int) -> WhatIf:
    """The next plan under the tree in force and under `tenants`."""
    return WhatIf(
        now=_outcome(snapshot, None, now_ms),
        then=_outcome(snapshot, tuple(tenants), now_ms),
    )


def _outcome(snapshot: Snapshot, tenants: tuple[Tenant, ...] | None, now_ms: int) -> Outcome:
    waiting: Counter[JobClass] = Counter()
    state = FleetState()
    sequence, changes = snapshot.changes.load_all()
    state.apply_all(sequence, _under(snapshot, tenants, _counted(waiting, changes)))
    made = plan(state, now_ms, BUDGET)
    return _told(snapshot, made, waiting)


def _counted(waiting: Counter[JobClass], changes: Iterable[Change]) -> Iterator[Change]:
    """The changes as they are, and how many jobs of each class wait."""
    for change in changes:
        if isinstance(change, JobChanged) and change.queued is not None:
            waiting[change.queued.job_class] += 1
        elif isinstance(change, QueueLoaded):
            waiting[change.job_class] += len(change.ids)
        yield change


def _under(
    snapshot: Snapshot, tenants: tuple[Tenant, ...] | None, changes: Iterable[Change]
) -> Iterator[Change]:
    """The changes, with `tenants` in place of the tree in force, and what their budgets spent."""
    for change in changes:
        if tenants is None:
            yield change
        elif isinstance(change, TenantsChanged):
            yield TenantsChanged(tenants)
            for use in snapshot.usage.for_budgets(QuotaTree(tenants)):
                yield BudgetChanged(use)
        elif not isinstance(change, BudgetChanged):
            yield change


def _told(snapshot: Snapshot, made: Plan, waiting: Counter[JobClass]) -> Outcome:
    starts = tuple(
        JobThere(p.key.job, row.tenant, p.site, p.gpu_class, p.gpu_milli)
        for p in made.placements[:LISTED_MAX]
        if (row := snapshot.jobs.row(p.key.job)) is not None
    )
    reclaims: list[JobThere] = []
    for preempt in made.preemptions[:LISTED_MAX]:
        row, attempt = snapshot.jobs.row(preempt.victim.job), snapshot.attempts.row(preempt.victim)
        if row is not None and attempt is not None:
            reclaims.append(
                JobThere(
                    row.id,
                    row.tenant,
                    attempt.site,
                    attempt.gpu_class,
                    attempt.gpu_milli,
                    preempt.detail,
                )
            )
    left = waiting - _placed_by_class(snapshot, [p.key.job for p in made.placements])
    reasons = {blocked.job_class: blocked.denials for blocked in made.blocked}
    waits = [
        JobsWaiting(
            tenant=job_class.tenant,
            jobs=left[job_class],
            nodes=job_class.resources.nodes,
            gpus_per_node=job_class.resources.gpus_per_node,
            denials=reasons.get(job_class, ()),
        )
        for job_class in left
    ]
    waits.sort(key=lambda wait: (wait.tenant, -wait.jobs, wait.nodes, wait.gpus_per_node))
    return Outcome(
        starts=starts,
        reclaims=tuple(reclaims),
        waits=tuple(waits[:LISTED_MAX]),
        jobs_starting=len(made.placements),
        jobs_reclaimed=len(made.preemptions),
        jobs_waiting=left.total(),
    )


def _placed_by_class(snapshot: Snapshot, placed: Sequence[JobId]) -> Counter[JobClass]:
    rows = snapshot.jobs.rows(placed)
    return Counter(snapshot.jobs.job_class(rows[job].class_id) for job in placed if job in rows)
