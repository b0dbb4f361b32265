"""Arrays: unfolded as their tasks end, counted, cancelled, and ended by their tasks."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.control import arrays
from scheduler.control.views import find_job
from scheduler.model.ids import AttemptKey, JobId
from scheduler.model.job import Dependency, JobArray, JobSpec, JobState, TaskCounts
from scheduler.model.reasons import Reason, Refused
from scheduler.store.job_rows import Lines
from scheduler.store.records import JobRow
from tests.control.plant import ADA, EVE, LONDON, Plant, spec


def many(count: int, max_running: int = 0, gpus: int = 1) -> JobSpec:
    """An array."""
    return replace(spec("sweep", gpus=gpus), array=JobArray(count, max_running))


def tasks(plant: Plant, array: JobId) -> list[JobRow]:
    """The rows of its tasks, by number."""
    with plant.store.read() as view:
        rows = view.jobs.page(None, states=frozenset(), before=None, limit=1000, array=array)
    return sorted(rows, key=lambda row: row.task or 0)


def finish(plant: Plant, row: JobRow, exit_code: int = 0) -> None:
    """A placed task ends."""
    plant.push()
    plant.report(plant.ended(AttemptKey(row.id, 1), exit_code=exit_code))


def test_all_tasks_run_and_the_array_succeeds_with_the_last(plant: Plant) -> None:
    array = plant.submit(many(3))
    assert plant.job(array).tasks == TaskCounts(3, queued=3)
    assert len(plant.cycle().kept) == 3
    found = plant.job(array)
    assert (found.state, found.shown_state()) == (JobState.QUEUED, JobState.RUNNING)
    assert found.tasks == TaskCounts(3, live=3)
    for row in tasks(plant, array):
        assert plant.job(array).state is JobState.QUEUED
        finish(plant, row)
    done = plant.job(array)
    assert (done.state, done.exit_code, done.reason) == (JobState.SUCCEEDED, 0, None)
    assert done.tasks == TaskCounts(3, succeeded=3)
    plant.check()


def test_a_task_is_told_its_index(plant: Plant) -> None:
    array = plant.submit(many(2))
    plant.cycle()
    agent = plant.push()
    told: list[dict[str, str]] = []
    for row in tasks(plant, array):
        launch = agent.rows[AttemptKey(row.id, 1)].launch
        assert launch is not None
        told.append({k: v for k, v in launch.env if k.startswith("SOV_ARRAY")})
    name = plant.codec.encode(array)
    assert told == [
        {"SOV_ARRAY_COUNT": "2", "SOV_ARRAY_INDEX": str(n), "SOV_ARRAY_JOB_ID": name}
        for n in range(2)
    ]


def test_no_more_than_max_running_have_a_row_and_others_follow_as_they_end(plant: Plant) -> None:
    array = plant.submit(many(5, max_running=2))
    for done in range(4):
        rows = tasks(plant, array)
        assert len(rows) == min(5, done + 2)
        plant.cycle()
        finish(plant, rows[done])
    assert [row.task for row in tasks(plant, array)] == [0, 1, 2, 3, 4]
    plant.cycle()
    finish(plant, tasks(plant, array)[4])
    assert plant.job(array).state is JobState.SUCCEEDED
    plant.check()


def test_a_failed_task_fails_the_array_when_the_others_are_over(plant: Plant) -> None:
    array = plant.submit(many(3, max_running=1))
    for exit_code in (0, 7, 3):
        assert plant.job(array).state is JobState.QUEUED
        plant.cycle()
        (row,) = [row for row in tasks(plant, array) if row.state is JobState.PLACED]
        finish(plant, row, exit_code)
    found = plant.job(array)
    assert (found.state, found.reason, found.exit_code) == (
        JobState.FAILED,
        Reason.TASKS_FAILED,
        7,
    )
    assert found.message == "2 of 3 tasks failed"
    plant.check()


def test_cancelling_an_array_cancels_what_waits_and_stops_what_runs(plant: Plant) -> None:
    array = plant.submit(many(30, max_running=20))
    plant.cycle()  # 16 GPUs: 16 tasks are placed, 4 wait, 10 have no row.
    shown = plant.cancel(array)
    assert shown.shown_state() is JobState.CANCELLING
    states = [row.state for row in tasks(plant, array)]
    assert (states.count(JobState.CANCELLED), states.count(JobState.CANCELLING)) == (4, 16)
    plant.push()
    for row in tasks(plant, array):
        if row.state is JobState.CANCELLING:
            plant.report(plant.ended(AttemptKey(row.id, 1), exit_code=143))
    done = plant.job(array)
    assert (done.state, done.reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert len(tasks(plant, array)) == 20
    plant.check()


def test_an_array_that_has_not_begun_is_cancelled_at_once(plant: Plant) -> None:
    first = plant.submit()
    name = plant.codec.encode(first)
    array = plant.submit(replace(many(3), depends_on=(Dependency(name, JobState.SUCCEEDED),)))
    assert tasks(plant, array) == []
    assert plant.cancel(array).state is JobState.CANCELLED
    plant.check()


def test_an_array_waits_for_another_and_only_then_unfolds(plant: Plant) -> None:
    first = plant.submit(many(2))
    name = plant.codec.encode(first)
    second = plant.submit(replace(many(2), depends_on=(Dependency(name, JobState.SUCCEEDED),)))
    plant.cycle()
    for row in tasks(plant, first):
        assert tasks(plant, second) == []
        finish(plant, row)
    assert len(tasks(plant, second)) == 2
    assert len(plant.cycle().kept) == 2
    plant.check()


def test_one_task_can_be_named_cancelled_and_waited_for(plant: Plant) -> None:
    array = plant.submit(many(3, max_running=2))
    name = plant.codec.encode(array)
    after = plant.submit(
        replace(spec("after"), depends_on=(Dependency(f"{name}[1]", JobState.CANCELLED),))
    )
    with plant.store.transaction() as txn:
        plant.control.cancel(txn, ADA, f"{name}[1]", now=False, now_ms=plant.now_ms)
    assert not plant.job(after).held
    assert [row.task for row in tasks(plant, array)] == [0, 1, 2]
    with plant.store.read() as view:
        assert find_job(view, plant.codec, ADA, f"{name}[2]").task == 2
        assert find_job(view, plant.codec, ADA, "sweep[0]").task == 0
        for wrong, who in ((f"{name}[3]", ADA), (f"{name}[0]", EVE), ("after[0]", ADA)):
            with pytest.raises(Refused, match="not found"):
                find_job(view, plant.codec, who, wrong)
    plant.check()


def test_a_task_without_a_row_says_that_it_waits(plant: Plant) -> None:
    array = plant.submit(many(3, max_running=1))
    with plant.store.read() as view, pytest.raises(Refused) as caught:
        find_job(view, plant.codec, ADA, f"{plant.codec.encode(array)}[2]")
    assert caught.value.reason is Reason.BEHIND_OTHERS


def test_a_list_has_an_array_in_one_line_and_its_tasks_where_they_are_asked_for(
    plant: Plant,
) -> None:
    array = plant.submit(many(3))
    single = plant.submit()
    plant.cycle()
    with plant.store.read() as view:
        listed = plant.control.list(view, ADA, limit=10)
        assert [job.id for job in listed] == [single, array]
        name = plant.codec.encode(array)
        inside = plant.control.list(view, ADA, array=name, limit=10)
        assert [job.task for job in inside] == [2, 1, 0]
        placed = plant.control.list(view, ADA, states=frozenset({JobState.PLACED}), limit=10)
        assert {job.id for job in placed} == {single, *(job.id for job in inside)}
        every = plant.control.list(view, ADA, limit=10, lines=Lines.EVERY)
        assert len(every) == 5


def test_more_tasks_than_one_transaction_unfolds_follow_with_the_ticks(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "UNFOLD_MAX", 2_500)
    array = plant.submit(many(4_000))
    with plant.store.read() as view:
        assert view.jobs.open_task_count(array) == 1_000
    plant.tick()
    plant.tick()
    plant.tick()
    with plant.store.read() as view:
        assert view.jobs.open_task_count(array) == 2_500
        assert view.waits.follow_ups(10) == ()


def test_a_task_is_retried_by_itself(plant: Plant) -> None:
    array = plant.submit(replace(many(2), retries=replace(spec().retries, application=1)))
    plant.cycle()
    finish(plant, tasks(plant, array)[0], exit_code=1)
    states = [row.state for row in tasks(plant, array)]
    assert states == [JobState.QUEUED, JobState.PLACED]
    assert plant.job(array).state is JobState.QUEUED


@pytest.mark.parametrize("array", [JobArray(0), JobArray(100_001), JobArray(3, -1)])
def test_absurd_arrays_are_refused(plant: Plant, array: JobArray) -> None:
    with pytest.raises(Refused) as caught:
        plant.submit(replace(spec(), array=array))
    assert caught.value.denials[0].subject.startswith("array.")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.data())
def test_whatever_happens_the_bound_holds_and_every_task_has_its_turn(
    plant: Plant, data: st.DataObject
) -> None:
    count, bound = data.draw(st.integers(1, 12)), data.draw(st.integers(0, 4))
    array = plant.submit(many(count, bound))
    for _ in range(200):
        if plant.job(array).state is not JobState.QUEUED:
            break
        plant.cycle()
        rows = [row for row in tasks(plant, array) if row.state is JobState.PLACED]
        assert len(rows) <= (bound or count)
        finish(plant, data.draw(st.sampled_from(rows)), data.draw(st.integers(0, 1)))
    found = plant.job(array)
    assert found.tasks is not None
    assert [row.task for row in tasks(plant, array)] == list(range(count))
    assert found.tasks.succeeded + found.tasks.failed == count
    assert found.state is (JobState.FAILED if found.tasks.failed else JobState.SUCCEEDED)
    plant.check()
    assert plant.agents[LONDON].generation > 0
