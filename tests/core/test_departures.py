"""When nodes come free: what is found in a hurry is what looking at every node finds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core import departures
from scheduler.core.departures import Departures, free_at_ms
from scheduler.core.fleet import FleetState
from scheduler.core.layout import bits
from scheduler.core.planner import plan
from scheduler.model.ids import JobId
from scheduler.model.job import JobState
from scheduler.model.plan import Change, JobChanged
from tests.core.builders import HOUR_MS, NOW_MS, commit
from tests.core.test_properties import start, walk
from tests.core.worlds import Step, starts, steps


@pytest.fixture(autouse=True)
def _every_site_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "FEW_NODES", 0)


@settings(max_examples=60, deadline=None)
@given(starts(), st.lists(steps(), max_size=15), st.data())
def test_the_first_node_to_come_free_is_the_one_that_looking_at_each_finds(
    begin: list[Change], history: list[Step], data: st.DataObject
) -> None:
    fleet = start(begin)
    for step in history:
        walk(fleet, step)
    commit(fleet, plan(fleet, NOW_MS))
    for job in sorted(fleet.live):
        if data.draw(st.booleans()):
            fleet.apply(_leaving(fleet, job))
    now_ms = NOW_MS + data.draw(st.sampled_from([0, 2 * HOUR_MS]))
    leaving = fleet.evictable.leaving
    for waiting in fleet.classes.values():
        if waiting.ask.nodes != 1:
            continue
        for number, (_, index, _) in enumerate(fleet.order):
            nodes = index.ready & data.draw(st.integers(0, index.layout.all))
            found = Departures(fleet, now_ms).soonest(number, waiting.ask, nodes)
            times = [
                (at_ms, at)
                for at in bits(nodes)
                if (at_ms := free_at_ms(index.records[at], waiting.ask, now_ms, leaving))
                is not None
            ]
            assert found == (min(times)[0], 1 << min(times)[1]) if times else found is None


def _leaving(fleet: FleetState, job: JobId) -> JobChanged:
    return JobChanged(job, None, replace(fleet.live[job], state=JobState.PREEMPTING))
