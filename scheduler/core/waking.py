"""Before a plan: who of those that sleep could find a place now."""

from __future__ import annotations

from scheduler.core.fleet import FleetState
from scheduler.core.waiting import Signature
from scheduler.model.ids import site_of

PENDING_MAX = 1_000
"""Placements that came to nothing, up to which their nodes are looked at one by one."""


def wake(fleet: FleetState, now_ms: int) -> bool:
    """Wakes every class that something happened for since the last plan, and forgets what did.

    Returns whether that was all of them.
    """
    alarm = fleet.alarm
    fleet.evictable.advance(now_ms)
    _return_pending(fleet)
    anew = alarm.everything or (alarm.until_ms is not None and alarm.until_ms <= now_ms)
    if anew:
        for signature in list(alarm.by_room):
            signature.busy = False
        for waiting in list(alarm.asleep):
            alarm.wake(waiting)
        alarm.everything, alarm.until_ms = False, None
    else:
        _wake_some(fleet, now_ms)
    edge_ms = fleet.windows.next_edge_ms(now_ms)
    if edge_ms is not None and (alarm.until_ms is None or edge_ms < alarm.until_ms):
        alarm.until_ms = edge_ms
    alarm.grown.clear()
    if fleet.rooms.is_crowded():  # Nothing names a room now that no node is in.
        forget_rooms(fleet)
    alarm.relieved.clear()
    alarm.power = False
    return anew


def forget_rooms(fleet: FleetState) -> None:
    """Forgets the rooms that no node is in, everywhere."""
    fleet.rooms.keep_only({record.room for record in fleet.nodes.values()})
    for _, index, _ in fleet.order:
        index.forget_rooms()
    for sites in fleet.lanes.values():
        for room in [room for room, bits in sites.items() if not bits]:
            del sites[room]


def _wake_some(fleet: FleetState, now_ms: int) -> None:
    alarm = fleet.alarm
    if alarm.grown:
        for signature in [each for each in alarm.by_room if _has_grown(fleet, each)]:
            alarm.wake_all(signature)
    for path in sorted(alarm.relieved & alarm.by_tenant.keys()):
        # Whoever two relieved tenants blocked is awake by the second.
        for waiting in list(alarm.by_tenant.get(path, ())):
            alarm.wake(waiting)
    if alarm.power:
        for waiting in list(alarm.by_power):
            alarm.wake(waiting)
    for waiting in [each for each, at_ms in alarm.by_clock.items() if at_ms <= now_ms]:
        alarm.wake(waiting)


def _has_grown(fleet: FleetState, signature: Signature) -> bool:
    """Whether a node that the signature may use is now in a room that can hold its shape."""
    answer = signature.answer
    if answer is None:
        return True
    grown = fleet.alarm.grown
    for where in answer.classes:
        fitting = signature.ranking(fleet.rooms, where.gpu_class).growth
        for view in signature.views:
            rooms = grown.get((where.gpu_class, view))
            if rooms and any(rooms[room] & where.sites for room in rooms.keys() & fitting.keys()):
                return True
    return False


def _return_pending(fleet: FleetState) -> None:
    """What the last plan took and nobody committed is free again."""
    alarm = fleet.alarm
    pending = [*alarm.lapsed, *alarm.pending.values()]
    alarm.lapsed, alarm.pending = [], {}
    if len(pending) > PENDING_MAX:
        # Most of the plan came to nothing, it seems: looking at everything again costs less.
        alarm.everything = True
        return
    for placement, waiting in pending:
        alarm.note_relief(waiting.job_class.tenant)
        fleet.queued.wake_apart(waiting.job_class.tenant, waiting.ask.apart)
        alarm.power |= bool(fleet.caps) or bool(fleet.agreements)
        for part in placement.nodes:
            record, index = fleet.nodes.get(part.node), fleet.index_of(site_of(part.node))
            if record is not None and index is not None:
                alarm.note_room(index, record)
