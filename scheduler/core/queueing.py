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
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from scheduler.core.ageing import AGEING_MAX_MS, ageing_ms, rank_of
from scheduler.core.lengths import NOTHING_LEARNED, Ahead
from scheduler.core.quota import ALL_CLASSES, SHARE_SCALE, Usage, lineage, weight_of
from scheduler.core.ranks import service_gpu_ms
from scheduler.core.waiting import Signature, Waiting
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.tenancy import GpuQuota, QueueOrder, Tenant

SERVICE_SHIFT, TURN_SHIFT = 64, 192
"""Where the parts of a class's key are: below the service is the job's id, of 64 bits."""

MET = 1 << 80
"""Added to the share of a tenant that is not below its guarantee: more than any share."""

NOTHING_SHUT: Mapping[Signature, int] = MappingProxyType({})


class Turn:
    """A tenant with queued work somewhere below it."""

    __slots__ = (
        "ahead", "capacity_milli", "children", "classes", "closed", "guarantees", "line", "parts",
        "path", "share", "shortest", "tenant",
    )  # fmt: skip

    def __init__(
        self, tenant: Tenant, line: dict[GpuClass, int], capacity_milli: dict[GpuClass, int]
    ) -> None:
        self.path = tenant.path
        self.tenant = tenant
        # By GPU class: what the fleet has of it, times the tenant's weight; nothing, 0.
        self.parts: dict[GpuClass, int] = {}
        self.shortest = tenant.queue_order is QueueOrder.SHORTEST
        self.ahead: Ahead = NOTHING_LEARNED
        # The tenant's usage as the state holds it: it moves as the planner places.
        self.line = line
        self.capacity_milli = capacity_milli
        self.guarantees: tuple[GpuQuota, ...] = ()
        # Heaps: of who goes first by `standing` and name, and of who does by `key_of`.
        self.children: list[tuple[int, TenantPath, Turn]] = []
        self.classes: list[tuple[int, Waiting, int]] = []
        # Those that were not put in order yet; then there are none in `classes`.
        self.closed: list[Waiting] = []
        self.share = 0
        for gpu_class in line:
            self.recount(gpu_class)

    def recount(self, gpu_class: GpuClass) -> None:
        """The tenant uses more of `gpu_class` than before."""
        parts = self.parts.get(gpu_class)
        if parts is None:
            weight = weight_of(self.tenant, gpu_class)
            parts = self.parts[gpu_class] = self.capacity_milli.get(gpu_class, 0) * weight
        if parts:
            share = self.line[gpu_class] * SHARE_SCALE // parts
            if share > self.share:
                self.share = share

    def standing(self) -> int:
        """The order among siblings; the smallest goes first, of equal ones the first by name."""
        for quota in self.guarantees:
            if self.line.get(quota.gpu_class, 0) < quota.guarantee_milli:
                return self.share
        return MET + self.share

    def key_of(self, waiting: Waiting, at: int, now_ms: int) -> int:
        """The order among the tenant's own jobs; the smallest goes first, and no two are equal.

        Highest priority first, then who goes by age before who goes by service, then the least
        service, then the oldest job: one after the other in the bits of a number, which compares
        faster than a tuple.
        """
        job_class, job = waiting.job_class, waiting.ids[at]
        waited_ms = now_ms - waiting.submitted_at_ms[at]
        if waited_ms < AGEING_MAX_MS and not self.shortest:
            # Most keys, and nothing else to look at.
            return (-2 * job_class.priority << TURN_SHIFT) | job
        step_ms = ageing_ms(self.tenant.queue_order, job_class.time_limit_bucket_ms)
        turn = -2 * rank_of(job_class.priority, waited_ms, step_ms)
        if not self.shortest or waited_ms >= 2 * step_ms:
            return (turn << TURN_SHIFT) | job
        return (
            (turn + 1 << TURN_SHIFT) | service_gpu_ms(job_class, self.ahead) << SERVICE_SHIFT | job
        )


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
        ahead_of: Callable[[TenantPath], Ahead],
        now_ms: int,
        begin: Mapping[Waiting, int],
        shut: Mapping[Signature, int] = NOTHING_SHUT,
    ) -> None:
        """`wanted`: how many classes below a tenant can use a GPU class; "*": any of them.
        `ahead_of`: how long a project's work goes on that declares no length.
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
            self._turns[tenant].ahead = ahead_of(tenant)
        for path, turn in sorted(self._turns.items()):
            turn.guarantees = _relevant(guarantees.get(path, ()), wanted.get(path, {}))
            above = path.rpartition("/")[0]
            parent = self._turns[TenantPath(above)] if above else self.root
            parent.children.append((turn.standing(), path, turn))
        for turn in (self.root, *self._turns.values()):
            turn.children.sort()

    def next(self) -> tuple[Waiting, int] | None:
        """The class whose turn it is and the place of its job in line; None: nobody is left."""
        shut = self._shut
        while (turn := self._turn()) is not None:
            classes = turn.classes
            while classes:  # Nothing is charged for those passed over: it stays this tenant's turn.
                _, waiting, at = classes[0]
                limit_ms = shut.get(waiting.signature)
                if limit_ms is None or waiting.job_class.time_limit_bucket_ms < limit_ms:
                    return waiting, at
                self.passed_over.append(waiting)
                heapq.heappop(classes)
            self._close()
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
                turn = turn.children[0][2]
                self._path.append(turn)
            elif turn is self.root:
                return None
            else:  # All of its jobs back off.
                self._close()
                turn = self.root
        return turn

    def _open(self, turn: Turn) -> None:
        """Puts a tenant's own classes in order: those whose turn never comes need none."""
        begin, now_ms = self._begin, self._now_ms
        for waiting in turn.closed:
            at = begin.get(waiting, waiting.spent) if begin else waiting.spent
            if waiting.odd:
                at = waiting.next_ready(at, now_ms)
            if at < len(waiting.ids):
                turn.classes.append((turn.key_of(waiting, at, now_ms), waiting, at))
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
            key = turn.key_of(waiting, following, self._now_ms)
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
        return [waiting for _, waiting, _ in sorted(left)]

    def _close(self) -> None:
        """Puts the tenants on the path back in their order: each is still its parent's first."""
        path = self._path
        while path:
            turn = path.pop()
            siblings = (path[-1] if path else self.root).children
            if turn.classes or turn.closed or turn.children:
                heapq.heapreplace(siblings, (turn.standing(), turn.path, turn))
            else:
                heapq.heappop(siblings)


def _relevant(quotas: tuple[GpuQuota, ...], wanted: Mapping[GpuClass, int]) -> tuple[GpuQuota, ...]:
    return tuple(
        quota
        for quota in quotas
        if quota.gpu_class == ALL_CLASSES or ALL_CLASSES in wanted or quota.gpu_class in wanted
    )
