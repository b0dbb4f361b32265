"""Whose turn it is.

Simple equivalent: before each placement, look at the whole tenant tree. From the root down choose
the child that is below its guarantee before one that is not, then the one with the smallest
weighted dominant share (the largest part of the fleet's GPUs of any class that it uses, over its
weight of that class), then by name. Inside a project: higher priority first; then the oldest job
(ids are given in the order of commits), or, where the project says `shortest`, the least service
(`ranks`), except that a job that has waited for its bound goes by age before those that have not.
`ageing` says how long work waits before it counts as more.

Departure: a placement changes the share of one tenant and its ancestors only, so each level keeps
its children in a heap and only those on the path are put back.

"Below its guarantee" counts the GPU classes that its own queue can use: a tenant is not let
before others for H100s that nothing of its own wants.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from scheduler.core.ageing import AGEING_MAX_MS, ageing_ms, rank_of
from scheduler.core.quota import ALL_CLASSES, SHARE_SCALE, Usage, lineage, weight_of
from scheduler.core.ranks import service_gpu_ms
from scheduler.core.waiting import Signature, Waiting
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.tenancy import GpuQuota, QueueOrder, Tenant

ClassKey = tuple[int, int, int, int]
TurnKey = tuple[int, int, TenantPath]


NOTHING_SHUT: Mapping[Signature, int] = MappingProxyType({})


class Turn:
    """A tenant with queued work somewhere below it."""

    __slots__ = (
        "capacity_milli", "children", "classes", "closed", "guarantees", "line", "order", "path",
        "share", "tenant", "weights",
    )  # fmt: skip

    def __init__(
        self, tenant: Tenant, line: dict[GpuClass, int], capacity_milli: dict[GpuClass, int]
    ) -> None:
        self.path = tenant.path
        self.tenant = tenant
        self.weights: dict[GpuClass, int] = {}
        self.order = tenant.queue_order
        # The tenant's usage as the state holds it: it moves as the planner places.
        self.line = line
        self.capacity_milli = capacity_milli
        self.guarantees: tuple[GpuQuota, ...] = ()
        self.children: list[tuple[TurnKey, Turn]] = []
        self.classes: list[tuple[ClassKey, Waiting, int]] = []
        # Those that were not put in order yet; then there are none in `classes`.
        self.closed: list[Waiting] = []
        self.share = 0
        for gpu_class in line:
            self.recount(gpu_class)

    def recount(self, gpu_class: GpuClass) -> None:
        """The tenant uses more of `gpu_class` than before."""
        capacity = self.capacity_milli.get(gpu_class, 0)
        if capacity:
            weight = self.weights.get(gpu_class)
            if weight is None:
                weight = self.weights[gpu_class] = weight_of(self.tenant, gpu_class)
            share = self.line[gpu_class] * SHARE_SCALE // (capacity * weight)
            self.share = max(self.share, share)

    def key(self) -> TurnKey:
        """The order among siblings; the smallest goes first."""
        for quota in self.guarantees:
            if self.line.get(quota.gpu_class, 0) < quota.guarantee_milli:
                return 0, self.share, self.path
        return 1, self.share, self.path


class FairOrder:
    """Deals turns. After `next`, exactly one of `placed` and `blocked` is due."""

    def __init__(
        self,
        classes: Iterable[Waiting],
        tenants: Mapping[TenantPath, Tenant],
        usage: Usage,
        capacity_milli: dict[GpuClass, int],
        guarantees: Mapping[TenantPath, tuple[GpuQuota, ...]],
        wanted: Mapping[TenantPath, Mapping[GpuClass, int]],
        now_ms: int,
        begin: Mapping[Waiting, int],
        shut: Mapping[Signature, int] = NOTHING_SHUT,
    ) -> None:
        """`wanted`: how many classes below a tenant can use a GPU class; "*": any of them.
        `begin`: the first place of a line that counts, where that is not its first.
        `shut`: classes with this signature and a time limit as long as this, or longer, are passed
        over when their turn comes; it may grow between turns."""
        self._now_ms = now_ms
        self._begin = begin
        self._shut = shut
        self.passed_over: list[Waiting] = []
        self._turns: dict[TenantPath, Turn] = {}
        self._path: list[Turn] = []
        self.root = Turn(Tenant(TenantPath("")), {}, {})
        closed: dict[TenantPath, list[Waiting]] = {}
        for waiting in classes:
            of_tenant = closed.get(waiting.job_class.tenant)
            if of_tenant is None:
                of_tenant = closed[waiting.job_class.tenant] = []
            of_tenant.append(waiting)
        for tenant, of_tenant in closed.items():
            for path in lineage(tenant):
                if path not in self._turns:
                    line = usage.setdefault(path, {})
                    self._turns[path] = Turn(tenants[path], line, capacity_milli)
            self._turns[tenant].closed = of_tenant
        for path, turn in sorted(self._turns.items()):
            turn.guarantees = _relevant(guarantees.get(path, ()), wanted.get(path, {}))
            above = path.rpartition("/")[0]
            parent = self._turns[TenantPath(above)] if above else self.root
            parent.children.append((turn.key(), turn))
        for turn in (self.root, *self._turns.values()):
            turn.children.sort(key=_by_key)

    def next(self) -> tuple[Waiting, int] | None:
        """The class whose turn it is and the place of its job in line; None: nobody is left."""
        shut = self._shut
        while (turn := self._turn()) is not None:
            _, waiting, at = turn.classes[0]
            limit_ms = shut.get(waiting.signature)
            if limit_ms is None or waiting.job_class.time_limit_bucket_ms < limit_ms:
                return waiting, at
            self.passed_over.append(waiting)
            self.blocked()
        return None

    def _turn(self) -> Turn | None:
        """The tenant whose turn it is; it has a class whose turn it is."""
        assert not self._path, "the last turn was not closed"
        turn = self.root
        # A tenant with jobs of its own and children serves its own first.
        while not turn.classes:
            if turn.closed:
                self._open(turn)
            elif turn.children:
                turn = turn.children[0][1]
                self._path.append(turn)
            elif turn is self.root:
                return None
            else:  # All of its jobs back off.
                self._close()
                turn = self.root
        return turn

    def _open(self, turn: Turn) -> None:
        """Puts a tenant's own classes in order: those whose turn never comes need none."""
        for waiting in turn.closed:
            at = waiting.next_ready(self._begin.get(waiting, waiting.spent), self._now_ms)
            if at < len(waiting.ids):
                key = _class_key(waiting, at, turn.order, self._now_ms)
                turn.classes.append((key, waiting, at))
        turn.closed = []
        heapq.heapify(turn.classes)

    def placed(self, gpu_class: GpuClass) -> None:
        """The job whose turn it was has its place; usage was charged."""
        turn = self._path[-1]
        _, waiting, at = turn.classes[0]
        following = at + 1
        if waiting.odd:
            following = waiting.next_ready(following, self._now_ms)
        if following == len(waiting.ids):
            heapq.heappop(turn.classes)
        else:
            key = _class_key(waiting, following, turn.order, self._now_ms)
            heapq.heapreplace(turn.classes, (key, waiting, following))
        for passed in self._path:
            passed.recount(gpu_class)
        self._close()

    def blocked(self) -> None:
        """The class whose turn it was waits; so do all its jobs."""
        turn = self._path[-1]
        heapq.heappop(turn.classes)
        if turn.classes:
            self._path.clear()  # Nothing was charged, so its tenant's turn is as it was.
        else:
            self._close()

    def rest(self) -> list[Waiting]:
        """The classes that had no turn to the end, in a fixed order."""
        for turn in self._turns.values():
            self._open(turn)
        left = [entry for turn in self._turns.values() for entry in turn.classes]
        return [waiting for _, waiting, _ in sorted(left, key=_by_class_key)]

    def _close(self) -> None:
        """Puts the tenants on the path back in their order: each is still its parent's first."""
        path = self._path
        for depth in range(len(path) - 1, -1, -1):
            turn = path[depth]
            siblings = (path[depth - 1] if depth else self.root).children
            if turn.classes or turn.closed or turn.children:
                heapq.heapreplace(siblings, (turn.key(), turn))
            else:
                heapq.heappop(siblings)
        path.clear()


