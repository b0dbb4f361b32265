"""Jobs that are ended from outside: cancelled, lapsed, lost with their node, drained, fenced."""

from dataclasses import replace

import pytest

from scheduler.core.recovery import LAPSE_AFTER_MS, LEASE_GRACE_MS
from scheduler.model.ids import AttemptKey
from scheduler.model.job import JobState, Preemption, RankCause
from scheduler.model.reasons import Reason, Refused
from scheduler.model.sitelink import AttemptPhase, AttemptReport, DesiredAction
from scheduler.store.store import Txn
from tests.control.plant import ADA, EVE, HOUR_MS, N01, N02, OLGA, Plant, reasons_of, spec
from tests.store.builders import LONDON, report


def test_a_queued_job_is_cancelled_at_once(plant: Plant) -> None:
    job = plant.submit()
    done = plant.cancel(job)
    assert (done.state, done.reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert plant.cycle().kept == ()
    plant.check()


def test_a_plan_made_before_a_cancel_does_not_place_the_job(plant: Plant) -> None:
    job = plant.submit()
    made = plant.plan()
    plant.cancel(job)
    with plant.store.transaction() as txn:
        applied = plant.control.apply_plan(txn, made, plant.now_ms)
    assert len(applied.stale) == 1
    assert plant.job(job).state is JobState.CANCELLED


def test_a_placed_job_that_never_started_is_cancelled_when_its_site_says_so(plant: Plant) -> None:
    job = plant.submit()
    plant.cycle()
    assert plant.cancel(job).state is JobState.CANCELLING
    key = AttemptKey(job, 1)
    assert plant.push().rows[key].action is DesiredAction.STOP
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.NEVER_STARTED))
    assert plant.job(job).state is JobState.CANCELLED
    plant.settled(key)
    plant.check()


def test_a_running_job_gets_its_grace_and_then_none(plant: Plant) -> None:
    key = plant.run()
    assert plant.cancel(key.job).state is JobState.CANCELLING
    assert plant.push().rows[key].stop_grace_ms == 30_000
    generation = plant.agents[LONDON].generation
    plant.cancel(key.job)
    assert plant.push().generation == generation
    for _ in range(2):
        plant.cancel(key.job, now=True)
    assert plant.push().rows[key].stop_grace_ms == 0
    with plant.store.read() as view:
        (leaf,) = [leaf for leaf in view.audit.all() if leaf.kind == "stop_hastened"]
    assert f'"by":"{ADA.path}"' in leaf.body
    assert '"grace_ms_before":30000' in leaf.body
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.STOP, signal=9))
    job = plant.job(key.job)
    assert (job.state, job.exit_code) == (JobState.CANCELLED, 137)
    plant.settled(key)
    plant.check()


def test_a_job_that_succeeded_before_its_stop_has_succeeded(plant: Plant) -> None:
    key = plant.run()
    plant.cancel(key.job)
    plant.report(plant.ended(key))
    assert plant.job(key.job).state is JobState.SUCCEEDED


@pytest.mark.parametrize("exit_code", [0, 1])
def test_cancelling_what_is_over_changes_nothing(plant: Plant, exit_code: int) -> None:
    key = plant.run()
    plant.report(plant.ended(key, exit_code=exit_code))
    before = plant.job(key.job)
    assert plant.cancel(key.job) == before


def test_a_cancelled_job_is_not_requeued_when_its_node_is_lost(plant: Plant) -> None:
    key = plant.run()
    plant.cancel(key.job)
    plant.report(AttemptReport(key, AttemptPhase.LOST, reason=Reason.NODE_LOST))
    assert plant.job(key.job).state is JobState.CANCELLED


def test_nobody_else_can_cancel(plant: Plant) -> None:
    job = plant.submit()
    with pytest.raises(Refused) as refused:
        plant.cancel(job, who=EVE)
    assert refused.value.reason is Reason.NOT_FOUND
    assert plant.job(job).state is JobState.QUEUED


def test_a_lease_lapses_after_its_length_grace_and_margin(plant: Plant) -> None:
    key = plant.run(spec(leased=True))
    assert plant.tick({LONDON: LAPSE_AFTER_MS}) == 0
    assert plant.tick({LONDON: LAPSE_AFTER_MS + 1}) == 1
    job = plant.job(key.job)
    assert (job.state, reasons_of(job)) == (JobState.QUEUED, [Reason.LEASE_LAPSED])
    assert plant.push().rows[key].action is DesiredAction.STOP
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.LEASE))
    plant.settled(key)
    plant.check()


def test_a_lapsed_lease_waits_for_all_of_a_longer_grace(plant: Plant) -> None:
    """Its shim may let it run that long, so another attempt must not begin before."""
    what = replace(spec(leased=True), preemption=Preemption(grace_ms=10 * LEASE_GRACE_MS))
    key = plant.run(what)
    launch = plant.agents[LONDON].rows[key].launch
    assert launch is not None
    assert launch.stop_grace_ms == 10 * LEASE_GRACE_MS
    over_ms = LAPSE_AFTER_MS + 9 * LEASE_GRACE_MS
    assert plant.tick({LONDON: LAPSE_AFTER_MS + 1}) == 0
    assert plant.tick({LONDON: over_ms}) == 0
    assert plant.job(key.job).state is JobState.RUNNING
    assert plant.tick({LONDON: over_ms + 1}) == 1
    assert plant.job(key.job).state is JobState.QUEUED


