"""What the planner is told of its own plan is little, and what it makes of it is all there is."""

from collections.abc import Callable, Generator
from dataclasses import replace

import pytest

from scheduler.core.fleet import FleetState
from scheduler.core.invariants import derived
from scheduler.core.planner import DEFAULT_BUDGET
from scheduler.model.ids import AttemptKey, JobId
from scheduler.model.job import JobState
from scheduler.model.plan import JobChanged, Plan, PlanBorneOut, PlanBudget, PlanKept, Underway
from scheduler.runtime.planner_child import Follower
from scheduler.runtime.planner_talk import MakePlan, NotAhead
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


HANDED_OVER_MS = NOW_MS + 5


def planned(
    follower: Follower,
    number: int = NUMBER,
    *,
    budget: PlanBudget = DEFAULT_BUDGET,
    underway: Plan | None = None,
) -> Plan:
    """A plan for jobs that wait; `underway` is being committed meanwhile."""
    before = underway and Underway(underway.number, HANDED_OVER_MS)
    made = follower.answer(MakePlan(NOW_MS, budget, number, before))
    assert isinstance(made, Plan)
    assert made.number == number
    return made


def commit(store: Store, made: Plan, also: Callable[[Txn], None] | None = None) -> None:
    """The plan is applied, and in the same transaction something else happens."""
    with store.transaction() as txn:
        apply_plan(txn, made, HANDED_OVER_MS)
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
        applied = apply_plan(txn, made, HANDED_OVER_MS)
    assert applied.stale
    check_in_step(store, follower)
    with store.transaction() as txn:
        txn.fleet.put_report(report(lost), NOW_MS + 8)
    again = planned(follower, NUMBER + 1)
    stale = sorted(each.placement.key.job for each in applied.stale)
    assert sorted(placement.key.job for placement in again.placements) == stale


HALF = PlanBudget(placements_max=JOBS // 2)


def jobs_of(made: Plan) -> list[JobId]:
    return sorted(placement.key.job for placement in made.placements)


def borne_out(store: Store, follower: Follower) -> tuple[list[JobId], list[JobId]]:
    """As `told`, of what was presumed, when nothing is being committed any more."""
    with store.read() as view:
        own = follower.state.alarm.own(0)
        feed = view.changes.since(follower.state.sequence, 1000, own)
    right = [job for each in feed.changes if isinstance(each, PlanBorneOut) for job in each.jobs]
    whole = [change.id for change in feed.changes if isinstance(change, JobChanged)]
    return sorted(right), sorted(whole)


def check_presumed_in_step(store: Store, follower: Follower) -> None:
    """As `check_in_step`, when nothing is being committed any more."""
    follower.catch_up(0)
    check_in_step(store, follower)
    assert not any(each.jobs for each in follower.state.alarm.presumed.values())


def test_the_next_plan_is_made_while_one_is_committed(store: Store, follower: Follower) -> None:
    first = planned(follower, budget=HALF)
    second = planned(follower, NUMBER + 1, underway=first)
    assert len(jobs_of(first)) == len(jobs_of(second)) == JOBS // 2
    assert not set(jobs_of(first)) & set(jobs_of(second))
    commit(store, first)
    assert borne_out(store, follower) == (jobs_of(first), [])
    third = planned(follower, NUMBER + 2, underway=second)
    assert not third.placements
    with store.transaction() as txn:
        applied = apply_plan(txn, second, HANDED_OVER_MS)
    assert not applied.stale
    check_presumed_in_step(store, follower)


def test_of_a_plan_that_is_underway_more_may_be_asked_for(store: Store, follower: Follower) -> None:
    made = planned(follower)
    for number in (1, 2):  # Submissions come while it is committed.
        with store.transaction() as txn:
            queue(txn)
        again = planned(follower, NUMBER + number, underway=made)
        assert len(again.placements) == number
    commit(store, made)
    check_presumed_in_step(store, follower)


def test_what_was_presumed_in_vain_is_read_and_planned_again(
    store: Store, follower: Follower
) -> None:
    first = planned(follower, budget=HALF)
    second = planned(follower, NUMBER + 1, underway=first)
    lost = first.placements[0].nodes[0].node
    with store.transaction() as txn:
        txn.fleet.put_report(report(lost, gpus=0), NOW_MS + 1)
        applied = apply_plan(txn, first, HANDED_OVER_MS)
    assert applied.stale
    with store.transaction() as txn:
        txn.fleet.put_report(report(lost), NOW_MS + 8)
        held = apply_plan(txn, second, HANDED_OVER_MS)
    assert len(held.kept) == len(second.placements)
    again = planned(follower, NUMBER + 2)
    assert jobs_of(again) == sorted(each.placement.key.job for each in applied.stale)
    check_presumed_in_step(store, follower)


def test_a_plan_that_is_committed_as_of_another_moment_is_read_whole(
    store: Store, follower: Follower
) -> None:
    made = planned(follower)
    planned(follower, NUMBER + 1, underway=made)
    with store.transaction() as txn:
        apply_plan(txn, made, HANDED_OVER_MS + 1)
    assert borne_out(store, follower) == ([], jobs_of(made))
    check_presumed_in_step(store, follower)


def test_a_plan_that_was_never_committed_is_undone_with_what_rests_on_it(
    store: Store, follower: Follower
) -> None:
    first = planned(follower, budget=HALF)
    second = planned(follower, NUMBER + 1, underway=first)
    again = planned(follower, NUMBER + 2)
    assert jobs_of(again) == sorted(jobs_of(first) + jobs_of(second))
    check_presumed_in_step(store, follower)


def test_what_becomes_of_a_presumed_job_besides_is_read_whole(
    store: Store, follower: Follower
) -> None:
    made = planned(follower)
    gone, *others = jobs_of(made)
    planned(follower, NUMBER + 1, underway=made)
    commit(store, made, lambda txn: cancel(txn, gone))
    assert borne_out(store, follower) == (others, [gone])
    check_presumed_in_step(store, follower)


def test_nothing_is_planned_on_what_is_not_known_to_be_as_planned(
    store: Store, follower: Follower
) -> None:
    made = planned(follower)
    underway = Underway(made.number, HANDED_OVER_MS)
    with store.transaction() as txn:
        txn.jobs.touch(jobs_of(made)[0])
    follower.catch_up()  # Somebody asked why a job waits.
    ask = MakePlan(NOW_MS, PlanBudget(), NUMBER + 1, underway)
    assert follower.answer(ask) == NotAhead()
    assert Follower(ReadStore(store.url)).answer(ask) == NotAhead(), "another child"
    commit(store, made)
    assert not planned(follower, NUMBER + 2).placements
    check_presumed_in_step(store, follower)
