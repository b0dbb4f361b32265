"""The life of a job without sockets: submitted, planned, applied, told, reported, forgotten."""

from dataclasses import replace

import pytest

from scheduler.control import outbox, reported
from scheduler.core.restarts import BACK_OFF_MS
from scheduler.model.ids import AttemptKey, JobId, node_id
from scheduler.model.job import JobState, RankCause, RankPhase
from scheduler.model.reasons import Reason, Refused
from scheduler.model.sitelink import AttemptPhase, AttemptReport, DesiredAction
from scheduler.store import outbox as store_outbox
from tests.control.plant import EVE, N01, N02, OLGA, Plant, reasons_of, spec
from tests.store.builders import LEEDS, LONDON, report


def test_a_job_goes_from_submission_to_success_and_is_forgotten(plant: Plant) -> None:
    job = plant.submit()
    assert plant.job(job).state is JobState.QUEUED
    assert [p.key.job for p in plant.cycle().kept] == [job]
    assert plant.job(job).state is JobState.PLACED

    key = AttemptKey(job, 1)
    told = plant.push().rows[key]
    assert told.action is DesiredAction.RUN
    assert told.launch is not None
    assert told.launch.command == ("python", "train.py")

    plant.report(AttemptReport(key, AttemptPhase.STARTING))
    assert plant.job(job).state is JobState.STARTING
    plant.report(plant.running(key))
    assert plant.job(job).state is JobState.RUNNING
    plant.report(plant.ended(key))

    done = plant.job(job)
    assert (done.state, done.exit_code, done.reason) == (JobState.SUCCEEDED, 0, None)
    assert done.attempts[0].ranks[0].exit_code == 0
    plant.settled(key)
    plant.check()


def test_a_gang_is_told_its_nodes_in_rank_order(plant: Plant) -> None:
    key = plant.run(spec(nodes=2, gpus=8))
    launch = plant.agents[LONDON].rows[key].launch
    assert launch is not None
    assert [placed.node for placed in launch.nodes] == [N01, N02]
    assert [placed.gpu_mask for placed in launch.nodes] == [0xFF, 0xFF]


def test_what_ended_frees_its_nodes_for_what_waits(plant: Plant) -> None:
    first = plant.run(spec(nodes=2, gpus=8))
    second = plant.submit(spec("next", nodes=2, gpus=8))
    assert plant.cycle().kept == ()
    plant.report(plant.ended(first))
    assert [p.key.job for p in plant.cycle().kept] == [second]
    plant.check()


def test_a_failed_job_has_its_exit_code_and_reason(plant: Plant) -> None:
    key = plant.run()
    plant.report(plant.ended(key, exit_code=3))
    job = plant.job(key.job)
    assert (job.state, job.exit_code, job.reason) == (JobState.FAILED, 3, Reason.EXIT_NONZERO)
    plant.settled(key)
    plant.check()


def test_a_job_killed_by_a_signal_says_so(plant: Plant) -> None:
    key = plant.run()
    plant.report(plant.ended(key, exit_code=None, signal=9))
    job = plant.job(key.job)
    assert (job.state, job.exit_code, job.reason) == (JobState.FAILED, 137, Reason.SIGNALLED)


def test_application_retries_run_out(plant: Plant) -> None:
    job = plant.submit(spec(application=1))
    for number in (1, 2):
        plant.cycle()
        plant.push()
        plant.report(plant.ended(AttemptKey(job, number), exit_code=1))
    found = plant.job(job)
    assert found.state is JobState.FAILED
    assert reasons_of(found) == [Reason.EXIT_NONZERO, Reason.EXIT_NONZERO]
    plant.check()


