"""The fleet in sum: what is counted is what is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.control.overview import UNFIT_MAX, GpuUse, Overview
from scheduler.model.fleet import Health, SiteStatus
from scheduler.model.ids import GpuClass
from scheduler.model.reasons import Refused
from tests.control.plant import N01, N02, OLGA, Plant, spec
from tests.store.builders import H100, LEEDS, LONDON, node, report, site


def look(plant: Plant, unfit_max: int = 10) -> Overview:
    """What an operator is shown."""
    with plant.store.read() as view:
        return plant.control.overview(view, unfit_max=unfit_max)


def test_gpus_jobs_and_the_queue_are_counted(plant: Plant) -> None:
    plant.run(spec(nodes=2, gpus=3))
    placed = plant.submit(spec("placed"))
    plant.cycle()
    plant.submit(spec("waits", nodes=2, gpus=8))
    plant.submit(spec("waits-too", nodes=1, gpus=8))
    found = look(plant)
    [london] = found.sites
    assert london.gpus == (
        GpuUse(H100, nodes=2, nodes_ready=2, gpus=16, gpus_ready=16, used_milli=7000),
    )
    assert (london.running, london.moving) == (1, 1), plant.job(placed).state
    assert (london.site.nodes_total, london.site.gpus_used_milli) == (2, 7000)
    assert (found.jobs_queued, found.gpus_queued_milli) == (2, 24_000)
    assert (found.unfit, found.unfit_total) == ((), 0)


def test_each_class_of_a_site_has_a_line(plant: Plant) -> None:
    other = replace(node("n03"), gpu_class=GpuClass("B200"), gpus=4)
    fleet = [(site(), (node("n01"), node("n02"), other))]
    with plant.store.transaction() as txn:
        plant.control.apply_fleet(
            txn, OLGA, fleet, reason="more", dry_run=False, now_ms=plant.now_ms
        )
    [london] = look(plant).sites
    assert [(line.gpu_class, line.gpus, line.gpus_ready) for line in london.gpus] == [
        ("B200", 4, 0),
        ("H100", 16, 16),
    ]


def test_unfit_nodes_are_named_as_far_as_asked_for_and_all_counted(plant: Plant) -> None:
    plant.report(nodes=(replace(report(N01), health=Health.DEGRADED, health_detail="hot"),))
    with plant.store.transaction() as txn:
        plant.control.cordon(txn, OLGA, N02, "new fans", plant.now_ms)
    found = look(plant)
    assert [view.entry.node.id for view in found.unfit] == [N01, N02]
    # A cordoned node is ready all the same: what runs there goes on.
    assert (found.sites[0].site.nodes_ready, found.unfit_total) == (1, 2)
    assert [view.entry.node.id for view in look(plant, 1).unfit] == [N01]
    assert (look(plant, 0).unfit, look(plant, 0).unfit_total) == ((), 2)


@pytest.mark.parametrize("status", [SiteStatus.ACTIVE, SiteStatus.PLANNED])
def test_nodes_of_a_site_that_is_away_or_planned_are_not_named_one_by_one(
    plant: Plant, status: SiteStatus
) -> None:
    leeds = replace(site(LEEDS), status=status)
    fleet = [(site(), (node("n01"), node("n02"))), (leeds, (node("n01", LEEDS),))]
    with plant.store.transaction() as txn:
        plant.control.apply_fleet(
            txn, OLGA, fleet, reason="more", dry_run=False, now_ms=plant.now_ms
        )
    found = look(plant)
    assert {each.site.entry.site.id for each in found.sites} == {LONDON, LEEDS}
    assert found.unfit_total == 0


@pytest.mark.parametrize("unfit_max", [-1, UNFIT_MAX + 1])
def test_absurd_numbers_of_nodes_are_refused(plant: Plant, unfit_max: int) -> None:
    with pytest.raises(Refused, match=f"found {unfit_max}"):
        look(plant, unfit_max)
