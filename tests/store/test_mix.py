"""What is usually asked for: learned by plans, kept by the store, told to followers."""

from dataclasses import replace

from scheduler.model.ids import GpuClass, SiteId
from scheduler.model.plan import MixChanged, MixEntry, SitePress
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
        assert view.mix.get() == MIX
        assert view.changes.since(start, limit=10).changes == (MIX,)
        assert [each for each in view.changes.load_all()[1] if each == MIX] == [MIX]
