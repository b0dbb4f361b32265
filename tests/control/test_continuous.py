"""Running work is judged again when facts, policy or time change, and leaves if it may not stay."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scheduler.control.census import Enumerator
from scheduler.control.continuous import DEADLINE_MS
from scheduler.control.policies import Change
from scheduler.model.ids import AttemptKey
from scheduler.model.job import JobState, RankCause
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, FactKey, Party, Policy
from scheduler.model.rules import FactRule
from scheduler.model.sitelink import DesiredAction
from tests.control.plant import OLGA, Plant, spec
from tests.store.builders import LONDON, site

FOREIGN = Party("Foreign Fund", "US", 30_000)


def declare(plant: Plant, **changes: object) -> None:
    """The site's declaration changes; its nodes stay."""
    with plant.store.transaction() as txn:
        entry = next(entry for entry in txn.fleet.sites() if entry.site.id == LONDON)
        nodes = tuple(held.node for held in txn.fleet.nodes(LONDON))
        declared = replace(entry.site, **changes)  # type: ignore[arg-type]
        plant.control.apply_fleet(
            txn, OLGA, [(declared, nodes)], reason="news", dry_run=False, now_ms=plant.now_ms
        )


def expiring(plant: Plant, in_ms: int) -> None:
    """The fact on support desks ends."""
    facts = tuple(
        replace(fact, expires_at_ms=plant.now_ms + in_ms)
        if fact.key is FactKey.SUPPORT_DESK
        else fact
        for fact in site().facts
    )
    declare(plant, facts=facts)


def stopped(plant: Plant, key: AttemptKey) -> None:
    """The site says that all ranks were stopped."""
    plant.push()
    plant.report(plant.ended(key, cause=RankCause.STOP, exit_code=143))


def unpermitted(plant: Plant) -> int:
    """What the census says is still where it may not stay."""
    with plant.store.read() as view:
        return sum(each.unpermitted for each in Enumerator().take(view, plant.now_ms).sites)


def lost(plant: Plant) -> list[dict[str, object]]:
    """Bodies of the leaves that say that work may not stay."""
    with plant.store.read() as view:
        leaves = [leaf for leaf in view.audit.all() if leaf.kind == "residency_lost"]
    return [json.loads(leaf.body) for leaf in leaves]


def test_an_operator_that_comes_under_foreign_control_loses_the_work_it_runs(plant: Plant) -> None:
    key = plant.run()
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    declare(plant, parents=(FOREIGN,))
    plant.tick()
    job = plant.job(key.job)
    assert (job.state, job.reason) == (JobState.PREEMPTING, Reason.RESIDENCY_LOST)
    assert plant.action(key) is DesiredAction.STOP
    assert unpermitted(plant) == 1
    [leaf] = lost(plant)
    assert leaf["attempt"] == key.attempt
    assert [d["reason"] for d in leaf["denials"]] == ["FOREIGN_COMPULSION"]  # type: ignore[index]
    stopped(plant, key)
    assert unpermitted(plant) == 0
    job = plant.job(key.job)
    assert (job.state, job.reason) == (JobState.QUEUED, Reason.RESIDENCY_LOST)
    assert job.attempts[-1].reason is Reason.RESIDENCY_LOST
    assert plant.cycle().kept == ()
    declare(plant, parents=())
    assert [placed.key.job for placed in plant.cycle().kept] == [key.job]


def test_what_was_placed_and_has_not_started_is_stopped_as_well(plant: Plant) -> None:
    job = plant.submit()
    [placed] = plant.cycle().kept
    declare(plant, parents=(FOREIGN,))
    plant.tick()
    assert plant.job(job).state is JobState.PREEMPTING
    assert plant.action(placed.key) is DesiredAction.STOP


def test_a_stricter_policy_is_held_against_what_runs(plant: Plant) -> None:
    key = plant.run()
    plant.tick()
    plant.apply_policy(Policy(min_assurance=Assurance.MEASURED))
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING
    assert lost(plant)[0]["policy_revision"] == 2


