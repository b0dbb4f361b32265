"""Jobs that wait for jobs: released, failed or refused, and all of it in the log."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.control import follow
from scheduler.model.ids import AttemptKey, JobId
from scheduler.model.job import Dependency, Job, JobSpec, JobState
from scheduler.model.reasons import Reason, Refused
from tests.control.plant import EVE, Plant, spec

ENDS = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


def waiting(
    plant: Plant, *needed: JobId, state: JobState = JobState.SUCCEEDED, name: str = "next"
) -> JobSpec:
    """A job that waits for others."""
    names = [plant.codec.encode(job) for job in needed]
    return replace(spec(name), depends_on=tuple(Dependency(each, state) for each in names))


def placed_now(plant: Plant) -> list[JobId]:
    """What one cycle places."""
    return [placement.key.job for placement in plant.cycle().kept]


def end(plant: Plant, job: JobId, state: JobState) -> None:
    """Brings a job to an end of its own."""
    if state is JobState.CANCELLED:
        plant.cancel(job)
    else:
        plant.cycle()
    plant.push()
    if plant.job(job).attempts:
        exit_code = 0 if state is JobState.SUCCEEDED else 1
        plant.report(plant.ended(AttemptKey(job, 1), exit_code=exit_code))
    assert plant.job(job).state is state


def shown(job: Job) -> tuple[JobState, Reason | None]:
    """Where a job is and why."""
    return job.state, job.reason


def test_a_job_waits_until_the_one_it_names_has_succeeded(plant: Plant) -> None:
    first = plant.submit()
    second = plant.submit(waiting(plant, first))
    assert [awaited.job for awaited in plant.job(second).waits_for] == [first]
    assert placed_now(plant) == [first]
    plant.push()
    plant.report(plant.running(AttemptKey(first, 1)))
    assert placed_now(plant) == []
    plant.report(plant.ended(AttemptKey(first, 1)))
    assert plant.job(second).waits_for == ()
    assert placed_now(plant) == [second]
    plant.check()


def test_all_that_a_job_names_must_come(plant: Plant) -> None:
    first, second = plant.submit(spec("a")), plant.submit(spec("b"))
    third = plant.submit(waiting(plant, first, second))
    end(plant, first, JobState.SUCCEEDED)
    assert plant.job(third).held
    end(plant, second, JobState.SUCCEEDED)
    assert not plant.job(third).held
    plant.check()


@pytest.mark.parametrize("wanted", ENDS, ids=lambda state: f"{state.name} is waited for")
@pytest.mark.parametrize("came", ENDS, ids=lambda state: f"{state.name} came")
def test_an_end_meets_its_own_state_and_fails_the_others(
    plant: Plant, wanted: JobState, came: JobState
) -> None:
    first = plant.submit()
    second = plant.submit(waiting(plant, first, state=wanted))
    end(plant, first, came)
    found = plant.job(second)
    if came is wanted:
        assert (found.state, found.held, found.waits_for) == (JobState.QUEUED, False, ())
    else:
        assert shown(found) == (JobState.FAILED, Reason.DEPENDENCY_FAILED)
        assert came.name in found.message
    plant.check()


def test_running_is_met_when_the_job_runs(plant: Plant) -> None:
    first = plant.submit()
    second = plant.submit(waiting(plant, first, state=JobState.RUNNING))
    plant.cycle()
    plant.push()
    assert plant.job(second).held
    plant.report(plant.running(AttemptKey(first, 1)))
    assert not plant.job(second).held


def test_running_is_met_by_a_success_that_was_never_seen_running(plant: Plant) -> None:
    first = plant.submit()
    second = plant.submit(waiting(plant, first, state=JobState.RUNNING))
    end(plant, first, JobState.SUCCEEDED)
    assert not plant.job(second).held


def test_running_never_comes_of_a_job_that_was_cancelled_in_the_queue(plant: Plant) -> None:
    first = plant.submit()
    second = plant.submit(waiting(plant, first, state=JobState.RUNNING))
    plant.cancel(first)
    assert shown(plant.job(second)) == (JobState.FAILED, Reason.DEPENDENCY_FAILED)


def test_a_failure_goes_down_the_whole_chain_at_once(plant: Plant) -> None:
    jobs = [plant.submit(spec("first"))]
    for n in range(5):
        jobs.append(plant.submit(waiting(plant, jobs[-1], name=f"step{n}")))
    mourner = plant.submit(waiting(plant, jobs[-1], state=JobState.FAILED, name="clean-up"))
    plant.cancel(jobs[0])
    for job in jobs[1:]:
        assert shown(plant.job(job)) == (JobState.FAILED, Reason.DEPENDENCY_FAILED)
    assert placed_now(plant) == [mourner]
    plant.check()


def test_what_is_met_at_submission_is_not_waited_for(plant: Plant) -> None:
    first = plant.submit()
    end(plant, first, JobState.SUCCEEDED)
    second = plant.submit(waiting(plant, first))
    assert placed_now(plant) == [second]


def test_what_can_never_come_is_refused_at_the_door(plant: Plant) -> None:
    first = plant.submit()
    plant.cancel(first)
    refused = plant.try_submit(waiting(plant, first)).refusal
    assert refused.reason is Reason.DEPENDENCY_FAILED
    assert refused.denials[0].subject == "depends_on[0]"


def test_unknown_and_foreign_jobs_are_faults_of_their_fields_and_tell_nothing(
    plant: Plant,
) -> None:
    foreign = plant.submit(spec("theirs", "uni-b/physics"), EVE)
    what = replace(
        spec(),
        depends_on=(
            Dependency("nobody", JobState.SUCCEEDED),
            Dependency(plant.codec.encode(foreign), JobState.SUCCEEDED),
            Dependency("nobody", JobState.PLACED),
        ),
    )
    with pytest.raises(Refused) as states:
        plant.submit(what)
    assert [d.subject for d in states.value.denials] == ["depends_on[2].state"]
    with pytest.raises(Refused) as caught:
        plant.submit(replace(what, depends_on=what.depends_on[:2]))
    assert [d.subject for d in caught.value.denials] == ["depends_on[0].job", "depends_on[1].job"]
    assert {d.reason for d in caught.value.denials} == {Reason.NOT_FOUND}


def test_a_job_that_waits_can_be_cancelled_and_is_not_released_later(plant: Plant) -> None:
    first = plant.submit()
    second = plant.submit(waiting(plant, first))
    plant.cancel(second)
    end(plant, first, JobState.SUCCEEDED)
    assert shown(plant.job(second)) == (JobState.CANCELLED, Reason.CANCELLED)
    plant.check()


def test_more_dependents_than_one_transaction_moves_are_moved_by_the_next_ticks(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow._Work, "__init__", _small(follow._Work.__init__))  # pyright: ignore[reportPrivateUsage]
    first = plant.submit()
    others = [plant.submit(waiting(plant, first, name=f"n{n}")) for n in range(7)]
    plant.cancel(first)
    assert sum(plant.job(job).state is JobState.FAILED for job in others) == 3
    for _ in range(3):
        plant.tick()
    assert all(plant.job(job).state is JobState.FAILED for job in others)
    with plant.store.read() as view:
        assert view.waits.follow_ups(10) == ()
    plant.check()


def _small(make: object) -> object:
    def init(self: object, *args: object) -> None:
        make(self, *args, left=3)  # type: ignore[operator]

    return init


@settings(max_examples=25)
@given(
    edges=st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from(ENDS)), max_size=12
    ),
    ends=st.lists(st.sampled_from(ENDS), min_size=8, max_size=8),
)
def test_any_graph_of_jobs_ends_as_its_states_say(
    edges: list[tuple[int, int, JobState]], ends: list[JobState]
) -> None:
    with TemporaryDirectory() as folder:
        plant = Plant(Path(folder) / "store.db")
        plant.lay_out()
        plant.connect()
        jobs: list[JobId] = []
        needs: list[list[tuple[int, JobState]]] = []
        for n in range(8):
            mine = sorted({(low, state) for low, high, state in edges if high == n and low < n})
            depends_on = tuple(
                Dependency(plant.codec.encode(jobs[low]), state) for low, state in mine
            )
            jobs.append(plant.submit(replace(spec(f"j{n}"), depends_on=depends_on)))
            needs.append(mine)
        final: list[JobState] = []
        for n, job in enumerate(jobs):
            doomed = any(final[low] is not state for low, state in needs[n])
            assert plant.job(job).held is bool(needs[n]) if doomed else not plant.job(job).held
            if not doomed:
                end(plant, job, ends[n])
            final.append(JobState.FAILED if doomed else ends[n])
        assert [plant.job(job).state for job in jobs] == final
        plant.check()
        plant.store.close()