def _by_key(entry: tuple[TurnKey, Turn]) -> TurnKey:
    return entry[0]


def _by_class_key(entry: tuple[ClassKey, Waiting, int]) -> ClassKey:
    return entry[0]


def _class_key(waiting: Waiting, at: int, order: QueueOrder, now_ms: int) -> ClassKey:
    job, waited_ms = waiting.ids[at], now_ms - waiting.submitted_at_ms[at]
    priority, limit_ms = -int(waiting.job_class.priority), waiting.job_class.time_limit_bucket_ms
    if waited_ms < AGEING_MAX_MS and order is not QueueOrder.SHORTEST:
        return priority, 0, 0, job  # Most keys, and nothing else to look at.
    step_ms = ageing_ms(order, limit_ms)
    if waited_ms >= step_ms:
        priority = -rank_of(waiting.job_class.priority, waited_ms, step_ms)
    if order is not QueueOrder.SHORTEST or waited_ms >= 2 * step_ms:
        return priority, 0, 0, job
    return priority, 1, service_gpu_ms(waiting.job_class), job


def _relevant(quotas: tuple[GpuQuota, ...], wanted: Mapping[GpuClass, int]) -> tuple[GpuQuota, ...]:
    return tuple(
        quota
        for quota in quotas
        if quota.gpu_class == ALL_CLASSES or ALL_CLASSES in wanted or quota.gpu_class in wanted
    )
