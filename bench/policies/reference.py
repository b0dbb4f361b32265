"""FGD and best fit as their authors run them, ties and integer scores included.

Both score in whole points of a hundred, so many nodes tie; the smallest node name wins. That rule
is worth more than five points of the fleet: it fills nodes in order.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from bench.replay_pack import Fleet, Floats, Kinds
from bench.traces import GPU_MILLI, Ints, PackTrace

POPULARITY_PERCENT = 95
"""FGD looks at the most frequent kinds that together make so much of the requests."""
CPU_MILLI_MAX, GPU_MILLI_MAX = 128_000, 8_000
"""The largest node, by which best fit normalises."""
POINTS = 100


class BestFit:
    """Least normalised CPU and GPU left over, half and half, spread over 0..100 points."""

    def __init__(self, trace: PackTrace) -> None:
        self.kinds = Kinds(trace, Fleet(trace).models)

    def costs(self, fleet: Fleet, kind: int, nodes: Ints) -> tuple[Floats, Ints]:
        """Points of the node, and of its GPUs the fullest that has room."""
        free = np.maximum(fleet.free[nodes], 0)
        cpu = (fleet.cpu[nodes] - self.kinds.cpu[kind]) / CPU_MILLI_MAX
        gpu = (free.sum(axis=1) - self.kinds.asked_milli[kind]) / GPU_MILLI_MAX
        points = np.floor((1.0 - (cpu + gpu) * 0.5) * POINTS)
        room = np.where(free >= self.kinds.milli[kind], free, 2 * GPU_MILLI)
        return -points, room.argmin(axis=1)


class Fgd:
    """Fragmentation gradient descent: the least growth of what typical requests cannot use."""

    def __init__(self, trace: PackTrace) -> None:
        models = Fleet(trace).models
        self.kinds = Kinds(trace, models)
        self.cpu, self.gpus, self.milli, self.share, self.allowed = _typical(trace, models)

    def fragments(self, cpu: Ints, free: Ints, model: Ints) -> Floats:
        """Free GPU-milli that typical requests cannot use, on average over them, by state."""
        whole = free.sum(axis=1)
        levels, level = np.unique(self.milli, return_inverse=True)
        enough = free[:, :, None] >= levels[None, None, :]
        usable = (free[:, :, None] * enough).sum(axis=1)
        counts = enough.sum(axis=1)
        fits = (cpu[:, None] >= self.cpu[None, :]) & self.allowed[:, model].T
        fits &= (counts[:, level] >= self.gpus[None, :]) & (self.gpus[None, :] > 0)
        used = np.where(fits, usable[:, level], 0) @ self.share
        return whole - used

    def costs(self, fleet: Fleet, kind: int, nodes: Ints) -> tuple[Floats, Ints]:
        """Points by the growth of fragments, squashed as published; the best GPU for a share."""
        free = np.maximum(fleet.free[nodes], 0)
        before = self.fragments(fleet.cpu[nodes], free, fleet.model[nodes])
        cpu = fleet.cpu[nodes] - self.kinds.cpu[kind]
        milli, gpus = int(self.kinds.milli[kind]), int(self.kinds.gpus[kind])
        if gpus != 1 or milli == GPU_MILLI:
            after = self.fragments(cpu, _whole_taken(free, gpus), fleet.model[nodes])
            return -_points(before - after), np.zeros(len(nodes), dtype=np.int64)
        row, gpu = np.nonzero(free >= milli)
        left = free[row]
        left[np.arange(len(row)), gpu] -= milli
        after = self.fragments(cpu[row], left, fleet.model[nodes][row])
        points = np.full(free.shape, -1.0)
        points[row, gpu] = _points(before[row] - after)
        best = points.argmax(axis=1)
        return -points[np.arange(len(nodes)), best], best


def _points(gain: Floats) -> Floats:
    return np.floor(POINTS / (1.0 + np.exp(-gain / GPU_MILLI)))


def _whole_taken(free: Ints, gpus: int) -> Ints:
    left = free.copy()
    if gpus:
        whole = free == GPU_MILLI
        left[whole & (whole.cumsum(axis=1) <= gpus)] = 0
    return left


def _typical(
    trace: PackTrace, models: tuple[str, ...]
) -> tuple[Ints, Ints, Ints, Floats, np.ndarray[tuple[int, int], np.dtype[np.bool_]]]:
    counted = Counter(
        (kind.cpu_milli, kind.gpu_milli, kind.gpus, "|".join(kind.models))
        for kind in (trace.kinds[at] for at in trace.pods)
    )
    ranked = sorted(counted.items(), key=lambda entry: (entry[1], entry[0]), reverse=True)
    taken = 0
    typical: list[tuple[tuple[int, int, int, str], int]] = []
    for entry in ranked:
        if taken * 100 >= POPULARITY_PERCENT * len(trace.pods):
            break
        typical.append(entry)
        taken += entry[1]
    allowed = [
        [not spec or model in spec.split("|") for model in models] for (_, _, _, spec), _ in typical
    ]
    return (
        np.array([cpu for (cpu, _, _, _), _ in typical], dtype=np.int64),
        np.array([gpus for (_, _, gpus, _), _ in typical], dtype=np.int64),
        np.array([milli for (_, milli, _, _), _ in typical], dtype=np.int64),
        np.array([count / taken for _, count in typical]),
        np.array(allowed, dtype=np.bool_),
    )
