"""What the queue would do under another tenant tree or with another fleet: the planner itself, on
facts with that in place of what is in force.

Each side gets a state of its own, read from one snapshot of the store, so the planner's state in
use is never touched, and both are asked of the same moment. That costs a reading of the store for
each: with a million queued jobs, the better part of a minute in which nothing else is planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.core.quota import QuotaTree
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.plan import (
    BudgetChanged,
    Change,
    JobChanged,
    JobClass,
    LiveAttempt,
    Plan,
    PlanBudget,
    QueueLoaded,
    TenantsChanged,
)
from scheduler.model.tenancy import Tenant
from scheduler.model.whatif import (
    Displaced,
    JobsWaiting,
    JobThere,
    Other,
    OtherTenants,
    Outcome,
    WhatIf,
)
from scheduler.runtime.other_fleet import FleetInstead
from scheduler.store.store import Snapshot

LISTED_MAX = 1_000
"""Jobs and classes that are listed of each kind; all are counted."""
BUDGET = PlanBudget(placements_max=1_000_000, attempts_max=10_000_000)
"""One plan for the whole queue: what is asked is where it ends, not what one round does."""


Gone: TypeAlias = Mapping[JobId, tuple[LiveAttempt, str]]
"""Attempts that would have to end, and why."""


def what_if(snapshot: Snapshot, other: Other, now_ms: int) -> WhatIf:
    """The next plan as things are, and with `other` in place of what is in force."""
    now = _side(*snapshot.changes.load_all(), now_ms)
    sequence, changes = snapshot.changes.load_all()
    if isinstance(other, OtherTenants):
        then = _side(sequence, _under(snapshot, other.tenants, changes), now_ms)
        return WhatIf(now=_told(snapshot, now, {}), then=_told(snapshot, then, {}))
    fleet = FleetInstead(snapshot, other, now_ms)
    then = _side(sequence, fleet.under(changes), now_ms)
    return WhatIf(
        now=_told(snapshot, now, {}),
        then=_told(snapshot, then, fleet.displaced),
        displaced=_displaced(fleet.displaced, then.plan),
        nodes_assumed=fleet.nodes_assumed,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """The plan made of one side's facts, and how many jobs of each class waited for it."""

    plan: Plan
    waiting: Counter[JobClass]


def _side(sequence: int, changes: Iterable[Change], now_ms: int) -> _Side:
    waiting: Counter[JobClass] = Counter()
    state = FleetState()
    state.apply_all(sequence, _counted(waiting, changes))
    return _Side(plan(state, now_ms, BUDGET), waiting)


def _counted(waiting: Counter[JobClass], changes: Iterable[Change]) -> Iterator[Change]:
    """The changes as they are, and how many jobs of each class wait."""
    for change in changes:
        if isinstance(change, JobChanged) and change.queued is not None:
            waiting[change.queued.job_class] += 1
        elif isinstance(change, QueueLoaded):
            waiting[change.job_class] += len(change.ids)
        yield change


def _under(
    snapshot: Snapshot, tenants: tuple[Tenant, ...], changes: Iterable[Change]
) -> Iterator[Change]:
    """The changes, with `tenants` in place of the tree in force, and what their budgets spent."""
    for change in changes:
        if isinstance(change, TenantsChanged):
            yield TenantsChanged(tenants)
            for use in snapshot.usage.for_budgets(QuotaTree(tenants)):
                yield BudgetChanged(use)
        elif not isinstance(change, BudgetChanged):
            yield change


def _told(snapshot: Snapshot, side: _Side, gone: Gone) -> Outcome:
    made = side.plan
    starts = tuple(
        JobThere(p.key.job, row.tenant, p.site, p.gpu_class, p.gpu_milli)
        for p in made.placements[:LISTED_MAX]
        if (row := snapshot.jobs.row(p.key.job)) is not None
    )
    ended = [_ended(live, why) for _, (live, why) in sorted(gone.items())[:LISTED_MAX]]
    ended += _preempted(snapshot, made, LISTED_MAX - len(ended))
    left = side.waiting - _placed_by_class(snapshot, [p.key.job for p in made.placements])
    waits = _waits(left, made)
    return Outcome(
        starts=starts,
        reclaims=tuple(ended),
        waits=waits,
        jobs_starting=len(made.placements),
        jobs_reclaimed=len(gone) + len(made.preemptions),
        jobs_waiting=left.total(),
    )


def _ended(live: LiveAttempt, why: str) -> JobThere:
    placement = live.placement
    return JobThere(
        placement.key.job,
        live.tenant,
        placement.site,
        placement.gpu_class,
        placement.gpu_milli,
        why,
    )


def _preempted(snapshot: Snapshot, made: Plan, listed_max: int) -> list[JobThere]:
    found: list[JobThere] = []
    for preempt in made.preemptions[:listed_max]:
        row, attempt = snapshot.jobs.row(preempt.victim.job), snapshot.attempts.row(preempt.victim)
        if row is not None and attempt is not None:
            found.append(
                JobThere(
                    row.id,
                    row.tenant,
                    attempt.site,
                    attempt.gpu_class,
                    attempt.gpu_milli,
                    preempt.detail,
                )
            )
    return found


def _waits(left: Counter[JobClass], made: Plan) -> tuple[JobsWaiting, ...]:
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
    return tuple(waits[:LISTED_MAX])


def _displaced(gone: Gone, made: Plan) -> tuple[Displaced, ...]:
    """What each tenant holds where it may not stay, and what of it starts elsewhere at once."""
    held: Counter[tuple[TenantPath, GpuClass]] = Counter()
    placed: Counter[tuple[TenantPath, GpuClass]] = Counter()
    again = {placement.key.job for placement in made.placements}
    for job, (live, _) in gone.items():
        of = (live.tenant, live.placement.gpu_class)
        held[of] += live.placement.gpu_milli
        if job in again:
            placed[of] += live.placement.gpu_milli
    return tuple(
        Displaced(tenant, gpu_class, held[tenant, gpu_class], placed[tenant, gpu_class])
        for tenant, gpu_class in sorted(held)
    )


def _placed_by_class(snapshot: Snapshot, placed: Sequence[JobId]) -> Counter[JobClass]:
    rows = snapshot.jobs.rows(placed)
    return Counter(snapshot.jobs.job_class(rows[job].class_id) for job in placed if job in rows)
