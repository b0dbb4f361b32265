"""Live attempts that might be ended for others, and what each would lose.

Kept by the state as attempts come, change and go. In one line a tenant, GPU class and rank, those
with least to lose first, as far as time alone tells: what was lost is weighed by GPUs later. Where
time alone changes how work ranks, `advance` makes it so.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from scheduler.core.lengths import NOTHING_LEARNED, Ahead, ahead_of
from scheduler.core.quota import Usage, charge
from scheduler.core.ranks import Rank, has_aged, rank_at, rank_of
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.job import JobState, Priority
from scheduler.model.plan import JobClass, LengthsChanged, LiveAttempt
from scheduler.model.tenancy import QueueOrder, Tenant

MAY_BE_ENDED = frozenset({JobState.PLACED, JobState.STARTING, JobState.RUNNING})
"""States that a preemption can follow on. What is lost to sight cannot be asked to end."""

LEAVING = frozenset({JobState.PREEMPTING, JobState.CANCELLING})
"""States in which an attempt is on its way out already."""

LineKey = tuple[GpuClass, Rank]
Place: TypeAlias = tuple[int, JobId]

EVERYBODY: Rank = (Priority.SPOT, 0)
"""The rank that no usage is kept for: what uses it is what no other rank does."""

NOTHING_KNOWN: Mapping[TenantPath, Ahead] = MappingProxyType({})


class Line:
    """Attempts of one tenant, GPU class and rank, those with the newest checkpoint or start first.

    Those who come are put in order when somebody asks: many come at once, and few are asked.
    """

    __slots__ = ("_came", "_places")

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._came: list[Place] = []

    def __len__(self) -> int:
        return len(self._places) + len(self._came)

    def add(self, place: Place) -> None:
        """It is in the line."""
        self._came.append(place)

    def remove(self, place: Place) -> None:
        """It is not any more."""
        places = self.in_order()
        at = bisect_left(places, place)
        assert places[at] == place, "a live attempt is in its line"
        del places[at]

    def in_order(self) -> list[Place]:
        """All of them; not to be changed."""
        if self._came:
            self._places += self._came
            self._places.sort()
            self._came.clear()
        return self._places


class Evictable:
    """Who may be asked to leave, and what each rank uses."""

    def __init__(
        self,
        shortest: frozenset[TenantPath] = frozenset(),
        lengths: Mapping[TenantPath, Ahead] = NOTHING_KNOWN,
        now_ms: int = 0,
    ) -> None:
        """`shortest`: the projects whose work ranks by its service. `lengths`: what is known, by
        project, of how long work goes on that declares no length."""
        self.lines: dict[TenantPath, dict[LineKey, Line]] = {}
        self.leaving: dict[JobId, LiveAttempt] = {}
        self.used_at: dict[Rank, Usage] = {}
        """Of what is in use, the part of each rank but EVERYBODY."""
        self._shortest = shortest
        self.lengths = lengths
        self._now_ms = now_ms
        self._counts: dict[Rank, int] = {}
        # Of attempts in projects that go by service, or that waited long: how they rank now, ...
        self._ranks: dict[JobId, tuple[Rank, LiveAttempt]] = {}
        # ... and when that changes; one holds while the attempt is the same.
        self._due: list[tuple[int, JobId]] = []

    def under(self, tenants: Mapping[TenantPath, Tenant], live: Iterable[LiveAttempt]) -> Evictable:
        """The same under another tree; `live` is all that holds nodes."""
        shortest = frozenset(
            path for path, each in tenants.items() if each.queue_order is QueueOrder.SHORTEST
        )
        if shortest == self._shortest:
            return self
        other = Evictable(shortest, self.lengths, self._now_ms)
        for each in live:
            other.add(each)
        return other

    def tell(self, change: LengthsChanged, live: Iterable[LiveAttempt]) -> None:
        """A project's jobs told how long they run; `live` as above. Nobody else ranks by that."""
        own = [each for each in live if each.tenant == change.tenant]
        for each in own:
            self.remove(each)
        self.lengths = {**self.lengths, change.tenant: ahead_of(change.lengths)}
        for each in own:
            self.add(each)

    def advance(self, now_ms: int) -> None:
        """It is `now_ms`: whom time alone has moved is where it ranks by now."""
        self._now_ms = max(self._now_ms, now_ms)
        while self._due and self._due[0][0] <= self._now_ms:
            _, job = heapq.heappop(self._due)
            known = self._ranks.get(job)
            if known is not None:
                live = known[1]
                self.remove(live)
                self.add(live)

    def changes_at_ms(self) -> int | None:
        """When time alone next moves somebody, or may: None, never."""
        return self._due[0][0] if self._due else None

    def order_of(self, tenant: TenantPath) -> QueueOrder:
        """The order of a project, as far as ranks go by it."""
        return QueueOrder.SHORTEST if tenant in self._shortest else QueueOrder.AGE

    def ahead_of(self, tenant: TenantPath) -> Ahead:
        """How long a project's work goes on that declares no length."""
        return self.lengths.get(tenant, NOTHING_LEARNED)

    def rank(self, job_class: JobClass, job: JobId | None = None) -> Rank:
        """How a class of queued work ranks, or `job` of it if that is live."""
        known = self._ranks.get(job) if job is not None else None
        return known[0] if known is not None else self._rank_of(job_class)

    def add(self, live: LiveAttempt) -> None:
        """An attempt holds nodes."""
        job = live.placement.key.job
        if live.tenant in self._shortest or has_aged(live):
            order, ahead = self.order_of(live.tenant), self.ahead_of(live.tenant)
            rank, until_ms = rank_at(live, order, ahead, self._now_ms)
            self._ranks[job] = rank, live
            if until_ms is not None:
                heapq.heappush(self._due, (until_ms, job))
        else:
            rank = rank_of(live.job_class, QueueOrder.AGE)
        self._charge(live, rank, 1)
        if live.state in LEAVING:
            self.leaving[job] = live
        if may_be_asked(live):
            lines = self.lines.setdefault(live.tenant, {})
            key = live.placement.gpu_class, rank
            line = lines.get(key)
            if line is None:
                line = lines[key] = Line()
            line.add(_place(live))

    def remove(self, live: LiveAttempt) -> None:
        """The attempt that was added so does not any more."""
        job = live.placement.key.job
        rank = self.rank(live.job_class, job)
        self._charge(live, rank, -1)
        self.leaving.pop(job, None)
        key = live.placement.gpu_class, rank
        self._ranks.pop(job, None)
        if not may_be_asked(live):
            return
        lines = self.lines[live.tenant]
        line = lines[key]
        line.remove(_place(live))
        if not line:
            del lines[key]
            if not lines:
                del self.lines[live.tenant]

    def jobs(self, tenant: TenantPath, key: LineKey) -> Iterator[JobId]:
        """The jobs of one line, those with the newest checkpoint or start first."""
        line = self.lines.get(tenant, {}).get(key)
        return (job for _, job in line.in_order()) if line is not None else iter(())

    def _charge(self, live: LiveAttempt, rank: Rank, sign: int) -> None:
        milli = live.placement.gpu_milli
        if rank == EVERYBODY:
            return
        charge(
            self.used_at.setdefault(rank, {}), live.tenant, live.placement.gpu_class, sign * milli
        )
        count = self._counts[rank] = self._counts.get(rank, 0) + sign
        if not count:
            del self._counts[rank], self.used_at[rank]

    def _rank_of(self, job_class: JobClass) -> Rank:
        tenant = job_class.tenant
        return rank_of(job_class, self.order_of(tenant), self.ahead_of(tenant))


def may_be_asked(live: LiveAttempt) -> bool:
    """Whether its tenant lets it be preempted, and it is in a state for it."""
    return live.job_class.preemptible and live.state in MAY_BE_ENDED


def ripe_at_ms(live: LiveAttempt) -> int:
    """From when on it may be preempted: it has a right to its least runtime.

    One that did not start yet has all of it before it.
    """
    least_ms = live.job_class.min_runtime_ms
    if not least_ms:
        return 0
    return (live.started_at_ms or live.placed_at_ms) + least_ms


def saved_at_ms(live: LiveAttempt) -> int:
    """Up to when its work is safe: its newest checkpoint, or when it began."""
    return max(live.checkpoint_at_ms, live.started_at_ms or live.placed_at_ms)


def lost_gpu_ms(live: LiveAttempt, now_ms: int) -> int:
    """The work that ending it now destroys, in GPU-milliseconds. None, before it started."""
    if live.state is not JobState.RUNNING:
        return 0
    return live.placement.gpu_milli * max(0, now_ms - saved_at_ms(live)) // 1000


def _place(live: LiveAttempt) -> Place:
    return -saved_at_ms(live), live.placement.key.job
