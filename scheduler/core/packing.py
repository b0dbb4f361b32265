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

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import NamedTuple

from scheduler.core.cutting import SCALE, values
from scheduler.model.fleet import Node
from scheduler.model.ids import GpuClass
from scheduler.model.plan import MixEntry

STATES_MAX = 400_000
"""Node states whose scores are remembered; when there are more, all are forgotten."""
GPU_MILLI = 1000
FRAGMENTS_TENTHS = 1
STRANDING_TENTHS = 9
PRESS_TENTHS = 7
PPM = 1_000_000


class NodeState(NamedTuple):
    """What is free on a node; `free_gpu_milli` ascending, so that equal nodes are equal.

    Scores are remembered by it, so it is made, hashed and compared all the time: a tuple.
    """

    gpu_class: GpuClass
    cpu_milli: int
    memory_bytes: int
    free_gpu_milli: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What there is: GPU-milli by class, and CPU and memory of the nodes with GPUs."""

    gpu_milli: Mapping[GpuClass, int]
    cpu_milli: int = 0
    memory_bytes: int = 0

    def all_gpu_milli(self) -> int:
        """GPU-milli of all classes."""
        return sum(self.gpu_milli.values())


def capacity_of(nodes: Iterable[Node]) -> Capacity:
    """What `nodes` have."""
    gpu_milli: dict[GpuClass, int] = {}
    cpu_milli = memory_bytes = 0
    for node in nodes:
        gpu_milli[node.gpu_class] = gpu_milli.get(node.gpu_class, 0) + node.gpus * GPU_MILLI
        if node.gpus:
            cpu_milli += node.cpu_milli
            memory_bytes += node.memory_bytes
    return Capacity(gpu_milli, cpu_milli, memory_bytes)


def press_cost(ppm: int, milli: int) -> int:
    """What it adds to the growth of the score that so many GPU-milli are taken of a site that is
    pressed by `ppm` more than others with GPUs of the class."""
    return PRESS_TENTHS * ppm * milli * SCALE // (10 * PPM)


class Packing:
    """The score for one mix of requests on one fleet. Immutable but for what it remembers."""

    def __init__(self, mix: Iterable[MixEntry], capacity: Capacity) -> None:
        asked = sorted((_in_full(entry, capacity) for entry in mix), key=_entry_key)
        self._capacity_milli = dict(sorted(capacity.gpu_milli.items()))
        self._weight = max(1, sum(entry.weight for entry in asked))
        wanting = [entry for entry in asked if entry.gpus and entry.weight > 0]
        self._gpu_milli = sum(entry.weight * entry.gpus * entry.gpu_milli for entry in wanting)
        self._cpu_milli = sum(entry.weight * entry.cpu_milli for entry in wanting)
        self._kinds = sorted({(entry.gpus, entry.gpu_milli) for entry in wanting})
        self._asked = {
            name: [each for each in wanting if not each.gpu_classes or name in each.gpu_classes]
            for name in self._capacity_milli
        }
        self._cpus = sorted({entry.cpu_milli for entry in wanting})
        self._memories = sorted({entry.memory_bytes for entry in wanting})
        # Remembered: by what is free of the GPUs, what each kind could use of it; by class and how
        # many steps of CPU and memory are enough, the weight of each kind's requests that fit.
        self._rooms_of: dict[tuple[int, ...], list[int]] = {}
        self._weights_of: dict[tuple[GpuClass, int, int], list[int]] = {}
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
        """Free GPU-milli that each request of the mix could use, summed over their weights.

        Requests of a kind (so many GPUs, so much of each) use the same GPUs; how many of them find
        the CPU and memory that they ask for does not depend on the GPUs.
        """
        free = state.free_gpu_milli
        rooms = self._rooms_of.get(free)
        if rooms is None:
            if len(self._rooms_of) >= STATES_MAX:
                self._rooms_of.clear()
            rooms = self._rooms_of[free] = self._rooms(free)
        cpu = bisect_right(self._cpus, state.cpu_milli)
        memory = bisect_right(self._memories, state.memory_bytes)
        key = state.gpu_class, cpu, memory
        weights = self._weights_of.get(key)
        if weights is None:
            if len(self._weights_of) >= STATES_MAX:
                self._weights_of.clear()
            weights = self._weights_of[key] = self._weights(state)
        return sum(map(mul, rooms, weights))

    def _rooms(self, free: tuple[int, ...]) -> list[int]:
        """What a request of each kind could use of GPUs of which so much is free, ascending."""
        found: list[int] = []
        for gpus, milli in self._kinds:
            first = bisect_left(free, milli)
            found.append(sum(free[first:]) if len(free) - first >= gpus else 0)
        return found

    def _weights(self, state: NodeState) -> list[int]:
        """By kind: how often it is asked for, of the class and within the CPU and memory."""
        weights = dict.fromkeys(self._kinds, 0)
        for entry in self._asked.get(state.gpu_class, ()):
            if entry.cpu_milli <= state.cpu_milli and entry.memory_bytes <= state.memory_bytes:
                weights[entry.gpus, entry.gpu_milli] += entry.weight
        return list(weights.values())


def _in_full(entry: MixEntry, capacity: Capacity) -> MixEntry:
    """`entry` with its CPU and memory: where it names none, those of its GPUs on average."""
    milli, all_milli = entry.gpus * entry.gpu_milli, max(1, capacity.all_gpu_milli())
    return replace(
        entry,
        cpu_milli=entry.cpu_milli or capacity.cpu_milli * milli // all_milli,
        memory_bytes=entry.memory_bytes or capacity.memory_bytes * milli // all_milli,
    )


def _entry_key(entry: MixEntry) -> tuple[int, int, int, int, tuple[GpuClass, ...], int]:
    return (
        entry.gpus, entry.gpu_milli, entry.cpu_milli, entry.memory_bytes, entry.gpu_classes,
        entry.weight,
    )  # fmt: skip


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
