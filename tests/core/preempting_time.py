"""A small fleet in virtual time: what is planned is committed, who is asked to leave takes its
grace, and what has run long enough is over."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan
from scheduler.core.planner import plan
from scheduler.model.ids import JobId
from scheduler.model.job import JobState
from scheduler.model.plan import JobChanged, JobClass, LiveAttempt, Plan, ReservationChanged
from tests.core.builders import NOW_MS, gone, queued


@dataclass
class Town:
    """A fleet, its clock, and how long each job has to run."""

    fleet: FleetState
    now_ms: int = NOW_MS
    needs_ms: dict[int, int] = field(default_factory=lambda: {})
    started: int = 0
    preempted: list[tuple[LiveAttempt, int]] = field(default_factory=lambda: [])
    asked_at_ms: dict[JobId, int] = field(default_factory=lambda: {})

    def submit(self, number: int, of: JobClass, needs_ms: int) -> None:
        """A job that runs for so long, in one go."""
        self.needs_ms[number] = needs_ms
        self.fleet.apply(queued(number, of, at_ms=self.now_ms))

    def step(self, ms: int) -> Plan:
        """Time passes, what is over leaves, and a plan is made and committed."""
        self.now_ms += ms
        for job in sorted(self.fleet.live):
            self._end(self.fleet.live[job])
        made = plan(self.fleet, self.now_ms)
        assert check_plan(self.fleet, made, self.now_ms) == ()
        self.commit(made)
        return made

    def commit(self, made: Plan) -> None:
        """Makes a plan so, as the store would."""
        for placement in made.placements:
            job = self.fleet.queued.get(placement.key.job)
            assert job is not None
            of = job.job_class
            live = LiveAttempt(
                placement,
                of.tenant,
                of,
                JobState.RUNNING,
                self.now_ms,
                started_at_ms=self.now_ms,
                submitted_at_ms=job.submitted_at_ms,
            )
            self.fleet.apply(JobChanged(placement.key.job, None, live))
            self.started += 1
        for asked in made.preemptions:
            live = self.fleet.live[asked.victim.job]
            assert live.placement.key == asked.victim
            self.preempted.append((live, self.now_ms))
            self.asked_at_ms[asked.victim.job] = self.now_ms
            self.fleet.apply(
                JobChanged(asked.victim.job, None, replace(live, state=JobState.PREEMPTING))
            )
        for job in made.released:
            self.fleet.apply(ReservationChanged(job, None))
        for kept in made.reservations:
            self.fleet.apply(ReservationChanged(kept.job, kept))

    def _end(self, live: LiveAttempt) -> None:
        job = live.placement.key.job
        if live.state is JobState.PREEMPTING:
            if self.now_ms >= self.asked_at_ms[job] + live.job_class.grace_ms:
                again = live.placement.key.attempt + 1
                since_ms = live.submitted_at_ms
                self.fleet.apply(queued(int(job), live.job_class, at_ms=since_ms, attempt=again))
        elif self.now_ms >= live.started_at_ms + self.needs_ms.get(int(job), 1 << 60):
            self.fleet.apply(gone(int(job)))
