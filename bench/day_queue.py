"""The yardstick of `day`: a queue that skips ahead and keeps gangs within their domains.

First come, first served over the whole fleet; who does not fit is passed over. It keeps to the same
law, models and power caps as the planner, and loses the same nodes. It knows no tenants, no
priorities and no time limits; what a failure ends waits again in its old place. What is elastic
has all of its nodes if they are there, or else the least that it does with, to its end; tasks and
replicas are jobs; two that share may be on one GPU, and one that does not on two halves.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.day_world import REPAIR_MS, Arrival, Day, country_of, powered_gpus
from scheduler.model.fleet import Node
from scheduler.model.ids import site_of
from scheduler.model.job import TopologyLevel


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the queue made of the day: GPU-milliseconds in use, and each job's wait in ms."""

    used_gpu_ms: int
    waits_ms: tuple[tuple[int, int], ...]
    """GPUs and wait of every job that arrived, to the end for those that still wait."""


HALVES = 2
"""GPUs are counted in halves: the least that a job takes (`day_kinds`)."""

Where = tuple[tuple[int, ...], int, TopologyLevel]
"""The sites that a job may use, how many halves it takes, and what they must be within."""


Parts = tuple[tuple[int, int], ...]
"""Nodes of a site, and how much of each, in halves."""


class _Site:
    """What is free by node, in halves; nodes in the order of pods, leaves and slots."""

    def __init__(self, nodes: Sequence[Node], powered_gpus: int) -> None:
        self.whole = HALVES * max(node.gpus for node in nodes)
        self.powered = HALVES * powered_gpus
        self.leaves = [node.leaf for node in nodes]
        self.free = [HALVES * node.gpus for node in nodes]
        self.down: set[int] = set()
        # The nodes with so much free, ascending.
        self.by_free: list[list[int]] = [[] for _ in range(self.whole + 1)]
        for at, free in enumerate(self.free):
            self.by_free[free].append(at)

    def gang(self, count: int, level: TopologyLevel) -> list[int] | None:
        """So many whole nodes of one domain."""
        domain: list[int] = []
        for at in self.by_free[self.whole]:
            leaf = level is TopologyLevel.LEAF
            if leaf and domain and self.leaves[domain[0]] != self.leaves[at]:
                domain.clear()
            domain.append(at)
            if len(domain) == count:
                return domain
        return None

    def move(self, at: int, halves: int) -> None:
        """So much of a node is given back, or taken (negative)."""
        if at not in self.down:
            self.by_free[self.free[at]].remove(at)
            insort(self.by_free[self.free[at] + halves], at)
        self.free[at] += halves
        self.powered += halves

    def fail(self, at: int) -> None:
        """A node takes no work until it is back."""
        self.down.add(at)
        self.by_free[self.free[at]].remove(at)

    def back(self, at: int) -> None:
        """A node is back."""
        self.down.discard(at)
        insort(self.by_free[self.free[at]], at)


@dataclass(slots=True)
class _Run:
    """What runs, on so much of which nodes of a site."""

    job: Arrival
    left_ms: int
    """On all of its nodes."""
    began_ms: int
    site: int
    nodes: Parts

    def all_nodes(self) -> int:
        """How many it would have at most."""
        return max(len(self.nodes), self.job.spec.resources.max_nodes)

    def ends_ms(self) -> int:
        """When it is done."""
        return self.began_ms + self.left_ms * self.all_nodes() // len(self.nodes)


