"""What was learned of the work that comes: kept by the store, told to followers."""

from dataclasses import replace

from scheduler.model.ids import GpuClass, SiteId, TenantPath
from scheduler.model.plan import LengthsChanged, MixChanged, MixEntry, RunLengths, SitePress
from scheduler.store.apply import apply_plan
from scheduler.store.store import Store
from tests.store.builders import NOW_MS, lay_out, plan

MIX = MixChanged(
    (MixEntry(1000, 0, 1, 500, (), 1_000_000),),
    NOW_MS,
    (SitePress(SiteId("london"), GpuClass("H100"), -50_000),),
)


def test_a_mix_that_a_plan_learned_is_told_to_followers_old_and_new(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        start = view.changes.sequence()
        assert not [each for each in view.changes.load_all()[1] if isinstance(each, MixChanged)]
    with store.transaction() as txn:
        apply_plan(txn, replace(plan(), mix=MIX), NOW_MS)
    with store.read() as view:
        assert view.learned.mix() == MIX
        assert view.changes.since(start, limit=10).changes == (MIX,)
        assert [each for each in view.changes.load_all()[1] if each == MIX] == [MIX]


def test_how_long_jobs_run_is_told_to_followers_project_by_project(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        start = view.changes.sequence()
    both = [
        LengthsChanged(TenantPath(name), (RunLengths(0, (number, 2)),), NOW_MS)
        for number, name in enumerate(("trust-a/pathology", "trust-a/radiology"))
    ]
    with store.transaction() as txn:
        for lengths in both:
            txn.learned.put_lengths(lengths)
    with store.read() as view:
        assert view.learned.lengths(both[1].tenant) == both[1]
        assert view.learned.lengths(TenantPath("trust-b")) == LengthsChanged(TenantPath("trust-b"))
        assert view.changes.since(start, limit=10).changes == tuple(both)
        everything = view.changes.load_all()[1]
        assert [each for each in everything if isinstance(each, LengthsChanged)] == both


def test_nobody_has_run_where_nobody_was_placed(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        assert view.learned.runs(TenantPath("trust-a/radiology"), 10, NOW_MS) == []
