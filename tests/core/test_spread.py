"""Replicas of a service: in different domains where that must be, and where it is liked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.explain import explain
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan
from scheduler.core.planner import plan
from scheduler.model.ids import JobId, NodeId, SiteId
from scheduler.model.job import TopologyLevel
from scheduler.model.plan import JobClass
from scheduler.model.reasons import Reason
from scheduler.model.topology import Apart
from tests.core.builders import (
    NOW_MS,
    commit,
    fleet_of,
    gone,
    job_class,
    node,
    queued,
    rebuilt,
    site,
    waiting_job,
)

WEB = JobId(900)


def replicas(over: TopologyLevel, *, required: bool, service: JobId = WEB) -> JobClass:
    """The class of a service's one-GPU replicas."""
    return replace(job_class(), apart=Apart(service, over, required))


def fleet_with(of: JobClass, count: int) -> FleetState:
    """Two sites, each of two leaves of two nodes; so many replicas wait."""
    nodes = [
        node(where, f"n{leaf}{n}", leaf=f"leaf-{leaf}")
        for where in ("london", "leeds")
        for leaf in "ab"
        for n in (1, 2)
    ]
    waiting = [queued(number + 1, of) for number in range(count)]
    return fleet_of(*waiting, sites=(site("london"), site("leeds")), nodes=nodes)


def places(fleet: FleetState) -> list[NodeId]:
    """Where a plan puts what waits, which breaks no rule and is the one of a state from scratch."""
    made = plan(fleet, NOW_MS)
    assert check_plan(fleet, made, NOW_MS) == ()
    assert plan(rebuilt(fleet), NOW_MS).placements == made.placements
    commit(fleet, made)
    return [placed.node for placement in made.placements for placed in placement.nodes]


def domains(nodes: list[NodeId], level: TopologyLevel) -> list[str]:
    """The domains of nodes, as their names tell."""
    short = {TopologyLevel.SITE: -4, TopologyLevel.LEAF: -1}
    return [name[: short.get(level, len(name))] for name in nodes]


def test_a_plan_of_which_nothing_was_committed_leaves_every_domain_free() -> None:
    fleet = fleet_with(replicas(TopologyLevel.SITE, required=True), 3)
    made = plan(fleet, NOW_MS)
    assert len(made.placements) == 2
    assert plan(fleet, NOW_MS).placements == made.placements


@pytest.mark.parametrize(
    ("over", "most"),
    [(TopologyLevel.SITE, 2), (TopologyLevel.LEAF, 4), (TopologyLevel.NODE, 8)],
)
def test_no_two_share_a_domain_where_that_must_be(over: TopologyLevel, most: int) -> None:
    fleet = fleet_with(replicas(over, required=True), most + 2)
    found = domains(places(fleet), over)
    assert len(found) == len(set(found)) == most
    assert places(fleet) == []


def test_one_that_waits_goes_where_another_left() -> None:
    fleet = fleet_with(replicas(TopologyLevel.SITE, required=True), 3)
    places(fleet)
    fleet.apply(gone(1))
    (there,) = places(fleet)
    left = {live.placement.site for live in fleet.live.values()}
    assert {SiteId(there.partition("/")[0])} <= left
    assert len(left) == 2


def test_it_is_told_what_keeps_it_waiting() -> None:
    fleet = fleet_with(replicas(TopologyLevel.SITE, required=True), 3)
    made = plan(fleet, NOW_MS)
    commit(fleet, made)
    (blocked,) = made.blocked
    assert {denial.reason for denial in blocked.denials} == {Reason.SPREAD}
    told = explain(fleet, waiting_job(fleet, JobId(3)), NOW_MS)
    assert told.would_run_at is None
    assert [[(d.reason, d.subject) for d in change] for change in told.changes] == [
        [(Reason.SPREAD, "leeds")],
        [(Reason.SPREAD, "london")],
    ]


def test_where_it_is_liked_all_run_and_evenly() -> None:
    fleet = fleet_with(replicas(TopologyLevel.SITE, required=False), 5)
    found = domains(places(fleet), TopologyLevel.SITE)
    assert sorted(found.count(name) for name in set(found)) == [2, 3]
    fleet = fleet_with(replicas(TopologyLevel.NODE, required=False), 8)
    assert len(set(places(fleet))) == 8


def test_services_do_not_heed_one_another() -> None:
    mine = replicas(TopologyLevel.SITE, required=True)
    fleet = fleet_with(mine, 2)
    places(fleet)
    other = replicas(TopologyLevel.SITE, required=True, service=JobId(901))
    for number in (11, 12):
        fleet.apply(queued(number, other))
    assert len(set(domains(places(fleet), TopologyLevel.SITE))) == 2


def test_plain_jobs_do_not_heed_replicas() -> None:
    fleet = fleet_with(replicas(TopologyLevel.NODE, required=True), 8)
    places(fleet)
    fleet.apply(queued(11, job_class()))
    assert len(places(fleet)) == 1
