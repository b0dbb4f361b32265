"""Nodes of an NVLink domain that are kept free, for others of it that break."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.explain import explain
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan, derived
from scheduler.core.planner import plan
from scheduler.model.fleet import Health, Node
from scheduler.model.ids import JobId
from scheduler.model.job import TopologyLevel
from scheduler.model.plan import JobChanged, NodeChanged, Plan
from scheduler.model.reasons import Reason
from tests.core.builders import (
    NOW_MS,
    commit,
    fleet_of,
    gone,
    job_class,
    node,
    queued,
    report,
    up,
)

TRAYS, SPARES = 6, 2
RACK = tuple(
    node("london", f"t{n}", gpus=4, nvlink="rack", spares=SPARES) for n in range(1, TRAYS + 1)
)
TRAY = job_class(gpus=4)
GANG = job_class(gpus=4, nodes=TRAYS - SPARES, within=TopologyLevel.NVLINK)


def placed(made: Plan) -> dict[int, list[str]]:
    return {
        int(p.key.job): [part.node.partition("/")[2] for part in p.nodes] for p in made.placements
    }


def planned(fleet: FleetState) -> dict[int, list[str]]:
    made = plan(fleet, NOW_MS)
    assert check_plan(fleet, made, NOW_MS) == ()
    commit(fleet, made)
    return placed(made)


def broken(of: Node) -> NodeChanged:
    return NodeChanged(of.id, of, report(of, health=Health.FAILED))


def test_the_last_are_kept_and_what_waits_is_told() -> None:
    fleet = fleet_of(*(queued(n, TRAY) for n in range(1, TRAYS + 1)), nodes=list(RACK))
    assert planned(fleet) == {n: [f"t{n}"] for n in range(1, TRAYS - SPARES + 1)}
    got = explain(fleet, next(iter(fleet.queued.in_line())), NOW_MS)
    assert [[d.reason for d in found] for found in got.changes] == [[Reason.SPARE_NODES]]


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(broken(RACK[2]), id="one that is not well"),
        pytest.param(
            NodeChanged(RACK[2].id, replace(RACK[2], cordoned=True), report(RACK[2])),
            id="one that an operator cordoned",
        ),
    ],
)
def test_a_gang_that_needs_all_others_has_a_spare_for_an_empty_tray(of: NodeChanged) -> None:
    fleet = fleet_of(queued(1, GANG), nodes=list(RACK))
    fleet.apply(of)
    assert planned(fleet) == {1: ["t1", "t2", "t4", "t5"]}


def test_a_spare_stays_one_until_the_broken_trays_gang_is_over() -> None:
    fleet = fleet_of(queued(1, GANG), queued(2, TRAY), nodes=list(RACK))
    assert planned(fleet) == {1: ["t1", "t2", "t3", "t4"]}
    fleet.apply(broken(RACK[2]))
    assert planned(fleet) == {}, "the small one does not get what the gang will need"
    fleet.apply(queued(1, GANG, attempt=2))
    assert planned(fleet) == {1: ["t1", "t2", "t4", "t5"]}
    fleet.apply(NodeChanged(RACK[2].id, RACK[2], report(RACK[2])))
    assert planned(fleet) == {}, "the tray that was mended is a spare now"
    fleet.apply(gone(1))
    assert planned(fleet) == {2: ["t1"]}


def test_with_more_broken_than_there_are_spares_the_rest_is_used() -> None:
    fleet = fleet_of(*(queued(n, TRAY) for n in range(1, TRAYS + 1)), nodes=list(RACK))
    for of in RACK[:3]:
        fleet.apply(broken(of))
    assert planned(fleet) == {1: ["t4"], 2: ["t5"], 3: ["t6"]}


def test_who_sleeps_is_woken_by_a_spare_that_came_free() -> None:
    fleet = fleet_of(*(queued(n, TRAY) for n in range(1, TRAYS + 1)), nodes=list(RACK))
    planned(fleet)
    assert planned(fleet) == {}
    fleet.apply(NodeChanged(RACK[5].id, None, None))
    fleet.settle()
    assert planned(fleet) == {}, "five trays and two spares: three, and four have work"
    for of in RACK[:5]:
        fleet.apply(NodeChanged(of.id, replace(of, nvlink_spares=1), report(of)))
    assert planned(fleet) == {}, "one spare"
    for of in RACK[:5]:
        fleet.apply(NodeChanged(of.id, replace(of, nvlink_spares=0), report(of)))
    assert planned(fleet) == {5: ["t5"]}


def test_the_spares_are_the_same_whatever_came_first() -> None:
    fleet = fleet_of(queued(1, GANG), nodes=list(RACK))
    planned(fleet)
    (attempt,) = fleet.live.values()
    fleet.apply(broken(RACK[2]))
    other = fleet_of(JobChanged(JobId(1), None, attempt), nodes=[])
    for of in reversed(RACK):
        other.apply(broken(of) if of is RACK[2] else up(of))
    assert derived(fleet)["ready"] == derived(other)["ready"]
