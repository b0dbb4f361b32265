"""What is left of a node, as one of few kinds: nodes in the same state are alike to every request.

A *room* is a kind of node (model, size) with so many GPUs free, so much free of each GPU that is
shared, and so much CPU and memory, in steps. Requests rank rooms, not nodes (`ranking`): a node is
then found with an AND of bit sets.

CPU and memory are rounded down to steps of a sixteenth of one GPU's share: coarse enough that rooms
stay few whatever jobs ask for, and as fine as the placement score needs to see CPU run short.
Whether a node really has the room is looked at when it is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from scheduler.core.asks import Shape, cpu_milli_on, memory_bytes_on
from scheduler.core.packing import NodeState
from scheduler.model.fleet import Node
from scheduler.model.ids import GpuClass

STEPS_PER_GPU = 16
STEPS_MIN = 32
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

    def state(self) -> NodeState:
        """What is free, as the placement score sees it: no more than a node here has."""
        kind = self.kind
        return NodeState(
            kind.gpu_class,
            self.cpu_step * kind.cpu_milli // kind.steps,
            self.memory_step * kind.memory_bytes // kind.steps,
            (*self.partial, *([1000] * self.free)),
        )

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


def kind_key(node: Node) -> KindKey:
    """What makes nodes one kind."""
    return (node.gpu_class, node.gpus, node.cpu_milli, node.memory_bytes)
