"""What the queue would do under another tree: the same planner, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.control import declare
from scheduler.control.declare import Declaration
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.plan import Reservation
from scheduler.model.reasons import Reason
from scheduler.model.residency import FactKey
from scheduler.model.tenancy import Tenant
from scheduler.model.whatif import OtherFleet, OtherTenants, Outcome, WhatIf
from scheduler.model.window import Window, WindowKind
from scheduler.runtime.other_fleet import GONE
from scheduler.runtime.what_if import what_if
from tests.control.plant import OLGA, Plant, spec
from tests.store.builders import (
    H100,
    LEEDS,
    LONDON,
    RADIOLOGY,
    british_facts,
    fact,
    node,
    site,
    tenants,
)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """A site of sixteen GPUs; the first organisation may use four of them."""
    made = Plant(tmp_path / "store.db")
    made.lay_out()
    made.connect()
    limited(made, tenants(limit_milli=4000))
    return made


def limited(plant: Plant, tree: tuple[Tenant, ...]) -> None:
    """The operator puts a tree in force."""
    with plant.store.transaction() as txn:
        txn.tenancy.replace_tenants(tree)


def ask(plant: Plant, tree: tuple[Tenant, ...]) -> WhatIf:
    """What would be under `tree`; the store stays as it was."""
    with plant.store.read() as view:
        before = view.changes.sequence()
        found = what_if(view, OtherTenants(tree), plant.now_ms)
    with plant.store.read() as view:
        assert view.changes.sequence() == before
    return found


def ask_fleet(plant: Plant, fleet: Iterable[Declaration]) -> WhatIf:
    """What would be with `fleet`."""
    with plant.store.read() as view:
        return what_if(view, OtherFleet(tuple(fleet)), plant.now_ms)


def declared(plant: Plant) -> dict[SiteId, Declaration]:
    """The fleet in force."""
    with plant.store.read() as view:
        return {entry[0].id: entry for entry in declare.declared(view)}


def counts(outcome: Outcome) -> tuple[int, int, int]:
    """Starting, reclaimed, waiting."""
    return outcome.jobs_starting, outcome.jobs_reclaimed, outcome.jobs_waiting


def test_a_higher_limit_starts_more(plant: Plant) -> None:
    jobs = [plant.submit(spec(f"job-{n}", gpus=2)) for n in range(5)]
    found = ask(plant, tenants(limit_milli=8000))
    assert counts(found.now) == (2, 0, 3)
    assert counts(found.then) == (4, 0, 1)
    assert [start.job for start in found.then.starts] == jobs[:4]
    start = found.then.starts[0]
    assert (start.tenant, start.site, start.gpu_milli) == (RADIOLOGY, LONDON, 2000)
    (wait,) = found.then.waits
    assert (wait.jobs, wait.nodes, wait.gpus_per_node) == (1, 1, 2)
    assert wait.denials[0].reason is Reason.QUOTA_LIMIT


def test_a_lower_limit_leaves_what_runs_and_starts_less(plant: Plant) -> None:
    plant.run(spec("runs", gpus=2))
    plant.submit(spec("next", gpus=2))
    found = ask(plant, tenants(limit_milli=2000))
    assert counts(found.now) == (1, 0, 0)
    assert counts(found.then) == (0, 0, 1)


def test_the_tree_in_force_is_what_the_planner_does_next(plant: Plant) -> None:
    for n in range(3):
        plant.submit(spec(f"job-{n}", gpus=2))
    found = ask(plant, tenants(limit_milli=4000))
    assert found.now == found.then
    kept = plant.cycle().kept
    assert [p.key.job for p in kept] == [start.job for start in found.now.starts]


def test_the_declared_fleet_is_what_the_planner_does_next(plant: Plant) -> None:
    plant.run(spec("runs", gpus=2))
    plant.submit(spec("next", gpus=2))
    found = ask_fleet(plant, declared(plant).values())
    assert found.now == found.then
    assert (found.displaced, found.nodes_assumed) == ((), 0)


def test_a_site_that_is_lost_leaves_what_has_room_elsewhere(plant: Plant) -> None:
    """Sixteen GPUs run; eight of them have room at the other site, which is taken to be healthy."""
    limited(plant, tenants())
    runs = [plant.run(spec(f"job-{n}", gpus=8)).job for n in range(2)]
    elsewhere = replace(site(LEEDS), power_cap_w=None)
    found = ask_fleet(plant, [(elsewhere, (node("n01", LEEDS),))])
    assert found.nodes_assumed == 1
    assert counts(found.now) == (0, 0, 0)
    assert counts(found.then) == (1, 2, 1)
    assert [(end.job, end.site, end.detail) for end in found.then.reclaims] == [
        (job, LONDON, GONE) for job in runs
    ]
    (lost,) = found.displaced
    assert (lost.tenant, lost.held_milli, lost.placed_milli) == (RADIOLOGY, 16_000, 8_000)


def test_room_elsewhere_is_within_the_law_or_none(plant: Plant) -> None:
    limited(plant, tenants())
    plant.run(spec("runs", gpus=8))
    abroad = site(LEEDS, facts=[fact(FactKey.COUNTRY, "FR"), *british_facts()[1:]])
    found = ask_fleet(plant, [(abroad, (node("n01", LEEDS),))])
    assert counts(found.then) == (0, 1, 1)
    assert [(d.held_milli, d.placed_milli) for d in found.displaced] == [(8_000, 0)]


def test_work_that_may_not_stay_ends_though_its_nodes_do(plant: Plant) -> None:
    runs = plant.run(spec("runs", gpus=2)).job
    there, nodes = declared(plant)[LONDON]
    sold = [each for each in there.facts if each.key != FactKey.SERVICE_OPERATOR]
    found = ask_fleet(plant, [(replace(there, facts=tuple(sold)), nodes)])
    (end,) = found.then.reclaims
    assert end.job == runs
    assert end.detail.startswith("FACT_")
    assert counts(found.then) == (0, 1, 1)


def test_a_cordon_stays(plant: Plant) -> None:
    plant.submit(spec("next", gpus=2))
    with plant.store.transaction() as txn:
        plant.control.cordon(txn, OLGA, LONDON, "work", plant.now_ms)
    assert counts(ask_fleet(plant, declared(plant).values()).then) == (0, 0, 1)


def test_what_is_kept_at_a_lost_site_goes_with_it(plant: Plant) -> None:
    """A window, and nodes kept for a job."""
    waits = plant.submit(spec("next", gpus=2))
    window = Window(
        id="w1",
        kind=WindowKind.MAINTENANCE,
        site=LONDON,
        nodes=(),
        starts_at_ms=plant.now_ms,
        ends_at_ms=plant.now_ms + 3_600_000,
        reason="cooling",
        added_by="olga",
        tenant=TenantPath(""),
    )
    kept = Reservation(waits, LONDON, H100, (node("n01").id,), plant.now_ms + 1000)
    with plant.store.transaction() as txn:
        txn.windows.put(window)
        txn.reservations.put(kept)
    found = ask_fleet(plant, [(site(LEEDS), (node("n01", LEEDS),))])
    assert counts(found.now) == (0, 0, 1)
    assert counts(found.then) == (1, 0, 0)
    assert [start.site for start in found.then.starts] == [LEEDS]
