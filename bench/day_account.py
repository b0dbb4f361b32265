"""Where the GPU-time of a day went: what was in use, and why the rest was not.

Healthy are the GPUs of nodes that take work, as many of a site as its power cap lets work. Those
that are idle after all plans of a moment are so until the next, each for the first of these causes:

* `unwanted`: nobody waits who may be there by law, GPU model and size. No planner could use it.
* `kept`: its node is promised to a job that waits for others to end (`core/backfill`).
* `parts`: others are on its node, and nobody who waits fits beside them.
* `nodes`: its node is empty, and who waits needs more of them together, or must leave it to others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.country import BEGIN_MS
from scheduler.core.fleet import FleetState
from scheduler.core.index import SiteIndex
from scheduler.core.occupancy import EMPTY
from scheduler.core.ranking import Rooms
from scheduler.model.ids import SiteId

USED = "used"
UNWANTED, KEPT, PARTS, NODES = "unwanted", "kept", "parts", "nodes"
IDLE: tuple[str, ...] = (UNWANTED, KEPT, PARTS, NODES)


class Account:
    """Milli-GPU times milliseconds, by what became of them, for each `step_ms` from `begins_ms` to
    `end_ms`, both since the beginning of virtual time."""

    def __init__(
        self, powered: Mapping[SiteId, int], begins_ms: int, end_ms: int, step_ms: int
    ) -> None:
        """`powered`: how many GPUs of each site may work at a time."""
        self._powered = powered
        self._begins_ms, self._end_ms, self._step_ms = begins_ms, end_ms, step_ms
        steps = range(begins_ms, end_ms, step_ms)
        self._steps: list[dict[str, int]] = [dict.fromkeys((USED, *IDLE), 0) for _ in steps]
        self._since_ms = begins_ms
        self._standing: dict[str, int] = {}

    def note(self, state: FleetState, now_ms: int) -> None:
        """All plans of this moment (UTC) are made: this is how things stand until the next."""
        self.until(now_ms - BEGIN_MS)
        kept, sought = _kept(state), _sought(state, now_ms)
        self._standing = dict.fromkeys((USED, *IDLE), 0)
        for number, (site, index, _) in enumerate(state.order):
            used = sum(state.draws.at(site.id).values())
            self._standing[USED] += used
            whole, parts = _free_milli(index, state.rooms, index.ready)
            idle = max(0, min(whole + parts, 1000 * self._powered[site.id] - used))
            promised = sum(_free_milli(index, state.rooms, kept.get(number, 0)))
            unwanted = 0 if sought >> number & 1 else idle
            causes = ((UNWANTED, unwanted), (KEPT, promised), (PARTS, parts), (NODES, idle))
            for cause, most in causes:
                self._standing[cause] += min(idle, most)
                idle -= min(idle, most)

    def until(self, at_ms: int) -> None:
        """Counts how things stand until `at_ms` since the beginning."""
        while self._since_ms < min(at_ms, self._end_ms):
            step = (self._since_ms - self._begins_ms) // self._step_ms
            to_ms = min(at_ms, self._end_ms, self._begins_ms + (step + 1) * self._step_ms)
            for what, milli in self._standing.items():
                self._steps[step][what] += milli * (to_ms - self._since_ms)
            self._since_ms = to_ms

    def unused(self) -> dict[str, float]:
        """Of all healthy capacity, what part was idle for which cause."""
        whole = sum(sum(step.values()) for step in self._steps)
        return {what: round(sum(s[what] for s in self._steps) / whole, 5) for what in IDLE}

    def by_step(self) -> Iterator[float]:
        """What part of healthy capacity was in use, one step after another."""
        return (round(step[USED] / max(1, sum(step.values())), 4) for step in self._steps)


def _kept(state: FleetState) -> dict[int, int]:
    """The nodes that are promised to somebody, by the number of their site."""
    found: dict[int, int] = {}
    for kept in state.reservations.values():
        number = state.numbers[kept.site]
        for name in kept.nodes:
            found[number] = found.get(number, 0) | 1 << state.nodes[name].at
    return found


def _sought(state: FleetState, now_ms: int) -> int:
    """The sites, as bits, at which somebody who waits may be."""
    found, everywhere = 0, (1 << len(state.order)) - 1
    for waiting in state.queued.classes.values():
        for where in state.answer_for(waiting, now_ms).classes:
            found |= where.sites
        if found == everywhere:
            break
    return found


def _free_milli(index: SiteIndex, rooms: Rooms, among: int) -> tuple[int, int]:
    """What is free of these nodes, as far as they take work, in milli-GPU: on empty nodes, and on
    others."""
    whole, parts, seen = 0, 0, 0
    for (_, view), lane in index.up.items():
        for room, nodes in lane.masks.items():
            here = nodes & among & ~seen  # A node is in a lane of each of its views.
            seen |= here
            kind = rooms.all[room]
            free = here.bit_count() * (1000 * kind.free + sum(kind.partial))
            if view == EMPTY:
                whole += free
            else:
                parts += free
    return whole, parts
