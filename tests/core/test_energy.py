"""Energy orders sites that are alike, whatever else is the same, and nothing that is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.energy import cost_pence, liking
from scheduler.core.explain import forecast
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan
from scheduler.core.planner import plan
from scheduler.model.fleet import Site, SiteEnergy, SiteProfile
from scheduler.model.ids import JobId
from scheduler.model.plan import SiteChanged
from tests.core.builders import HOUR_MS, NOW_MS, fleet_of, job_class, node, queued, site

NAMES = ("bristol", "leeds", "london")


def of(name: str, carbon: int, price: int, *, pue_milli: int | None = None) -> Site:
    energy = SiteEnergy(carbon, price, "grid", 1)
    return replace(site(name), energy=energy, profile=SiteProfile(pue_milli=pue_milli))


def fleet(*sites: Site) -> FleetState:
    made = fleet_of(nodes=[node(name, f"n{n}") for name in NAMES for n in (1, 2)], sites=[])
    for each in sites:
        made.apply(SiteChanged(each.id, each, connected=True))
    return made


@pytest.mark.parametrize(
    ("sites", "first"),
    [
        pytest.param([site(name) for name in NAMES], "bristol", id="nothing known: by name"),
        pytest.param(
            [site("bristol"), of("leeds", 900, 30_000), site("london")],
            "leeds",
            id="what is known before what is not",
        ),
        pytest.param(
            [of("bristol", 0, 9_000), of("leeds", 0, 8_999), of("london", 400, 0)],
            "leeds",
            id="the price",
        ),
        pytest.param(
            [of("bristol", 200, 8_000), of("leeds", 100, 10_000), of("london", 180, 8_600)],
            "leeds",
            id="100 g are worth 25 pounds a megawatt-hour",
        ),
        pytest.param(
            [of("bristol", 100, 8_000, pue_milli=1_500), of("leeds", 100, 9_000), site("london")],
            "leeds",
            id="cooling is paid for too",
        ),
    ],
)
def test_the_cheapest_of_what_is_alike(sites: list[Site], first: str) -> None:
    made = fleet(*sites)
    assert forecast(made, job_class(gpus=8), NOW_MS).would_run_at == first
    made.apply(queued(1, job_class(gpus=8, nodes=2)))
    assert [p.site for p in plan(made, NOW_MS).placements] == [first]


def test_the_explanation_says_so() -> None:
    made = fleet(of("bristol", 210, 9_000), of("leeds", 90, 9_500), site("london"))
    told = forecast(made, job_class(), NOW_MS).summary
    assert told.endswith("there 9500 pence/MWh and 90 g CO2e/kWh, as grid says")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 30_000)), min_size=3, max_size=3),
    st.lists(st.integers(1, 8), min_size=1, max_size=12),
)
def test_no_fewer_start_for_the_sake_of_energy(
    energy: list[tuple[int, int]], gpus: list[int]
) -> None:
    started: list[int] = []
    for sites in (
        [site(name) for name in NAMES],
        [of(name, *each) for name, each in zip(NAMES, energy, strict=True)],
    ):
        made = fleet(*sites)
        for number, count in enumerate(gpus, start=1):
            made.apply(queued(number, job_class(gpus=count)))
        found = plan(made, NOW_MS)
        assert check_plan(made, found, NOW_MS) == ()
        started.append(len(found.placements))
    assert started[0] == started[1]


def test_every_site_has_a_place_in_the_order() -> None:
    same = [of("leeds", 1, 1), of("bristol", 1, 1), site("london")]
    assert [liking(each)[2] for each in sorted(same, key=liking)] == ["bristol", "leeds", "london"]
    assert cost_pence(same[2]) is None


def test_of_sites_that_cost_the_same_the_largest_hole_stays_whole() -> None:
    nodes = [*(node("bristol", f"n{n}") for n in range(4)), node("leeds", "n0")]
    fleet = fleet_of(nodes=nodes, sites=[site("bristol"), site("leeds")])
    fleet.apply(queued(1, job_class(gpus=8)))
    fleet.apply(queued(2, job_class(nodes=4, gpus=8, limit_ms=2 * HOUR_MS)))
    made = {each.key.job: each.site for each in plan(fleet, NOW_MS).placements}
    assert made == {JobId(1): "leeds", JobId(2): "bristol"}


def test_a_gang_leaves_the_largest_hole_whole_too() -> None:
    sizes = {"bristol": 4, "leeds": 2, "london": 3}
    nodes = [node(name, f"n{n}") for name, count in sizes.items() for n in range(count)]
    gang = queued(1, job_class(nodes=2, gpus=8))
    fleet = fleet_of(gang, nodes=nodes, sites=[site(name) for name in NAMES])
    assert [each.site for each in plan(fleet, NOW_MS).placements] == ["leeds"]


def test_a_dearer_site_is_not_taken_for_its_smaller_hole() -> None:
    made = fleet(of("bristol", 0, 9_000), of("leeds", 0, 8_999), of("london", 0, 9_000))
    for number in (1, 2, 3):
        made.apply(queued(number, job_class(gpus=8)))
    assert [each.site for each in plan(made, NOW_MS).placements] == ["leeds", "leeds", "bristol"]