@pytest.mark.parametrize(
    ("phase", "reason", "expected"),
    [
        pytest.param(
            AttemptPhase.LOST, Reason.NODE_RUNTIME_LOST, Reason.NODE_RUNTIME_LOST, id="fenced"
        ),
        pytest.param(AttemptPhase.FAILED_TO_START, None, Reason.START_FAILED, id="not started"),
        pytest.param(AttemptPhase.REFUSED, None, Reason.GUARD_REFUSED, id="refused by the guard"),
    ],
)
def test_a_fault_of_the_hardware_requeues_after_a_back_off(
    plant: Plant, phase: AttemptPhase, reason: Reason | None, expected: Reason
) -> None:
    key = plant.run()
    plant.report(AttemptReport(key, phase, reason=reason, detail="gone"))
    job = plant.job(key.job)
    assert job.state is JobState.QUEUED
    assert job.not_before_ms == plant.now_ms + BACK_OFF_MS
    assert reasons_of(job) == [expected]
    assert plant.cycle().kept == ()
    plant.settled(key)

    plant.now_ms += BACK_OFF_MS
    again = plant.cycle().kept
    assert [p.key for p in again] == [AttemptKey(key.job, 2)]
    plant.push()
    plant.report(plant.ended(AttemptKey(key.job, 2)))
    assert plant.job(key.job).state is JobState.SUCCEEDED
    plant.check()


def test_hardware_retries_run_out(plant: Plant) -> None:
    job = plant.submit(spec(hardware=1))
    for number in (1, 2):
        plant.cycle()
        plant.push()
        lost = AttemptReport(AttemptKey(job, number), AttemptPhase.LOST, reason=Reason.NODE_LOST)
        plant.report(lost)
        plant.now_ms += BACK_OFF_MS
    found = plant.job(job)
    assert (found.state, found.reason) == (JobState.FAILED, Reason.RETRIES_EXHAUSTED)
    plant.check()


def test_reports_may_be_doubled(plant: Plant) -> None:
    key = plant.run()
    for _ in range(3):
        plant.report(plant.running(key))
    for _ in range(3):
        plant.report(plant.ended(key))
    assert plant.job(key.job).state is JobState.SUCCEEDED
    plant.settled(key)
    plant.check()


def test_a_late_report_of_life_does_not_bring_a_job_back(plant: Plant) -> None:
    key = plant.run()
    late = plant.agents[LONDON].generation
    plant.report(plant.ended(key))
    plant.report(plant.running(key), generation=late)
    assert plant.job(key.job).state is JobState.SUCCEEDED
    assert plant.action(key) is DesiredAction.FORGET
    plant.settled(key)


def test_the_end_may_be_the_first_that_is_heard(plant: Plant) -> None:
    job = plant.submit()
    plant.cycle()
    plant.push()
    key = AttemptKey(job, 1)
    plant.report(plant.ended(key))
    plant.report(AttemptReport(key, AttemptPhase.STARTING))
    assert plant.job(job).state is JobState.SUCCEEDED


def test_an_old_attempts_report_does_not_touch_the_new_one(plant: Plant) -> None:
    first = plant.run()
    plant.report(AttemptReport(first, AttemptPhase.LOST))
    plant.now_ms += BACK_OFF_MS
    plant.cycle()
    plant.push()
    plant.report(AttemptReport(first, AttemptPhase.LOST))
    plant.report(plant.ended(first))
    assert plant.job(first.job).state is JobState.PLACED
    assert plant.action(AttemptKey(first.job, 2)) is DesiredAction.RUN


def test_ranks_never_go_backwards(plant: Plant) -> None:
    key = plant.run(spec(nodes=2))
    over = replace(plant.ranks(key, RankPhase.OVER)[0], exit_code=0, cause=RankCause.EXIT)
    plant.report(AttemptReport(key, AttemptPhase.RUNNING, (over,)))
    plant.report(plant.running(key))
    assert [r.phase for r in plant.job(key.job).attempts[0].ranks] == [
        RankPhase.OVER,
        RankPhase.RUNNING,
    ]


def test_an_attempt_that_nobody_knows_is_stopped_and_then_forgotten(plant: Plant) -> None:
    unknown = AttemptKey(plant.submit(), 7)
    plant.report(AttemptReport(unknown, AttemptPhase.RUNNING))
    assert plant.action(unknown) is DesiredAction.STOP
    told = plant.push().rows[unknown]
    assert (told.action, told.launch) == (DesiredAction.STOP, None)
    plant.report(AttemptReport(unknown, AttemptPhase.ENDED))
    plant.settled(unknown)


