"""Projects that go by `shortest` learn from their own jobs how long their work runs."""

from __future__ import annotations

from dataclasses import replace

from scheduler.control.lengths import LEARN_EVERY_MS, Run, learned
from scheduler.core.lengths import RUNS_MIN
from scheduler.model.plan import LengthsChanged
from scheduler.model.tenancy import QueueOrder
from tests.control.plant import HOUR_MS, RADIOLOGY, Plant, spec


def by_service(plant: Plant) -> None:
    """Every project goes by `shortest`."""
    with plant.store.transaction() as txn:
        tenants = [replace(t, queue_order=QueueOrder.SHORTEST) for t in txn.tenancy.tenants()]
        txn.tenancy.replace_tenants(tenants)


def told(plant: Plant) -> LengthsChanged:
    """What the project's jobs tell, as the store has it."""
    with plant.store.read() as view:
        return view.learned.lengths(RADIOLOGY)


def turns(plant: Plant) -> None:
    """As many turns as there are projects and more."""
    for _ in range(8):
        plant.tick()


def test_what_ended_runs_on_and_was_cancelled_is_learned_and_told_to_planners(plant: Plant) -> None:
    by_service(plant)
    for _ in range(RUNS_MIN):
        over = plant.run()
        plant.now_ms += HOUR_MS
        plant.report(plant.ended(over))
    cancelled = plant.run()
    stays = plant.run()
    plant.now_ms += HOUR_MS
    plant.cancel(cancelled.job, now=True)
    plant.report(plant.ended(cancelled, exit_code=143))
    with plant.store.read() as view:
        before = view.changes.sequence()
    turns(plant)
    ended = [Run(1, HOUR_MS, True)] * RUNS_MIN
    expected = learned([*ended, Run(1, HOUR_MS, False), Run(1, HOUR_MS, False)])
    assert told(plant) == LengthsChanged(RADIOLOGY, expected, plant.now_ms)
    with plant.store.read() as view:
        assert told(plant) in view.changes.since(before, 100).changes
        assert told(plant) in list(view.changes.load_all()[1])
    plant.report(plant.ended(stays))
    plant.check()


def test_work_that_declares_its_length_and_its_projects_that_go_by_age_are_not_learned_of(
    plant: Plant,
) -> None:
    turns(plant)
    assert told(plant) == LengthsChanged(RADIOLOGY)
    for _ in range(RUNS_MIN):
        over = plant.run(replace(spec(), time_limit_ms=2 * HOUR_MS))
        plant.now_ms += HOUR_MS
        plant.report(plant.ended(over))
    by_service(plant)
    turns(plant)
    assert told(plant) == LengthsChanged(RADIOLOGY, (), plant.now_ms)


def test_a_project_learns_anew_after_a_day(plant: Plant) -> None:
    by_service(plant)
    turns(plant)
    first_ms = plant.now_ms
    plant.now_ms += LEARN_EVERY_MS - 1
    turns(plant)
    assert told(plant).learned_at_ms == first_ms
    plant.now_ms += 1
    turns(plant)
    assert told(plant).learned_at_ms == plant.now_ms
