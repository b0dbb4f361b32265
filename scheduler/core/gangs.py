"""Where a job would go now: all of its nodes at one site, or nothing.

Simple equivalent: try every site and every set of nodes, keep the best score. Departures: one node
is found through the fleet's lanes by best fit; a gang looks at each site that can have it, and
takes the first where the level of closeness that it likes holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler.core.answers import ClassAnswer
from scheduler.core.asks import Ask
from scheduler.core.fleet import FleetState
from scheduler.core.index import SiteIndex
from scheduler.core.layout import bits
from scheduler.core.occupancy import EMPTY, NodeRecord, View
from scheduler.core.scoring import choose_gpus
from scheduler.core.topology import compact, tightest
from scheduler.model.ids import GpuClass, SiteId
from scheduler.model.job import NodePlacement, TopologyLevel

Held = Callable[[int, GpuClass], int]
"""The nodes of a site (by number) that are kept for others."""


@dataclass(slots=True)
class Spot:
    """Nodes that fit, in rank order."""

    site: SiteId
    number: int
    gpu_class: GpuClass
    records: list[NodeRecord]

    def parts(self, ask: Ask) -> tuple[NodePlacement, ...]:
        """The nodes and the GPUs to take on each."""
        gpus = ask.shape.gpus
        return tuple(
            NodePlacement(record.node.id, choose_gpus(record.free_mask, gpus))
            for record in self.records
        )

    def milli(self, ask: Ask) -> int:
        """What the job would be charged here."""
        return sum(ask.milli_on(record.node.gpus) for record in self.records)


def find(
    fleet: FleetState, ask: Ask, views: tuple[View, ...], where: ClassAnswer, held: Held | None
) -> Spot | None:
    """The best place now on the GPU class of `where`, or None."""
    if ask.nodes == 1:
        return _find_node(fleet, ask, views, where, held)
    return _find_gang(fleet, ask, views, where, held)


def _find_node(
    fleet: FleetState, ask: Ask, views: tuple[View, ...], where: ClassAnswer, held: Held | None
) -> Spot | None:
    gpu_class, shape = where.gpu_class, ask.shape
    best: tuple[Spot, int] | None = None
    for view in views:
        by_free = fleet.lanes.get((gpu_class, view))
        if by_free is None:
            continue
        # The views in use come first: an empty node must fit better to be taken.
        stop = len(by_free) if best is None else min(len(by_free), best[1])
        for free in range(shape.gpus, stop):
            sites = by_free[free] & where.sites
            if sites and (spot := _node_of(fleet, ask, view, where, free, sites, held)):
                best = spot, free
                break
    return best[0] if best is not None else None


def _node_of(
    fleet: FleetState,
    ask: Ask,
    view: View,
    where: ClassAnswer,
    free: int,
    sites: int,
    held: Held | None,
) -> Spot | None:
    """The first node with room among those of `sites` with exactly `free` GPUs free."""
    gpu_class, shape = where.gpu_class, ask.shape
    while sites:
        low = sites & -sites
        sites ^= low
        number = low.bit_length() - 1
        site, index, _ = fleet.order[number]
        nodes = index.up[gpu_class, view].masks[free] & where.nodes[number]
        if held is not None:
            nodes &= ~held(number, gpu_class)
        while nodes:
            first = nodes & -nodes
            nodes ^= first
            record = index.records[first.bit_length() - 1]
            # An empty node has the room that its size promises, and its size was looked at.
            if view == EMPTY or record.has_room(shape):
                return Spot(site.id, number, gpu_class, [record])
    return None


def _find_gang(
    fleet: FleetState, ask: Ask, views: tuple[View, ...], where: ClassAnswer, held: Held | None
) -> Spot | None:
    best: tuple[TopologyLevel, int, int] | None = None
    for number in bits(where.sites):
        index = fleet.order[number][1]
        nodes = index.candidates(where.gpu_class, views, ask.shape.gpus) & where.nodes[number]
        if held is not None:
            nodes &= ~held(number, where.gpu_class)
        found = _gang_at(index, ask, views, where.gpu_class, nodes)
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
    return Spot(fleet.order[number][0].id, number, where.gpu_class, records)


def _gang_at(
    index: SiteIndex, ask: Ask, views: tuple[View, ...], gpu_class: GpuClass, nodes: int
) -> tuple[TopologyLevel, int] | None:
    def fullest_first(among: int, count: int) -> int:
        return _fullest(index, gpu_class, views, among, count, ask.shape.gpus)

    while nodes.bit_count() >= ask.nodes:
        found = tightest(index.layout, nodes, ask.nodes, ask.within)
        if found is None:
            return None
        level, domain = found
        chosen = compact(index.layout, domain, ask.nodes, level, fullest_first)
        # CPU and memory are in no index: GPUs bind nearly always. Look at the chosen few, and
        # choose again without those that turn out too small.
        cramped = [at for at in bits(chosen) if not index.records[at].has_room(ask.shape)]
        if not cramped:
            return level, chosen
        for at in cramped:
            nodes &= ~(1 << at)
    return None


def _fullest(
    index: SiteIndex,
    gpu_class: GpuClass,
    views: tuple[View, ...],
    among: int,
    count: int,
    gpus: int,
) -> int:
    """`count` of `among`, those with fewest free GPUs first, then in topology order."""
    lanes = [lane for view in views if (lane := index.up.get((gpu_class, view))) is not None]
    chosen, missing = 0, count
    for free in range(gpus, max((len(lane.masks) for lane in lanes), default=0)):
        nodes = 0
        for lane in lanes:
            nodes |= lane.masks[free]
        nodes &= among
        while nodes and missing:
            low = nodes & -nodes
            nodes ^= low
            chosen |= low
            missing -= 1
        if not missing:
            return chosen
    raise AssertionError("fewer candidates than counted")
