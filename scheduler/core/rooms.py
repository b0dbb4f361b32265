"""What is left of a node, as one of few kinds: nodes in the same state are alike to every request.

A *room* is a kind of node (model, size) with so many GPUs free, so much free of each GPU that is
shared, and so much CPU and memory, in steps. Requests rank rooms, not nodes (`ranking`): a node is
then found with an AND of bit sets.

CPU and memory are rounded down to steps of a sixteenth of one GPU's share: coarse enough that rooms
stay few whatever jobs ask for, and as fine as the placement score needs to see CPU run short.
Whether a node really has the room is looked at when it is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from scheduler.core.asks import Shape, cpu_milli_on, memory_bytes_on
from scheduler.core.layout import bits
from scheduler.core.packing import NodeState
from scheduler.core.scoring import CHOICES_MAX, choose_gpus
from scheduler.core.units import all_units, units_of
from scheduler.model.fleet import Node
from scheduler.model.ids import GpuClass
from scheduler.model.mig import MigInstance

STEPS_PER_GPU = 16
STEPS_MIN = 32
"""A node without GPUs, or with few, has its CPU and memory in this many steps at least."""

KindKey: TypeAlias = tuple[GpuClass, int, int, int, tuple[MigInstance, ...]]
RoomKey: TypeAlias = tuple[int, tuple[int, ...], int, int, tuple[int, ...]]
LeftKey: TypeAlias = tuple[int, tuple[tuple[int, int], ...], int, int]


class NodeKind:
    """Nodes of one model and size: what shapes cost on them, and the rooms they have been in."""

    __slots__ = (
        "choices", "costs", "cpu_milli", "declared", "gpu_class", "gpus", "key", "lefts",
        "memory_bytes", "node", "profiles", "rooms", "steps", "units", "whole",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self.key = kind_key(node)
        self.node = node  # One of them: what they are declared with is the same.
        self.gpu_class = node.gpu_class
        self.gpus = node.gpus
        # The GPUs that are not cut; and the instances, by profile.
        self.whole = units_of(node, "")
        self.declared = all_units(node)
        self.profiles = sorted({instance.profile for instance in node.mig})
        self.units = {profile: units_of(node, profile) for profile in self.profiles}
        self.cpu_milli = max(1, node.cpu_milli)
        self.memory_bytes = max(1, node.memory_bytes)
        self.steps = max(STEPS_MIN, STEPS_PER_GPU * node.gpus)
        self.rooms: dict[RoomKey, Room] = {}
        self.costs: dict[Shape, tuple[int, int]] = {}
        # Remembered: by exactly what is left; and which GPUs of those free to take.
        self.lefts: dict[LeftKey, Left] = {}
        self.choices: dict[tuple[int, int], int] = {}

    def cost(self, shape: Shape) -> tuple[int, int]:
        """CPU (milli-cores) and memory (bytes) that a job of `shape` takes of such a node."""
        known = self.costs.get(shape)
        if known is None:
            known = cpu_milli_on(shape, self.node), memory_bytes_on(shape, self.node)
            self.costs[shape] = known
        return known

    def fit_for(self, profile: str) -> int:
        """The units that a job which asks for `profile` can have; for none: GPUs."""
        return self.units.get(profile, 0) if profile else self.whole

    def choose_instance(self, free_mask: int, profile: str) -> int:
        """Which instance to take of those that are free: on the GPU with fewest that are free, so
        that others come free as a whole; then the lowest."""
        first, mig = self.gpus, self.node.mig
        free = [mig[at].gpu for at in bits(free_mask >> first)]
        fit = [at for at in bits((free_mask & self.units[profile]) >> first)]
        return 1 << first + min(fit, key=lambda at: (free.count(mig[at].gpu), at))

    def choose(self, free_mask: int, count: int) -> int:
        """Which `count` of the GPUs that are free to take, as a mask."""
        chosen = self.choices.get((free_mask, count))
        if chosen is None:
            chosen = choose_gpus(free_mask, count)
            if len(self.choices) < CHOICES_MAX:
                self.choices[free_mask, count] = chosen
        return chosen


class Left:
    """What is left of a node, never changed: nodes in the same state share one, so a plan takes and
    gives back by putting one in another's place.

    `free_mask`: the GPUs that are free, bit i for GPU i. `partial`: those that are shared and have
    something left: how much, in milli-GPU, and which, ascending.
    """

    __slots__ = ("cpu_milli", "free", "free_mask", "memory_bytes", "partial", "room")

    def __init__(self, key: LeftKey, room: Room) -> None:
        self.free_mask, self.partial, self.cpu_milli, self.memory_bytes = key
        self.free = (self.free_mask & room.kind.whole).bit_count()
        self.room = room

    def key(self) -> LeftKey:
        """What makes it equal to another."""
        return self.free_mask, self.partial, self.cpu_milli, self.memory_bytes

    def without(self, shape: Shape, gpu_mask: int) -> LeftKey:
        """What would be left if a job of `shape` took the GPUs of `gpu_mask`, or its share."""
        partial = self.partial
        if shape.share_milli < 1000 and gpu_mask:
            partial = self._shared(gpu_mask.bit_length() - 1, shape.share_milli)
        cpu_milli, memory_bytes = self.room.kind.cost(shape)
        left_milli, left_bytes = self.cpu_milli - cpu_milli, self.memory_bytes - memory_bytes
        return self.free_mask & ~gpu_mask, partial, left_milli, left_bytes

    def holds(self, shape: Shape) -> bool:
        """Whether enough GPUs, CPU and memory are free for one rank group of `shape`."""
        room = self.room
        cpu_milli, memory_bytes = room.kind.cost(shape)
        if cpu_milli > self.cpu_milli or memory_bytes > self.memory_bytes:
            return False
        if shape.profile:
            return bool(self.free_mask & room.kind.fit_for(shape.profile))
        if shape.gpus <= self.free:
            return True
        return (
            shape.share_milli < 1000
            and bool(self.partial)
            and self.partial[-1][0] >= shape.share_milli
        )

    def free_for(self, shape: Shape) -> int:
        """How many of the units that `shape` takes are free."""
        return (self.free_mask & self.room.kind.fit_for(shape.profile)).bit_count()

    def has_free(self, shape: Shape, gpu_mask: int) -> bool:
        """Whether a job of `shape` may have just these units, or its share of this GPU."""
        if gpu_mask & ~self.room.kind.fit_for(shape.profile):
            return False
        busy = gpu_mask & ~self.free_mask
        if not busy or shape.share_milli == 1000:
            return not busy
        gpu = busy.bit_length() - 1
        return busy == 1 << gpu and any(
            shared == gpu and left >= shape.share_milli for left, shared in self.partial
        )

    def _shared(self, gpu: int, milli: int) -> tuple[tuple[int, int], ...]:
        left = 1000 if self.free_mask >> gpu & 1 else 0
        others: list[tuple[int, int]] = []
        for entry in self.partial:
            if entry[1] == gpu:
                left = entry[0]
            else:
                others.append(entry)
        if left > milli:
            others.append((left - milli, gpu))
        return tuple(sorted(others))


@dataclass(slots=True, eq=False)
class Room:
    """A state that nodes of one kind can be in. `partial`: what is free, in milli-GPU, of each GPU
    that is shared, ascending; `instances`: how many are free, by the kind's profiles. The steps
    round down. `state`: what is free, as the placement score sees it: no more than a node here has.
    """

    number: int
    kind: NodeKind
    free: int
    partial: tuple[int, ...]
    cpu_step: int
    memory_step: int
    instances: tuple[int, ...] = ()
    state: NodeState = field(init=False)

    def __post_init__(self) -> None:
        kind = self.kind
        self.state = NodeState(
            kind.gpu_class,
            self.cpu_step * kind.cpu_milli // kind.steps,
            self.memory_step * kind.memory_bytes // kind.steps,
            (*self.partial, *([1000] * self.free)),
        )

    def key(self) -> tuple[RoomKey, KindKey]:
        """Tells rooms apart whenever they were first seen."""
        steps = self.cpu_step, self.memory_step
        return (self.free, self.partial, *steps, self.instances), self.kind.key

    def free_of(self, profile: str) -> int:
        """How many instances of `profile` are free."""
        profiles = self.kind.profiles
        return self.instances[profiles.index(profile)] if profile in profiles else 0

    def may_hold(self, shape: Shape, cost: tuple[int, int]) -> bool:
        """Whether a node in this room can have what `shape` needs; surely not, if not."""
        cpu_milli, memory_bytes = cost
        kind = self.kind
        if (self.cpu_step + 1) * kind.cpu_milli <= cpu_milli * kind.steps:
            return False
        if (self.memory_step + 1) * kind.memory_bytes <= memory_bytes * kind.steps:
            return False
        if shape.profile:
            return self.free_of(shape.profile) > 0
        if self.free >= shape.gpus:
            return True
        return shape.share_milli < 1000 and bool(self.partial) and (
            self.partial[-1] >= shape.share_milli
        )  # fmt: skip


def kind_key(node: Node) -> KindKey:
    """What makes nodes one kind."""
    return (node.gpu_class, node.gpus, node.cpu_milli, node.memory_bytes, node.mig)
