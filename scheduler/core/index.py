"""One site's capacity as bit sets: choosing a node is an AND and the lowest bit, never a scan.

Simple equivalent: look at every node record. Departure: each ready node is kept in the lanes of
its GPU class and view (`occupancy`), by the room that it is in (`rooms`); a change of one node is a
bit moved. Nodes that take no work now are in lanes of their own, which only explanations read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from scheduler.core.asks import Shape
from scheduler.core.layout import Layout, bits, mask_of
from scheduler.core.node_facts import NodeNeeds, node_change_ms, suffices, weaker
from scheduler.core.occupancy import EMPTY, Lane, NodeRecord, View
from scheduler.core.ranking import Ranking
from scheduler.model.fleet import Isolation
from scheduler.model.ids import GpuClass
from scheduler.model.residency import NodeFact

LaneKey = tuple[GpuClass, View]
FleetLanes = dict[LaneKey, dict[int, int]]
"""The sites, as bits, that have a node in a room, by the lane."""
ANSWERS_MAX = 1_000
"""Answers for explanations that one site remembers, of each kind."""

_Asked = TypeVar("_Asked")


def _is_well(record: NodeRecord) -> bool:
    """Whether new work could start on a node, were it not kept for others."""
    return record.ready() and not record.node.refuted()


@dataclass(slots=True)
class _Filling:
    """Where nodes, ready or not, have room as they are filled now."""

    empty: int
    used: dict[GpuClass, dict[int, int]]
    """The nodes that are not empty, by class and room."""
    with_room: dict[Shape, int] = field(default_factory=lambda: {})
    """What `SiteIndex.with_room` answered, and ..."""
    in_views: dict[tuple[View, ...], int] = field(default_factory=lambda: {})
    """... what `in_views` did."""

    def remember(self, among: dict[_Asked, int], asked: _Asked, mask: int) -> None:
        """Keeps an answer while there are few."""
        if len(among) >= ANSWERS_MAX:
            among.clear()
        among[asked] = mask


class SiteIndex:
    """The nodes of one site, in topology order, and where capacity is."""

    def __init__(self, records: Iterable[NodeRecord]) -> None:
        by_id = {record.node.id: record for record in records}
        self.layout = Layout(record.node for record in by_id.values())
        self.records = [by_id[node.id] for node in self.layout.nodes]
        self.ready = 0
        # The nodes that lack some of what they were declared with; and those that something known
        # speaks against.
        self.short = 0
        self.refuted = 0
        # The nodes that are kept free for others of their NVLink domain that break.
        self.spare = 0
        self._rack_of = {at: rack for rack in self.layout.racks for at in bits(rack[0])}
        self.up: dict[LaneKey, Lane] = {}
        self.down: dict[LaneKey, Lane] = {}
        self.site_bit = 0
        self.fleet_lanes: FleetLanes = {}
        self._isolated: dict[Isolation, int] = {}
        self._known: dict[tuple[NodeNeeds, str], tuple[int, int | None]] = {}
        # What explanations ask; None: something changed, so look again.
        self._filling: _Filling | None = None
        for at, record in enumerate(self.records):
            record.at = at
            record.lanes = []
            self.enter(record)
        for rack in self.layout.racks:
            self._choose_spares(*rack)

    def enter(self, record: NodeRecord) -> None:
        """Puts `record` where its present state belongs."""
        bit = 1 << record.at
        if _is_well(record) and not self.spare & bit:
            self.ready |= bit
            lanes = self.up
        else:
            self.ready &= ~bit
            lanes = self.down
        whole = record.capacity_mask == record.kind.declared
        self.short = self.short & ~bit if whole else self.short | bit
        self.refuted = self.refuted | bit if record.node.refuted() else self.refuted & ~bit
        self._enter(record, bit, lanes)

    def fill(self, record: NodeRecord) -> None:
        """After somebody came to a node, which makes no room for others."""
        if self.ready >> record.at & 1:
            self.move(record)
        else:
            self.leave(record)
            self.enter(record)
        self.choose_spares(record)

    def reenter(self, record: NodeRecord) -> list[NodeRecord]:
        """After who is on a node changed: the nodes that may have more room by it."""
        self.leave(record)
        self.enter(record)
        return [record, *self.choose_spares(record)]

    def choose_spares(self, record: NodeRecord) -> list[NodeRecord]:
        """Chooses anew which nodes are spare, after something of `record` changed; those that are
        so no more. A plan's own doings change none."""
        rack = self._rack_of.get(record.at)
        return [] if rack is None else self._choose_spares(*rack)

    def _choose_spares(self, rack: int, count: int) -> list[NodeRecord]:
        """Each node of `rack` that nobody is on and that is not well has a spare's place taken; of
        the empty ones the last are kept. One that broke under work counts when that is over: then
        the work finds a spare come free."""
        empty = [at for at in bits(rack) if not self.records[at].occupants]
        well = [at for at in empty if _is_well(self.records[at])]
        kept = max(0, count - (len(empty) - len(well)))
        spare = mask_of(well[max(0, len(well) - kept) :])
        changed, freed = (self.spare ^ spare) & rack, self.spare & rack & ~spare
        for at in bits(changed):
            self.leave(self.records[at])
        self.spare ^= changed
        for at in bits(changed):
            self.enter(self.records[at])
        return [self.records[at] for at in bits(freed)]

    def leave(self, record: NodeRecord) -> None:
        """Takes `record` out of every lane, before its state changes."""
        bit = 1 << record.at
        self._filling = None
        for lane in record.lanes:
            lane.drop(record.room, bit)
        record.lanes.clear()

    def move(self, record: NodeRecord) -> None:
        """The same as leaving and entering, for a ready node on which only the occupants changed.
        Call it after the change."""
        bit, lanes = 1 << record.at, record.lanes
        self._filling = None
        if record.laned == record.views:
            before, room = record.room, record.left.room.number
            record.room = room
            for lane in lanes:
                lane.shift(before, room, bit)
            return
        for lane in lanes:
            lane.drop(record.room, bit)
        lanes.clear()
        self._enter(record, bit, self.up)

    def _enter(self, record: NodeRecord, bit: int, lanes: dict[LaneKey, Lane]) -> None:
        self._filling = None
        room = record.room = record.left.room.number
        gpu_class = record.kind.gpu_class
        record.laned = record.views
        for view in record.views:
            lane = lanes.get((gpu_class, view))
            if lane is None:
                lane = self._new_lane(lanes, (gpu_class, view))
            lane.put(room, bit)
            record.lanes.append(lane)

    def join_fleet(self, site_bit: int, fleet_lanes: FleetLanes) -> None:
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

    def known(self, needs: NodeNeeds, country: str, now_ms: int) -> tuple[int, int | None]:
        """The nodes of a site in `country` of which enough is known, and until when that holds."""
        if not needs:
            return self.layout.all, None
        found = self._known.get((needs, country))
        if found is None or (found[1] is not None and now_ms >= found[1]):
            mask, moments = 0, list[int]()
            for at, record in enumerate(self.records):
                facts = record.node.facts
                if suffices(needs, facts, country, now_ms):
                    mask |= 1 << at
                    until_ms = node_change_ms(needs, facts, now_ms)
                    moments += [] if until_ms is None else [until_ms]
            found = self._known[needs, country] = mask, min(moments, default=None)
        return found

    def learn(self, record: NodeRecord, facts: tuple[NodeFact, ...]) -> bool:
        """What is known of a node is about to be this; whether an answer given may change by it.

        What is only of a later moment changes none, unless the node was left out meanwhile.
        """
        bit, changed = 1 << record.at, weaker(record.node.facts, facts)
        latest_ms = max((fact.observed_at_ms for fact in facts), default=0)
        news = any(
            changed or (not mask & bit and suffices(needs, facts, country, latest_ms))
            for (needs, country), (mask, _) in self._known.items()
        )
        if news:
            self._known.clear()
        return news

    def forget_rooms(self) -> None:
        """Forgets the rooms that no node here is in."""
        for lanes in (self.up, self.down):
            for lane in lanes.values():
                for room in [room for room, nodes in lane.masks.items() if not nodes]:
                    del lane.masks[room]

    def forget_isolation(self) -> None:
        """A report changed some node's isolation: judge it anew."""
        self._isolated.clear()

    def candidates(self, gpu_class: GpuClass, views: Iterable[View], ranking: Ranking) -> int:
        """The ready nodes of `gpu_class` in one of `views` and in one of the rooms of `ranking`."""
        mask = 0
        fitting = ranking.growth
        for view in views:
            lane = self.up.get((gpu_class, view))
            if lane is not None:
                for room, nodes in lane.masks.items():
                    if nodes and room in fitting:
                        mask |= nodes
        return mask

    def empty_count(self) -> int:
        """How many ready nodes nobody is on."""
        lanes = (self.up.get((gpu_class, EMPTY)) for gpu_class in self.layout.classes)
        return sum(lane.all().bit_count() for lane in lanes if lane is not None)

    def in_views(self, views: tuple[View, ...]) -> int:
        """The nodes, ready or not, full or not, in one of `views`. For explanations."""
        filling = self._filled()
        mask = filling.in_views.get(views)
        if mask is None:
            mask = 0
            for lanes in (self.up, self.down):
                for gpu_class in self.layout.classes:
                    for view in views:
                        if (lane := lanes.get((gpu_class, view))) is not None:
                            mask |= lane.all()
            filling.remember(filling.in_views, views, mask)
        return mask

    def with_room(self, shape: Shape) -> int:
        """The nodes, ready or not, with room for `shape`, whoever is on them. For explanations."""
        filling = self._filled()
        known = filling.with_room.get(shape)
        if known is not None:
            return known
        used, empty = 0, filling.empty
        for gpu_class, rooms in filling.used.items():
            fitting = self._rankings(gpu_class, shape)
            for room in rooms.keys() & fitting.keys():
                used |= rooms[room]
        # An empty node has room for whatever its size suits; only the others are looked at.
        suits = self.layout.suits(shape)[2]
        mask = empty & ~self.short & suits
        for at in bits(used | empty & self.short & suits):
            if self.records[at].left.holds(shape):
                mask |= 1 << at
        filling.remember(filling.with_room, shape, mask)
        return mask

    def _filled(self) -> _Filling:
        known = self._filling
        if known is None:
            empty, used = 0, dict[GpuClass, dict[int, int]]()
            for lanes in (self.up, self.down):
                for (gpu_class, view), lane in lanes.items():
                    if view == EMPTY:
                        empty |= lane.all()
                        continue
                    rooms = used.setdefault(gpu_class, {})
                    for room, nodes in lane.masks.items():
                        rooms[room] = rooms.get(room, 0) | nodes
            known = self._filling = _Filling(empty, used)
        return known

    def _rankings(self, gpu_class: GpuClass, shape: Shape) -> dict[int, int]:
        return self.records[0].rooms.ranking(gpu_class, shape).growth if self.records else {}

    def _new_lane(self, lanes: dict[LaneKey, Lane], key: LaneKey) -> Lane:
        lane = lanes[key] = Lane()
        if lanes is self.up:
            self._link(key, lane)
        return lane

    def _link(self, key: LaneKey, lane: Lane) -> None:
        lane.sites = self.fleet_lanes.setdefault(key, {})
        lane.site_bit = self.site_bit
        for room, nodes in lane.masks.items():
            if nodes:
                lane.sites[room] = lane.sites.get(room, 0) | self.site_bit
