"""What the queue would do under another tree: the same planner, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.model.reasons import Reason
from scheduler.model.tenancy import Tenant
from scheduler.model.whatif import Outcome, WhatIf
from scheduler.runtime.what_if import what_if
from tests.control.plant import Plant, spec
from tests.store.builders import LONDON, RADIOLOGY, tenants


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
        found = what_if(view, tree, plant.now_ms)
    with plant.store.read() as view:
        assert view.changes.sequence() == before
    return found


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
