from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.lifecycle import (
    TABLE,
    Event,
    Outcome,
    lapsed,
    must_step,
    outcome,
    step,
)
from scheduler.core.restarts import BACK_OFF_MAX_MS, BACK_OFF_MS, back_off_ms
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import (
    HOLDS_NODES,
    TERMINAL,
    Attempt,
    Job,
    JobState,
    NodePlacement,
    Placement,
    RankCause,
    RankPhase,
    RankStatus,
    Resources,
    Retries,
)
from scheduler.model.reasons import Reason, Refused
from scheduler.model.sitelink import AttemptPhase, AttemptReport
from tests.core.builders import spec


def attempt(number: int, reason: Reason | None = None) -> Attempt:
    key = AttemptKey(JobId(1), number)
    placement = Placement(
        key,
        SiteId("london"),
        GpuClass("H100"),
        (NodePlacement(NodeId("london/n1"), 1), NodePlacement(NodeId("london/n2"), 1)),
        2000,
    )
    return Attempt(key, SiteId("london"), JobState.RUNNING, placement, reason=reason)


def job(
    state: JobState = JobState.RUNNING,
    *past: Reason,
    hardware: int = 3,
    application: int = 0,
) -> Job:
    attempts = [attempt(n + 1, reason) for n, reason in enumerate(past)]
    return Job(
        JobId(1),
        TenantPath("trust-a/radiology"),
        "ada",
        "train",
        state,
        spec(retries=Retries(hardware, application)),
        "",
        0,
        (*attempts, attempt(len(past) + 1)),
    )


def rank(
    number: int,
    cause: RankCause = RankCause.EXIT,
    code: int | None = 0,
    signal: int = 0,
    at_ms: int = 0,
) -> RankStatus:
    node = NodeId(f"london/n{number + 1}")
    return RankStatus(
        number, node, RankPhase.OVER, code, signal, cause, ended_at_ms=at_ms or number + 1
    )


def ended(*ranks: RankStatus) -> AttemptReport:
    return AttemptReport(AttemptKey(JobId(1), 1), AttemptPhase.ENDED, ranks)


def phase(of: AttemptPhase, reason: Reason | None = None) -> AttemptReport:
    return AttemptReport(AttemptKey(JobId(1), 1), of, reason=reason)


GOOD = rank(0)
STOPPED = rank(1, RankCause.STOP, None, 15)
FAILED = rank(1, code=3)
KILLED = rank(0, code=None, signal=9)


@pytest.mark.parametrize(
    ("of", "report", "want"),
    [
        pytest.param(job(), ended(GOOD, rank(1)), (JobState.SUCCEEDED, None, 0),
                     id="all ranks exit 0: it succeeded"),
        pytest.param(job(), ended(GOOD, FAILED), (JobState.FAILED, Reason.EXIT_NONZERO, 3),
                     id="one rank exits 3: it failed with 3"),
        pytest.param(job(), ended(KILLED, STOPPED), (JobState.FAILED, Reason.SIGNALLED, 137),
                     id="a rank killed by signal 9: 137 as in a shell"),
        pytest.param(job(), ended(rank(0, code=1, at_ms=9), rank(1, code=2, at_ms=5)),
                     (JobState.FAILED, Reason.EXIT_NONZERO, 2),
                     id="the rank that failed first tells why"),
        pytest.param(job(), ended(rank(0, code=1), rank(1, RankCause.LOST, None)),
                     (JobState.QUEUED, Reason.RANK_LOST, None),
                     id="a crash beside a lost rank is the infrastructure's fault"),
        pytest.param(job(), ended(rank(0, RankCause.TIME_LIMIT, None, 15), STOPPED),
                     (JobState.FAILED, Reason.TIME_LIMIT, 143), id="a time limit is final"),
        pytest.param(job(JobState.RUNNING, application=1), ended(FAILED, STOPPED),
                     (JobState.QUEUED, Reason.EXIT_NONZERO, 3),
                     id="a failure is tried again where the job says so"),
        pytest.param(job(JobState.RUNNING, Reason.EXIT_NONZERO, application=1),
                     ended(FAILED, STOPPED), (JobState.FAILED, Reason.EXIT_NONZERO, 3),
                     id="and only so often"),
        pytest.param(job(JobState.RUNNING, Reason.NODE_LOST, Reason.PREEMPTED, hardware=2),
                     phase(AttemptPhase.LOST), (JobState.QUEUED, Reason.NODE_LOST, None),
                     id="a preemption costs no retry"),
        pytest.param(job(JobState.RUNNING, Reason.NODE_LOST, Reason.NODE_LOST, hardware=2),
                     phase(AttemptPhase.LOST), (JobState.FAILED, Reason.RETRIES_EXHAUSTED, None),
                     id="retries for hardware faults end"),
        pytest.param(job(hardware=0), phase(AttemptPhase.LOST),
                     (JobState.FAILED, Reason.NODE_LOST, None),
                     id="with none to begin with the fault itself is told"),
        pytest.param(job(), phase(AttemptPhase.LOST, Reason.NODE_RUNTIME_LOST),
                     (JobState.QUEUED, Reason.NODE_RUNTIME_LOST, None),
                     id="the site's own reason is kept"),
        pytest.param(job(JobState.PLACED), phase(AttemptPhase.REFUSED),
                     (JobState.QUEUED, Reason.GUARD_REFUSED, None),
                     id="what the guard refused is planned again"),
        pytest.param(job(JobState.STARTING), phase(AttemptPhase.FAILED_TO_START),
                     (JobState.QUEUED, Reason.START_FAILED, None),
                     id="what could not start is planned again"),
        pytest.param(job(), ended(), (JobState.QUEUED, Reason.RANK_LOST, None),
                     id="an end without a rank proves nothing about the job"),
        pytest.param(job(JobState.CANCELLING), ended(GOOD, rank(1)),
                     (JobState.SUCCEEDED, None, 0),
                     id="cancelled too late: it had succeeded"),
        pytest.param(job(JobState.CANCELLING), ended(GOOD, FAILED),
                     (JobState.CANCELLED, Reason.CANCELLED, 3),
                     id="a failure under a cancel is a cancel"),
        pytest.param(job(JobState.CANCELLING), phase(AttemptPhase.LOST),
                     (JobState.CANCELLED, Reason.CANCELLED, None),
                     id="a cancelled job that is lost does not come back"),
        pytest.param(job(JobState.CANCELLING), phase(AttemptPhase.RUNNING), None,
                     id="a sign of life does not undo a cancel"),
        pytest.param(job(JobState.PREEMPTING), ended(STOPPED),
                     (JobState.QUEUED, Reason.PREEMPTED, None),
                     id="a preempted job waits again"),
        pytest.param(job(JobState.PREEMPTING), ended(GOOD, rank(1)),
                     (JobState.SUCCEEDED, None, 0), id="unless it was done"),
        pytest.param(job(JobState.PLACED), phase(AttemptPhase.ACCEPTED),
                     (JobState.STARTING, None, None), id="the site took it"),
        pytest.param(job(JobState.PLACED), phase(AttemptPhase.RUNNING),
                     (JobState.RUNNING, None, None), id="a step may go unseen"),
        pytest.param(job(JobState.RUNNING), phase(AttemptPhase.STARTING), None,
                     id="an old report takes nothing back"),
        pytest.param(job(JobState.LOST), phase(AttemptPhase.RUNNING),
                     (JobState.RUNNING, None, None), id="a site came back with it running"),
        pytest.param(job(JobState.SUCCEEDED), phase(AttemptPhase.RUNNING), None,
                     id="nothing happens to what is over"),
        pytest.param(job(JobState.QUEUED), phase(AttemptPhase.RUNNING), None,
                     id="nor to what waits for its next attempt"),
    ],
)  # fmt: skip
def test_outcomes(
    of: Job, report: AttemptReport, want: tuple[JobState, Reason | None, int | None] | None
) -> None:
    got = outcome(of, report)
    assert (got and (got.state, got.reason, got.exit_code)) == want


