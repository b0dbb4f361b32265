"""By when jobs that wait are told to start, and whether they did."""

from __future__ import annotations

from bench.country import BEGIN_MS
from bench.day_asked import Asked
from bench.day_world import Arrival
from scheduler.core.planner import plan
from scheduler.model.ids import JobId
from tests.core.builders import HOUR_MS, NOW_MS, commit, fleet_of, job_class, node, queued
from tests.store.builders import spec

FIRST, SECOND, BEFORE = JobId(100), JobId(101), JobId(102)


def test_a_job_that_waits_is_told_when_the_one_before_it_is_over_at_its_limit() -> None:
    fleet = fleet_of(queued(FIRST, job_class(gpus=8)), nodes=[node("london", "n1")])
    commit(fleet, plan(fleet, NOW_MS))
    fleet.apply(queued(SECOND, job_class(gpus=8)))
    fleet.apply(queued(BEFORE, job_class(gpus=8)))
    (live,) = fleet.live.values()
    over_ms = live.placed_at_ms + live.job_class.time_limit_bucket_ms - BEGIN_MS
    arrivals = {job: Arrival(0, 8, job == BEFORE, spec("wait"), 1, 1) for job in (SECOND, BEFORE)}
    started_ms: dict[JobId, int] = {}
    asked = Asked(arrivals, started_ms)
    asked.ask(fleet, NOW_MS)
    started_ms[SECOND] = over_ms  # While the copy still walks.
    asked.hear()
    assert asked.stated_ms == {SECOND: over_ms}
    assert asked.known(over_ms + HOUR_MS) == [(over_ms, over_ms)]
    assert asked.coverage(over_ms + HOUR_MS) == 1
    started_ms[SECOND] = over_ms + 1
    assert asked.coverage(over_ms + HOUR_MS) == 0
