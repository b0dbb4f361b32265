"""The yardstick of `day`: a queue that skips ahead and keeps gangs within their domains.

First come, first served over the whole fleet; who does not fit is passed over. It knows nothing of
law, models, power, tenants or failures, so it has more to choose from than the planner has.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

from bench.day_world import Arrival
from bench.worlds import Shape
from scheduler.model.job import TopologyLevel


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the queue made of the day: GPU-milliseconds in use, and each job's wait in ms."""

    used_gpu_ms: int
    waits_ms: tuple[tuple[int, int], ...]
    """GPUs and wait of every job that arrived, to the end for those that still wait."""


Taken = list[tuple[int, int]]


class _Fleet:
    """Free GPUs by node; nodes in the order of pods, leaves and slots."""

    def __init__(self, shape: Shape) -> None:
        self.whole = shape.gpus_per_node
        self.leaf, self.pod = shape.nodes_per_leaf, shape.nodes_per_leaf * shape.leaves_per_pod
        self.free = [self.whole] * (self.pod * shape.pods)
        # The nodes with so many GPUs free, ascending.
        self.by_free: list[list[int]] = [[] for _ in range(self.whole)]
        self.by_free.append(list(range(len(self.free))))

    def find(self, gpus: int, level: TopologyLevel) -> Taken | None:
        """Where a job fits: the fullest node that holds it, or whole nodes of one domain."""
        if gpus <= self.whole:
            for free in range(gpus, self.whole + 1):
                if self.by_free[free]:
                    return [(self.by_free[free][0], gpus)]
            return None
        wanted, size = -(-gpus // self.whole), self.pod
        if level is TopologyLevel.LEAF:
            size = self.leaf
        domain: list[int] = []
        for node in self.by_free[self.whole]:
            if domain and domain[0] // size != node // size:
                domain.clear()
            domain.append(node)
            if len(domain) == wanted:
                each = -(-gpus // wanted)
                return [(node, each) for node in domain]
        return None

    def move(self, taken: Taken, sign: int) -> None:
        """Gives GPUs back (1), or takes them (-1)."""
        for node, gpus in taken:
            line = self.by_free[self.free[node]]
            line.remove(node)
            self.free[node] += sign * gpus
            insort(self.by_free[self.free[node]], node)


def skip_ahead(arrivals: Sequence[Arrival], shape: Shape, grain_ms: int, end_ms: int) -> Outcome:
    """The day under the queue; what happens within `grain_ms` happens at its end."""
    fleet = _Fleet(shape)
    queue: list[Arrival] = []
    ends: list[tuple[int, int, Taken]] = []
    waits: list[tuple[int, int]] = []
    used_gpu_ms, at, number = 0, 0, 0
    for now_ms in range(0, end_ms, grain_ms):
        while ends and ends[0][0] <= now_ms:
            fleet.move(heapq.heappop(ends)[2], 1)
        while at < len(arrivals) and arrivals[at].at_ms <= now_ms:
            queue.append(arrivals[at])
            at += 1
        left: list[Arrival] = []
        full: set[tuple[int, TopologyLevel]] = set()
        for job in queue:
            kind = job.gpus, job.spec.topology.within
            taken = None if kind in full else fleet.find(*kind)
            if taken is None:
                full.add(kind)
                left.append(job)
                continue
            fleet.move(taken, -1)
            number += 1
            heapq.heappush(ends, (now_ms + job.runs_ms, number, taken))
            used_gpu_ms += job.gpus * min(job.runs_ms, end_ms - now_ms)
            waits.append((job.gpus, now_ms - job.at_ms))
        queue = left
    waits += [(job.gpus, end_ms - job.at_ms) for job in queue]
    return Outcome(used_gpu_ms, tuple(waits))
