"""Queued jobs in classes: jobs that are alike wait in one line, and what blocks one blocks all."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from scheduler.core.answers import Answer
from scheduler.core.asks import Ask, ask_of
from scheduler.core.occupancy import View, joinable_views
from scheduler.model.ids import JobId
from scheduler.model.plan import JobClass, QueuedJob


class Waiting:
    """One class and its queued jobs, oldest first."""

    __slots__ = ("answer", "ask", "job_class", "jobs", "line", "views")

    def __init__(self, job_class: JobClass) -> None:
        self.job_class = job_class
        self.ask: Ask = ask_of(job_class)
        self.views: tuple[View, ...] = joinable_views(self.ask.sharing, self.ask.organisation)
        self.jobs: dict[JobId, QueuedJob] = {}
        self.line: list[tuple[int, JobId]] = []
        # What sites answered, until the fleet's facts change; see `answers`.
        self.answer: Answer | None = None

    def add(self, job: QueuedJob) -> None:
        """Puts `job` in its place in the line."""
        self.jobs[job.id] = job
        place = (job.submitted_at_ms, job.id)
        if not self.line or self.line[-1] < place:
            self.line.append(place)
        else:
            insort(self.line, place)

    def remove(self, job: QueuedJob) -> None:
        """Takes `job` out of the line."""
        del self.jobs[job.id]
        at = bisect_left(self.line, (job.submitted_at_ms, job.id))
        assert self.line[at][1] == job.id, "a queued job is in its class's line"
        del self.line[at]

    def next_ready(self, start: int, now_ms: int) -> int:
        """The place in the line of the first job from `start` on that is not backing off.

        The length of the line when there is none.
        """
        at = start
        while at < len(self.line) and self.jobs[self.line[at][1]].not_before_ms > now_ms:
            at += 1
        return at

    def in_line(self) -> Iterator[QueuedJob]:
        """The jobs, oldest first."""
        return (self.jobs[job] for _, job in self.line)