def test_a_fact_that_expires_ends_what_relied_on_it_at_that_moment(plant: Plant) -> None:
    key = plant.run()
    expiring(plant, 60_000)
    plant.tick()
    plant.now_ms += 59_999
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    plant.now_ms += 1
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING


def test_a_fact_that_grows_too_old_for_the_work_alone_ends_it_at_that_moment(plant: Plant) -> None:
    observed_ms = next(f.observed_at_ms for f in site().facts if f.key is FactKey.SINKS)
    until_ms = plant.now_ms + 60_000
    rule = FactRule("sinks", Assurance.DECLARED, until_ms - observed_ms)
    asked = replace(spec().residency, facts=(rule,))
    plant.tick()
    key = plant.run(replace(spec(), residency=asked))
    other = plant.run(spec())
    plant.tick()
    plant.now_ms = until_ms
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    plant.now_ms += 1
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING
    assert plant.job(other.job).state is JobState.RUNNING


@pytest.mark.parametrize(("asked_ms", "given_ms"), [(45_000, 45_000), (3_600_000, DEADLINE_MS)])
def test_the_grace_is_the_jobs_own_cut_to_the_deadline(
    plant: Plant, asked_ms: int, given_ms: int
) -> None:
    what = spec("train")
    key = plant.run(replace(what, preemption=replace(what.preemption, grace_ms=asked_ms)))
    declare(plant, parents=(FOREIGN,))
    plant.tick()
    with plant.store.read() as view:
        row = view.outbox.get(LONDON, key)
    assert row is not None
    assert row.grace_ms == given_ms


def test_a_cancel_with_a_long_grace_is_held_to_the_deadline_too(plant: Plant) -> None:
    what = spec("train")
    key = plant.run(replace(what, preemption=replace(what.preemption, grace_ms=3_600_000)))
    plant.cancel(key.job)
    declare(plant, parents=(FOREIGN,))
    plant.tick()
    with plant.store.read() as view:
        row = view.outbox.get(LONDON, key)
    assert row is not None
    assert row.grace_ms == DEADLINE_MS
    assert plant.job(key.job).state is JobState.CANCELLING


def test_work_that_bears_the_change_stays(plant: Plant) -> None:
    what = spec("train")
    tolerant = replace(what.residency, tolerate_foreign_compulsion=("US",))
    key = plant.run(replace(what, residency=tolerant))
    declare(plant, parents=(FOREIGN,))
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
    assert lost(plant) == []


def test_a_turn_that_was_not_committed_is_repeated(plant: Plant) -> None:
    key = plant.run()
    plant.tick()
    declare(plant, parents=(FOREIGN,))

    class Lost(Exception):
        """The store went away."""

    def a_turn_without_a_commit() -> None:
        with plant.store.transaction() as txn:
            plant.control.tick(txn, {}, plant.now_ms, present=plant.agents.keys())
            raise Lost

    with pytest.raises(Lost):
        a_turn_without_a_commit()
    assert plant.job(key.job).state is JobState.RUNNING
    plant.tick()
    assert plant.job(key.job).state is JobState.PREEMPTING
    assert len(lost(plant)) == 1


def test_each_attempt_is_told_once(plant: Plant) -> None:
    plant.run()
    declare(plant, parents=(FOREIGN,))
    for _ in range(3):
        plant.tick()
    assert len(lost(plant)) == 1


def test_a_change_needs_a_policy_all_the_same(plant: Plant) -> None:
    """A policy that changes nothing for the work leaves it alone."""
    key = plant.run()
    change = Change(Policy(name="renamed"), "test", override="a test")
    with plant.store.transaction() as txn:
        plant.control.apply_policy(txn, OLGA, change, dry_run=False, now_ms=plant.now_ms)
    plant.tick()
    assert plant.job(key.job).state is JobState.RUNNING