def test_every_outcome_is_a_move_of_the_table() -> None:
    reports = [ended(GOOD), ended(FAILED), ended(STOPPED), *(phase(p) for p in AttemptPhase)]
    for state in JobState:
        if state is JobState.UNSPECIFIED:
            continue
        for report in reports:
            got = outcome(job(state), report)
            assert got is None or TABLE[state, got.event] is got.state


def test_the_table_is_closed() -> None:
    for (before, _), after in TABLE.items():
        assert before not in TERMINAL
        assert after is not JobState.UNSPECIFIED
    reached = {after for after in TABLE.values()}
    assert reached | {JobState.QUEUED} == HOLDS_NODES | TERMINAL | {JobState.QUEUED}
    for state in HOLDS_NODES:
        assert any(step(state, event) in TERMINAL for event in Event), f"{state} can end"


def test_what_the_table_lacks_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        must_step(JobState.SUCCEEDED, Event.CANCEL)
    assert refused.value.reason is Reason.ILLEGAL_TRANSITION
    assert must_step(JobState.QUEUED, Event.CANCEL) is JobState.CANCELLED


def test_a_lapsed_lease_requeues_and_a_cancelled_job_is_done() -> None:
    got = lapsed(job(), Reason.LEASE_LAPSED, "silent")
    assert (got.state, got.back_off_ms, got.attempt_reason) == (
        JobState.QUEUED,
        BACK_OFF_MS,
        Reason.LEASE_LAPSED,
    )
    assert lapsed(job(JobState.CANCELLING), Reason.NODE_LOST, "").state is JobState.CANCELLED


def test_a_gang_that_lost_a_node_for_the_first_time_waits_for_nothing() -> None:
    alone = job()
    assert alone.spec is not None
    gang = replace(alone, spec=replace(alone.spec, resources=Resources(nodes=2)))
    lost = [lapsed(each, Reason.NODE_LOST, "booted anew") for each in (gang, alone)]
    assert [each.back_off_ms for each in lost] == [0, BACK_OFF_MS]
    assert lapsed(gang, Reason.LEASE_LAPSED, "silent").back_off_ms == BACK_OFF_MS


def test_a_job_whose_spec_was_erased_is_not_tried_again() -> None:
    got = outcome(replace(job(), spec=None), phase(AttemptPhase.LOST))
    assert isinstance(got, Outcome)
    assert got.state is JobState.FAILED
    assert got.ends_attempt()


def test_back_off_doubles_up_to_its_bound() -> None:
    waits = [back_off_ms(n) for n in range(20)]
    assert waits[:3] == [BACK_OFF_MS, 2 * BACK_OFF_MS, 4 * BACK_OFF_MS]
    assert waits == sorted(waits)
    assert waits[-1] == back_off_ms(1000) == BACK_OFF_MAX_MS
