"""What the planner is told of its own plan is little, and what it makes of it is all there is."""

from collections.abc import Callable, Generator
from dataclasses import replace

import pytest

from scheduler.core.fleet import FleetState
from scheduler.core.invariants import derived
from scheduler.model.ids import AttemptKey, JobId
from scheduler.model.job import JobState
from scheduler.model.plan import JobChanged, Plan, PlanBudget, PlanKept
from scheduler.runtime.planner_child import Follower
from scheduler.runtime.planner_talk import MakePlan
from scheduler.store.apply import apply_plan
from scheduler.store.store import ReadStore, Store, Txn
from tests.store.builders import NOW_MS, lay_out, queue, report

JOBS = 6
NUMBER = 7


@pytest.fixture
def follower(store: Store) -> Generator[Follower]:
    with store.transaction() as txn:
        lay_out(txn)
        for _ in range(JOBS):
            queue(txn)
    reader = ReadStore(store.url)
    yield Follower(reader)
    reader.close()


def planned(follower: Follower, number: int = NUMBER) -> Plan:
    """A plan for all jobs that wait."""
    made = follower.answer(MakePlan(NOW_MS, PlanBudget(), number))
    assert isinstance(made, Plan)
    assert made.number == number
    return made


def commit(store: Store, made: Plan, also: Callable[[Txn], None] | None = None) -> None:
    """The plan is applied, and in the same transaction something else happens."""
    with store.transaction() as txn:
        apply_plan(txn, made, NOW_MS + 5)
        if also is not None:
            also(txn)


def cancel(txn: Txn, job: JobId) -> None:
    """A job that was just placed is cancelled."""
    row, attempt = txn.jobs.row(job), txn.attempts.row(AttemptKey(job, 1))
    assert row is not None
    assert attempt is not None
    over = attempt._replace(state=JobState.CANCELLED, live=False, ended_at_ms=NOW_MS + 6)
    txn.attempts.save(row.tenant, attempt, over)
    txn.jobs.save(row, row._replace(state=JobState.CANCELLED, ended_at_ms=NOW_MS + 6))


def check_in_step(store: Store, follower: Follower) -> None:
    """The follower is where one that reads everything is."""
    follower.catch_up()
    fresh = FleetState()
    with store.read() as view:
        sequence, changes = view.changes.load_all()
        fresh.apply_all(sequence, changes)
    assert follower.state.live == fresh.live
    assert derived(follower.state) == derived(fresh)


def told(store: Store, follower: Follower) -> tuple[list[JobId], list[JobId]]:
    """The jobs of which it is told that they are as planned, and those that are told whole."""
    with store.read() as view:
        feed = view.changes.since(follower.state.sequence, 1000, follower.state.alarm.own())
    kept = [job for change in feed.changes if isinstance(change, PlanKept) for job in change.jobs]
    whole = [change.id for change in feed.changes if isinstance(change, JobChanged)]
    return sorted(kept), sorted(whole)


def test_of_what_was_kept_as_planned_it_reads_nothing_again(
    store: Store, follower: Follower
) -> None:
    made = planned(follower)
    commit(store, made)
    jobs = sorted(placement.key.job for placement in made.placements)
    assert len(jobs) == JOBS
    assert told(store, follower) == (jobs, [])
    check_in_step(store, follower)
    assert not follower.state.alarm.pending
    assert not planned(follower, NUMBER + 1).placements


def test_what_happened_to_a_job_besides_is_read_whole(store: Store, follower: Follower) -> None:
    made = planned(follower)
    gone, *others = sorted(placement.key.job for placement in made.placements)
    commit(store, made, lambda txn: cancel(txn, gone))
    assert told(store, follower) == (others, [gone])
    check_in_step(store, follower)


def test_what_was_heard_of_a_job_before_its_plan_was_kept_counts(
    store: Store, follower: Follower
) -> None:
    made = planned(follower)
    touched, *others = sorted(placement.key.job for placement in made.placements)
    with store.transaction() as txn:
        txn.jobs.touch(touched)
    follower.catch_up()  # Somebody asked why a job waits.
    commit(store, made)
    assert told(store, follower) == (others, [touched])
    check_in_step(store, follower)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(NUMBER + 1, id="another plan's placements of the same jobs"),
        pytest.param(0, id="placements of a plan that has no number"),
    ],
)
def test_what_others_planned_is_read_whole(store: Store, follower: Follower, number: int) -> None:
    made = planned(follower)
    commit(store, replace(made, number=number))
    assert told(store, follower) == ([], sorted(p.key.job for p in made.placements))
    check_in_step(store, follower)


def test_an_older_plan_that_is_kept_after_a_newer_one_was_made_is_read_whole(
    store: Store, follower: Follower
) -> None:
    older = planned(follower)
    planned(follower, NUMBER + 1)
    commit(store, older)
    assert told(store, follower) == ([], sorted(p.key.job for p in older.placements))
    check_in_step(store, follower)


def test_what_was_not_kept_is_room_again(store: Store, follower: Follower) -> None:
    made = planned(follower)
    lost = made.placements[0].nodes[0].node
    with store.transaction() as txn:
        txn.fleet.put_report(report(lost, gpus=0), NOW_MS + 1)
        applied = apply_plan(txn, made, NOW_MS + 5)
    assert applied.stale
    check_in_step(store, follower)
    with store.transaction() as txn:
        txn.fleet.put_report(report(lost), NOW_MS + 8)
    again = planned(follower, NUMBER + 1)
    stale = sorted(each.placement.key.job for each in applied.stale)
    assert sorted(placement.key.job for placement in again.placements) == stale
