"""When those who wait in a day were told that they would start, in nine cases of ten.

Everybody who waits is asked about, so often, by the code that answers `explain`
(`runtime/estimating`): a copy of the process walks while the day goes on, and its answer is taken
when the next is asked for. The first answer that a job has counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.country import BEGIN_MS
from bench.day_world import Arrival
from scheduler.core.estimates import WHOLE_PERCENT
from scheduler.core.fleet import FleetState
from scheduler.model.ids import JobId
from scheduler.runtime.estimating import Estimating


class Asked:
    """Answers so far: by when each job was to have started, in ms since the beginning."""

    def __init__(self, arrivals: Mapping[JobId, Arrival], started_ms: Mapping[JobId, int]) -> None:
        """What arrived, and when each first started, of those who did: they change as the day
        goes on."""
        self._arrivals = arrivals
        self._started_ms = started_ms
        self._estimating = Estimating()
        self.stated_ms: dict[JobId, int] = {}

    def ask(self, state: FleetState, now_ms: int) -> None:
        """Hears what was asked before, and asks anew."""
        self.hear()
        self._estimating.begin(state, now_ms, WHOLE_PERCENT, ())

    def hear(self) -> None:
        """Waits for what was asked and keeps it, of jobs that waited for their first start then."""
        self._estimating.collect()
        kept = self._estimating.kept
        if kept is None:
            return
        for job, told in kept.jobs.items():
            arrival = self._arrivals.get(job)  # Of a task nobody asks.
            waited = self._started_ms.get(job, kept.at_ms) > kept.at_ms - BEGIN_MS
            if waited and arrival is not None and not arrival.initial:
                self.stated_ms.setdefault(job, told.p90_ms - BEGIN_MS)

    def known(self, end_ms: int) -> list[tuple[int, int]]:
        """When jobs that had to wait started, and by when they were told to: of those of which the
        day, which ends then, shows whether that was true."""
        return [
            (self._started_ms.get(job, end_ms + 1), stated)
            for job, stated in self.stated_ms.items()
            if job in self._started_ms or stated <= end_ms
        ]

    def coverage(self, end_ms: int) -> float:
        """The part of these that started in time."""
        known = self.known(end_ms)
        return sum(at <= stated for at, stated in known) / len(known) if known else 1.0
