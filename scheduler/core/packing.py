"""How much a node's free capacity is worth to what is usually asked for: the placement score.

A request goes where the score Φ grows least, ties to the smallest node name:

    Φ(node) = 0.1 F + max(0, L - 1000 cpu_free / c) + Σ_gpu loss(free) - 0.7 press(model) L

* L: the node's free GPU-milli. F: the part of it that requests of the mix could not use, on average
  over the mix (fragmentation as in FGD: Weng et al., USENIX ATC 2023), memory included.
* The second term: GPUs stranded without CPU; c is 0.9 times the mean CPU-milli per GPU of the mix.
* loss(r): what will stay empty of a GPU's leftover r when it is filled as a GPU-only cutting-stock
  programme over the mix would fill it (`cutting`).
* press(model): the demand that may fall on a model over its capacity, less one; zero when no
  request of the mix names a model.

Everything is an integer, in 1/SCALE of a GPU-milli, and a function of the node's state alone, so
identical nodes share a score, which is remembered.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.core.cutting import SCALE, values
from scheduler.model.ids import GpuClass

STATES_MAX = 400_000
"""Node states whose scores are remembered; when there are more, all are forgotten."""
GPU_MILLI = 1000
FRAGMENTS_TENTHS = 1
STRANDING_TENTHS = 9
PRESS_TENTHS = 7
PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class MixEntry:
    """One kind of request and how often it is asked for. No class named: any will do."""

    cpu_milli: int
    memory_bytes: int
    gpus: int
    gpu_milli: int
    gpu_classes: tuple[GpuClass, ...]
    weight: int


@dataclass(frozen=True, slots=True)
class NodeState:
    """What is free on a node; `free_gpu_milli` ascending, so that equal nodes are equal."""

    gpu_class: GpuClass
    cpu_milli: int
    memory_bytes: int
    free_gpu_milli: tuple[int, ...]


class _Kinds:
    """Requests for the same GPUs: how many of them so much CPU and memory can serve."""

    __slots__ = ("cpus", "entries", "gpus", "memory_max", "milli", "served")

    def __init__(self, gpus: int, milli: int, entries: Sequence[MixEntry]) -> None:
        self.gpus = gpus
        self.milli = milli
        self.entries = sorted((e.cpu_milli, e.memory_bytes, e.weight) for e in entries)
        self.memory_max = max(memory for _, memory, _ in self.entries)
        self.cpus = [cpu for cpu, _, _ in self.entries]
        self.served = [0]
        for _, _, weight in self.entries:
            self.served.append(self.served[-1] + weight)

    def weight(self, cpu_milli: int, memory_bytes: int) -> int:
        """The weight of those that this much can serve."""
        last = bisect_right(self.cpus, cpu_milli)
        if memory_bytes >= self.memory_max:
            return self.served[last]
        return sum(weight for _, memory, weight in self.entries[:last] if memory <= memory_bytes)


class Packing:
    """The score for one mix of requests on one fleet. Immutable but for what it remembers."""

    def __init__(self, mix: Iterable[MixEntry], capacity_milli: Mapping[GpuClass, int]) -> None:
        asked = sorted(mix, key=_entry_key)
        self._capacity_milli = dict(sorted(capacity_milli.items()))
        self._weight = max(1, sum(entry.weight for entry in asked))
        wanting = [entry for entry in asked if entry.gpus and entry.weight > 0]
        self._gpu_milli = sum(entry.weight * entry.gpus * entry.gpu_milli for entry in wanting)
        self._cpu_milli = sum(entry.weight * entry.cpu_milli for entry in wanting)
        self._kinds = {name: _kinds(wanting, name) for name in self._capacity_milli}
        self._press_ppm = _press_ppm(wanting, self._capacity_milli)
        self._loss = _losses(wanting, sum(self._capacity_milli.values()) // GPU_MILLI)
        self._scores: dict[NodeState, int] = {}

    def loss(self, free_gpu_milli: int) -> int:
        """What will stay empty of a GPU's leftover, in 1/SCALE of a GPU-milli."""
        return self._loss[free_gpu_milli]

    def score(self, state: NodeState) -> int:
        """Φ of a node in this state."""
        known = self._scores.get(state)
        if known is None:
            if len(self._scores) >= STATES_MAX:
                self._scores.clear()
            known = self._scores[state] = self._score(state)
        return known

    def _score(self, state: NodeState) -> int:
        free = state.free_gpu_milli
        left = sum(free)
        if not left:
            return 0
        fragments = left * SCALE - self._usable(state) * SCALE // self._weight
        stranded = 0
        if self._cpu_milli:
            served = 10 * state.cpu_milli * self._gpu_milli * SCALE
            stranded = max(0, left * SCALE - served // (STRANDING_TENTHS * self._cpu_milli))
        press_ppm = self._press_ppm.get(state.gpu_class, 0)
        return (
            FRAGMENTS_TENTHS * fragments // 10
            + stranded
            + sum(self._loss[room] for room in free)
            - PRESS_TENTHS * press_ppm * left * SCALE // (10 * PPM)
        )

    def _usable(self, state: NodeState) -> int:
        """Free GPU-milli that each request of the mix could use, summed over their weights."""
        free = state.free_gpu_milli
        usable = 0
        for kinds in self._kinds.get(state.gpu_class, ()):
            fitting = [room for room in free if room >= kinds.milli]
            if len(fitting) >= kinds.gpus:
                usable += sum(fitting) * kinds.weight(state.cpu_milli, state.memory_bytes)
        return usable


def _entry_key(entry: MixEntry) -> tuple[int, int, int, int, tuple[GpuClass, ...], int]:
    return (
        entry.gpus, entry.gpu_milli, entry.cpu_milli, entry.memory_bytes, entry.gpu_classes,
        entry.weight,
    )  # fmt: skip


def _kinds(wanting: Sequence[MixEntry], name: GpuClass) -> tuple[_Kinds, ...]:
    grouped: dict[tuple[int, int], list[MixEntry]] = {}
    for entry in wanting:
        if not entry.gpu_classes or name in entry.gpu_classes:
            grouped.setdefault((entry.gpus, entry.gpu_milli), []).append(entry)
    return tuple(_Kinds(gpus, milli, grouped[gpus, milli]) for gpus, milli in sorted(grouped))


def _press_ppm(
    wanting: Sequence[MixEntry], capacity_milli: Mapping[GpuClass, int]
) -> dict[GpuClass, int]:
    """Demand over capacity less one, by class, were the whole fleet asked for exactly once.

    A request's demand is split over the classes that it may use by their capacity.
    """
    total = sum(capacity_milli.values())
    demand = dict.fromkeys(capacity_milli, 0)
    asked = 0
    for entry in wanting:
        usable = [name for name in capacity_milli if name in entry.gpu_classes]
        if not entry.gpu_classes:
            usable = list(capacity_milli)
        room = sum(capacity_milli[name] for name in usable)
        if not room:
            continue
        milli = entry.weight * entry.gpus * entry.gpu_milli
        asked += milli
        for name in usable:
            demand[name] += milli * PPM * capacity_milli[name] // room
    if not asked or all(not entry.gpu_classes for entry in wanting):
        return dict.fromkeys(capacity_milli, 0)
    return {
        name: demand[name] * total // (asked * room) - PPM if room else 0
        for name, room in capacity_milli.items()
    }


def _losses(wanting: Sequence[MixEntry], gpus: int) -> list[int]:
    demand: dict[int, int] = {}
    for entry in wanting:
        demand[entry.gpu_milli] = demand.get(entry.gpu_milli, 0) + entry.weight * entry.gpus
    worth = values(demand, gpus)
    return [room * SCALE - worth[room] for room in range(GPU_MILLI + 1)]
