"""What is spent: reserved at placement, settled at the end, refunded where hardware failed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.control.spending import UsageLine
from scheduler.core.budgets import GPU_HOUR_MS, Book, day_of, gpu_ms
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import derived
from scheduler.model.identity import Principal
from scheduler.model.ids import AttemptKey, TenantPath
from scheduler.model.job import JobState, RankCause
from scheduler.model.reasons import Reason, Refused
from scheduler.model.sitelink import SiteReport
from scheduler.model.tenancy import Budget, BudgetPeriod, SettledUse, Tenant
from scheduler.store.rebuild_usage import rebuild_usage
from scheduler.store.store import Txn
from tests.control.plant import ADA, EVE, OLGA, Plant, spec
from tests.store.builders import H100, LONDON, NOW_MS, RADIOLOGY, tenants

TRUST_A = TenantPath("trust-a")
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
TODAY = day_of(NOW_MS)


def with_budget(plant: Plant, gpu_hours: int, at: TenantPath = TRUST_A) -> None:
    """One node of the tree has a monthly budget of all GPUs."""
    amount = gpu_hours * GPU_HOUR_MS
    budget = Budget(H100, amount, BudgetPeriod.MONTH)
    tree = [replace(t, budgets=(budget,)) if t.path == at else t for t in tenants()]
    declare(plant, *tree)


def declare(plant: Plant, *tree: Tenant) -> None:
    """An operator declares the tenants."""
    with plant.store.transaction() as txn:
        plant.control.apply_tenants(
            txn, OLGA, tree, reason="test", dry_run=False, now_ms=plant.now_ms
        )


def settled(plant: Plant) -> tuple[SettledUse, ...]:
    """All that is settled; the log tells the same."""
    with plant.store.read() as view:
        found = tuple(view.usage.of_days(0, TODAY + 1000))
        assert rebuild_usage(view.audit.all()) == found
    return found


def budget_of(plant: Plant, who: Principal = OLGA) -> tuple[int, int, int]:
    """Reserved, charged and left of the one budget, in GPU-minutes."""
    with plant.store.read() as view:
        (line,) = plant.control.budgets(view, who, None, plant.now_ms)
    parts = (line.reserved_gpu_ms, line.charged_gpu_ms, line.left_gpu_ms())
    assert sum(parts) == line.budget.amount_gpu_ms
    return (parts[0] // MINUTE_MS, parts[1] // MINUTE_MS, parts[2] // MINUTE_MS)


def test_an_attempt_reserves_its_time_limit_and_is_charged_what_it_used(plant: Plant) -> None:
    with_budget(plant, 100)
    key = plant.run(replace(spec(nodes=2, gpus=2), time_limit_ms=HOUR_MS))
    assert budget_of(plant) == (240, 0, 5760)
    plant.now_ms += 15 * MINUTE_MS
    plant.report(plant.ended(key))
    assert budget_of(plant) == (0, 60, 5940)
    assert settled(plant) == (SettledUse(RADIOLOGY, H100, TODAY, 60 * MINUTE_MS, 0, 1),)
    plant.check()


def test_what_hardware_destroyed_is_refunded_and_the_next_attempt_is_charged(plant: Plant) -> None:
    with_budget(plant, 100)
    key = plant.run(replace(spec(), time_limit_ms=HOUR_MS))
    plant.now_ms += 15 * MINUTE_MS
    plant.report(plant.ended(key, None, RankCause.LOST))
    assert plant.job(key.job).state is JobState.QUEUED
    assert budget_of(plant) == (0, 0, 6000)
    plant.now_ms += MINUTE_MS
    plant.cycle()
    plant.push()
    again = AttemptKey(key.job, 2)
    plant.report(plant.running(again))
    plant.now_ms += 5 * MINUTE_MS
    plant.report(plant.ended(again, 1))
    assert settled(plant) == (SettledUse(RADIOLOGY, H100, TODAY, 5 * MINUTE_MS, 15 * MINUTE_MS, 2),)
    plant.check()


def test_no_more_is_charged_than_was_reserved(plant: Plant) -> None:
    key = plant.run(replace(spec(), time_limit_ms=HOUR_MS))
    plant.now_ms += 9 * HOUR_MS
    plant.report(plant.ended(key))
    assert settled(plant)[0].charged_gpu_ms == HOUR_MS


def test_a_cancelled_job_is_charged_and_one_that_never_was_placed_is_not(plant: Plant) -> None:
    key = plant.run(replace(spec(), time_limit_ms=HOUR_MS))
    waits = plant.submit()
    plant.cancel(waits)
    plant.now_ms += 10 * MINUTE_MS
    plant.cancel(key.job)
    plant.report(plant.ended(key, None, RankCause.STOP, signal=15))
    assert settled(plant) == (SettledUse(RADIOLOGY, H100, TODAY, 10 * MINUTE_MS, 0, 1),)


def test_it_counts_on_the_day_on_which_it_was_placed(plant: Plant) -> None:
    key = plant.run(replace(spec(), time_limit_ms=48 * HOUR_MS))
    plant.now_ms += 30 * HOUR_MS
    plant.report(plant.ended(key))
    assert [use.day for use in settled(plant)] == [TODAY]


def test_usage_is_told_to_its_own_tenant_and_below(plant: Plant) -> None:
    key = plant.run(replace(spec(), time_limit_ms=HOUR_MS))
    plant.now_ms += 10 * MINUTE_MS
    plant.report(plant.ended(key))
    plant.run(replace(spec("next"), time_limit_ms=HOUR_MS))
    plant.now_ms += 5 * MINUTE_MS

    def told(who: Principal, first: int = TODAY) -> tuple[UsageLine, ...]:
        with plant.store.read() as view:
            return plant.control.usage(
                view, who, None, first_day=first, end_day=first + 1, now_ms=plant.now_ms
            )

    mine = UsageLine(RADIOLOGY, H100, 10 * MINUTE_MS, 0, 5 * MINUTE_MS, 1)
    assert told(ADA) == told(OLGA) == (mine,)
    assert told(EVE) == ()
    assert told(OLGA, TODAY - 1) == ()
    with pytest.raises(Refused, match="since_ms"):
        told(OLGA, -1)


def test_the_writer_drops_what_no_budget_bears_and_counts_what_it_keeps(plant: Plant) -> None:
    with_budget(plant, 3)
    for n in range(4):
        plant.submit(replace(spec(f"job-{n}"), time_limit_ms=HOUR_MS))
    made = plant.plan()
    with_budget(plant, 2)
    with plant.store.transaction() as txn:
        done = plant.control.apply_plan(txn, made, plant.now_ms)
    assert len(done.kept) == 2
    assert {stale.denial.reason for stale in done.stale} == {Reason.BUDGET_EXHAUSTED}
    assert budget_of(plant) == (120, 0, 0)


def undone(plant: Plant, act: Callable[[Txn], object]) -> None:
    """Something happens in a transaction that fails."""

    def fail() -> None:
        with plant.store.transaction() as txn:
            assert act(txn)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_what_is_rolled_back_is_not_reserved(plant: Plant) -> None:
    with_budget(plant, 2)
    plant.submit(replace(spec(), time_limit_ms=HOUR_MS))
    made = plant.plan()
    for _ in range(3):
        undone(plant, lambda txn: len(plant.control.apply_plan(txn, made, plant.now_ms).kept))
    with plant.store.transaction() as txn:
        assert len(plant.control.apply_plan(txn, made, plant.now_ms).kept) == 1
    key = AttemptKey(made.placements[0].key.job, 1)
    plant.push()
    plant.report(plant.running(key))
    plant.now_ms += 30 * MINUTE_MS
    said = SiteReport(plant.store.epoch, 1, (plant.ended(key),), (), full=False)
    undone(plant, lambda txn: plant.control.site_report(txn, LONDON, said, plant.now_ms))
    assert_book_is_what_the_tables_say(plant)
    plant.report(plant.ended(key))
    assert_book_is_what_the_tables_say(plant)
    assert budget_of(plant) == (0, 30, 90)


def assert_book_is_what_the_tables_say(plant: Plant) -> None:
    """What is kept in step equals what is added up from the rows."""
    with plant.store.transaction() as txn:
        kept = txn.book()
        assert kept is not None
        made = Book(txn.tenancy.tree(), txn.usage.of_days(0, TODAY + 1000))
        for use in txn.attempts.live_uses():
            cost = gpu_ms(use.gpu_milli, txn.jobs.job_class(use.class_id).time_limit_bucket_ms)
            made.hold(use.tenant, use.gpu_class, cost, use.placed_at_ms)
        assert made.facts() == kept.facts()


def test_work_that_no_period_bears_is_refused_at_the_door(plant: Plant) -> None:
    with_budget(plant, 3)
    found = plant.try_submit(replace(spec(gpus=4), time_limit_ms=HOUR_MS))
    assert found.refusal.reason is Reason.BUDGET_EXHAUSTED
    assert "it would reserve 4 GPU-hours, a whole period has 3" in found.refusal.denials[0].detail
    plant.submit(replace(spec(gpus=3), time_limit_ms=HOUR_MS))


def test_whoever_follows_the_changes_knows_what_is_spent(plant: Plant) -> None:
    follower = FleetState()
    with plant.store.read() as view:
        follower.apply_all(*view.changes.load_all())
    first = plant.run(replace(spec(), time_limit_ms=HOUR_MS))
    with_budget(plant, 10)
    second = plant.run(replace(spec("second"), time_limit_ms=2 * HOUR_MS))
    steps = (
        lambda: None,
        lambda: plant.report(plant.ended(first)),
        lambda: with_budget(plant, 7, RADIOLOGY),
        lambda: plant.report(plant.ended(second)),
        lambda: declare(plant, *tenants()),
    )
    for step in steps:
        plant.now_ms += 10 * MINUTE_MS
        step()
        with plant.store.read() as view:
            feed = view.changes.since(follower.sequence, 1000)
            follower.apply_all(feed.sequence, feed.changes)
            fresh = FleetState()
            fresh.apply_all(*view.changes.load_all())
        assert derived(follower) == derived(fresh)
    with_budget(plant, 7)
    with plant.store.read() as view:
        fresh = FleetState()
        fresh.apply_all(*view.changes.load_all())
    assert sum(use.charged_gpu_ms for use in fresh.book.settlements()) == 60 * MINUTE_MS


def test_a_project_is_not_told_the_budget_above_it(plant: Plant) -> None:
    with_budget(plant, 100)
    with plant.store.read() as view:
        assert plant.control.budgets(view, EVE, None, plant.now_ms) == ()
        project = replace(ADA, tenant=RADIOLOGY)
        assert plant.control.budgets(view, project, None, plant.now_ms) == ()
    with_budget(plant, 7, RADIOLOGY)
    assert budget_of(plant, replace(ADA, tenant=RADIOLOGY)) == (0, 0, 420)
