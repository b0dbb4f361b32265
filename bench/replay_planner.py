"""The production planner in virtual time: its state is fed by the change feed, as in production.

At every event the changes are applied, the planner plans, and what it decided comes back as
changes: placements start at once, reservations stand or fall, victims of a preemption leave after
their grace and wait again. An event is a submission, an end, or the moment at which time alone
moves how running work ranks while others wait: in production, which plans every two seconds while
anybody waits, it is seen then.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from bench.replay import Outcome, Overhead
from bench.shares import Shares
from bench.traces import Cluster, GpuJob
from bench.worlds import NOW_MS, Shape, fleet_changes
from scheduler.core.classes import class_of
from scheduler.core.fleet import FleetState
from scheduler.core.lengths import LEARN_EVERY_MS, RUNS_MAX, Run, learned
from scheduler.core.planner import plan
from scheduler.core.ranks import gpus_of, tells_length, with_service
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import JobSpec, JobState, Placement, Preemption, Resources
from scheduler.model.plan import (
    Change,
    JobChanged,
    JobClass,
    LengthsChanged,
    LiveAttempt,
    PlanBudget,
    Preempt,
    QueuedJob,
    ReservationChanged,
    TenantsChanged,
)
from scheduler.model.residency import NodeSharing, Requirement
from scheduler.model.tenancy import Tenant

ANYBODY = TenantPath("everybody")
"""Whose jobs are of no tenant."""
GRACE_MS = 1_000
"""Writing the checkpoint; what stopping and starting cost beyond it is the job's own restart."""
UNDECLARED_MS = 365 * 24 * 3600 * 1000
"""The common limit of jobs that declare none."""
EVENTS_MAX = 5_000_000
BUDGET = PlanBudget()


class Limits(Enum):
    """What jobs declare as their time limit."""

    DURATION = auto()
    NONE = auto()


@dataclass(slots=True)
class Work:
    """One job and how far it is. Times are milliseconds of virtual time, from 0."""

    job: GpuJob
    job_class: JobClass
    left_ms: int
    attempt: int = 1
    placement: Placement | None = None
    checked_ms: int = 0
    started_ms: int = -1
    ends_ms: int = -1
    leaving: bool = False
    restarts: int = 0
    began_ms: int = 0
    had_gpu_ms: int = 0
    """GPU time of its attempts so far, as the store adds it up."""


