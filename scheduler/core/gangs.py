"""Where a job would go now: all of its nodes at one site, or nothing.

Simple equivalent: try every site and every set of nodes, keep the best score. Departures: one node
is found through the fleet's lanes, the best room first; a gang looks at each site that can have it,
and takes the first where the level of closeness that it likes holds, those with fewest empty nodes
before others (`energy.in_turn`). What all organisations may join is searched for one of them: those
who come later learn from `Exhausted` that nothing is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from scheduler.core.answers import ClassAnswer
from scheduler.core.asks import Ask
from scheduler.core.fleet import FleetState
from scheduler.core.index import LaneKey, SiteIndex
from scheduler.core.layout import bits
from scheduler.core.occupancy import EMPTY, OPEN, NodeRecord, View
from scheduler.core.packing import press_cost
from scheduler.core.ranking import Ranking
from scheduler.core.topology import compact, tightest
from scheduler.core.waiting import Signature, Waiting
from scheduler.model.ids import AttemptKey, GpuClass, SiteId
from scheduler.model.job import NodePlacement, Placement, TopologyLevel

_Row = TypeVar("_Row", bound=tuple[Any, ...])

Held: TypeAlias = Mapping[int, int]
"""By the site's number: its nodes that are kept for others, as bits."""


_SHARED = frozenset({EMPTY, OPEN})
"""The views that work of any organisation may look for room in."""


class Exhausted:
    """The views that all share in which a search found no node for what is asked. While room is
    only taken, as in one plan, that holds for whoever may have the same of the same nodes."""

    def __init__(self) -> None:
        # Both are told apart as objects, so they are kept: another one may not get their place.
        self._found: dict[tuple[View, int, int, int], tuple[ClassAnswer, Held | None]] = {}

    def knows(self, view: View, where: ClassAnswer, allowed: int, held: Held | None) -> bool:
        """Whether none of the sites `allowed` has room for what may be at `where`."""
        return (view, id(where), allowed, id(held)) in self._found

    def note(self, view: View, where: ClassAnswer, allowed: int, held: Held | None) -> None:
        """None of them has."""
        if view in _SHARED:
            self._found[view, id(where), allowed, id(held)] = where, held


@dataclass(slots=True)
class Spot:
    """Nodes that fit, in rank order."""

    site: SiteId
    number: int
    gpu_class: GpuClass
    records: list[NodeRecord]
    growth: int
    """Of the placement score over all nodes, more where a site is sought after: least is best."""
    ranking: Ranking
    """By which they were chosen: it knows what the job takes of each."""

    def milli(self, ask: Ask) -> int:
        """What the job would be charged here."""
        return sum([ask.milli_on(record.node.gpus) for record in self.records])


class Taken:
    """A placement of the plan that is being made, and whose it is."""

    __slots__ = ("at", "placement", "spot", "waiting")

    def __init__(
        self, waiting: Waiting, at: int, spot: Spot, nodes: list[NodePlacement], milli: int
    ) -> None:
        self.waiting = waiting
        self.at = at
        self.spot = spot
        attempt = waiting.attempt(at) if waiting.odd else 1
        key = make(AttemptKey, (waiting.ids[at], attempt))
        self.placement = make(Placement, (key, spot.site, spot.gpu_class, tuple(nodes), milli))


class _Make(Protocol):
    """What calling a named tuple's class does, in half of the time: a plan makes thousands."""

    def __call__(self, of: type[_Row], parts: tuple[object, ...], /) -> _Row: ...


make: _Make = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - generic in what the tuple holds


def find(
    fleet: FleetState,
    signature: Signature,
    where: ClassAnswer,
    held: Held | None,
    exhausted: Exhausted | None = None,
) -> Spot | None:
    """The best place now on the GPU class of `where`, or None. `exhausted`: what is known from
    searches before, and learned by this one."""
    if signature.ask.nodes > 1:
        return _find_gang(fleet, signature, where, held)
    exhausted = exhausted or Exhausted()
    if not where.tiers:
        return _find_node_at(fleet, signature, where, where.sites, held, exhausted)
    for ppm, sites in where.by_press():
        spot = _find_node_at(fleet, signature, where, sites, held, exhausted)
        if spot is not None:
            if ppm:
                spot.growth += press_cost(ppm, signature.ask.shape.gpu_milli())
            return spot
    return None


def _find_node_at(
    fleet: FleetState,
    signature: Signature,
    where: ClassAnswer,
    allowed: int,
    held: Held | None,
    exhausted: Exhausted,
) -> Spot | None:
    gpu_class = where.gpu_class
    ranking = signature.ranking(fleet.rooms, gpu_class)
    rooms, places = ranking.numbers, ranking.place
    best: Spot | None = None
    stop: int = len(rooms)
    for view in signature.views:
        key = gpu_class, view
        lane = fleet.lanes.get(key)
        if not lane or exhausted.knows(view, where, allowed, held):
            continue
        # The views in use come first: an empty node must fit better to be taken.
        for place in sorted([places[room] for room in lane.keys() & places.keys()]):
            if place >= stop:
                break
            room = rooms[place]
            sites = lane[room] & allowed
            if sites:
                spot = _node_of(fleet, ranking, where, key, room, sites, held)
                if spot is not None:
                    best, stop = spot, place
                    break
        else:
            exhausted.note(view, where, allowed, held)
    return best


