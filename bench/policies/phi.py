"""The project's placement score (`scheduler.core.packing`) as a policy of the packing replay."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bench.replay_pack import Fleet, Floats
from bench.traces import GPU_MILLI, Ints, PackTrace
from scheduler.core.packing import Capacity, NodeState, Packing
from scheduler.model.ids import GpuClass
from scheduler.model.plan import MixEntry

CHOICES_MAX = 2_000_000
"""Choices by state and kind that are remembered."""


class Phi:
    """The least growth of the score; the mix of requests is the trace's own."""

    def __init__(self, trace: PackTrace) -> None:
        fleet = Fleet(trace)
        self.trace = trace
        self.classes = [GpuClass(model) for model in fleet.models]
        self.packing = Packing(mix_of(trace), Capacity(capacity_of(trace)))
        self.known: dict[tuple[NodeState, int], tuple[int, int]] = {}

    def costs(self, fleet: Fleet, kind: int, nodes: Ints) -> tuple[Floats, Ints]:
        """Growth of the score, and of the GPUs with room the one where it grows least."""
        cost = np.empty(len(nodes))
        gpu = np.empty(len(nodes), dtype=np.int64)
        for at, node in enumerate(nodes):
            rooms = [int(room) for room in fleet.free[node]]
            state = NodeState(
                self.classes[int(fleet.model[node])],
                int(fleet.cpu[node]),
                int(fleet.memory[node]),
                tuple(sorted(room for room in rooms if room >= 0)),
            )
            known = self.known.get((state, kind))
            if known is None:
                if len(self.known) >= CHOICES_MAX:
                    self.known.clear()
                known = self.known[state, kind] = self._choose(state, kind)
            cost[at], room = known
            gpu[at] = rooms.index(room) if room else 0
        return cost, gpu

    def _choose(self, state: NodeState, kind: int) -> tuple[int, int]:
        """The least growth, and the free GPU-milli of the GPU that a share goes to (0: none)."""
        asked = self.trace.kinds[kind]
        before = self.packing.score(state)
        cpu = state.cpu_milli - asked.cpu_milli
        memory = state.memory_bytes - asked.memory_bytes
        free = state.free_gpu_milli
        if asked.gpus == 1 and asked.gpu_milli < GPU_MILLI:
            choices = [
                (room, _without(free, room, room - asked.gpu_milli))
                for room in sorted(set(free))
                if room >= asked.gpu_milli
            ]
        else:
            kept = free[: len(free) - asked.gpus] if asked.gpus else free
            choices = [(0, (*([0] * asked.gpus), *kept))]
        growths = [
            (self.packing.score(NodeState(state.gpu_class, cpu, memory, left)) - before, room)
            for room, left in choices
        ]
        return min(growths)


def mix_of(trace: PackTrace) -> list[MixEntry]:
    """How often each kind of request is in the trace."""
    counted = Counter(trace.pods)
    return [
        MixEntry(
            # None at all would mean: in proportion to the GPUs.
            cpu_milli=max(1, kind.cpu_milli),
            memory_bytes=max(1, kind.memory_bytes),
            gpus=kind.gpus,
            gpu_milli=kind.gpu_milli,
            gpu_classes=tuple(GpuClass(model) for model in kind.models),
            weight=counted[at],
        )
        for at, kind in enumerate(trace.kinds)
    ]


def capacity_of(trace: PackTrace) -> dict[GpuClass, int]:
    """GPU-milli by model."""
    capacity: dict[GpuClass, int] = {}
    for node in trace.nodes:
        name = GpuClass(node.model)
        capacity[name] = capacity.get(name, 0) + node.gpus * GPU_MILLI
    return capacity


def _without(free: tuple[int, ...], room: int, left: int) -> tuple[int, ...]:
    at = free.index(room)
    return tuple(sorted((*free[:at], left, *free[at + 1 :])))