class _Queue:
    """The day as it goes."""

    def __init__(self, day: Day, begins_ms: int, end_ms: int) -> None:
        self._begins_ms, self._end_ms = begins_ms, end_ms
        self._sites = [_Site(nodes, powered_gpus(site, nodes)) for site, nodes in day.sites]
        self._models = [nodes[0].gpu_class for _, nodes in day.sites]
        self._countries = [country_of(site) for site, _ in day.sites]
        self._number = {site.id: at for at, (site, _) in enumerate(day.sites)}
        self._at = {node.id: at for _, nodes in day.sites for at, node in enumerate(nodes)}
        self._waiting: list[tuple[int, int]] = []
        self._jobs: list[Arrival] = []
        # Of each that was submitted, the first of its tasks.
        self._firsts: list[int] = []
        self._left: dict[int, int] = {}
        self._running: dict[int, _Run] = {}
        self._ends: list[tuple[int, int, int]] = []
        self._allowed: dict[tuple[object, object], tuple[int, ...]] = {}
        self._used_half_ms = 0
        self.started: dict[int, int] = {}

    def arrive(self, job: Arrival) -> None:
        """A job waits behind all others, or each of its tasks."""
        self._firsts.append(len(self._jobs))
        for _ in range(job.tasks):
            self._left[len(self._jobs)] = job.runs_ms
            self._waiting.append((job.at_ms, len(self._jobs)))
            self._jobs.append(job)

    def ended(self, now_ms: int) -> None:
        """Who is done by now leaves."""
        while self._ends and self._ends[0][0] <= now_ms:
            _, number, began_ms = heapq.heappop(self._ends)
            run = self._running.get(number)
            if run is not None and run.began_ms == began_ms:
                self._leave(number, now_ms)

    def fail(self, node: Node, now_ms: int) -> None:
        """A node goes; whose work was on it waits again, from what was saved."""
        number, at = self._number[site_of(node.id)], self._at[node.id]
        hit = [
            job
            for job, run in self._running.items()
            if run.site == number and any(part[0] == at for part in run.nodes)
        ]
        for job in hit:
            run = self._running[job]
            ran_ms = now_ms - run.began_ms
            saved_ms = ran_ms // run.job.saves_every_ms * run.job.saves_every_ms
            self._leave(job, now_ms)
            self._left[job] = run.left_ms - saved_ms * len(run.nodes) // run.all_nodes()
            insort(self._waiting, (run.job.at_ms, job))
        if at not in self._sites[number].down:
            self._sites[number].fail(at)

    def back(self, node: Node) -> None:
        """A node is back."""
        number, at = self._number[site_of(node.id)], self._at[node.id]
        if at in self._sites[number].down:
            self._sites[number].back(at)

    def start(self, now_ms: int) -> None:
        """Whoever fits starts, the oldest first."""
        left: list[tuple[int, int]] = []
        full: set[Where] = set()
        for entry in self._waiting:
            job = self._jobs[entry[1]]
            found = None
            for halves in _sizes(job):
                kind = self._may_use(job), halves, job.spec.topology.within
                found = None if kind in full else self._find(kind)
                if found is not None:
                    break
                full.add(kind)
            if found is None:
                left.append(entry)
            else:
                self._begin(entry[1], found, now_ms)
        self._waiting = left

    def _begin(self, number: int, found: tuple[int, Parts], now_ms: int) -> None:
        site, nodes = found
        for at, halves in nodes:
            self._sites[site].move(at, -halves)
        self.started.setdefault(number, now_ms)
        run = _Run(self._jobs[number], self._left[number], now_ms, site, nodes)
        self._running[number] = run
        heapq.heappush(self._ends, (run.ends_ms(), number, now_ms))

    def over(self) -> Outcome:
        """The day is over."""
        for number in list(self._running):
            self._leave(number, self._end_ms)
        jobs, started = self._jobs, self.started
        waits = [
            (jobs[first].gpus, started.get(first, self._end_ms) - jobs[first].at_ms)
            for first in self._firsts
        ]
        return Outcome(self._used_half_ms // HALVES, tuple(waits))

    def _leave(self, number: int, now_ms: int) -> None:
        run = self._running.pop(number)
        over_ms = min(run.ends_ms(), now_ms)
        held_ms = max(0, over_ms - max(self._begins_ms, run.began_ms))
        for at, halves in run.nodes:
            self._sites[run.site].move(at, halves)
            self._used_half_ms += halves * held_ms

    def _may_use(self, job: Arrival) -> tuple[int, ...]:
        law, models = job.spec.residency.jurisdictions, job.spec.resources.gpu_classes
        known = self._allowed.get((law, models))
        if known is None:
            known = self._allowed[law, models] = tuple(
                at
                for at, (country, model) in enumerate(
                    zip(self._countries, self._models, strict=True)
                )
                if country in law and (not models or model in models)
            )
        return known

    def _find(self, kind: Where) -> tuple[int, Parts] | None:
        """The fullest node that holds a job, or whole nodes of one domain."""
        allowed, halves, level = kind
        powered = [number for number in allowed if self._sites[number].powered >= halves]
        whole = max((self._sites[number].whole for number in powered), default=0)
        if halves <= whole:
            for free in range(halves, whole + 1):
                for number in powered:
                    if self._sites[number].by_free[free]:
                        return number, ((self._sites[number].by_free[free][0], halves),)
            return None
        for number in powered:
            count = -(-halves // whole)
            nodes = self._sites[number].gang(count, level)
            if nodes is not None:
                return number, tuple((at, -(-halves // count)) for at in nodes)
        return None


def _sizes(job: Arrival) -> list[int]:
    """How much a job may take, in halves, the most first."""
    asked = job.spec.resources
    each = HALVES * asked.gpus_per_node * asked.milli_each() // 1000
    if asked.max_nodes > asked.nodes:
        return [each * asked.max_nodes, each * asked.nodes]
    return [each if asked.nodes == 1 else HALVES * job.gpus]


def skip_ahead(day: Day, grain_ms: int, begins_ms: int, end_ms: int) -> Outcome:
    """The day under the queue; what happens within `grain_ms` happens at its end. What is in use is
    counted from `begins_ms` on."""
    queue = _Queue(day, begins_ms, end_ms)
    arrivals, outages = iter(day.arrivals), iter(day.outages)
    coming, failing = next(arrivals, None), next(outages, None)
    returning: list[tuple[int, Node]] = []
    for now_ms in range(0, end_ms, grain_ms):
        queue.ended(now_ms)
        while returning and returning[0][0] <= now_ms:
            queue.back(returning.pop(0)[1])
        while failing is not None and failing.at_ms <= now_ms:
            queue.fail(failing.node, now_ms)
            returning.append((now_ms + REPAIR_MS, failing.node))
            failing = next(outages, None)
        while coming is not None and coming.at_ms <= now_ms:
            queue.arrive(coming)
            coming = next(arrivals, None)
        queue.start(now_ms)
    return queue.over()


def unbound(day: Day) -> Day:
    """The same day without law, models, power caps and failures: what its load allows at most."""
    sites = tuple((replace(site, power_cap_w=None), nodes) for site, nodes in day.sites)
    return replace(day, sites=sites, arrivals=tuple(_anywhere(day, day.arrivals)), outages=())


def _anywhere(day: Day, arrivals: Sequence[Arrival]) -> Iterable[Arrival]:
    for each in arrivals:
        law = replace(each.spec.residency, jurisdictions=day.policy.allowed_jurisdictions)
        resources = replace(each.spec.resources, gpu_classes=())
        yield replace(each, spec=replace(each.spec, residency=law, resources=resources))