def test_a_site_that_makes_attempts_up_does_not_fill_the_store(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reported, "ANSWERS_OF_REPORT_MAX", 2)
    monkeypatch.setattr(reported, "ANSWERS_OF_SITE_MAX", 3)
    key = plant.run()
    made_up = [AttemptReport(AttemptKey(JobId(900 + n), 1), AttemptPhase.ENDED) for n in range(5)]

    def rows() -> int:
        with plant.store.read() as view:
            return len(view.outbox.since(LONDON, 0))

    assert plant.report(*made_up).unanswered == 3
    assert rows() == 1 + 2
    assert [plant.report(*made_up).unanswered for _ in range(3)] == [2, 2, 2]
    assert rows() == 1 + 3
    plant.push()
    plant.report()  # It forgot them, so there is room for those that it still has.
    assert plant.report(*made_up[3:]).unanswered == 0
    plant.report(plant.ended(key))
    assert plant.job(key.job).state is JobState.SUCCEEDED
    plant.check()


def test_a_site_cannot_speak_for_another_sites_attempt(plant: Plant) -> None:
    plant.lay_out(LONDON, LEEDS)
    plant.connect(LEEDS)
    with plant.store.transaction() as txn:
        plant.control.cordon(txn, OLGA, LEEDS, "elsewhere please", plant.now_ms)
    key = plant.run()
    for _ in range(3):
        plant.report(plant.ended(key), at=LEEDS)
    assert plant.job(key.job).state is JobState.RUNNING
    with plant.store.read() as view:
        kinds = [leaf.kind for leaf in view.audit.all()]
    assert kinds.count("site_misreported") == 1


def test_ranks_on_nodes_that_are_not_the_attempts_are_not_believed(plant: Plant) -> None:
    key = plant.run()
    stray = replace(plant.ranks(key, RankPhase.OVER)[0], node=N02)
    heard = plant.report(AttemptReport(key, AttemptPhase.ENDED, (stray,)))
    assert heard.implausible == (key,)
    assert plant.job(key.job).state is JobState.RUNNING


def test_nodes_that_are_foreign_or_undeclared_are_named_and_ignored(plant: Plant) -> None:
    strange = report(node_id(LONDON, "n99"))
    foreign = report(node_id(LEEDS, "n01"))
    heard = plant.report(nodes=(strange, foreign))
    assert heard.undeclared == ("exch-london-1/n99",)
    assert heard.foreign_nodes == ("exch-leeds-1/n01",)


def test_a_site_that_lost_its_journal_is_told_everything_again(plant: Plant) -> None:
    key = plant.run()
    plant.agents[LONDON].generation = 0
    plant.agents[LONDON].rows.clear()
    plant.connect()
    assert plant.push().rows[key].action is DesiredAction.RUN


def test_a_site_that_is_ahead_of_a_restored_store_is_told_everything_anew(plant: Plant) -> None:
    key = plant.run()
    agent = plant.agents[LONDON]
    agent.generation = 50
    plant.connect()
    assert plant.push().generation == 51
    assert agent.rows[key].generation == 51


