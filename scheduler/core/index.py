"""One site's capacity as bit sets: choosing a node is an AND and the lowest bit, never a scan.

Simple equivalent: look at every node record. Departure: each ready node is kept in the lanes of
its GPU class and view (`occupancy`), by how many GPUs are free; a change of one node is a bit
moved. Nodes that take no work now are in lanes of their own, which only explanations read.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.asks import CPU_MILLI_MIN, Shape
from scheduler.core.layout import Layout, bits
from scheduler.core.occupancy import EMPTY, Lane, NodeRecord, View
from scheduler.model.fleet import Isolation
from scheduler.model.ids import GpuClass

LaneKey = tuple[GpuClass, View]


class SiteIndex:
    """The nodes of one site, in topology order, and where capacity is."""

    def __init__(self, records: Iterable[NodeRecord]) -> None:
        by_id = {record.node.id: record for record in records}
        self.layout = Layout(record.node for record in by_id.values())
        self.records = [by_id[node.id] for node in self.layout.nodes]
        self.ready = 0
        self.up: dict[LaneKey, Lane] = {}
        self.down: dict[LaneKey, Lane] = {}
        self.full: dict[LaneKey, Lane] = {}
        self.site_bit = 0
        self.fleet_lanes: dict[LaneKey, list[int]] = {}
        self._gpus_max: dict[GpuClass, int] = {}
        self._isolated: dict[Isolation, int] = {}
        for record in self.records:
            name = record.node.gpu_class
            self._gpus_max[name] = max(self._gpus_max.get(name, 0), record.node.gpus)
        for at, record in enumerate(self.records):
            record.at = at
            record.lanes = []
            self.enter(record)

    def enter(self, record: NodeRecord) -> None:
        """Puts `record` where its present state belongs."""
        bit = 1 << record.at
        ready = record.ready()
        if ready:
            self.ready |= bit
        else:
            self.ready &= ~bit
        lanes = self.up if ready else self.down
        free = record.free
        # With no GPU free and no CPU to speak of, nothing fits: keep it out of every search.
        if not free and record.cpu_free_milli < CPU_MILLI_MIN:
            lanes = self.full
        record.lane_free = free
        for view in record.views:
            lane = lanes.get((record.node.gpu_class, view))
            if lane is None:
                lane = self._new_lane(lanes, (record.node.gpu_class, view))
            lane.put(free, bit)
            record.lanes.append(lane)

    def leave(self, record: NodeRecord) -> None:
        """Takes `record` out of every lane, before its state changes."""
        bit = 1 << record.at
        for lane in record.lanes:
            lane.drop(record.lane_free, bit)
        record.lanes.clear()

    def join_fleet(self, site_bit: int, fleet_lanes: dict[LaneKey, list[int]]) -> None:
        """From here on marks this site in `fleet_lanes`, which all sites share."""
        self.site_bit = site_bit
        self.fleet_lanes = fleet_lanes
        for key in sorted(self.up):
            self._link(key, self.up[key])

    def isolated(self, least: Isolation) -> int:
        """The nodes whose isolation suffices."""
        if least not in self._isolated:
            mask = 0
            for at, record in enumerate(self.records):
                if record.isolated(least):
                    mask |= 1 << at
            self._isolated[least] = mask
        return self._isolated[least]

    def forget_isolation(self) -> None:
        """A report changed some node's isolation: judge it anew."""
        self._isolated.clear()

    def candidates(self, gpu_class: GpuClass, views: Iterable[View], gpus: int) -> int:
        """The ready nodes of `gpu_class` in one of `views` with `gpus` or more free."""
        mask = 0
        for view in views:
            lane = self.up.get((gpu_class, view))
            if lane is not None:
                mask |= lane.at_least(gpus)
        return mask

    def in_views(self, views: tuple[View, ...]) -> int:
        """The nodes, ready or not, full or not, in one of `views`. For explanations."""
        mask = 0
        for lanes in (self.up, self.down, self.full):
            for (_, view), lane in lanes.items():
                if view in views:
                    mask |= lane.at_least(0)
        return mask

    def with_room(self, shape: Shape) -> int:
        """The nodes, ready or not, with room for `shape`, whoever is on them. For explanations."""
        empty = used = 0
        for lanes in (self.up, self.down):
            for (_, view), lane in lanes.items():
                if view == EMPTY:
                    empty |= lane.at_least(shape.gpus)
                else:
                    used |= lane.at_least(shape.gpus)
        # An empty node has room for whatever its size suits; only the others are looked at.
        mask = empty & self.layout.suits(shape)[2]
        for at in bits(used):
            if self.records[at].has_room(shape):
                mask |= 1 << at
        return mask

    def _new_lane(self, lanes: dict[LaneKey, Lane], key: LaneKey) -> Lane:
        lane = lanes[key] = Lane(self._gpus_max[key[0]])
        if lanes is self.up:
            self._link(key, lane)
        return lane

    def _link(self, key: LaneKey, lane: Lane) -> None:
        shared = self.fleet_lanes.setdefault(key, [])
        shared.extend([0] * (len(lane.masks) - len(shared)))
        lane.sites = shared
        lane.site_bit = self.site_bit
        for free, nodes in enumerate(lane.masks):
            if nodes:
                shared[free] |= self.site_bit