def _node_of(
    fleet: FleetState,
    ranking: Ranking,
    where: ClassAnswer,
    lane: LaneKey,
    room: int,
    sites: int,
    held: Held | None,
) -> Spot | None:
    """The first node with room among those of `sites` that are in `room`."""
    steps, records_of = ranking.steps, fleet.order
    is_empty = lane[1] == EMPTY
    while sites:
        # Who takes an empty node leaves the largest hole whole; else the first site does.
        low = next(filter(sites.__and__, fleet.in_turn)) if is_empty else sites & -sites
        sites ^= low
        number = low.bit_length() - 1
        site, index, _ = records_of[number]
        nodes = index.up[lane].masks.get(room, 0) & where.nodes[number]
        if held is not None:
            nodes &= ~held.get(number, 0)
        while nodes:
            first = nodes & -nodes
            nodes ^= first
            record = index.records[first.bit_length() - 1]
            # The room promises GPUs, and CPU and memory up to a step.
            left = record.left
            if (steps[left] if left in steps else ranking.step(left)) is not None:
                growth = ranking.growth[room]
                return Spot(site.id, number, where.gpu_class, [record], growth, ranking)
    return None


def _find_gang(
    fleet: FleetState, signature: Signature, where: ClassAnswer, held: Held | None
) -> Spot | None:
    best: tuple[TopologyLevel, int, int] | None = None
    ask, gpu_class = signature.ask, where.gpu_class
    ranking = signature.ranking(fleet.rooms, gpu_class)
    inhabited = _inhabited(fleet, signature, ranking, gpu_class)
    for number in where.numbers(fleet.in_turn):
        if not inhabited >> number & 1:
            continue
        index = fleet.order[number][1]
        nodes = index.candidates(gpu_class, signature.views, ranking) & where.nodes[number]
        if held is not None:
            nodes &= ~held.get(number, 0)
        if nodes.bit_count() < ask.nodes:
            continue
        found = _gang_at(index, signature, gpu_class, ranking.numbers, nodes)
        if found is None:
            continue
        level, chosen = found
        if best is None or level < best[0]:
            best = level, number, chosen
        if level <= ask.prefer:
            break
    if best is None:
        return None
    _, number, chosen = best
    index = fleet.order[number][1]
    records = [index.records[at] for at in bits(chosen)]
    growth = sum(ranking.growth[record.room] for record in records)
    growth += press_cost(where.press_at(number), ask.nodes * ask.shape.gpu_milli())
    return Spot(fleet.order[number][0].id, number, gpu_class, records, growth, ranking)


def _inhabited(
    fleet: FleetState, signature: Signature, ranking: Ranking, gpu_class: GpuClass
) -> int:
    """The sites, as bits, that have a node with room for one of the gang."""
    sites = 0
    for view in signature.views:
        lane = fleet.lanes.get((gpu_class, view), {})
        for room in lane.keys() & ranking.growth.keys():
            sites |= lane[room]
    return sites


def _gang_at(
    index: SiteIndex, signature: Signature, gpu_class: GpuClass, rooms: list[int], nodes: int
) -> tuple[TopologyLevel, int] | None:
    ask = signature.ask

    def best_first(among: int, count: int) -> int:
        return _best(index, signature, gpu_class, rooms, among, count)

    while nodes.bit_count() >= ask.nodes:
        found = tightest(index.layout, nodes, ask.nodes, ask.within)
        if found is None:
            return None
        level, domain = found
        chosen = compact(index.layout, domain, ask.nodes, level, best_first)
        # CPU and memory are in the index in steps: look at the chosen few, and choose again
        # without those that turn out too small.
        cramped = [at for at in bits(chosen) if not index.records[at].left.holds(ask.shape)]
        if not cramped:
            return level, chosen
        for at in cramped:
            nodes &= ~(1 << at)
    return None


def _best(
    index: SiteIndex,
    signature: Signature,
    gpu_class: GpuClass,
    rooms: list[int],
    among: int,
    count: int,
) -> int:
    """`count` of `among`, those in the best rooms first, then in topology order."""
    lanes = [
        lane for view in signature.views if (lane := index.up.get((gpu_class, view))) is not None
    ]
    chosen, missing = 0, count
    for room in rooms:
        nodes = 0
        for lane in lanes:
            nodes |= lane.masks.get(room, 0)
        nodes &= among
        while nodes and missing:
            low = nodes & -nodes
            nodes ^= low
            chosen |= low
            missing -= 1
        if not missing:
            return chosen
    raise AssertionError("fewer candidates than counted")
