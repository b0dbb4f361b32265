"""When a job is thought to start: by the planner's own plans, and nothing is moved by asking."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from scheduler.core import estimates
from scheduler.core.estimates import Estimate, estimate
from scheduler.core.estimates import estimates as estimates_of
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import derived, world_of
from scheduler.core.planner import plan
from scheduler.model.ids import JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import Priority
from scheduler.model.plan import (
    Change,
    JobClass,
    QueuedJob,
    Reservation,
    ReservationChanged,
    WindowChanged,
)
from scheduler.model.window import Window, WindowKind
from tests.core.builders import (
    H100,
    HOUR_MS,
    NOW_MS,
    commit,
    fleet_of,
    job_class,
    node,
    queued,
    tenant,
)
from tests.core.test_properties import start
from tests.core.worlds import starts

N1, N2 = node("london", "n1"), node("london", "n2")


def running(*limits_h: int) -> FleetState:
    """Two nodes, with a job of eight GPUs on each of the first."""
    fleet = fleet_of(nodes=[N1, N2])
    for n, hours in enumerate(limits_h):
        fleet.apply(queued(100 + n, job_class(gpus=8, limit_ms=hours * HOUR_MS)))
    commit(fleet, plan(fleet, NOW_MS))
    return fleet


def hours(fleet: FleetState, number: int, used_percent: int = 100) -> tuple[int, int]:
    """The estimate of a queued job, in hours from now."""
    found = estimate(fleet, fleet.queued[JobId(number)], NOW_MS, used_percent)
    return (found.start_ms - NOW_MS) // HOUR_MS, (found.p90_ms - NOW_MS) // HOUR_MS


def test_what_fits_starts_now() -> None:
    fleet = running(4)
    fleet.apply(queued(1, job_class(gpus=8)))
    assert hours(fleet, 1) == (0, 0)


def test_what_does_not_fit_starts_when_enough_has_reached_its_limit() -> None:
    fleet = running(4, 6)
    fleet.apply(queued(1, job_class(gpus=8)))
    fleet.apply(queued(2, job_class("trust-b/genomics", nodes=2, gpus=8)))
    assert hours(fleet, 1) == (4, 4)
    assert hours(fleet, 2) == (6, 6)


def test_the_queue_ahead_counts() -> None:
    fleet = running(4, 4)
    for number in range(1, 7):
        fleet.apply(queued(number, job_class(gpus=8, limit_ms=2 * HOUR_MS)))
    assert [hours(fleet, number)[1] for number in range(1, 7)] == [4, 4, 6, 6, 8, 8]


def test_jobs_that_end_early_bring_the_likely_start_forward_and_not_the_late_one() -> None:
    fleet = running(4, 4)
    for number in range(1, 5):
        fleet.apply(queued(number, job_class(gpus=8, limit_ms=4 * HOUR_MS)))
    assert [hours(fleet, number, 50) for number in range(1, 5)] == [(2, 4), (2, 4), (4, 8), (4, 8)]


def test_a_window_in_the_way_is_waited_out() -> None:
    fleet = fleet_of(queued(1, job_class(gpus=8, limit_ms=3 * HOUR_MS)), nodes=[N1])
    window = Window(
        "fans", WindowKind.MAINTENANCE, SiteId("london"), (NodeId("london/n1"),),
        NOW_MS + HOUR_MS, NOW_MS + 5 * HOUR_MS, "fans", "o", TenantPath(""),
    )  # fmt: skip
    fleet.apply(WindowChanged("fans", window))
    assert hours(fleet, 1) == (5, 5)


def test_what_nothing_to_come_lets_start_has_no_estimate() -> None:
    fleet = fleet_of(queued(1, job_class(nodes=3)), nodes=[N1, N2])
    assert estimate(fleet, fleet.queued[JobId(1)], NOW_MS, 100) == Estimate(0, 0)


def test_a_job_that_is_not_there_yet_is_estimated_and_stays_away() -> None:
    fleet = running(4, 4)
    asked = QueuedJob(JobId(999), job_class(gpus=8), NOW_MS, 1)
    assert estimate(fleet, asked, NOW_MS, 100).p90_ms == NOW_MS + 4 * HOUR_MS
    assert fleet.queued == {}


def test_what_may_ask_others_to_leave_is_estimated_to_start_when_they_have_left() -> None:
    spot = replace(job_class(gpus=8, priority=Priority.SPOT), grace_ms=HOUR_MS // 2)
    fleet = fleet_of(queued(100, spot), queued(101, spot), nodes=[N1, N2])
    commit(fleet, plan(fleet, NOW_MS))
    fleet.apply(queued(1, job_class(gpus=8, limit_ms=9 * HOUR_MS, priority=Priority.HIGH)))
    assert [str(each.beneficiary) for each in plan(fleet, NOW_MS).preemptions] == ["1"]
    before = derived(fleet), world_of(fleet)
    found = estimate(fleet, fleet.queued[JobId(1)], NOW_MS, 100)
    assert found.p90_ms == NOW_MS + HOUR_MS // 2
    assert (derived(fleet), world_of(fleet)) == before


def test_past_the_bounds_only_what_nodes_are_kept_for_has_an_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = running(4, 6)
    patient: JobClass = job_class(nodes=2, gpus=8)
    fleet.apply(queued(1, patient, at_ms=NOW_MS - HOUR_MS))
    fleet.apply(queued(2, job_class(gpus=8)))
    (kept,) = plan(fleet, NOW_MS).reservations
    fleet.apply(ReservationChanged(kept.job, kept))
    monkeypatch.setattr(estimates, "QUEUED_MAX", 1)
    assert hours(fleet, 1) == (6, 6)
    assert estimate(fleet, fleet.queued[JobId(2)], NOW_MS, 100) == Estimate(0, 0)


def test_nodes_that_are_kept_and_free_promise_no_start_to_who_lacks_something_else() -> None:
    small = tenant("trust-a/radiology", limit=4)
    fleet = fleet_of(nodes=[N1], tenants=[tenant("trust-a"), small])
    fleet.apply(queued(1, job_class(gpus=8)))
    kept = Reservation(JobId(1), SiteId("london"), H100, (N1.id,), NOW_MS)
    fleet.apply(ReservationChanged(kept.job, kept))
    assert not plan(fleet, NOW_MS).placements
    assert estimate(fleet, fleet.queued[JobId(1)], NOW_MS, 100) == Estimate()


def test_where_more_ends_than_there_are_moments_a_start_is_told_late_and_never_early() -> None:
    nodes = [node("london", f"n{n:02}") for n in range(60)]
    fleet = fleet_of(nodes=nodes)
    for n in range(60):
        fleet.apply(queued(100 + n, job_class(gpus=8, limit_ms=(n + 1) * HOUR_MS)))
    commit(fleet, plan(fleet, NOW_MS))
    fleet.apply(queued(1, job_class(nodes=60, gpus=8)))
    exact_h, told_h = 60, hours(fleet, 1)[1]
    assert exact_h <= told_h <= exact_h * 5 // 4 + 1


@settings(max_examples=25)
@given(starts())
def test_asking_moves_nothing_and_tells_of_now_what_the_plan_does(begin: list[Change]) -> None:
    fleet = start(begin)
    commit(fleet, plan(fleet, NOW_MS))
    before = derived(fleet), world_of(fleet)
    made = plan(fleet, NOW_MS)
    for job in sorted(fleet.queued.values(), key=lambda job: job.id)[:3]:
        found = estimate(fleet, job, NOW_MS, 60)
        assert found.start_ms <= found.p90_ms
        placed = {p.key.job for p in made.placements}
        assert (found.p90_ms == NOW_MS) == (job.id in placed)
        assert (derived(fleet), world_of(fleet)) == before
        assert plan(fleet, NOW_MS) == made


@settings(max_examples=25)
@given(starts())
def test_one_walk_for_all_tells_of_each_what_a_walk_of_its_own_does(begin: list[Change]) -> None:
    fleet = start(begin)
    commit(fleet, plan(fleet, NOW_MS))
    before = derived(fleet), world_of(fleet)
    queue = tuple(fleet.queued.in_line())
    together = estimates_of(fleet, NOW_MS, 60)
    assert (derived(fleet), world_of(fleet)) == before
    assert together == {job.id: estimate(fleet, job, NOW_MS, 60) for job in queue}


def test_an_estimate_grows_old_until_time_has_refuted_it() -> None:
    found = Estimate(start_ms=NOW_MS + 2, p90_ms=NOW_MS + 4)
    assert found.seen_at(NOW_MS + 1) == found
    assert found.seen_at(NOW_MS + 3) == Estimate(NOW_MS + 3, NOW_MS + 4)
    assert found.seen_at(NOW_MS + 5) == Estimate()
