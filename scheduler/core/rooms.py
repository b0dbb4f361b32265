"""What is left of a node, as one of few kinds: nodes in the same state are alike to every request.

A *room* is a kind of node (model, size) with so many GPUs free, so much free of each GPU that is
shared, and so much CPU and memory, in steps. Requests rank rooms, not nodes: in which order a
request takes them is worked out once a shape, and a node is then found with an AND of bit sets.

CPU and memory are rounded down to steps of a quarter of one GPU's share, so that rooms stay few
whatever jobs ask for; whether a node really has the room is looked at when it is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from scheduler.core.asks import Shape, cpu_milli_on, memory_bytes_on
from scheduler.model.fleet import Node
from scheduler.model.ids import GpuClass

STEPS_PER_GPU = 4
STEPS_MIN = 8
"""A node without GPUs, or with few, has its CPU and memory in this many steps at least."""

KindKey: TypeAlias = tuple[GpuClass, int, int, int]
RoomKey: TypeAlias = tuple[int, tuple[int, ...], int, int]


class NodeKind:
    """Nodes of one model and size: what shapes cost on them, and the rooms they have been in."""

    __slots__ = (
        "choices", "costs", "cpu_milli", "exact", "gpu_class", "gpus", "key", "memory_bytes",
        "rooms", "steps",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self.key = kind_key(node)
        self.gpu_class = node.gpu_class
        self.gpus = node.gpus
        self.cpu_milli = max(1, node.cpu_milli)
        self.memory_bytes = max(1, node.memory_bytes)
        self.steps = max(STEPS_MIN, STEPS_PER_GPU * node.gpus)
        self.rooms: dict[RoomKey, Room] = {}
        self.costs: dict[Shape, tuple[int, int]] = {}
        # Remembered: the room of exactly this much left, and which GPUs of those free to take.
        self.exact: dict[tuple[int, tuple[tuple[int, int], ...], int, int], Room] = {}
        self.choices: dict[tuple[int, int], int] = {}

    def cost(self, shape: Shape, node: Node) -> tuple[int, int]:
        """CPU (milli-cores) and memory (bytes) that a job of `shape` takes of such a `node`."""
        known = self.costs.get(shape)
        if known is None:
            known = cpu_milli_on(shape, node), memory_bytes_on(shape, node)
            self.costs[shape] = known
        return known


@dataclass(slots=True, eq=False)
class Room:
    """A state that nodes of one kind can be in. `partial`: what is free, in milli-GPU, of each GPU
    that is shared, ascending. The steps round down."""

    number: int
    kind: NodeKind
    free: int
    partial: tuple[int, ...]
    cpu_step: int
    memory_step: int

    def key(self) -> tuple[RoomKey, KindKey]:
        """Tells rooms apart whenever they were first seen."""
        return (self.free, self.partial, self.cpu_step, self.memory_step), self.kind.key

    def may_hold(self, shape: Shape, cost: tuple[int, int]) -> bool:
        """Whether a node in this room can have what `shape` needs; surely not, if not."""
        cpu_milli, memory_bytes = cost
        kind = self.kind
        if (self.cpu_step + 1) * kind.cpu_milli <= cpu_milli * kind.steps:
            return False
        if (self.memory_step + 1) * kind.memory_bytes <= memory_bytes * kind.steps:
            return False
        if self.free >= shape.gpus:
            return True
        return shape.share_milli < 1000 and bool(self.partial) and (
            self.partial[-1] >= shape.share_milli
        )  # fmt: skip


RoomScore: TypeAlias = Callable[[Room, Shape], tuple[int, ...]]
"""How good a room is for a shape: the smallest first. Depends on nothing else."""


def best_fit(room: Room, shape: Shape) -> tuple[int, ...]:
    """What is left over: GPUs first, then CPU and memory. A share takes a GPU in use before a
    whole one, and the fullest that has room."""
    if shape.share_milli < 1000:
        fitting = [milli for milli in room.partial if milli >= shape.share_milli]
        if fitting:
            return (0, fitting[0], room.free, room.cpu_step, room.memory_step)
        return (1, 1000, room.free, room.cpu_step, room.memory_step)
    return (room.free, len(room.partial), room.cpu_step, room.memory_step)


class Ranking:
    """The rooms of one GPU class that can hold a shape, the best first."""

    __slots__ = ("numbers", "place", "seen")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.place: dict[int, int] = {}
        self.seen = -1


class Rooms:
    """Every kind of node and every room that was seen, and how shapes rank them."""

    def __init__(self, score: RoomScore = best_fit) -> None:
        self._score = score
        self._kinds: dict[KindKey, NodeKind] = {}
        self._nodes: dict[KindKey, Node] = {}
        self._of_class: dict[GpuClass, list[Room]] = {}
        self._rankings: dict[tuple[GpuClass, Shape], Ranking] = {}
        self.all: list[Room] = []

    def kind_of(self, node: Node) -> NodeKind:
        """The kind of `node`."""
        key = kind_key(node)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = NodeKind(node)
            self._nodes[key] = node
            self._of_class.setdefault(node.gpu_class, [])
        return kind

    def room(
        self,
        kind: NodeKind,
        free: int,
        shared: tuple[tuple[int, int], ...],
        cpu_milli: int,
        memory_bytes: int,
    ) -> Room:
        """The room of a node of `kind` with this much left; `shared`: what is left of GPUs that
        are shared, and which."""
        exactly = (free, shared, cpu_milli, memory_bytes)
        known = kind.exact.get(exactly)
        if known is not None:
            return known
        if len(kind.exact) >= EXACT_MAX:
            kind.exact.clear()
        key = (
            free,
            tuple(milli for milli, _ in shared),
            cpu_milli * kind.steps // kind.cpu_milli,
            memory_bytes * kind.steps // kind.memory_bytes,
        )
        room = kind.rooms.get(key)
        if room is None:
            room = kind.rooms[key] = Room(len(self.all), kind, *key)
            self.all.append(room)
            self._of_class[kind.gpu_class].append(room)
        kind.exact[exactly] = room
        return room

    def count(self, gpu_class: GpuClass) -> int:
        """How many rooms of `gpu_class` were seen."""
        return len(self._of_class.get(gpu_class, ()))

    def ranking(self, gpu_class: GpuClass, shape: Shape) -> Ranking:
        """The order in which a job of `shape` takes rooms of `gpu_class`, those known now."""
        ranking = self._rankings.get((gpu_class, shape))
        if ranking is None:
            if len(self._rankings) >= RANKINGS_MAX:
                self._rankings.clear()
            ranking = self._rankings[gpu_class, shape] = Ranking()
        rooms = self._of_class.get(gpu_class, ())
        if ranking.seen != len(rooms):
            self._rank(ranking, rooms, shape)
        return ranking

    def _rank(self, ranking: Ranking, rooms: list[Room] | tuple[()], shape: Shape) -> None:
        fitting = [
            (self._score(room, shape), room.key(), room.number)
            for room in rooms
            if room.may_hold(shape, room.kind.cost(shape, self._nodes[room.kind.key]))
        ]
        # Not by number: that is the order in which rooms were first seen, and so history.
        fitting.sort()
        ranking.numbers = [number for _, _, number in fitting]
        ranking.place = {number: at for at, number in enumerate(ranking.numbers)}
        ranking.seen = len(rooms)


EXACT_MAX = 200_000
"""Exact amounts whose rooms are remembered, for one kind of node."""
RANKINGS_MAX = 50_000
"""Shapes whose rankings are remembered, over all GPU classes."""


def kind_key(node: Node) -> KindKey:
    """What makes nodes one kind."""
    return (node.gpu_class, node.gpus, node.cpu_milli, node.memory_bytes)