def test_large_specifications_reach_a_site_in_parts(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they would be more than it accepts, and nothing would ever reach it again."""
    monkeypatch.setattr(outbox, "BYTES_MAX", 250_000)
    monkeypatch.setattr(store_outbox, "ROWS_OF_GENERATION_MAX", 1)
    plant.run()  # What is asked for from the beginning on is never cut.
    large = replace(spec(), env=(("BLOB", "x" * 100_000),))
    jobs = [plant.submit(replace(large, name=f"large-{n}")) for n in range(5)]
    assert len(plant.cycle().kept) == 5
    told: list[int] = []
    agent = plant.agents[LONDON]
    while len(agent.rows) < 6:
        before = len(agent.rows)
        told.append(len(plant.push().rows) - before)
    assert told == [2, 2, 1]
    assert {AttemptKey(job, 1) for job in jobs} <= agent.rows.keys()
    with plant.store.read() as view:
        assert plant.control.desired(view, LONDON, agent.generation, plant.now_ms) == ()


def test_a_snapshot_that_is_too_large_comes_in_parts_that_fit(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one message it would be refused, and the site would be told nothing ever again."""
    monkeypatch.setattr(outbox, "BYTES_MAX", 250_000)
    large = replace(spec(), env=(("BLOB", "x" * 100_000),))
    jobs = [plant.submit(replace(large, name=f"large-{n}")) for n in range(5)]
    plant.cycle()
    with plant.store.read() as view:
        parts = plant.control.desired(view, LONDON, 0, plant.now_ms)
    assert [len(part.attempts) for part in parts] == [2, 2, 1]
    assert {(p.from_generation, p.to_generation, p.rows_total) for p in parts} == {
        (0, parts[0].to_generation, 5)
    }
    assert plant.push().rows.keys() == {AttemptKey(job, 1) for job in jobs}


def test_a_site_ahead_of_a_restored_store_is_told_in_messages_that_fit(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_outbox, "ROWS_OF_GENERATION_MAX", 2)
    for n in range(5):
        plant.submit(spec(f"job-{n}"))
    plant.cycle()
    agent = plant.agents[LONDON]
    agent.generation = 50
    plant.connect()
    with plant.store.read() as view:
        rows = view.outbox.since(LONDON, 50)
        assert sorted(row.generation for row in rows) == [51, 51, 52, 52, 53]
        assert view.fleet.contact(LONDON).generation == 53
    assert len(plant.push().rows) == 5


def test_a_stale_session_that_ends_does_not_disconnect_the_new_one(plant: Plant) -> None:
    plant.agents[LONDON].incarnation = "agent-2"
    plant.connect()
    with plant.store.transaction() as txn:
        plant.control.site_gone(txn, LONDON, "agent-1", plant.now_ms)
    with plant.store.read() as view:
        assert view.fleet.contact(LONDON).connected
    with plant.store.transaction() as txn:
        plant.control.site_gone(txn, LONDON, "agent-2", plant.now_ms)
    with plant.store.read() as view:
        assert not view.fleet.contact(LONDON).connected


def test_a_session_whose_end_could_not_be_written_is_found_to_be_over(plant: Plant) -> None:
    plant.lay_out(LONDON, LEEDS)
    plant.connect(LEEDS)
    plant.tick(present=[LEEDS])
    with plant.store.read() as view:
        assert not view.fleet.contact(LONDON).connected
        assert view.fleet.contact(LEEDS).connected
    plant.submit()
    assert [placed.site for placed in plant.cycle().kept] == [LEEDS]


def test_a_site_that_is_away_gets_no_new_work(plant: Plant) -> None:
    with plant.store.transaction() as txn:
        plant.control.site_gone(txn, LONDON, "agent-1", plant.now_ms)
    plant.submit()
    assert plant.cycle().kept == ()
    plant.connect()
    assert len(plant.cycle().kept) == 1


def test_a_new_leader_knows_everything_but_who_is_connected(plant: Plant) -> None:
    key = plant.run()
    waiting = plant.submit(spec("waits"))
    old = plant.store
    plant.open()
    with pytest.raises(Refused, match="another scheduler has taken over"):
        old.transaction().__enter__()
    assert plant.job(key.job).state is JobState.RUNNING
    assert plant.cycle().kept == ()
    plant.connect()
    assert [p.key.job for p in plant.cycle().kept] == [waiting]
    plant.report(plant.ended(key))
    assert plant.job(key.job).state is JobState.SUCCEEDED
    plant.check()
    old.close()


def test_a_deposed_leader_is_recognised_by_a_report(plant: Plant) -> None:
    plant.control.epoch -= 1
    with pytest.raises(Refused) as refused:
        plant.report()
    assert refused.value.reason is Reason.NOT_LEADER


def test_another_tenants_jobs_never_mix(plant: Plant) -> None:
    mine, theirs = plant.submit(), plant.submit(spec("x", "uni-b/physics"), EVE)
    kept = {p.key.job: p for p in plant.cycle().kept}
    assert kept[mine].nodes[0].node != kept[theirs].nodes[0].node
