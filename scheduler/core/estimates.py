"""When jobs that wait are thought to start: by the planner's own plans, in virtual time.

From now on nothing new comes. What runs ends at its time limit, the planner plans, what it places
runs and ends in turn, until every job asked after is placed. That moment is told as the one by
which a job starts in nine cases of ten: limits are seldom reached, but jobs that go before it may
still come. The other moment, when it is thought to start, comes of the same walk with every job
ending after the part of its limit that jobs here lately used (their median); one that has run
longer than that is thought to go on to its limit.

The walk moves the planner's state and puts it back. It is short by bounds on the queue and on the
steps; past them only a job that nodes are kept for has an estimate, which is when they are free.
It takes seconds all the same, so nobody who asks waits for one: see `runtime.estimating`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.model.ids import JobId
from scheduler.model.job import JobState, Placement
from scheduler.model.plan import (
    JobChanged,
    JobClass,
    LiveAttempt,
    Plan,
    PlanBudget,
    QueuedJob,
    ReservationChanged,
)

QUEUED_MAX = 20_000
"""Jobs in the queue up to which the walk is made."""
LIVE_MAX = 40_000
STEPS_MAX = 48
"""Moments of one walk at which plans are made."""
ROUGH_MS_MIN = 60_000
ROUGH_PART = 4
"""Where more is to end than there are moments left, the next is so much later at least, and by this
part of what the walk has passed already: 48 moments reach beyond the longest time limit."""
PLANS_MAX = 8
"""Plans at one moment: what a plan keeps for a job that it places is free for the next."""
BUDGET = PlanBudget(placements_max=1_000, attempts_max=10_000)
WHOLE_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """When a job is thought to start, and by when it does in nine cases of ten; 0: not known."""

    start_ms: int = 0
    p90_ms: int = 0

    def seen_at(self, now_ms: int) -> Estimate:
        """The same some time later: one that time has refuted is none."""
        if self.p90_ms < now_ms:
            return Estimate()
        return Estimate(max(now_ms, self.start_ms), self.p90_ms)


def is_short(fleet: FleetState) -> bool:
    """Whether the queue and what runs are few enough for a walk."""
    return len(fleet.live) <= LIVE_MAX and len(fleet.queued) <= QUEUED_MAX


def promised(fleet: FleetState, job: JobId, now_ms: int) -> Estimate:
    """When the nodes that are kept for a job are free; none are: not known."""
    kept = fleet.reservations.get(job)
    if kept is None:
        return Estimate()
    at_ms = max(now_ms, kept.starts_at_ms)
    return Estimate(at_ms, at_ms)


def estimates(fleet: FleetState, now_ms: int, used_percent: int) -> dict[JobId, Estimate]:
    """When each job that waits is thought to start.

    `used_percent`: what part of its time limit a job mostly runs.
    """
    return _estimates(fleet, tuple(fleet.queued.in_line()), now_ms, used_percent)


def estimate(fleet: FleetState, job: QueuedJob, now_ms: int, used_percent: int) -> Estimate:
    """The same of one job, which waits or might be submitted."""
    return _estimates(fleet, (job,), now_ms, used_percent)[job.id]


def _estimates(
    fleet: FleetState, jobs: Sequence[QueuedJob], now_ms: int, used_percent: int
) -> dict[JobId, Estimate]:
    assert 1 <= used_percent <= WHOLE_PERCENT, f"{used_percent} percent of a limit"
    found = {job.id: promised(fleet, job.id, now_ms) for job in jobs}
    if not is_short(fleet):
        return found
    late = _Walk(fleet, jobs, now_ms, WHOLE_PERCENT).starts()
    likely = late
    if late and used_percent < WHOLE_PERCENT:
        likely = _Walk(fleet, jobs, now_ms, used_percent).starts()
    for job, kept in found.items():
        if kept.p90_ms <= now_ms:
            # Its nodes are free, and yet no plan of now places it: it lacks something else.
            found[job] = Estimate()
    for job, late_ms in late.items():
        found[job] = Estimate(min(late_ms, likely.get(job, late_ms)), late_ms)
    return found


class _Walk:
    """One walk through virtual time."""

    def __init__(
        self, fleet: FleetState, jobs: Sequence[QueuedJob], now_ms: int, used_percent: int
    ) -> None:
        self._fleet = fleet
        self._asked = {job.id: job for job in jobs}
        self._starts_ms: dict[JobId, int] = {}
        self._begun_ms = self._at_ms = now_ms
        self._used_percent = used_percent
        self._due = {
            number: self._end_ms(live.job_class, live.placed_at_ms)
            for number, live in fleet.live.items()
        }
        self._ends = [(end_ms, number) for number, end_ms in self._due.items()]
        heapify(self._ends)
        # What was true of every job and promise that the walk touched.
        self._jobs: dict[JobId, JobChanged] = {}
        self._promises = dict(fleet.reservations)

    def starts(self) -> dict[JobId, int]:
        """When the jobs asked after are placed, UTC milliseconds; without those that are not."""
        try:
            for job in self._asked.values():
                if self._fleet.queued.find(job.id, job.job_class) is None:
                    self._change(JobChanged(job.id, job, None))
            for steps_left in range(STEPS_MAX, 0, -1):
                if self._plan():
                    break
                following = self._next_ms(steps_left)
                if following is None:
                    break
                self._at_ms = following
                while self._ends and self._ends[0][0] <= self._at_ms:
                    self._end(*heappop(self._ends))
            return self._starts_ms
        finally:
            self._put_back()

    def _plan(self) -> bool:
        """Plans, and makes it so, until nothing more is placed; whether all asked after were."""
        for _ in range(PLANS_MAX):
            made = plan(self._fleet, self._at_ms, BUDGET)
            for placement in made.placements:
                if placement.key.job in self._asked:
                    self._starts_ms.setdefault(placement.key.job, self._at_ms)
            if len(self._starts_ms) == len(self._asked):
                return True
            self._make_so(made)
            if not made.placements:
                return False
        return False

    def _make_so(self, made: Plan) -> None:
        for placement in made.placements:
            self._begin(placement)
        for asked in made.preemptions:
            self._make_leave(asked.victim.job)
        for number in made.released:
            self._fleet.apply(ReservationChanged(number, None))
        for kept in made.reservations:
            self._fleet.apply(ReservationChanged(kept.job, kept))

    def _begin(self, placement: Placement) -> None:
        number = placement.key.job
        job_class = self._fleet.queued[number].job_class
        live = LiveAttempt(
            placement=placement,
            tenant=job_class.tenant,
            job_class=job_class,
            state=JobState.RUNNING,
            placed_at_ms=self._at_ms,
        )
        self._change(JobChanged(number, None, live))
        self._ends_at(number, self._end_ms(job_class, self._at_ms))

    def _make_leave(self, number: JobId) -> None:
        """A victim is given its grace, and then waits again."""
        live = self._fleet.live.get(number)
        if live is None or live.state is JobState.PREEMPTING:
            return
        self._change(JobChanged(number, None, replace(live, state=JobState.PREEMPTING)))
        self._ends_at(number, self._at_ms + max(1, live.job_class.grace_ms))

    def _end(self, end_ms: int, number: JobId) -> None:
        if self._due.get(number) != end_ms:
            return  # It was made to leave before.
        live = self._fleet.live[number]
        again = None
        if live.state is JobState.PREEMPTING:
            attempt = live.placement.key.attempt + 1
            again = QueuedJob(number, live.job_class, live.placed_at_ms, attempt)
        self._change(JobChanged(number, again, None))
        del self._due[number]

    def _ends_at(self, number: JobId, end_ms: int) -> None:
        self._due[number] = end_ms
        heappush(self._ends, (end_ms, number))

    def _end_ms(self, job_class: JobClass, placed_at_ms: int) -> int:
        limit_ms = job_class.time_limit_bucket_ms
        likely = placed_at_ms + limit_ms * self._used_percent // WHOLE_PERCENT
        return likely if likely > self._at_ms else placed_at_ms + limit_ms

    def _next_ms(self, steps_left: int) -> int | None:
        """The next moment at which a plan may be another one; or, where those are more than there
        are steps left, a later one, so that nobody is thought to start sooner for it."""
        moments = [self._ends[0][0]] if self._ends else []
        edge = self._fleet.windows.next_edge_ms(self._at_ms)
        moments += [] if edge is None else [edge]
        moments += [
            job.not_before_ms
            for job in self._fleet.queued.values()
            if job.not_before_ms > self._at_ms
        ]
        if not moments:
            return None
        # What is past its limit is about to end.
        least_ms = self._at_ms + 1
        if len(self._ends) > steps_left:
            passed_ms = self._at_ms - self._begun_ms
            least_ms = self._at_ms + max(ROUGH_MS_MIN, passed_ms // ROUGH_PART)
        return max(min(moments), least_ms)

    def _change(self, change: JobChanged) -> None:
        if change.id not in self._jobs:
            live = self._fleet.live.get(change.id)
            told = live or change.queued or change.live
            assert told is not None, "a walk moves only what waits or runs"
            queued = None
            if live is None:
                queued = self._fleet.queued.find(change.id, told.job_class)
            self._jobs[change.id] = JobChanged(change.id, queued, live, told.job_class)
        self._fleet.apply(change)

    def _put_back(self) -> None:
        for before in self._jobs.values():
            self._fleet.apply(JobChanged(before.id, None, None, before.job_class))
        for before in self._jobs.values():
            self._fleet.apply(before)
        for number in set(self._fleet.reservations) - set(self._promises):
            self._fleet.apply(ReservationChanged(number, None))
        for number, kept in self._promises.items():
            self._fleet.apply(ReservationChanged(number, kept))
        # What the walk's plans found blocked, and who ranked where, was so at other times.
        evictable, tree = self._fleet.evictable, self._fleet.tree
        self._fleet.evictable = evictable.under(tree.tenants, self._fleet.live.values())
        self._fleet.alarm.everything = True
