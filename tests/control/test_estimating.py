"""What estimates are made of: how long jobs lately ran, and what nodes are kept for."""

from dataclasses import replace

from scheduler.model.job import RankCause
from scheduler.store.history import HISTORY_MIN, used_percent
from tests.control.plant import HOUR_MS, Plant, spec


def run_for(plant: Plant, part_percent: int, cause: RankCause = RankCause.EXIT) -> None:
    """A job with a limit of an hour that runs a part of it."""
    key = plant.run(replace(spec(hardware=0), time_limit_ms=HOUR_MS))
    plant.now_ms += HOUR_MS * part_percent // 100
    plant.report(plant.ended(key, cause=cause))


def test_the_part_of_its_limit_that_a_job_mostly_runs_is_a_median(plant: Plant) -> None:
    for n in range(HISTORY_MIN - 1):
        run_for(plant, 30 if n % 2 else 60)
    with plant.store.read() as view:
        assert used_percent(view) == 100, "too few to tell"
    for _ in range(10):
        run_for(plant, 30)
    with plant.store.read() as view:
        assert used_percent(view) == 30


def test_what_was_made_to_end_says_nothing(plant: Plant) -> None:
    for _ in range(HISTORY_MIN):
        run_for(plant, 80)
    for _ in range(HISTORY_MIN + 5):
        run_for(plant, 1, RankCause.FENCE)
    with plant.store.read() as view:
        assert used_percent(view) == 80


def test_what_is_kept_for_a_job_is_in_the_store_until_it_starts(plant: Plant) -> None:
    first = plant.run(replace(spec(nodes=2, gpus=8), time_limit_ms=HOUR_MS))
    second = plant.submit(replace(spec("next", nodes=2, gpus=8), time_limit_ms=HOUR_MS))
    plant.now_ms += HOUR_MS // 2
    plant.cycle()
    with plant.store.read() as view:
        (kept,) = view.reservations.all()
    assert (kept.job, len(kept.nodes)) == (second, 2)
    assert kept.starts_at_ms == plant.now_ms + HOUR_MS // 2
    small = plant.submit(replace(spec("small"), time_limit_ms=HOUR_MS))
    plant.report(plant.ended(first))
    assert [p.key.job for p in plant.cycle().kept] == [second]
    with plant.store.read() as view:
        assert view.reservations.all() == ()
        kinds = [leaf.kind for leaf in view.audit.all() if leaf.kind.startswith("nodes_")]
    assert kinds == ["nodes_reserved", "nodes_unreserved"]
    assert plant.job(small).attempts == ()
    plant.check()


def test_a_placement_on_kept_nodes_is_dropped_by_the_writer(plant: Plant) -> None:
    plant.run(replace(spec(gpus=8), time_limit_ms=HOUR_MS))
    plant.submit(replace(spec("gang", nodes=2, gpus=8), time_limit_ms=HOUR_MS))
    plant.now_ms += HOUR_MS // 2
    ahead = plant.plan()
    assert ahead.reservations
    plant.submit(replace(spec("long"), time_limit_ms=9 * HOUR_MS))
    with_neither = plant.plan()
    assert len(with_neither.placements) == 1
    with plant.store.transaction() as txn:
        plant.control.apply_plan(txn, ahead, plant.now_ms)
        applied = plant.control.apply_plan(txn, with_neither, plant.now_ms)
    assert [stale.denial.reason for stale in applied.stale] == ["BEHIND_OTHERS"]
