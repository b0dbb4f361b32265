"""The power cap in plans: nothing is placed beyond it, and a lowered one is met at once."""

from __future__ import annotations

from dataclasses import replace

from scheduler.core.explain import explain
from scheduler.core.planner import plan
from scheduler.model.ids import JobId
from scheduler.model.job import JobState, Priority
from scheduler.model.plan import SiteChanged
from scheduler.model.reasons import Reason
from tests.core.builders import H100, HOUR_MS, fleet_of, job_class, node, queued, site, up
from tests.core.preempting_time import Town

SPOT, NORMAL, HIGH = Priority.SPOT, Priority.NORMAL, Priority.HIGH


def capped(cap_w: int | None, at: str = "london") -> SiteChanged:
    """A site may draw so much."""
    made = replace(site(at), power_cap_w=cap_w)
    return SiteChanged(made.id, made, connected=True)


def town(cap_w: int | None) -> Town:
    """Two nodes whose bases are 1 kW each, and whose GPUs draw 500 W."""
    nodes = [replace(node("london", f"n{n}"), base_w=1_000, gpu_w=500) for n in range(2)]
    return Town(fleet_of(capped(cap_w), nodes=nodes))


def test_work_is_placed_up_to_the_cap_and_the_rest_is_told_why_it_waits() -> None:
    here = town(5_000)
    for number in range(1, 9):
        here.submit(number, job_class(gpus=2), HOUR_MS)
    made = here.step(0)
    assert [placed.key.job for placed in made.placements] == [1, 2, 3]
    [blocked] = made.blocked
    assert blocked.denials[0].reason is Reason.POWER_CAP
    assert here.fleet.draws.at(site().id) == {H100: 6_000}
    assert [placed.key.job for placed in here.step(2 * HOUR_MS).placements] == [4, 5, 6]


def test_who_asks_is_told_that_power_is_what_is_missing() -> None:
    here = town(5_000)
    for number in range(1, 4):
        here.submit(number, job_class(gpus=2), HOUR_MS)
    here.step(0)
    here.submit(4, job_class(gpus=2), HOUR_MS)
    told = explain(here.fleet, here.fleet.queued[JobId(4)], here.now_ms)
    assert told.would_run_at is None
    assert [denial.reason for denial in told.sites[0].denials] == [Reason.POWER_CAP]
    assert [[denial.reason for denial in found] for found in told.changes] == [[Reason.POWER_CAP]]
    assert "POWER_CAP" in told.summary


def test_what_a_plan_places_is_given_back_when_it_is_undone() -> None:
    here = town(5_000)
    here.fleet.apply(queued(1, job_class(gpus=6)))
    first = plan(here.fleet, here.now_ms)
    assert len(first.placements) == 1
    assert plan(here.fleet, here.now_ms) == first


def test_another_site_is_taken_where_one_may_draw_no_more() -> None:
    near = [replace(node("leeds", "n0"), base_w=1_000, gpu_w=500)]
    far = [node("london", "n0")]
    fleet = fleet_of(
        capped(2_000, "leeds"), nodes=[*near, *far], sites=[site("leeds"), site("london")]
    )
    fleet.apply(queued(1, job_class(gpus=8)))
    assert [placed.site for placed in plan(fleet, 0 + 1_000 * HOUR_MS).placements] == ["london"]


def test_a_lowered_cap_is_met_at_once_and_who_ends_waits_again() -> None:
    here = town(None)
    here.submit(1, replace(job_class(gpus=4, priority=HIGH), preemptible=False), 99 * HOUR_MS)
    here.submit(2, job_class(gpus=4, priority=SPOT), 99 * HOUR_MS)
    here.submit(3, job_class(gpus=4, priority=NORMAL), 99 * HOUR_MS)
    assert len(here.step(0).placements) == 3
    here.fleet.apply(capped(6_500))
    made = here.step(HOUR_MS)
    assert [(each.victim.job, each.beneficiary) for each in made.preemptions] == [(2, None)]
    assert here.fleet.live[made.preemptions[0].victim.job].state is JobState.PREEMPTING
    assert here.step(1).preemptions == (), "nobody is asked twice"
    here.fleet.apply(capped(2_000))
    assert {each.victim.job for each in here.step(1).preemptions} == {1, 3}, "high work last"
    here.fleet.apply(capped(None))
    assert {placed.key.job for placed in here.step(HOUR_MS).placements} == {1, 2, 3}


def test_others_leave_only_where_power_lets_the_job_start() -> None:
    """Each GPU of the node that the spot job is on draws more than one of the others."""
    hungry = replace(node("london", "n9", gpu_class=H100), base_w=0, gpu_w=1_000)
    here = Town(fleet_of(capped(4_000), nodes=[hungry]))
    here.submit(1, job_class(gpus=4, priority=SPOT), 99 * HOUR_MS)
    here.step(0)
    here.submit(2, job_class(gpus=8, priority=HIGH), HOUR_MS)
    assert here.step(HOUR_MS // 2).preemptions == (), "8 kW are more than the site may draw"
    here.fleet.apply(up(hungry))
    here.fleet.apply(capped(8_000))
    assert [each.victim.job for each in here.step(1).preemptions] == [1]
