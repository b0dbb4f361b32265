"""Elastic jobs take more nodes than they need only while nobody waits, and restart seldom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.asks import WIDTHS_MAX, ask_of
from scheduler.core.elastic import GROW_EVERY_MS
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan
from scheduler.core.planner import plan
from scheduler.model.job import JobState, TopologyLevel
from scheduler.model.plan import JobChanged, JobClass
from scheduler.model.reasons import Reason
from tests.core.builders import (
    HOUR_MS,
    NOW_MS,
    commit,
    fleet_of,
    gone,
    job_class,
    node,
    queued,
    tenant,
    up,
)

NODES = [node("london", f"n{at}", leaf=f"l{at // 2}") for at in range(4)]
LATER_MS = NOW_MS + GROW_EVERY_MS


def elastic(nodes: int = 1, most: int = 4, **more: object) -> JobClass:
    return job_class(gpus=8, nodes=nodes, nodes_max=most, limit_ms=9 * HOUR_MS, **more)  # type: ignore[arg-type]


def width(fleet: FleetState, job: int, now_ms: int = NOW_MS) -> int:
    """Of the job's placement in a plan, which is committed."""
    made = plan(fleet, now_ms)
    assert check_plan(fleet, made, now_ms) == ()
    (placement,) = [each for each in made.placements if each.key.job == job]
    commit(fleet, made, now_ms=now_ms)
    assert placement.gpu_milli == 8000 * len(placement.nodes)
    return len(placement.nodes)


def started(fleet: FleetState, job: int, **changes: object) -> None:
    live = fleet.live[job]  # type: ignore[index]
    live = replace(live, started_at_ms=NOW_MS, **changes)  # type: ignore[arg-type]
    fleet.apply(JobChanged(live.placement.key.job, None, live))


def grows(fleet: FleetState, now_ms: int = LATER_MS) -> list[int]:
    made = plan(fleet, now_ms)
    assert check_plan(fleet, made, now_ms) == ()
    assert all(each.beneficiary == each.victim.job for each in made.preemptions)
    return [int(each.victim.job) for each in made.preemptions]


def test_alone_it_starts_on_as_many_nodes_as_there_are() -> None:
    assert width(fleet_of(queued(1, elastic(most=3)), nodes=NODES), 1) == 3
    assert width(fleet_of(queued(1, elastic(most=9)), nodes=NODES), 1) == 4


def test_beside_others_that_wait_it_starts_on_its_least() -> None:
    fleet = fleet_of(queued(1, elastic(2)), queued(2, job_class(gpus=8)), nodes=NODES)
    assert width(fleet, 1) == 2


def test_two_of_a_class_do_not_starve_each_other() -> None:
    fleet = fleet_of(queued(1, elastic()), queued(2, elastic()), nodes=NODES)
    made = plan(fleet, NOW_MS)
    assert [len(each.nodes) for each in made.placements] == [1, 1]


def test_more_nodes_stay_within_the_limit_of_the_tenant() -> None:
    trees = [
        tenant("trust-a", limit=16),
        tenant("trust-a/radiology"),
    ]
    fleet = fleet_of(queued(1, elastic()), nodes=NODES, tenants=trees)
    assert width(fleet, 1) == 2
    started(fleet, 1)
    assert grows(fleet) == []


def test_it_grows_when_there_is_room_and_nobody_waits_and_it_ran_for_long_enough() -> None:
    fleet = fleet_of(queued(1, elastic(2)), nodes=NODES[:2])
    assert width(fleet, 1) == 2
    started(fleet, 1)
    assert grows(fleet) == []
    fleet.apply(up(NODES[2]))
    assert grows(fleet, LATER_MS - 1) == []
    assert grows(fleet) == [1]
    assert plan(fleet, LATER_MS).may_grow
    fleet.apply(queued(9, job_class(gpus=8, nodes=3)))
    assert grows(fleet) == []
    fleet.apply(gone(9))
    started(fleet, 1, state=JobState.PREEMPTING)
    assert grows(fleet) == []
    fleet.apply(queued(1, elastic(2), attempt=2))
    assert width(fleet, 1, LATER_MS) == 3


def test_it_does_not_grow_into_another_domain_than_it_requires() -> None:
    near = elastic(1, within=TopologyLevel.LEAF)
    fleet = fleet_of(queued(1, near), nodes=[NODES[0], NODES[2]])
    assert width(fleet, 1) == 1
    started(fleet, 1)
    assert grows(fleet) == []
    fleet.apply(up(NODES[1]))
    assert grows(fleet) == [1]


def test_one_that_may_not_be_preempted_does_not_grow() -> None:
    steady = replace(elastic(1), preemptible=False)
    fleet = fleet_of(queued(1, steady), nodes=NODES[:1])
    assert width(fleet, 1) == 1
    started(fleet, 1)
    fleet.apply(up(NODES[1]))
    assert grows(fleet) == []


def test_a_job_at_its_most_is_not_watched() -> None:
    fleet = fleet_of(queued(1, elastic(1, 2)), nodes=NODES)
    assert width(fleet, 1) == 2
    assert not plan(fleet, NOW_MS).may_grow


def test_less_than_the_least_is_no_place() -> None:
    fleet = fleet_of(queued(1, elastic(5, 9)), nodes=NODES)
    made = plan(fleet, NOW_MS)
    assert made.placements == ()
    assert made.blocked[0].denials[0].reason in (Reason.NODES_TOO_FEW, Reason.NODE_SHAPE)


@pytest.mark.parametrize(("nodes", "most"), [(1, 2), (1, 8), (2, 9), (1, 1000), (7, 1024), (3, 3)])
def test_of_many_widths_few_are_tried(nodes: int, most: int) -> None:
    widths = ask_of(elastic(nodes, most)).widths()
    assert len(widths) <= WIDTHS_MAX
    assert (widths[0], widths[-1]) == (nodes, most)
    assert list(widths) == sorted(set(widths))
