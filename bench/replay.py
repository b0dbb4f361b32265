"""Reference schedulers replayed in virtual time on equal nodes: the yardsticks of `jct` and `fair`.

Two machines. `preemptive` re-decides everything at every event, as the simulators of the published
work on mean completion times do. `queued` never moves what runs.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from bench.traces import Cluster, GpuJob

EVENTS_MAX = 5_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job."""

    job: GpuJob
    started_s: float
    ended_s: float

    @property
    def jct_s(self) -> float:
        """From submission to its end."""
        return self.ended_s - self.job.submit_s

    @property
    def wait_s(self) -> float:
        """What its completion took beyond its own duration."""
        return max(0.0, self.jct_s - self.job.duration_s)


class Progress:
    """A job under way in `preemptive`."""

    __slots__ = ("checked_s", "job", "left_s", "restarts", "running", "started_s")

    def __init__(self, job: GpuJob, stretch: float) -> None:
        self.job = job
        self.left_s = job.duration_s * stretch
        self.checked_s = job.submit_s
        self.running = False
        self.started_s = -1.0
        self.restarts = 0


class Overhead(Enum):
    """When a running job loses its restart overhead."""

    EVERY_EVENT = auto()
    """At every event: the published simulator stops and starts everything."""
    RESTART = auto()
    """When it runs again after it was preempted."""


Key = Callable[[Progress], float]


def remaining_time(progress: Progress) -> float:
    """SRTF: the least remaining time first."""
    return progress.left_s


def remaining_gpu_time(progress: Progress) -> float:
    """SRSF: the least remaining GPU time first."""
    return progress.left_s * progress.job.gpus


def preemptive(
    jobs: Sequence[GpuJob], cluster: Cluster, key: Key, overhead: Overhead, stretch: float = 1.0
) -> list[Outcome]:
    """Everything placed from scratch at each event, first fit in the order of `key`."""
    outcomes: list[Outcome] = []
    runnable: list[Progress] = []
    ends: list[tuple[float, Progress]] = []
    at = 0
    while at < len(jobs) or runnable:
        next_end = min((end for end, _ in ends), default=float("inf"))
        next_start = jobs[at].submit_s if at < len(jobs) else float("inf")
        now = min(next_end, next_start)
        assert now < float("inf"), "a job is larger than the cluster"
        over = [progress for end, progress in ends if end == now]
        outcomes += [Outcome(each.job, each.started_s, now) for each in over]
        gone = set(map(id, over))
        runnable = [each for each in runnable if id(each) not in gone]
        while at < len(jobs) and jobs[at].submit_s == now:
            runnable.append(Progress(jobs[at], stretch))
            at += 1
        for each in runnable:
            if each.running:
                lost_s = each.job.restart_s if overhead is Overhead.EVERY_EVENT else 0.0
                each.left_s -= max(now - each.checked_s - lost_s, 0.0)
            each.checked_s = now
        runnable.sort(key=key)
        _place_all(runnable, cluster, now, overhead)
        ends = [(now + each.left_s, each) for each in runnable if each.running]
    return outcomes


def _place_all(runnable: list[Progress], cluster: Cluster, now: float, overhead: Overhead) -> None:
    floor = Floor([cluster.gpus_per_node] * cluster.nodes, cluster.gpus_per_node, Fit.FIRST)
    for each in runnable:
        taken = floor.find(each.job.gpus)
        if taken is not None:
            floor.take(taken)
            if each.started_s < 0:
                each.started_s = now
            elif not each.running and overhead is Overhead.RESTART:
                each.left_s += each.job.restart_s
                each.restarts += 1
        each.running = taken is not None


class Discipline(Enum):
    """What a queue does when its head does not fit."""

    HEAD_OF_LINE = auto()
    SKIP_AHEAD = auto()
    EASY = auto()
    """A later job goes ahead when it does not delay the head's earliest start."""


class Fit(Enum):
    """Which node a job of part of a node gets; lowest numbers break ties."""

    FIRST = auto()
    BEST = auto()


Order = Callable[[GpuJob], tuple[float, int]]
Taken = tuple[tuple[int, int], ...]
"""Nodes and the GPUs taken on each."""
Running = tuple[float, int, Taken]
"""When a job ends, which it is, and what it holds."""


