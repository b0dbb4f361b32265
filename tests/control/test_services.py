"""Services: replicas that are started again, replaced, scaled and cancelled."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.restarts import ATTEMPTS_OF_REPLICA_MAX, BACK_OFF_MS
from scheduler.model.identity import Principal
from scheduler.model.ids import AttemptKey, JobId
from scheduler.model.job import TERMINAL, JobKind, JobSpec, JobState, Retries, TaskCounts
from scheduler.model.reasons import Reason, Refused
from scheduler.model.service import WITHOUT_END, Service
from scheduler.store.records import JobRow
from tests.control.plant import ADA, EVE, Plant, spec

ENDLESS = Retries(WITHOUT_END, WITHOUT_END)


def service(replicas: int, retries: Retries = ENDLESS) -> JobSpec:
    """A service of so many replicas of a GPU each."""
    asked = replace(spec("web"), kind=JobKind.SERVICE, service=Service(replicas))
    return replace(asked, retries=retries)


def replicas(plant: Plant, of: JobId) -> list[JobRow]:
    """The rows of its replicas, by number."""
    with plant.store.read() as view:
        rows = view.jobs.page(None, states=frozenset(), before=None, limit=1000, array=of)
    return sorted(rows, key=lambda row: row.task or 0)


def counts(plant: Plant, of: JobId) -> TaskCounts:
    """Its replicas, counted."""
    found = plant.job(of).tasks
    assert found is not None
    return found


def run_all(plant: Plant, of: JobId) -> list[JobRow]:
    """Places what waits and has it run; all that runs."""
    plant.cycle()
    plant.push()
    live = [row for row in replicas(plant, of) if row.state is JobState.PLACED]
    for row in live:
        plant.report(plant.running(AttemptKey(row.id, row.next_attempt - 1)))
    return [row for row in replicas(plant, of) if row.state is JobState.RUNNING]


def end(plant: Plant, row: JobRow, exit_code: int = 0) -> JobRow:
    """Its last attempt ends by itself; its row after that."""
    key = AttemptKey(row.id, row.next_attempt - 1)
    plant.report(plant.ended(key, exit_code=exit_code))
    return next(each for each in replicas(plant, row.array_id or row.id) if each.id == row.id)


def scale(plant: Plant, of: JobId, to: int, who: Principal = ADA) -> None:
    """Somebody wants another number of replicas."""
    name = plant.codec.encode(of)
    with plant.store.transaction() as txn:
        plant.control.scale(txn, who, name, to, plant.now_ms)


def test_all_replicas_run_and_are_told_which_they_are(plant: Plant) -> None:
    web = plant.submit(service(2))
    assert counts(plant, web) == TaskCounts(2, queued=2, ready=0)
    running = run_all(plant, web)
    assert counts(plant, web) == TaskCounts(2, live=2, ready=2)
    assert plant.job(web).shown_state() is JobState.RUNNING
    told: list[dict[str, str]] = []
    for row in running:
        launch = plant.push().rows[AttemptKey(row.id, 1)].launch
        assert launch is not None
        told.append({k: v for k, v in launch.env if k.startswith("SOV_")})
    name = plant.codec.encode(web)
    assert told == [{"SOV_REPLICA": str(n), "SOV_SERVICE_JOB_ID": name} for n in range(2)]
    plant.check()


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [(0, Reason.REPLICA_ENDED), (7, Reason.EXIT_NONZERO)],
    ids=["also one that ends well", "one that fails"],
)
def test_a_replica_that_ends_is_started_again_later_each_time(
    plant: Plant, exit_code: int, reason: Reason
) -> None:
    web = plant.submit(service(1))
    waits: list[int] = []
    for _ in range(3):
        (row,) = run_all(plant, web)
        row = end(plant, row, exit_code)
        assert (row.state, row.reason) == (JobState.QUEUED, reason)
        assert "started again in" in row.message
        waits.append(row.not_before_ms - plant.now_ms)
        assert run_all(plant, web) == []
        assert counts(plant, web) == TaskCounts(1, queued=1, ready=0)
        plant.now_ms = row.not_before_ms
    assert waits == [BACK_OFF_MS, 2 * BACK_OFF_MS, 4 * BACK_OFF_MS]
    assert plant.job(web).shown_state() is JobState.QUEUED
    plant.check()


def test_a_replica_gives_up_only_where_retries_say_so(plant: Plant) -> None:
    web = plant.submit(service(2, Retries(hardware=WITHOUT_END, application=1)))
    for left in (1, 0):
        first, *_ = run_all(plant, web)
        first = end(plant, first, 1)
        plant.now_ms = max(plant.now_ms, first.not_before_ms)
        assert counts(plant, web).failed == (0 if left else 1)
    run_all(plant, web)
    assert counts(plant, web) == TaskCounts(2, live=1, failed=1, ready=1)
    for _ in range(2):
        (other,) = run_all(plant, web) or [
            row for row in replicas(plant, web) if row.state is JobState.RUNNING
        ]
        other = end(plant, other, 1)
        plant.now_ms = max(plant.now_ms, other.not_before_ms)
    over = plant.job(web)
    assert (over.state, over.reason) == (JobState.FAILED, Reason.TASKS_FAILED)
    plant.check()


def test_a_replica_that_is_cancelled_is_replaced_by_another(plant: Plant) -> None:
    web = plant.submit(service(2))
    first, second = run_all(plant, web)
    plant.cancel(first.id)
    assert [row.task for row in replicas(plant, web)] == [0, 1]  # Not before it is over.
    plant.report(plant.ended(AttemptKey(first.id, 1), exit_code=143))
    rows = replicas(plant, web)
    assert [(row.task, row.state) for row in rows] == [
        (0, JobState.CANCELLED),
        (1, JobState.RUNNING),
        (2, JobState.QUEUED),
    ]
    assert [row.id for row in run_all(plant, web)] == [second.id, rows[2].id]
    plant.check()


def test_scaling_begins_and_cancels_the_youngest_and_zero_keeps_the_service(plant: Plant) -> None:
    web = plant.submit(service(1))
    run_all(plant, web)
    scale(plant, web, 3)
    assert counts(plant, web) == TaskCounts(3, queued=2, live=1, ready=1)
    run_all(plant, web)
    scale(plant, web, 1)
    leaving = [row for row in replicas(plant, web) if row.state is JobState.CANCELLING]
    assert [row.task for row in leaving] == [1, 2]
    for row in leaving:
        plant.report(plant.ended(AttemptKey(row.id, 1), exit_code=0))
    assert counts(plant, web) == TaskCounts(1, live=1, cancelled=2, ready=1)
    scale(plant, web, 0)
    (last,) = [row for row in replicas(plant, web) if row.state is JobState.CANCELLING]
    plant.report(plant.ended(AttemptKey(last.id, 1), exit_code=0))
    assert plant.job(web).state is JobState.QUEUED
    scale(plant, web, 2)
    assert len(run_all(plant, web)) == 2
    with plant.store.read() as view:
        scaled = [leaf for leaf in view.audit.all() if leaf.kind == "service_scaled"]
    assert [f'"to":{n}' in leaf.body for n, leaf in zip((3, 1, 0, 2), scaled, strict=True)]
    plant.check()


def test_only_its_tenant_scales_a_service_that_goes_on(plant: Plant) -> None:
    web, batch = plant.submit(service(1)), plant.submit(spec("train"))

    def refused(of: JobId, to: int, who: Principal = ADA) -> Reason:
        with pytest.raises(Refused) as caught:
            scale(plant, of, to, who)
        return caught.value.reason

    assert refused(web, 2, EVE) is Reason.NOT_FOUND
    assert refused(web, -1) is Reason.INVALID_ARGUMENT
    assert refused(web, 5_001) is Reason.INVALID_ARGUMENT
    assert refused(batch, 2) is Reason.ILLEGAL_TRANSITION
    plant.cancel(web)
    assert refused(web, 2) is Reason.ILLEGAL_TRANSITION


def test_a_cancelled_service_is_over_with_its_last_replica(plant: Plant) -> None:
    web = plant.submit(service(2))
    running = run_all(plant, web)
    plant.cancel(web)
    assert plant.job(web).shown_state() is JobState.CANCELLING
    for row in running:
        plant.report(plant.ended(AttemptKey(row.id, 1), exit_code=0))
    over = plant.job(web)
    assert (over.state, over.reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert [row.state for row in replicas(plant, web)] == [JobState.CANCELLED] * 2
    plant.check()


def test_a_worn_replica_is_replaced(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ATTEMPTS_OF_REPLICA_MAX > 100
    monkeypatch.setattr("scheduler.core.restarts.ATTEMPTS_OF_REPLICA_MAX", 2)
    web = plant.submit(service(1))
    for _ in range(2):
        (row,) = run_all(plant, web)
        row = end(plant, row, 1)
        plant.now_ms = max(plant.now_ms, row.not_before_ms)
    assert [(each.state, each.reason) for each in replicas(plant, web)] == [
        (JobState.FAILED, Reason.REPLICA_WORN),
        (JobState.QUEUED, None),
    ]
    assert len(run_all(plant, web)) == 1
    assert plant.job(web).shown_state() is JobState.RUNNING
    plant.check()


@given(st.lists(st.sampled_from(["run", "end", "fail", "cancel", "up", "down"]), max_size=12))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_there_are_ever_as_many_replicas_as_are_wanted(plant: Plant, acts: list[str]) -> None:
    web, wanted = plant.submit(service(2)), 2
    for act in acts:
        running = run_all(plant, web)
        if act in ("up", "down"):
            wanted = max(0, wanted + (1 if act == "up" else -1))
            scale(plant, web, wanted)
        elif running and act == "cancel":
            plant.cancel(running[0].id)
        elif running and act != "run":
            end(plant, running[0], exit_code=int(act == "fail"))
        for row in replicas(plant, web):
            if row.state is JobState.CANCELLING:
                end(plant, row, exit_code=143)
        plant.now_ms += 300_000
        staying = [row for row in replicas(plant, web) if row.state not in TERMINAL]
        assert len(staying) == wanted
        assert counts(plant, web).total == wanted
    plant.check()
    scale(plant, web, 0)
    plant.cancel(web)
