"""GPUs that are cut: what fits on one, who is given which instance, and what it is charged."""

from __future__ import annotations

import pytest

from scheduler.core.invariants import check_plan
from scheduler.core.planner import plan
from scheduler.model import mig
from scheduler.model.fleet import Node
from scheduler.model.mig import MigInstance
from scheduler.model.plan import Change, JobClass, NodeChanged, Plan, SiteChanged, TenantsChanged
from scheduler.model.reasons import Reason
from scheduler.model.residency import NodeSharing
from tests.core.builders import (
    NOW_MS,
    commit,
    fleet_of,
    gone,
    job_class,
    node,
    queued,
    report,
    site,
    tenant,
    up,
)

SMALL = [MigInstance(0, "1g.10gb")] * 7
HALVES = [MigInstance(1, "3g.40gb")] * 2
CUT = node("london", "cut", gpus=4, mig=tuple(sorted(SMALL + HALVES)))
"""GPU 0 in sevenths, which are units 4 to 10; GPU 1 in halves, 11 and 12; 2 and 3 whole."""


@pytest.mark.parametrize(
    ("found", "fits"),
    [
        pytest.param(["1g.10gb"] * 7, True, id="seven sevenths"),
        pytest.param(["1g.10gb"] * 8, False, id="there is no eighth"),
        pytest.param(["1g.5gb"] * 7, True, id="of a GPU with half the memory"),
        pytest.param(["1g.10gb", "1g.5gb", "1g.10gb"], True, id="one with a double memory"),
        pytest.param(["1g.20gb"] * 5, False, id="memory is used up before compute"),
        pytest.param(["4g.40gb", "3g.40gb"], True, id="four and three"),
        pytest.param(["4g.40gb", "4g.40gb"], False, id="four lie at the start alone"),
        pytest.param(["3g.40gb", "3g.40gb", "1g.10gb"], False, id="two halves are all memory"),
        pytest.param(["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"], True, id="mixed"),
        pytest.param(["2g.20gb"] * 4, False, id="two lie at three places"),
        pytest.param(["7g.80gb"], True, id="one of all"),
        pytest.param(["7g.80gb", "1g.10gb"], False, id="all leaves nothing"),
        pytest.param(["1g.10gb", "1g.18gb"], False, id="of two models of GPU"),
        pytest.param(["1g.10gb+me"] + ["1g.10gb"] * 6, True, id="media engines for one"),
        pytest.param(["1g.10gb+me"] * 2, False, id="media engines are there once"),
        pytest.param(["1g.6gb"] * 4, True, id="an A30 in quarters"),
        pytest.param(["1g.6gb"] * 5, False, id="an A30 has four"),
    ],
)
def test_what_lies_on_one_gpu(found: list[str], fits: bool) -> None:
    assert mig.lies_on_one(found) is fits


def test_the_instances_of_a_gpu_are_charged_no_more_than_the_gpu() -> None:
    assert [mig.milli_of(name) for name in ("1g.10gb", "3g.40gb", "4g.40gb", "7g.80gb")] == [
        142, 428, 571, 1000,
    ]  # fmt: skip
    assert mig.milli_of("2g.12gb") == 500, "an A30 has four slices"
    assert 7 * mig.milli_of("1g.10gb") <= 1000


def planned(*work: JobClass, nodes: tuple[Node, ...] = (CUT,), before: tuple[Change, ...] = ()):
    """A plan for jobs 1, 2 ... of these classes, and the state that it was made on."""
    fleet = fleet_of(
        SiteChanged(site().id, site(), connected=True),
        *before,
        *map(up, nodes),
        *(queued(number, of) for number, of in enumerate(work, start=1)),
    )
    made = plan(fleet, NOW_MS)
    assert check_plan(fleet, made, NOW_MS) == ()
    return fleet, made


def given(made: Plan) -> dict[int, tuple[int, ...]]:
    return {int(p.key.job): p.nodes[0].gpu_indices() for p in made.placements}


def test_each_is_given_an_instance_of_its_profile_and_no_gpu_that_is_cut() -> None:
    small, half, whole = job_class(mig="1g.10gb"), job_class(mig="3g.40gb"), job_class(gpus=2)
    _, made = planned(small, small, half, half, half, whole, whole)
    assert given(made) == {1: (4,), 2: (5,), 3: (11,), 4: (12,), 6: (2, 3)}
    assert {int(b.job_class.resources.gpus_per_node) for b in made.blocked} == {1, 2}


def test_the_charge_is_the_part_of_the_gpu() -> None:
    _, made = planned(job_class(mig="3g.40gb"))
    assert made.placements[0].gpu_milli == 428


def test_a_share_is_never_of_a_gpu_that_is_cut() -> None:
    all_cut = node("london", "cut", gpus=1, mig=tuple(SMALL))
    _, made = planned(job_class(share_milli=100), job_class(), nodes=(all_cut,))
    assert not made.placements
    assert {d.reason for b in made.blocked for d in b.denials} == {Reason.NODE_SHAPE}


def test_quota_counts_instances_by_their_part() -> None:
    limited = TenantsChanged((tenant("trust-a"), tenant("trust-a/radiology", limit=1)))
    _, made = planned(*[job_class(mig="3g.40gb")] * 2, job_class(mig="1g.10gb"), before=(limited,))
    assert len(made.placements) == 3, "428 + 428 + 142 of 1000"
    _, made = planned(*[job_class(mig="3g.40gb")] * 2, *[job_class(mig="1g.10gb")] * 2,
                      before=(limited,))  # fmt: skip
    assert len(made.placements) == 3
    assert {d.reason for b in made.blocked for d in b.denials} == {Reason.QUOTA_LIMIT}


def test_the_fullest_node_is_filled_first() -> None:
    other = node("london", "a", gpus=4, mig=CUT.mig)
    fleet, made = planned(job_class(mig="1g.10gb"), nodes=(CUT, other))
    commit(fleet, made)
    fleet.apply(queued(2, job_class(mig="1g.10gb")))
    assert plan(fleet, NOW_MS).placements[0].nodes[0].node == made.placements[0].nodes[0].node


def test_an_instance_that_came_free_is_taken_again() -> None:
    fleet, made = planned(*[job_class(mig="3g.40gb")] * 3)
    commit(fleet, made)
    assert len(made.placements) == 2
    fleet.apply(gone(1))
    again = plan(fleet, NOW_MS)
    assert given(again) == {3: (11,)}


def test_a_node_that_is_cut_otherwise_than_declared_gives_no_instance() -> None:
    fleet, _ = planned()
    said = report(CUT, mig=tuple(SMALL))
    fleet.apply(NodeChanged(CUT.id, CUT, said))
    for number, of in enumerate((job_class(mig="1g.10gb"), job_class(gpus=2)), start=1):
        fleet.apply(queued(number, of))
    assert given(plan(fleet, NOW_MS)) == {2: (2, 3)}, "what both call whole is there"


def test_nobody_may_join_a_node_through_an_instance() -> None:
    mine, theirs = job_class(mig="1g.10gb"), job_class("trust-b/genomics", mig="1g.10gb")
    _, made = planned(mine, theirs)
    assert len(made.placements) == 1
    alike = {"mig": "1g.10gb", "sharing": NodeSharing.ANY}
    _, made = planned(job_class(**alike), job_class("trust-b/genomics", **alike))  # type: ignore[arg-type]
    assert len(made.placements) == 2
