"""Nodes that fail, degrade or are not known: what becomes of their work, and of others'."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.control.failures import BREAKER_NODES_MIN
from scheduler.model.fleet import Health, NodeReport
from scheduler.model.ids import AttemptKey, NodeId, node_id
from scheduler.model.job import JobState, RankCause
from scheduler.model.reasons import Reason
from scheduler.model.sitelink import DesiredAction
from tests.control.plant import HOUR_MS, N01, N02, Plant, reasons_of, spec
from tests.store.builders import LEEDS, LONDON, report

WHY = "XID_79 GPU-1: GPU off the PCIe bus; restart_node"


def said(node: NodeId, health: Health = Health.FAILED, boot_id: str = "boot-1") -> NodeReport:
    return replace(report(node, boot_id=boot_id), health=health, health_detail=WHY)


def node_of(plant: Plant, key: AttemptKey) -> NodeId:
    with plant.store.read() as view:
        placement = view.attempts.placement(key)
    assert placement is not None
    return placement.nodes[0].node


def test_work_on_a_failed_node_is_stopped_at_once_and_runs_elsewhere(plant: Plant) -> None:
    key = plant.run(spec(gpus=8))
    failed = node_of(plant, key)
    plant.report(nodes=(said(failed),))
    job = plant.job(key.job)
    assert (job.state, job.reason) == (JobState.PREEMPTING, Reason.NODE_FAILED)
    assert WHY in job.message
    told = plant.push().rows[key]
    assert (told.action, told.stop_grace_ms) == (DesiredAction.STOP, 0)
    assert plant.cycle().kept == (), "not before every rank is over"
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.STOP, signal=9))
    job = plant.job(key.job)
    assert (job.state, reasons_of(job)) == (JobState.QUEUED, [Reason.NODE_FAILED])
    assert "retry 1 of 3" in job.message
    assert WHY in job.attempts[0].message
    plant.settled(key)
    plant.now_ms += HOUR_MS
    plant.cycle()
    assert node_of(plant, AttemptKey(key.job, 2)) == ({N01, N02} - {failed}).pop()
    plant.check()


def test_only_work_of_the_failed_node_is_touched(plant: Plant) -> None:
    first, second = plant.run(spec(gpus=8)), plant.run(spec(gpus=8))
    assert node_of(plant, first) != node_of(plant, second)
    plant.report(nodes=(said(node_of(plant, first)), report(node_of(plant, second))))
    assert plant.job(first.job).state is JobState.PREEMPTING
    assert plant.job(second.job).state is JobState.RUNNING
    assert plant.action(second) is DesiredAction.RUN


def test_a_gang_leaves_its_well_nodes_too(plant: Plant) -> None:
    key = plant.run(spec(nodes=2))
    plant.report(nodes=(said(N02),))
    assert plant.job(key.job).state is JobState.PREEMPTING
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.STOP, signal=9))
    assert reasons_of(plant.job(key.job)) == [Reason.NODE_FAILED]
    plant.check()


@pytest.mark.parametrize("exit_code", [1, 139])
def test_a_crash_on_a_failed_node_is_the_hardwares(plant: Plant, exit_code: int) -> None:
    key = plant.run(spec(application=0, hardware=1))
    plant.report(nodes=(said(node_of(plant, key)),))
    plant.report(plant.ended(key, exit_code=exit_code))
    job = plant.job(key.job)
    assert (job.state, reasons_of(job)) == (JobState.QUEUED, [Reason.NODE_FAILED])


def test_a_job_that_had_succeeded_has_succeeded(plant: Plant) -> None:
    key = plant.run()
    plant.report(nodes=(said(node_of(plant, key)),))
    plant.report(plant.ended(key))
    job = plant.job(key.job)
    assert (job.state, reasons_of(job)) == (JobState.SUCCEEDED, [None])
    plant.check()


def test_retries_for_hardware_are_used_up(plant: Plant) -> None:
    key = plant.run(spec(hardware=0))
    plant.report(nodes=(said(node_of(plant, key)),))
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.STOP, signal=9))
    job = plant.job(key.job)
    assert (job.state, job.reason) == (JobState.FAILED, Reason.NODE_FAILED)
    plant.check()


@pytest.mark.parametrize("health", [Health.DEGRADED, Health.UNKNOWN])
def test_work_on_a_node_that_is_not_well_finishes_and_none_is_added(
    plant: Plant, health: Health
) -> None:
    key = plant.run(spec(gpus=4))
    plant.report(nodes=(said(N01, health), said(N02, health)))
    assert plant.job(key.job).state is JobState.RUNNING
    assert plant.action(key) is DesiredAction.RUN
    plant.submit(spec("next", gpus=1))
    assert plant.cycle().kept == ()
    plant.report(plant.ended(key))
    assert plant.job(key.job).state is JobState.SUCCEEDED
    plant.report(nodes=(report(N01),))
    assert len(plant.cycle().kept) == 1


def test_saying_it_again_changes_nothing(plant: Plant) -> None:
    key = plant.run()
    for _ in range(3):
        plant.report(nodes=(said(node_of(plant, key)),))
    generation = plant.push().generation
    plant.report(nodes=(said(node_of(plant, key)),))
    assert plant.push().generation == generation
    with plant.store.read() as view:
        moves = [leaf for leaf in view.audit.all() if '"to":"PREEMPTING"' in leaf.body]
    assert len(moves) == 1
    assert WHY in moves[0].body


def test_a_job_that_is_cancelled_meanwhile_is_cancelled(plant: Plant) -> None:
    key = plant.run()
    plant.report(nodes=(said(node_of(plant, key)),))
    plant.cancel(key.job)
    plant.report(plant.ended(key, exit_code=None, cause=RankCause.STOP, signal=9))
    assert plant.job(key.job).state is JobState.CANCELLED
    plant.check()


def test_a_job_that_is_being_cancelled_keeps_its_grace(plant: Plant) -> None:
    key = plant.run()
    plant.cancel(key.job)
    plant.report(nodes=(said(node_of(plant, key)),))
    assert plant.job(key.job).state is JobState.CANCELLING
    assert plant.push().rows[key].stop_grace_ms == 30_000


def test_a_failed_node_that_boots_anew_ends_its_work_by_that(plant: Plant) -> None:
    key = plant.run()
    node = node_of(plant, key)
    plant.report(nodes=(said(node),))
    plant.report(nodes=(report(node, boot_id="boot-2"),))
    assert reasons_of(plant.job(key.job)) == [Reason.NODE_FAILED]
    assert plant.job(key.job).state is JobState.QUEUED
    plant.check()


def test_work_placed_while_the_report_was_under_way_leaves_with_the_next(plant: Plant) -> None:
    job = plant.submit()
    made = plant.plan()
    with plant.store.transaction() as txn:
        plant.control.apply_plan(txn, made, plant.now_ms)
    key = AttemptKey(job, 1)
    plant.report(nodes=(said(node_of(plant, key)),))
    assert plant.job(job).state is JobState.PREEMPTING
    assert plant.push().rows[key].action is DesiredAction.STOP


def test_a_sites_word_on_anothers_node_moves_nothing(plant: Plant) -> None:
    key = plant.run()
    plant.lay_out(LONDON, LEEDS)
    plant.connect(LEEDS)
    plant.report(at=LEEDS, nodes=(said(node_of(plant, key)),))
    assert plant.job(key.job).state is JobState.RUNNING


def test_where_most_of_a_site_says_it_failed_nothing_is_touched(plant: Plant) -> None:
    slots = tuple(f"n{number:02}" for number in range(1, 2 * BREAKER_NODES_MIN))
    plant.lay_out(slots=slots)
    plant.connect()
    key = plant.run(spec(nodes=len(slots), gpus=8))
    nodes = tuple(node_id(LONDON, slot) for slot in slots)
    plant.report(nodes=tuple(said(node) for node in nodes[:BREAKER_NODES_MIN]))
    assert plant.job(key.job).state is JobState.RUNNING
    plant.report(nodes=(report(nodes[0]), said(nodes[1])))
    assert plant.job(key.job).state is JobState.PREEMPTING, "a few are believed"
