"""Jobs that run, and the question whom another may ask to leave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from scheduler.core.fleet import FleetState
from scheduler.core.outlook import Claim, Outlook
from scheduler.core.preemption import Preemption
from scheduler.core.victims import Victims
from scheduler.model.ids import AttemptKey, JobId, SiteId, node_id
from scheduler.model.job import JobState, NodePlacement, Placement
from scheduler.model.plan import JobChanged, JobClass, LiveAttempt
from scheduler.model.residency import NodeSharing
from tests.core.builders import HOUR_MS, NOW_MS, gone

MINUTE_MS = 60_000


def running(
    fleet: FleetState,
    number: int,
    of: JobClass,
    *slots: str,
    at: str = "london",
    for_ms: int = HOUR_MS,
    saved_ms: int | None = None,
    state: JobState = JobState.RUNNING,
    submitted_at_ms: int | None = None,
) -> None:
    """Job `number` has run for so long on `slots`; its last checkpoint is `saved_ms` old."""
    records = [fleet.nodes[node_id(SiteId(at), slot)] for slot in slots]
    gpus = of.resources.gpus_per_node
    parts = tuple(NodePlacement(r.node.id, _lowest(r.left.free_mask, gpus)) for r in records)
    charged = sum(
        r.node.gpus if of.residency.node_sharing is NodeSharing.NONE else gpus for r in records
    )
    first = records[0].node
    key = AttemptKey(JobId(number), 1)
    placement = Placement(key, SiteId(at), first.gpu_class, parts, charged * 1000)
    live = LiveAttempt(
        placement,
        of.tenant,
        of,
        state,
        placed_at_ms=NOW_MS - for_ms,
        started_at_ms=NOW_MS - for_ms,
        checkpoint_at_ms=0 if saved_ms is None else NOW_MS - saved_ms,
        submitted_at_ms=submitted_at_ms,
    )
    fleet.apply(JobChanged(key.job, None, live))


def _lowest(mask: int, count: int) -> int:
    chosen = 0
    for _ in range(count):
        low = mask & -mask
        assert low, "the node has the GPUs"
        chosen |= low
        mask ^= low
    return chosen


def outlook_of(fleet: FleetState, claims: Iterable[Claim] = (), now_ms: int = NOW_MS) -> Preemption:
    """A plan's questions, before any was asked."""
    fleet.settle()
    fleet.evictable.advance(now_ms)
    return Preemption(Outlook(fleet, fleet.evictable, claims, {}, now_ms))


def ask(
    fleet: FleetState,
    waits: JobChanged,
    *,
    claims: Iterable[Claim] = (),
    at_work: Preemption | None = None,
    now_ms: int = NOW_MS,
) -> Victims | None:
    """Whom a job has leave, by itself or after others asked; None: nobody."""
    assert waits.queued is not None
    of = waits.queued.job_class
    preemption = at_work or outlook_of(fleet, claims, now_ms)
    found = preemption.make_room(waits.id, of, fleet.answer_to(of, now_ms))
    return found if found is not None and found.keys else None


def jobs_of(found: Victims | None) -> list[int]:
    """The victims."""
    return [int(key.job) for key in found.keys] if found is not None else []


def emptied(fleet: FleetState, found: Victims) -> None:
    """The victims are over, and the job they made room for runs; nothing else comes between."""
    for key in found.keys:
        fleet.apply(gone(int(key.job)))
    seat(fleet, found)


def seat(fleet: FleetState, found: Victims, submitted_at_ms: int | None = None) -> None:
    """The beneficiary starts on the nodes that were cleared for it."""
    claim = found.claim
    slots = [node.partition("/")[2] for node in claim.nodes]
    running(
        fleet,
        int(claim.job),
        claim.job_class,
        *slots,
        at=claim.site,
        for_ms=0,
        submitted_at_ms=submitted_at_ms,
    )


def aged(live: LiveAttempt, ms: int) -> LiveAttempt:
    """The same attempt, started `ms` earlier."""
    return replace(live, started_at_ms=live.started_at_ms - ms, placed_at_ms=live.placed_at_ms - ms)
