"""Which sites are sought after, and that who could do without them leaves them to the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.fleet import FleetState
from scheduler.core.mix import JOBS_MIN
from scheduler.core.planner import plan
from scheduler.core.press import STEP_PPM, pressed
from scheduler.model.ids import GpuClass, SiteId
from scheduler.model.job import Placement, TopologyLevel, TopologyMode
from scheduler.model.plan import JobClass, MixChanged, MixEntry, SitePress
from scheduler.model.residency import Requirement
from tests.core.builders import (
    A100,
    GB_ONLY,
    H100,
    NOW_MS,
    commit,
    fleet_of,
    job_class,
    node,
    queued,
    site,
)

ABROAD = Requirement(jurisdictions=("GB", "NO"))
EVERYWHERE = (site("london"), site("narvik", "NO"))
SOUGHT = SitePress(SiteId("london"), H100, 400_000)


def two_countries(*changes: object, nodes: int = 2) -> FleetState:
    """As many nodes of eight in London as in Narvik; by its name London is first."""
    there = [node(at, f"n{number}") for at in ("london", "narvik") for number in range(nodes)]
    return fleet_of(*changes, sites=EVERYWHERE, nodes=there)  # type: ignore[arg-type]


def learned(*press: SitePress, mix: tuple[MixEntry, ...] = ()) -> MixChanged:
    return MixChanged(mix, NOW_MS, press)


def placed(fleet: FleetState) -> list[Placement]:
    """In the order of the jobs."""
    made = plan(fleet, NOW_MS)
    return sorted(made.placements, key=lambda placement: placement.key.job)


def sites(fleet: FleetState) -> list[str]:
    return [placement.site for placement in placed(fleet)]


def test_a_site_is_sought_after_if_the_law_keeps_work_there() -> None:
    fleet = two_countries(
        *(queued(number, job_class(gpus=8)) for number in range(1, 4)),
        queued(4, job_class(gpus=8, residency=ABROAD)),
    )
    fleet.settle()
    # Of four jobs' GPUs three and a half may fall on London's half of the fleet: 7 to 1.
    assert pressed(fleet, NOW_MS) == (
        SitePress(SiteId("london"), H100, 750_000),
        SitePress(SiteId("narvik"), H100, -750_000),
    )


def test_where_all_may_go_everywhere_nothing_is_learned_of_sites() -> None:
    fleet = two_countries(*(queued(n, job_class(residency=ABROAD)) for n in range(JOBS_MIN)))
    made = plan(fleet, NOW_MS)
    assert made.mix is not None
    assert made.mix.press == ()


def test_it_is_learned_with_the_mix_from_what_waits_and_runs() -> None:
    fleet = two_countries(
        *(queued(number, job_class(residency=GB_ONLY)) for number in range(JOBS_MIN))
    )
    before = plan(fleet, NOW_MS)
    assert before.mix is not None
    commit(fleet, before)
    fleet.apply(MixChanged())
    again = plan(fleet, NOW_MS)
    assert again.mix == before.mix
    # Nobody may go to Narvik, so nothing is known of it; London is as its GPU class is.
    assert before.mix.press == ()


def test_who_may_go_abroad_leaves_the_sites_at_home_to_who_may_not() -> None:
    mixed = [
        queued(1, job_class(gpus=8, residency=ABROAD)),
        queued(2, job_class(gpus=8, residency=ABROAD)),
        queued(3, job_class(gpus=8)),
        queued(4, job_class(gpus=8)),
    ]
    assert sites(two_countries(*mixed)) == ["london", "london"]
    assert sites(two_countries(*mixed, learned(SOUGHT))) == ["narvik", "narvik", "london", "london"]


def test_a_gang_keeps_to_its_topology_first() -> None:
    apart = [node("narvik", f"n{at}", leaf=f"l{at}") for at in range(2)]
    together = [node("london", f"n{at}") for at in range(2)]
    near = job_class(
        gpus=8, nodes=2, within=TopologyLevel.LEAF, mode=TopologyMode.PREFERRED, residency=ABROAD
    )
    gang = queued(1, near)
    for nodes, want in (([*apart, *together], "london"), (apart, "narvik")):
        fleet = fleet_of(learned(SOUGHT), gang, sites=EVERYWHERE, nodes=nodes)
        assert sites(fleet) == [want]
    assert sites(two_countries(learned(SOUGHT), gang)) == ["narvik"]


def test_of_several_gpu_classes_the_site_that_is_pressed_least_counts_too() -> None:
    nodes = [node("london", "n1", gpu_class=A100), node("narvik", "n1", gpu_class=H100)]
    asked = queued(1, job_class(gpus=8, classes=(A100, H100), residency=ABROAD))
    mix = (MixEntry(0, 0, 8, 1000, (), 1),)
    alike = fleet_of(learned(mix=mix), asked, sites=EVERYWHERE, nodes=nodes)
    assert sites(alike) == ["london"]
    sought = SitePress(SiteId("london"), A100, 400_000)
    fleet = fleet_of(learned(sought, mix=mix), asked, sites=EVERYWHERE, nodes=nodes)
    assert sites(fleet) == ["narvik"]


KINDS = st.sampled_from(
    [
        job_class(gpus=gpus, residency=residency, classes=classes)
        for gpus in (1, 8)
        for residency in (GB_ONLY, ABROAD)
        for classes in ((), (H100,), (A100,))
    ]
)


@given(st.lists(KINDS, min_size=1, max_size=20))
def test_within_a_class_there_is_as_much_more_as_less_and_steps_are_whole(
    asked: list[JobClass],
) -> None:
    nodes = [
        node(at, f"n{number}", gpu_class=GpuClass((A100, H100)[number % 2]))
        for at in ("leeds", "london", "narvik")
        for number in range(2)
    ]
    fleet = fleet_of(
        *(queued(number, of) for number, of in enumerate(asked, start=1)),
        sites=(site("leeds"), *EVERYWHERE),
        nodes=nodes,
    )
    fleet.settle()
    found = pressed(fleet, NOW_MS)
    assert list(found) == sorted(found, key=lambda each: (each.gpu_class, each.site))
    for name in (A100, H100):
        of_class = {each.site: each.ppm for each in found if each.gpu_class == name}
        # Two sites are alike in law, so they are in this.
        assert of_class.get(SiteId("leeds")) == of_class.get(SiteId("london"))
        assert all(ppm % STEP_PPM == 0 for ppm in of_class.values())
        if SiteId("narvik") in of_class:
            assert of_class[SiteId("narvik")] < 0, "whoever may go there may go home as well"
