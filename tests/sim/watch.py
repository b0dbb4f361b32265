"""Watches a run from outside: every commit, every message to a site, every reservation given back.

Keeps what the checkers need at the end, and runs those that must look at each instant.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from scheduler.core.job_ids import JobIdCodec
from scheduler.model.ids import JobId
from tests.sim import checks_services, checks_tables
from tests.sim.checks_runs import Machine
from tests.sim.clock import WALL_AT_START_MS
from tests.sim.fleet import TenantPlan
from tests.sim.ledger import Ledger
from tests.sim.tables import Reader, Tables
from tests.sim.trace import Trace
from tests.sim.truth import History
from tests.sim.workload import Ask

VIOLATIONS_MAX = 20
"""After so many a run is broken enough."""
CANARY = re.compile(rb"canary-\d+-(?:name|env|arg)-[a-z2-7]+")
TENANT = re.compile(rb"trust-a|uni-b")


class Watch:
    """What was seen, and what was wrong with it."""

    def __init__(
        self,
        path: Path,
        codec: JobIdCodec,
        *,
        asks: Iterable[Ask],
        ledger: Ledger,
        machines: Mapping[tuple[str, str], Machine],
        declared: History,
        trace: Trace,
    ) -> None:
        self._path, self._codec = path, codec
        self._ledger, self._machines, self._declared = ledger, machines, declared
        self._trace = trace
        self._reader: Reader | None = None
        self._before = Tables({}, (), 0)
        self._by_name = {ask.spec.name: ask for ask in asks}
        self.tree: dict[str, TenantPlan] = {}
        self.asks: dict[int, Ask] = {}
        self.placed_ms: dict[str, int] = {}
        self.sites_of: defaultdict[str, set[str]] = defaultdict(set)
        self.canaries: defaultdict[str, set[str]] = defaultdict(set)
        self.violations: list[str] = []
        self.commits = 0

    def found(self, check: str, violations: Iterable[str]) -> None:
        """Notes what a checker said, the same only once: some look after each commit."""
        for violation in violations:
            line = f"{check}: {violation}"
            if len(self.violations) < VIOLATIONS_MAX and line not in self.violations:
                self._trace.note("VIOLATION", line)
                self.violations.append(line)

    def tables(self) -> Tables:
        """What is committed now."""
        if self._reader is None:
            self._reader = Reader(self._path)
        return self._reader.read()

    def moves(self) -> list[tuple[str, str, str]]:
        """What the audit log tells of jobs' moves."""
        assert self._reader is not None
        return self._reader.moves()

    def committed(self, what: str) -> None:
        """A control plane has committed."""
        self.commits += 1
        if self._reader is None:
            self._reader = Reader(self._path)
        if not self._reader.changed():
            return
        tables = self._reader.read()
        self._learn_jobs(tables)
        had = {(a.job, a.attempt) for a in self._before.attempts}
        new = [a for a in tables.attempts if (a.job, a.attempt) not in had]
        for attempt in new:
            public = f"{self._codec.encode(JobId(attempt.job))}.{attempt.attempt}"
            self.placed_ms[public] = attempt.placed_wall_ms - WALL_AT_START_MS
            whose = tables.jobs[attempt.job].service or attempt.job
            self.sites_of[self._codec.encode(JobId(whose))].add(attempt.site)
        self.found("quota", checks_tables.quotas_hold(tables, self._before, self.tree))
        self.found("fit", checks_tables.placements_fit(tables, self._machines))
        self.found("live", checks_tables.one_attempt_holds(tables))
        if new:
            self.found("whole", checks_tables.placed_whole(tables, self.asks))
            permitted = checks_tables.placed_where_permitted(new, self.asks, self._declared)
            self.found("residency", permitted)
            self.found("spread", checks_services.spread_is_kept(new, tables, self.asks))
        self.found("replicas", checks_services.never_too_many(tables, self._before))
        self.found("replicas", checks_services.nothing_is_left(tables))
        alive = self._ledger.alive()
        self.found("holders", checks_services.only_holders_run(tables, alive, self._codec.decode))
        self._note_moves(tables)
        self._before = tables

    def _note_moves(self, tables: Tables) -> None:
        """The story of each job, for whoever reads the trace."""
        for number, job in tables.jobs.items():
            before = self._before.jobs.get(number)
            if before is None or before.state != job.state:
                name = self._codec.encode(JobId(number))
                self._trace.note(name, f"is {job.state} {job.reason} {job.message}".rstrip())

    def _learn_jobs(self, tables: Tables) -> None:
        names: dict[str, int] = {}
        for number, job in tables.jobs.items():
            self.asks[number] = self._by_name[job.name]
            if job.service is not None:
                continue
            if job.name in names:
                self.found("idempotency", [f"{job.name} is job {names[job.name]} and {number}"])
            names[job.name] = number

    def seen_going_down(self, site: str, content: bytes) -> None:
        """Bytes on their way to a site."""
        for canary in CANARY.findall(content):
            self.canaries[canary.decode()].add(site)
        for tenant in TENANT.findall(content):
            self.found("canary", [f"{site} was sent the name of tenant {tenant.decode()}"])

    def released(self, key: str) -> None:
        """A site gave the reservation of an attempt back."""
        alive = [r.key for r in self._ledger.alive() if f"{r.job}.{r.attempt}" == key]
        self.found("release", [f"{key} was released while {k} runs" for k in alive])

    def close(self) -> None:
        """The end."""
        if self._reader is not None:
            self._reader.close()
