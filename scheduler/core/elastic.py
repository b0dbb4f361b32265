"""Elastic jobs: with their least number of nodes at once, with more where nobody waits for them.

A job that says `max_nodes` starts on as many nodes as there are for it, if it is the only one that
waits; beside others it starts on `nodes`, and takes from nobody what it could do without. One that
runs on fewer than it would take is ended, and starts again from its checkpoint on more, when nobody
waits at all and the nodes are there beside its own: not before it ran for GROW_EVERY_MS. To shrink
is to be preempted like any other job, and to start again on what there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from scheduler.core.allowance import allows, over_caps
from scheduler.core.answers import ClassAnswer
from scheduler.core.asks import Ask
from scheduler.core.classes import ends_by_ms
from scheduler.core.fleet import FleetState
from scheduler.core.gangs import Spot, find
from scheduler.core.index import SiteIndex
from scheduler.core.layout import domain_of
from scheduler.core.waiting import Signature, Waiting
from scheduler.core.windows import Bars
from scheduler.model.ids import GpuClass, JobId
from scheduler.model.job import JobState, TopologyLevel
from scheduler.model.plan import LiveAttempt, Preempt

GROW_EVERY_MS = 30 * 60_000
"""An attempt runs for so long before it is ended for more nodes: restarts cost little of it."""
LOOKED_MAX = 1_000
"""Jobs that one plan looks at for that; the oldest first."""

Look: TypeAlias = Callable[[Waiting, JobId, ClassAnswer, Signature], Spot | None]
"""Finds the best place for a job of a class, if it asked what the signature asks."""


def widest(
    fleet: FleetState, look: Look, waiting: Waiting, job: JobId, where: ClassAnswer, now_ms: int
) -> Spot | None:
    """The place with most nodes for an elastic job that may have more than its least; or None."""
    wider = waiting.signature.wider
    if not wider or len(waiting) > 1 or _others_wait(fleet, waiting):
        return None
    for signature in wider:
        spot = look(waiting, job, where, signature)
        if spot is None:
            continue
        milli = spot.milli(signature.ask)
        agreements = fleet.answer_for(waiting, now_ms).agreed.get(spot.number, ())
        if (
            fleet.may_draw(spot.number, where.gpu_class, milli)
            and not over_caps(fleet, waiting.job_class, agreements, milli, now_ms)
            and allows(fleet, waiting.job_class, where.gpu_class, milli, now_ms)
        ):
            return spot
    return None


def growing(fleet: FleetState, now_ms: int) -> tuple[Preempt, ...]:
    """The attempt to be ended so that it starts again with more nodes, if there is one.

    One at a time, and nobody while another is on its way out: they might want the same nodes.
    """
    alarm = fleet.alarm
    if not fleet.growable or alarm.awake or alarm.asleep or alarm.pending:
        return ()
    if fleet.evictable.leaving:
        return ()
    bars = Bars(fleet.windows, now_ms)
    for job in sorted(fleet.growable)[:LOOKED_MAX]:
        live = fleet.live[job]
        if not _is_due(live, now_ms):
            continue
        nodes = _could_have(fleet, live, bars, now_ms)
        if nodes:
            detail = f"it runs on {len(live.placement.nodes)} nodes and could have {nodes}"
            return (Preempt(live.placement.key, job, detail),)
    return ()


def _others_wait(fleet: FleetState, waiting: Waiting) -> bool:
    return bool(fleet.alarm.asleep) or any(each is not waiting for each in fleet.alarm.awake)


def _is_due(live: LiveAttempt, now_ms: int) -> bool:
    job_class = live.job_class
    least_ms = max(GROW_EVERY_MS, job_class.min_runtime_ms)
    return (
        live.state is JobState.RUNNING
        and job_class.preemptible
        and bool(live.started_at_ms)
        and live.started_at_ms + least_ms <= now_ms
    )


def _could_have(fleet: FleetState, live: LiveAttempt, bars: Bars, now_ms: int) -> int:
    """With how many nodes a running job could go on, those that it has among them; 0: no more."""
    placement, job_class = live.placement, live.job_class
    ask, has = fleet.queued.ask_for(job_class), len(placement.nodes)
    number, answer = fleet.numbers.get(placement.site), fleet.answer_to(job_class, now_ms)
    where = next((each for each in answer.classes if each.gpu_class == placement.gpu_class), None)
    if number is None or where is None or number not in where.nodes:
        return 0
    site, index, _ = fleet.order[number]
    ends_ms = ends_by_ms(job_class, now_ms)
    nodes = where.nodes[number] & ~bars.against(site, index, live.tenant, ends_ms)
    nodes &= _beside(fleet, index, live, ask)
    here = ClassAnswer(placement.gpu_class, 1 << number, {number: nodes})
    for width in reversed([each for each in ask.widths() if each > has]):
        more = replace(
            ask,
            nodes=width - has,
            nodes_max=0,
            within=TopologyLevel.SITE,
            prefer=TopologyLevel.SITE,
        )
        spot = find(fleet, Signature(more, job_class.residency), here, None)
        if spot is not None and _is_allowed(fleet, live, number, spot.milli(more), now_ms):
            return width
    return 0


def _beside(fleet: FleetState, index: SiteIndex, live: LiveAttempt, ask: Ask) -> int:
    """The nodes at a job's site that are not its own, in its domain of the level it requires."""
    own = {part.node for part in live.placement.nodes}
    first = fleet.nodes.get(live.placement.nodes[0].node)
    if first is None:
        return 0
    domain = domain_of(first.node, ask.within)
    mask = 0
    for at, record in enumerate(index.records):
        if record.node.id not in own and domain_of(record.node, ask.within) == domain:
            mask |= 1 << at
    return mask


def _is_allowed(fleet: FleetState, live: LiveAttempt, number: int, milli: int, now_ms: int) -> bool:
    gpu_class: GpuClass = live.placement.gpu_class
    agreements = fleet.answer_to(live.job_class, now_ms).agreed.get(number, ())
    return (
        fleet.may_draw(number, gpu_class, milli)
        and not over_caps(fleet, live.job_class, agreements, milli, now_ms)
        and allows(fleet, live.job_class, gpu_class, milli, now_ms)
    )