def test_work_without_a_lease_waits_for_its_site(plant: Plant) -> None:
    key = plant.run()
    assert plant.tick({LONDON: 100 * LAPSE_AFTER_MS}) == 0
    assert plant.job(key.job).state is JobState.RUNNING


def test_a_new_boot_of_every_node_ends_the_attempt(plant: Plant) -> None:
    key = plant.run(spec(nodes=2))
    plant.report(nodes=(report(N01, boot_id="boot-2"),))
    assert plant.job(key.job).state is JobState.RUNNING
    assert plant.action(key) is DesiredAction.STOP
    plant.report(nodes=(report(N02, boot_id="boot-2"),))
    job = plant.job(key.job)
    assert (job.state, reasons_of(job)) == (JobState.QUEUED, [Reason.NODE_LOST])
    plant.check()


def test_a_boot_before_the_attempt_was_seen_running_proves_nothing(plant: Plant) -> None:
    job = plant.submit()
    plant.cycle()
    plant.push()
    key = AttemptKey(job, 1)
    with plant.store.read() as view:
        placement = view.attempts.placement(key)
    assert placement is not None
    plant.report(nodes=(report(placement.nodes[0].node, boot_id="boot-2"),))
    assert plant.job(job).state is JobState.PLACED
    assert plant.action(key) is DesiredAction.RUN
    plant.report(plant.running(key))
    plant.report(nodes=(report(placement.nodes[0].node, boot_id="boot-3"),))
    assert plant.job(job).state is JobState.QUEUED


def fence(plant: Plant, *nodes: str) -> int:
    """An operator's word on one node after the other."""
    with plant.store.transaction() as txn:
        return sum(
            plant.control.fence(txn, OLGA, node, "it burnt", plant.now_ms)  # type: ignore[arg-type]
            for node in nodes
        )


def test_an_operators_word_ends_what_was_on_the_node(plant: Plant) -> None:
    key = plant.run(spec(nodes=2))
    assert fence(plant, N01) == 0
    assert plant.job(key.job).state is JobState.RUNNING
    assert fence(plant, N02) == 1
    job = plant.job(key.job)
    assert (job.state, reasons_of(job)) == (JobState.QUEUED, [Reason.OPERATOR_FENCE])
    plant.now_ms += HOUR_MS
    assert plant.cycle().kept == (), "fenced nodes are closed"
    with plant.store.read() as view:
        leaves = [leaf for leaf in view.audit.all() if leaf.kind == "fenced"]
    assert len(leaves) == 2
    assert '"by":"/operator/olga"' in leaves[0].body
    plant.check()


def test_what_the_site_reports_after_a_fence_is_about_the_past(plant: Plant) -> None:
    key = plant.run()
    with plant.store.read() as view:
        placement = view.attempts.placement(key)
    assert placement is not None
    assert fence(plant, placement.nodes[0].node) == 1
    plant.report(plant.running(key))
    assert plant.job(key.job).state is JobState.QUEUED
    assert plant.action(key) is DesiredAction.STOP
    plant.report(plant.ended(key))
    plant.settled(key)


def drain(plant: Plant, target: str, deadline_ms: int) -> int:
    """An operator empties something."""

    def act(txn: Txn) -> int:
        return plant.control.drain(
            txn,
            OLGA,
            target,  # type: ignore[arg-type]
            "new fans",
            deadline_ms,
            plant.now_ms,
        )

    with plant.store.transaction() as txn:
        return act(txn)


@pytest.mark.parametrize("target", [LONDON, N01])
def test_a_drain_with_a_deadline_makes_work_leave_then(plant: Plant, target: str) -> None:
    key = plant.run(spec(nodes=2))
    assert drain(plant, target, HOUR_MS) == 1
    assert plant.tick() == 0
    plant.now_ms += HOUR_MS
    assert plant.tick() == 1
    assert plant.tick() == 0
    assert plant.job(key.job).state is JobState.PREEMPTING
    assert plant.push().rows[key].action is DesiredAction.STOP
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.STOP, signal=15))
    job = plant.job(key.job)
    assert (job.state, reasons_of(job)) == (JobState.QUEUED, [Reason.PREEMPTED])
    assert job.not_before_ms == plant.now_ms
    plant.check()


def test_a_drain_without_a_deadline_lets_work_finish(plant: Plant) -> None:
    key = plant.run()
    assert drain(plant, LONDON, 0) == 1
    plant.now_ms += 100 * HOUR_MS
    assert plant.tick() == 0
    plant.submit(spec("later"))
    assert plant.cycle().kept == ()
    plant.report(plant.ended(key))
    assert plant.job(key.job).state is JobState.SUCCEEDED


def test_a_cordon_is_lifted_again_and_calls_a_drain_off(plant: Plant) -> None:
    key = plant.run()
    drain(plant, LONDON, HOUR_MS)
    with plant.store.transaction() as txn:
        plant.control.uncordon(txn, OLGA, LONDON, "fans are in", plant.now_ms)
    plant.now_ms += 2 * HOUR_MS
    assert plant.tick() == 0
    assert plant.job(key.job).state is JobState.RUNNING
    plant.submit(spec("later"))
    assert len(plant.cycle().kept) == 1


@pytest.mark.parametrize("target", ["exch-paris-1", "exch-london-1/n99"])
def test_what_is_not_declared_cannot_be_drained(plant: Plant, target: str) -> None:
    with pytest.raises(Refused) as refused:
        drain(plant, target, 0)
    assert refused.value.reason is Reason.NOT_FOUND
