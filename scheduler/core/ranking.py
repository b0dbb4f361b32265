"""In which order a request takes rooms: the least growth of the placement score, then best fit.

Simple equivalent: score every node that could hold the request. Departures: nodes in the same room
share a score; and the rooms that a shape was shown stay in order, so that a new one is put in its
place among them.

Without a mix of requests (`packing`), all growths are zero, and best fit alone decides.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence, Set
from typing import TypeAlias

from scheduler.core.asks import Shape
from scheduler.core.packing import NodeState, Packing
from scheduler.core.rooms import KindKey, Left, NodeKind, Room, RoomKey, kind_key
from scheduler.model.fleet import Node
from scheduler.model.ids import GpuClass

LEFTS_MAX = 200_000
"""Exact amounts left that are remembered, for one kind of node."""
STEPS_MAX = 20_000
"""What a shape makes of so many of them is remembered."""
RANKED_MAX = 4_000_000
"""Rooms in all rankings together: with more, all are forgotten."""
ROOMS_MIN = 512
"""With no more rooms than this, those that nobody is in are kept."""
FEW_NEW = 16
"""Up to so many new rooms are put in their places one by one."""

Ranked: TypeAlias = tuple[tuple[int, ...], tuple[RoomKey, KindKey], int]
"""A room's score (the smallest first), its key, and its number. The number never decides: it is
the order in which rooms were first seen, and so history."""


Step: TypeAlias = tuple[int, Left]
"""The GPUs that a job takes of a node, as a mask, and what is left then."""


class Ranking:
    """The rooms of one GPU class that can hold a shape, the best first."""

    __slots__ = (
        "from_milli", "growth", "numbers", "place", "ranked", "rooms", "seen", "shape", "stamp",
        "steps",
    )  # fmt: skip

    def __init__(self, rooms: Rooms, shape: Shape) -> None:
        self.rooms = rooms
        self.shape = shape
        # What a job takes of what is left, and leaves; see `step`.
        self.steps: dict[Left, Step | None] = {}
        self.numbers: list[int] = []
        # By room: where it is among these.
        self.place: dict[int, int] = {}
        self.growth: dict[int, int] = {}
        # By room: how much is left of the GPU on which a share goes.
        self.from_milli: dict[int, int] = {}
        self.ranked: list[Ranked] = []
        # The number of the last room that was looked at, and of the state of all rooms then.
        self.seen = -1
        self.stamp = -1

    def step(self, left: Left) -> Step | None:
        """Which GPUs a job of the shape takes of a node of which this is left, and what is left
        then. None: it has not quite the room. Remembered, as most nodes are filled alike."""
        if not left.holds(self.shape):
            step = None
        else:
            mask = self._choose(left)
            after = self.rooms.left(left.room.kind, *left.without(self.shape, mask))
            step = mask, after
        if len(self.steps) >= STEPS_MAX:
            self.steps.clear()
        self.steps[left] = step
        return step

    def _choose(self, left: Left) -> int:
        shape, kind = self.shape, left.room.kind
        if shape.profile:
            return kind.choose_instance(left.free_mask, shape.profile)
        if shape.share_milli < 1000 and shape.gpus:
            milli = self.from_milli.get(left.room.number, 1000)
            for shared, gpu in left.partial:
                if shared == milli:
                    return 1 << gpu
        return kind.choose(left.free_mask & kind.whole, shape.gpus)

    def keep_only(self, inhabited: Set[int]) -> None:
        """Forgets all rooms but these."""
        self.steps.clear()
        self.ranked = [each for each in self.ranked if each[2] in inhabited]
        self.put_in_order()
        self.growth = {number: self.growth[number] for number in self.numbers}
        self.from_milli = {
            number: milli for number, milli in self.from_milli.items() if number in inhabited
        }

    def put_in_order(self) -> None:
        """Makes the order of numbers that of `ranked`."""
        self.numbers = [number for _, _, number in self.ranked]
        self.place = {number: at for at, number in enumerate(self.numbers)}


class Rooms:
    """Every kind of node and every room that was seen, and how shapes rank them."""

    def __init__(self) -> None:
        self._packing: Packing | None = None
        self._kinds: dict[KindKey, NodeKind] = {}
        self._of_class: dict[GpuClass, list[Room]] = {}
        self._rankings: dict[tuple[GpuClass, Shape], Ranking] = {}
        self._ranked = 0
        # Another one whenever a ranking made before may not be up to date: that has the same.
        self.stamp = 0
        self._count = 0
        self._sweep_at = ROOMS_MIN
        self.all: dict[int, Room] = {}

    def kind_of(self, node: Node) -> NodeKind:
        """The kind of `node`."""
        key = kind_key(node)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = NodeKind(node)
            self._of_class.setdefault(node.gpu_class, [])
        return kind

    def left(
        self,
        kind: NodeKind,
        free_mask: int,
        partial: tuple[tuple[int, int], ...],
        cpu_milli: int,
        memory_bytes: int,
    ) -> Left:
        """What is left of a node of `kind` on which so much is; see `Left`."""
        exactly = (free_mask, partial, cpu_milli, memory_bytes)
        known = kind.lefts.get(exactly)
        if known is None:
            if len(kind.lefts) >= LEFTS_MAX:
                kind.lefts.clear()
            known = kind.lefts[exactly] = Left(exactly, self._room(kind, *exactly))
        return known

    def _room(
        self,
        kind: NodeKind,
        free_mask: int,
        partial: tuple[tuple[int, int], ...],
        cpu_milli: int,
        memory_bytes: int,
    ) -> Room:
        key = (
            (free_mask & kind.whole).bit_count(),
            tuple(milli for milli, _ in partial),
            cpu_milli * kind.steps // kind.cpu_milli,
            memory_bytes * kind.steps // kind.memory_bytes,
            tuple([(free_mask & kind.units[name]).bit_count() for name in kind.profiles]),
        )
        room = kind.rooms.get(key)
        if room is None:
            room = kind.rooms[key] = Room(self._count, kind, *key)
            self._count += 1
            self.stamp += 1
            self.all[room.number] = room
            self._of_class[kind.gpu_class].append(room)
        return room

    def score_by(self, packing: Packing | None) -> None:
        """From here on rooms are ranked by this score. None: by best fit alone."""
        self._packing = packing
        self.stamp += 1
        self._rankings.clear()
        self._ranked = 0

    def is_crowded(self) -> bool:
        """Whether there are so many rooms that those that nobody is in should go."""
        return len(self.all) >= self._sweep_at

    def keep_only(self, inhabited: Set[int]) -> None:
        """Forgets all rooms but these. One that is needed again is a new room."""
        self._sweep_at = max(ROOMS_MIN, 2 * len(inhabited))
        self.stamp += 1
        for room in [room for room in self.all.values() if room.number not in inhabited]:
            del self.all[room.number], room.kind.rooms[room.key()[0]]
            room.kind.lefts.clear()
        for gpu_class, rooms in self._of_class.items():
            self._of_class[gpu_class] = [room for room in rooms if room.number in inhabited]
        for ranking in self._rankings.values():
            ranking.keep_only(inhabited)
        self._ranked = sum(len(ranking.ranked) for ranking in self._rankings.values())

    def ranking(self, gpu_class: GpuClass, shape: Shape) -> Ranking:
        """The order in which a job of `shape` takes rooms of `gpu_class`, those known now."""
        ranking = self._rankings.get((gpu_class, shape))
        if ranking is None:
            if self._ranked >= RANKED_MAX:
                self._rankings.clear()
                self._ranked = 0
            ranking = self._rankings[gpu_class, shape] = Ranking(self, shape)
        if ranking.stamp != self.stamp:
            rooms = self._of_class.get(gpu_class, [])
            first = bisect_right(rooms, ranking.seen, key=_number)
            self._learn(ranking, rooms[first:])
            ranking.seen, ranking.stamp = self._count - 1, self.stamp
        return ranking

    def _learn(self, ranking: Ranking, rooms: Sequence[Room]) -> None:
        found: list[Ranked] = []
        shape = ranking.shape
        for room in rooms:
            cost = room.kind.cost(shape)
            if not room.may_hold(shape, cost):
                continue
            growth, from_milli = growth_of(self._packing, room, shape, cost)
            ranking.growth[room.number] = growth
            if shape.share_milli < 1000:
                ranking.from_milli[room.number] = from_milli
            found.append(((growth, *best_fit(room, shape)), room.key(), room.number))
        if len(found) > FEW_NEW:
            ranking.ranked += found
            ranking.ranked.sort()
        else:
            for each in found:
                insort(ranking.ranked, each)
        if found:
            ranking.put_in_order()
            self._ranked += len(found)


def _number(room: Room) -> int:
    return room.number


def growth_of(
    packing: Packing | None, room: Room, shape: Shape, cost: tuple[int, int]
) -> tuple[int, int]:
    """By how much the score of a node in `room` grows with a job of `shape`, which costs so much
    CPU and memory; and, for a share, what is left now of the GPU on which it grows least.

    An instance costs nothing: how GPUs are cut is no choice of ours, and nothing else goes there.
    """
    if shape.profile:
        return 0, 0
    if shape.share_milli < 1000 and shape.gpus:
        choices = [milli for milli in sorted(set(room.partial)) if milli >= shape.share_milli]
        if room.free:
            choices.append(1000)
        if packing is None:
            return 0, choices[0]
    elif packing is None:
        return 0, 0
    else:
        choices = [0]
    before = room.state
    score_before = packing.score(before)
    cpu_milli = max(0, before.cpu_milli - cost[0])
    memory_bytes = max(0, before.memory_bytes - cost[1])
    growths: list[tuple[int, int]] = []
    for milli in choices:
        after = NodeState(
            before.gpu_class, cpu_milli, memory_bytes, _after(before.free_gpu_milli, shape, milli)
        )
        growths.append((packing.score(after) - score_before, milli))
    return min(growths)


def _after(free: tuple[int, ...], shape: Shape, milli: int) -> tuple[int, ...]:
    """What is free of the GPUs once `shape` is there; `milli`: of which one it takes its share."""
    if not milli:
        return free[: len(free) - shape.gpus]
    at = free.index(milli)
    left = milli - shape.share_milli
    rest = (*free[:at], *free[at + 1 :])
    return tuple(sorted((*rest, left))) if left else rest


def best_fit(room: Room, shape: Shape) -> tuple[int, ...]:
    """What is left over: GPUs first, then CPU and memory. A share takes a GPU in use before a
    whole one, and the fullest that has room; an instance the node with fewest like it, and fewest
    others."""
    if shape.profile:
        alike, others = room.free_of(shape.profile), sum(room.instances)
        return (alike, others, room.free, room.cpu_step, room.memory_step)
    if shape.share_milli < 1000:
        fitting = [milli for milli in room.partial if milli >= shape.share_milli]
        if fitting:
            return (0, fitting[0], room.free, room.cpu_step, room.memory_step)
        return (1, 1000, room.free, room.cpu_step, room.memory_step)
    return (room.free, len(room.partial), room.cpu_step, room.memory_step)