class Floor:
    """Free GPUs by node."""

    __slots__ = ("fit", "free", "left", "whole")

    def __init__(self, free: list[int], whole: int, fit: Fit) -> None:
        self.free = free
        self.whole = whole
        self.fit = fit
        self.left = sum(free)

    def find(self, gpus: int) -> Taken | None:
        """Where a job fits: one node when one can hold it, else whole empty nodes."""
        if gpus > self.left:
            return None
        if gpus <= self.whole:
            fitting = [room for room in self.free if room >= gpus]
            if not fitting:
                return None
            if self.fit is Fit.BEST:
                return ((self.free.index(min(fitting)), gpus),)
            return ((self.free.index(fitting[0]), gpus),)
        wanted = -(-gpus // self.whole)
        empty = [node for node, room in enumerate(self.free) if room == self.whole][:wanted]
        if len(empty) < wanted:
            return None
        last = gpus - (wanted - 1) * self.whole
        return (*((node, self.whole) for node in empty[:-1]), (empty[-1], last))

    def take(self, taken: Taken) -> None:
        """Takes what `find` found."""
        for node, gpus in taken:
            self.free[node] -= gpus
            self.left -= gpus

    def give(self, taken: Taken) -> None:
        """Gives it back."""
        for node, gpus in taken:
            self.free[node] += gpus
            self.left += gpus


def by_age(job: GpuJob) -> tuple[float, int]:
    """First come, first served."""
    return job.submit_s, job.id


def by_length(job: GpuJob) -> tuple[float, int]:
    """The shortest job first."""
    return job.duration_s, job.id


def queued(
    jobs: Sequence[GpuJob], cluster: Cluster, order: Order, discipline: Discipline, fit: Fit
) -> list[Outcome]:
    """Never preempts and never moves; EASY knows the true durations."""
    floor = Floor([cluster.gpus_per_node] * cluster.nodes, cluster.gpus_per_node, fit)
    running: list[Running] = []
    queue: list[tuple[tuple[float, int], GpuJob]] = []
    outcomes: list[Outcome] = []
    at = 0
    while at < len(jobs) or queue:
        next_start = jobs[at].submit_s if at < len(jobs) else float("inf")
        now = min(next_start, running[0][0] if running else float("inf"))
        assert now < float("inf"), "a job is larger than the cluster"
        while running and running[0][0] <= now:
            floor.give(heapq.heappop(running)[2])
        while at < len(jobs) and jobs[at].submit_s <= now:
            insort(queue, (order(jobs[at]), jobs[at]), key=_first)
            at += 1
        started = _deal(queue, floor, now, running, discipline)
        for place in reversed(started):
            job = queue.pop(place)[1]
            outcomes.append(Outcome(job, now, now + job.duration_s))
    return outcomes


def _first(entry: tuple[tuple[float, int], GpuJob]) -> tuple[float, int]:
    return entry[0]


def _deal(
    queue: list[tuple[tuple[float, int], GpuJob]],
    floor: Floor,
    now: float,
    running: list[Running],
    discipline: Discipline,
) -> list[int]:
    """Starts what may start; answers their places in line, ascending."""
    started: list[int] = []
    held: Hold | None = None
    for place, (_, job) in enumerate(queue):
        if not floor.left:
            break
        taken = floor.find(job.gpus)
        if taken is None:
            if discipline is Discipline.HEAD_OF_LINE:
                break
            if discipline is Discipline.EASY and held is None:
                held = _hold(floor, running, job.gpus)
            continue
        end = now + job.duration_s
        if held is not None and end > held.at_s and not held.spares(taken):
            continue
        floor.take(taken)
        heapq.heappush(running, (end, job.id, taken))
        started.append(place)
    return started


@dataclass(slots=True)
class Hold:
    """The head of the line starts at `at_s`, when `then` is free."""

    at_s: float
    then: Floor
    gpus: int

    def spares(self, taken: Taken) -> bool:
        """Whether the head still fits at its time beside a job on `taken`; if so, it is noted."""
        if any(self.then.free[node] < gpus for node, gpus in taken):
            return False
        self.then.take(taken)
        if self.then.find(self.gpus) is not None:
            return True
        self.then.give(taken)
        return False


def _hold(floor: Floor, running: list[Running], gpus: int) -> Hold:
    """The earliest time at which the ends of what runs leave room for `gpus`."""
    then = Floor(list(floor.free), floor.whole, floor.fit)
    for end, _, taken in sorted(running):
        then.give(taken)
        if then.find(gpus) is not None:
            return Hold(end, then, gpus)
    raise AssertionError("a job is larger than the cluster")