class PlannerReplay:
    """A cluster of equal nodes under the production planner."""

    def __init__(
        self,
        jobs: Sequence[GpuJob],
        cluster: Cluster,
        tenants: Sequence[Tenant],
        *,
        limits: Limits = Limits.DURATION,
        overhead: Overhead = Overhead.RESTART,
        stretch_permille: int = 1000,
        guarantees: Mapping[str, int] | None = None,
    ) -> None:
        self.fleet = FleetState()
        self.orders = {tenant.path: tenant.queue_order for tenant in tenants}
        self.sequence = 0
        self.overhead = overhead
        self.now_ms = 0
        self.waiting: list[GpuJob] = sorted(jobs, key=lambda job: (job.submit_s, job.id))
        self.limits = limits
        self.stretch_permille = stretch_permille
        self.gpus_per_node = cluster.gpus_per_node
        self.shares = Shares(guarantees or {})
        self.works: dict[JobId, Work] = {}
        self.running: set[JobId] = set()
        # Ends as they were foreseen; one holds while its work still says the same.
        self.ends: list[tuple[int, JobId]] = []
        self.outcomes: list[Outcome] = []
        self.plans = self.preemptions = 0
        # Of jobs that ended: how long they ran. What projects learn from, as the store has it.
        self.runs: dict[TenantPath, dict[JobId, Run]] = {}
        self.learns_ms = 0
        shape = Shape(1, 1, cluster.nodes, cluster.gpus_per_node)
        self._feed([*fleet_changes(shape, 0), TenantsChanged(tuple(tenants))])

    def run(self) -> list[Outcome]:
        """Everything from the first submission to the last end."""
        at = 0
        for _ in range(EVENTS_MAX):
            start_ms = _ms(self.waiting[at].submit_s) if at < len(self.waiting) else None
            end_ms = self._next_end()
            if start_ms is None and end_ms is None:
                assert not self.works, f"{len(self.works)} jobs wait for nothing"
                return self.outcomes
            rank_ms = self._next_rank()
            self.now_ms = min(ms for ms in (start_ms, end_ms, rank_ms) if ms is not None)
            self.shares.until(self.now_ms)
            changes = self._ended()
            while at < len(self.waiting) and _ms(self.waiting[at].submit_s) <= self.now_ms:
                changes.append(self._submitted(self.waiting[at]))
                at += 1
            if self.overhead is Overhead.EVERY_EVENT:
                self._progress()
            if self.now_ms >= self.learns_ms:
                changes += self._learned()
            self._feed(changes)
            self._plan()
        raise AssertionError("the replay did not end")

    def _plan(self) -> None:
        made = plan(self.fleet, NOW_MS + self.now_ms, BUDGET)
        self.plans += 1
        changes: list[Change] = [ReservationChanged(job, None) for job in made.released]
        changes += [ReservationChanged(kept.job, kept) for kept in made.reservations]
        changes += [self._started(placement) for placement in made.placements]
        changes += [self._leaves(preempt) for preempt in made.preemptions]
        if made.mix is not None:
            changes.append(made.mix)
        self._feed(changes)

    def _feed(self, changes: Iterable[Change]) -> None:
        self.sequence += 1
        self.fleet.apply_all(self.sequence, changes)

    def _submitted(self, job: GpuJob) -> Change:
        number = JobId(job.id + 1)
        left_ms = _ms(job.duration_s) * self.stretch_permille // 1000
        declared_ms = max(1, left_ms) if self.limits is Limits.DURATION else UNDECLARED_MS
        work = Work(
            job,
            class_of(_spec(job, declared_ms, self.gpus_per_node), tenant_of(job.tenant)),
            left_ms,
        )
        self.works[number] = work
        return self._queued(number, work)

    def _queued(self, number: JobId, work: Work) -> Change:
        submitted_ms = NOW_MS + _ms(work.job.submit_s)
        self.shares.waits(work.job.tenant, work.job.gpus)
        queued = QueuedJob(number, work.job_class, submitted_ms, work.attempt)
        return JobChanged(number, queued, None)

    def _started(self, placement: Placement) -> Change:
        work = self.works[placement.key.job]
        self.shares.starts(work.job.tenant, work.job.gpus)
        work.placement = placement
        work.checked_ms = work.began_ms = self.now_ms
        if work.started_ms < 0:
            work.started_ms = self.now_ms
        elif self.overhead is Overhead.RESTART:
            work.left_ms += _ms(work.job.restart_s)
        self.running.add(placement.key.job)
        self._push(placement.key.job, work, self.now_ms + work.left_ms)
        return self._live(work, placement, JobState.RUNNING)

    def _leaves(self, preempt: Preempt) -> Change:
        work = self.works[preempt.victim.job]
        assert work.placement is not None, "only what runs is preempted"
        assert not work.leaving, "nothing is asked to leave twice"
        work.left_ms = max(0, work.left_ms - (self.now_ms - work.checked_ms))
        work.leaving = True
        work.restarts += 1
        self.preemptions += 1
        self._push(preempt.victim.job, work, self.now_ms + GRACE_MS)
        return self._live(work, work.placement, JobState.PREEMPTING)

    def _live(self, work: Work, placement: Placement, state: JobState) -> Change:
        began_ms = NOW_MS + work.checked_ms
        live = LiveAttempt(
            placement,
            tenant_of(work.job.tenant),
            work.job_class,
            state,
            placed_at_ms=began_ms,
            started_at_ms=began_ms,
            submitted_at_ms=NOW_MS + _ms(work.job.submit_s),
        )
        return JobChanged(placement.key.job, None, live)

    def _ended(self) -> list[Change]:
        """What is over by now; victims whose grace is over wait again."""
        changes: list[Change] = []
        while (end_ms := self._next_end()) is not None and end_ms <= self.now_ms:
            _, number = heapq.heappop(self.ends)
            work = self.works[number]
            self.running.discard(number)
            self.shares.leaves(work.job.tenant, work.job.gpus)
            work.placement, work.ends_ms = None, -1
            if work.leaving:
                work.leaving = False
                work.attempt += 1
                work.had_gpu_ms += gpus_of(work.job_class) * (self.now_ms - work.began_ms)
                work.job_class = with_service(
                    work.job_class, work.had_gpu_ms, self.orders[work.job_class.tenant]
                )
                changes.append(self._queued(number, work))
                continue
            changes.append(JobChanged(number, None, None))
            self._ran(number, work, is_over=True)
            self.outcomes.append(Outcome(work.job, work.started_ms / 1000, self.now_ms / 1000))
            del self.works[number]
        return changes

    def _ran(self, number: JobId, work: Work, *, is_over: bool) -> None:
        """Notes how long a job ran that did not declare it."""
        had_gpu_ms, gpus = work.had_gpu_ms, gpus_of(work.job_class)
        if is_over or work.placement is not None:
            had_gpu_ms += gpus * (self.now_ms - work.began_ms)
        if had_gpu_ms and not tells_length(work.job_class):
            run = Run(gpus, had_gpu_ms // gpus, is_over)
            self.runs.setdefault(work.job_class.tenant, {})[number] = run

    def _learned(self) -> list[Change]:
        """What each project's jobs tell, the newest of them, as the control plane has it told."""
        self.learns_ms = self.now_ms + LEARN_EVERY_MS
        for number, work in self.works.items():
            self._ran(number, work, is_over=False)
        changes: list[Change] = []
        for tenant, runs in sorted(self.runs.items()):
            newest = [runs[number] for number in sorted(runs)[-RUNS_MAX:]]
            changes.append(LengthsChanged(tenant, learned(newest), NOW_MS + self.now_ms))
        return changes

    def _progress(self) -> None:
        """The published rule: at every event, whatever runs loses its restart overhead."""
        for number in sorted(self.running):
            work = self.works[number]
            if work.leaving:
                continue
            ran_ms = self.now_ms - work.checked_ms
            work.left_ms -= max(0, ran_ms - _ms(work.job.restart_s))
            work.checked_ms = self.now_ms
            self._push(number, work, self.now_ms + max(0, work.left_ms))

    def _push(self, number: JobId, work: Work, end_ms: int) -> None:
        work.ends_ms = end_ms
        heapq.heappush(self.ends, (end_ms, number))

    def _next_rank(self) -> int | None:
        """When time alone next moves how running work ranks, if anybody waits to gain by it."""
        at_ms = self.fleet.evictable.changes_at_ms()
        if at_ms is None or not len(self.fleet.queued):
            return None
        return max(self.now_ms + 1, at_ms - NOW_MS)

    def _next_end(self) -> int | None:
        """The next end that still holds."""
        while self.ends:
            end_ms, number = self.ends[0]
            work = self.works.get(number)
            if work is not None and work.ends_ms == end_ms:
                return end_ms
            heapq.heappop(self.ends)
        return None


def _spec(job: GpuJob, limit_ms: int, gpus_per_node: int) -> JobSpec:
    nodes = -(-job.gpus // gpus_per_node)
    return JobSpec(
        name=str(job.id),
        project=tenant_of(job.tenant),
        command=("work",),
        # As in the references: who stands on a node keeps nobody else off it.
        residency=Requirement(("GB",), node_sharing=NodeSharing.ANY),
        resources=Resources(nodes=nodes, gpus_per_node=-(-job.gpus // nodes)),
        time_limit_ms=limit_ms,
        preemption=Preemption(grace_ms=GRACE_MS),
    )


def tenant_of(name: str) -> TenantPath:
    """The tenant that the jobs of a virtual cluster belong to."""
    return TenantPath(f"vc-{name}") if name else ANYBODY


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
