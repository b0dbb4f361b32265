"""A site's power cap: what counts, what still fits, and who ends when it is lowered."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.fleet import FleetState
from scheduler.core.power import Cap, Draws, cap_of, drawn_w, shed
from scheduler.model.fleet import Node
from scheduler.model.ids import GpuClass, JobId, SiteId
from scheduler.model.job import JobState, Priority
from scheduler.model.plan import LiveAttempt
from tests.core.builders import A100, H100, HOUR_MS, NOW_MS, fleet_of, job_class, node, site
from tests.core.preempting import running

SPOT, NORMAL, HIGH = Priority.SPOT, Priority.NORMAL, Priority.HIGH


def cap(cap_w: int, *nodes: Node) -> Cap:
    """The cap of a site in London."""
    made = cap_of(replace(site(), power_cap_w=cap_w), nodes)
    assert made is not None
    return made


def known(slot: str, *, base_w: int = 1_000, gpu_w: int = 500) -> Node:
    """A node of eight H100 whose figures are declared."""
    return replace(node("london", slot), base_w=base_w, gpu_w=gpu_w)


def test_a_site_without_a_cap_has_none() -> None:
    assert cap_of(site(), [node("london", "n1")]) is None


def test_idle_nodes_draw_their_base_and_each_held_gpu_its_most() -> None:
    limit = cap(10_000, known("n1"), known("n2"))
    assert limit.used_w({}) == 2_000
    assert limit.used_w({H100: 3_000}) == 3_500
    assert limit.used_w({H100: 250}) == 2_125


def test_the_hungriest_node_of_a_model_counts_for_all_of_it() -> None:
    assert cap(10_000, known("n1", gpu_w=400), known("n2", gpu_w=600)).used_w({H100: 1000}) == 2_600


def test_what_is_not_declared_is_assumed_after_the_model() -> None:
    whole = {H100: 8_000}
    assert cap(1, node("london", "n1")).used_w(whole) == 10_200, "as the maker says of eight"
    unknown = node("london", "n1", gpu_class=GpuClass("X9"))
    hungriest = cap(1, node("london", "n1", gpu_class=GpuClass("B300")))
    assert cap(1, unknown).used_w({GpuClass("X9"): 8_000}) >= hungriest.used_w(
        {GpuClass("B300"): 8_000}
    )
    assert cap(1, node("london", "n1", gpus=0, gpu_class=GpuClass(""))).used_w({}) > 0


@pytest.mark.parametrize(
    ("cap_w", "fits"),
    [
        pytest.param(3_000, True, id="up to the cap"),
        pytest.param(2_999, False, id="not a watt above it"),
    ],
)
def test_work_fits_up_to_the_cap(cap_w: int, fits: bool) -> None:
    assert cap(cap_w, known("n1")).fits({H100: 2_000}, H100, 2_000) is fits


def test_drawn_power_is_rounded_up() -> None:
    assert (drawn_w(1, 700), drawn_w(1000, 700), drawn_w(1001, 700)) == (1, 700, 701)


def test_what_is_held_is_summed_by_site_and_model() -> None:
    draws = Draws()
    draws.charge(SiteId("london"), H100, 8_000)
    draws.charge(SiteId("london"), A100, 1_000)
    draws.charge(SiteId("london"), H100, -3_000)
    assert draws.held == {SiteId("london"): {H100: 5_000, A100: 1_000}}


def loaded() -> FleetState:
    """Four nodes: spot work, old and new, normal and high, a GPU of each node unused."""
    fleet = fleet_of(nodes=[known(f"n{n}") for n in range(4)])
    firm = replace(job_class(gpus=7, priority=NORMAL), preemptible=False, min_runtime_ms=HOUR_MS)
    running(fleet, 1, job_class(gpus=7, priority=SPOT), "n0", for_ms=2 * HOUR_MS)
    running(fleet, 2, job_class(gpus=7, priority=SPOT), "n1", for_ms=HOUR_MS)
    running(fleet, 3, firm, "n2", for_ms=1)
    running(fleet, 4, job_class(gpus=7, priority=HIGH), "n3", for_ms=1)
    return fleet


@pytest.mark.parametrize(
    ("cap_w", "ended"),
    [
        pytest.param(18_000, [], id="nobody while it is within"),
        pytest.param(17_999, [2], id="of the spot work what loses least"),
        pytest.param(12_000, [1, 2], id="all spot work before any other"),
        pytest.param(11_000, [1, 2], id="exactly enough"),
        pytest.param(10_999, [1, 2, 3], id="then normal, willing or not"),
        pytest.param(7_000, [1, 2, 3, 4], id="high last"),
        pytest.param(1_000, [1, 2, 3, 4], id="everybody, where idle nodes draw too much"),
    ],
)
def test_a_lowered_cap_sheds_in_this_order(cap_w: int, ended: list[int]) -> None:
    fleet = loaded()
    limit = cap(cap_w, *(record.node for record in fleet.nodes.values()))
    assert sorted(shed(limit, fleet.live.values(), NOW_MS)) == ended


def test_what_leaves_already_is_counted_as_gone_and_what_is_lost_to_sight_as_there() -> None:
    fleet = fleet_of(nodes=[known(f"n{n}") for n in range(3)])
    running(fleet, 1, job_class(gpus=8, priority=HIGH), "n0", state=JobState.PREEMPTING)
    running(fleet, 2, job_class(gpus=8, priority=SPOT), "n1", state=JobState.LOST)
    running(fleet, 3, job_class(gpus=8, priority=HIGH), "n2")
    limit = cap(11_000, *(record.node for record in fleet.nodes.values()))
    assert shed(limit, fleet.live.values(), NOW_MS) == ()
    assert shed(replace(limit, cap_w=10_999), fleet.live.values(), NOW_MS) == (3,)


@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.sampled_from([SPOT, NORMAL, HIGH]), st.integers(0, 9)),
        max_size=10,
    ),
    st.integers(0, 60_000),
)
def test_what_is_shed_suffices_and_nobody_of_it_could_have_stayed(
    jobs: list[tuple[int, Priority, int]], cap_w: int
) -> None:
    fleet = fleet_of(nodes=[known(f"n{n}") for n in range(10)])
    for number, (gpus, priority, hours) in enumerate(jobs):
        of = job_class(gpus=gpus, priority=priority)
        running(fleet, number + 1, of, f"n{number}", for_ms=hours * HOUR_MS)
    limit = cap(cap_w, *(record.node for record in fleet.nodes.values()))
    ended = set(shed(limit, fleet.live.values(), NOW_MS))

    def used_w(but: Container[JobId]) -> int:
        return limit.used_w({H100: sum(_milli(a) for j, a in fleet.live.items() if j not in but)})

    assert used_w(ended) <= cap_w or ended == set(fleet.live)
    for spared in ended:
        assert used_w(ended - {spared}) > cap_w
    for job in ended:
        worst = fleet.live[job].job_class.priority
        lower = {j for j, a in fleet.live.items() if a.job_class.priority < worst}
        assert used_w(lower) > cap_w, "no higher priority ends while ending the lower would do"


def _milli(attempt: LiveAttempt) -> int:
    return attempt.placement.gpu_milli
