"""Which of the jobs that found no place may have others leave for them, and who leaves.

Simple equivalent: ask for every job that waits, in fair order. Departure: most can ask nobody, and
that is told by their tenant: it runs nothing that ranks lower and is not below a guarantee. Only
the others are looked at. A plan has WORK_MAX steps for them, and counts no time: who is behind in
fair order may have to wait for a later plan, when those before it have what they asked for.

Each job for whom others leave gets a reservation, so that nobody else takes what they leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.core.allowance import within_caps
from scheduler.core.fleet import FleetState
from scheduler.core.outlook import Claim, Outlook
from scheduler.core.power import shed
from scheduler.core.preemption import Barred, Preemption
from scheduler.core.queueing import FairOrder
from scheduler.core.quota import ALL_CLASSES, lineage, used_milli
from scheduler.core.ranks import Rank, outranks
from scheduler.core.stakes import Stake
from scheduler.core.waiting import Waiting
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.plan import JobClass, Preempt, Reservation

PREEMPTIONS_MAX = 1_000
"""Attempts that one plan asks to leave."""
WORK_MAX = 20_000
"""Attempts that one plan looks at for it."""


@dataclass(slots=True)
class Cleared:
    """Who is asked to leave, and what is kept for those they leave for."""

    preemptions: list[Preempt] = field(default_factory=lambda: [])
    reservations: list[tuple[Reservation, JobClass]] = field(default_factory=lambda: [])


def make_room(
    fleet: FleetState,
    turns: FairOrder,
    placed: Mapping[JobId, Stake],
    barred: Barred,
    now_ms: int,
) -> Cleared:
    """Has others leave for jobs in their turn; `placed` found a place in this plan."""
    cleared = Cleared()
    claims = _claims(fleet, placed)
    outlook = Outlook(fleet, fleet.evictable, claims, placed, now_ms)
    preemption = Preemption(outlook, barred)
    while (turn := turns.next()) is not None:
        waiting, at = turn
        job = waiting.ids[at]
        if job in placed:
            turns.placed(ALL_CLASSES)
            continue
        spent = preemption.work >= WORK_MAX or len(cleared.preemptions) >= PREEMPTIONS_MAX
        found = None
        if not spent:
            of, milli = waiting.job_class, waiting.signature.milli or 0
            answer = within_caps(fleet, of, fleet.answer_for(waiting, now_ms), milli, now_ms)
            found = preemption.make_room(job, of, answer)
        if found is None:
            turns.blocked()
            continue
        if found.keys:
            claim = found.claim
            made = Reservation(job, claim.site, claim.gpu_class, claim.nodes, claim.starts_at_ms)
            cleared.reservations.append((made, waiting.job_class))
            cleared.preemptions += [Preempt(key, job, found.detail) for key in found.keys]
        for path in lineage(waiting.job_class.tenant):
            fleet.usage.setdefault(path, {}).setdefault(found.claim.gpu_class, 0)
        turns.placed(found.claim.gpu_class)
    return cleared


def _claims(fleet: FleetState, placed: Mapping[JobId, Stake]) -> list[Claim]:
    """What is reserved for jobs that still wait, with what they ask for."""
    claims: list[Claim] = []
    for job, kept in fleet.reservations.items():
        queued = fleet.queued.get(job)
        if queued is not None and job not in placed:
            of = queued.job_class
            claims.append(Claim(job, of, kept.site, kept.gpu_class, kept.nodes, kept.starts_at_ms))
    return claims


def too_much_power(fleet: FleetState, now_ms: int) -> list[Preempt]:
    """Whom to end where a site draws more than it may, as its cap was lowered."""
    asked: list[Preempt] = []
    for number, cap in sorted(fleet.caps.items()):
        site = fleet.order[number][0].id
        if cap.used_w(fleet.draws.at(site)) <= cap.cap_w:
            continue
        here = [live for _, live in sorted(fleet.live.items()) if live.placement.site == site]
        detail = f"{site} may draw {cap.cap_w} W"
        asked += [
            Preempt(fleet.live[job].placement.key, None, detail) for job in shed(cap, here, now_ms)
        ]
    return asked[:PREEMPTIONS_MAX]


def hopeful_classes(fleet: FleetState, unserved: Sequence[Waiting]) -> list[Waiting]:
    """Of the classes that found no place, those whose jobs might ask somebody."""
    lines = fleet.evictable.lines
    if not lines:
        return []
    lowest: dict[TenantPath, Rank] = {}
    unmet: dict[TenantPath, tuple[tuple[GpuClass, int], ...]] = {}
    found: list[Waiting] = []
    for waiting in unserved:
        of = waiting.job_class
        if of.tenant in lines:
            # A tenant has a line for each rank: those who wait are few beside all who run.
            low = lowest.get(of.tenant)
            if low is None:
                low = lowest[of.tenant] = min(rank for _, rank in lines[of.tenant])
            if low[0] < of.priority or (low[1] != 0 and outranks(fleet.evictable.rank(of), low)):
                found.append(waiting)
                continue
        if of.tenant not in unmet:
            unmet[of.tenant] = _unmet(fleet, of.tenant)
        least_milli = waiting.ask.nodes * waiting.ask.shape.gpu_milli()
        if any(
            milli >= least_milli and (name == ALL_CLASSES or waiting.ask.accepts(name))
            for name, milli in unmet[of.tenant]
        ):
            found.append(waiting)
    return found


def _unmet(fleet: FleetState, tenant: TenantPath) -> tuple[tuple[GpuClass, int], ...]:
    """What of the guarantees over `tenant` is not in use."""
    return tuple(
        (quota.gpu_class, milli)
        for path in lineage(tenant)
        for quota in fleet.tree.guarantees(path)
        if (milli := quota.guarantee_milli - used_milli(fleet.usage, path, quota.gpu_class)) > 0
    )
