"""The life of a job: one table of moves, and how the end of an attempt is read.

`TABLE` has every legal (state, event); whatever is not in it is refused. Events are what was
established, not what was asked for, so messages may be lost, doubled or overtake one another: a
job that runs need never have been seen starting.

Choices where people could expect different things:

* A cancelled job that had already succeeded has succeeded: when every rank ended by itself with
  exit code 0 before the stop reached it. Anything else that ends under a cancel is CANCELLED,
  whatever its exit code, as with Slurm's scancel.
* A preempted job that succeeded has succeeded too; anything else that ends while it is being
  preempted goes back to the queue, free of charge to its retries. One that is made to leave a node
  whose hardware failed moves in the same way, and counts as a fault of the hardware.
* LOST holds the nodes: the site may still run it. It ends by proof (an exit, a fence, a lapsed
  lease), or by the site coming back with the job still running.
* A cancel of a LOST job waits for the same proof.
* A rank that failed by itself tells whose fault it was only where no rank met a fault of the
  infrastructure: ranks of a gang crash when they lose a peer.
* A time limit is final, as in Slurm: running it again would meet the limit again.
* A replica of a service is never done: whatever ends it by itself, code 0 and its time limit too,
  it is started again, by `restarts`. Its time limit is how long one run of it may last.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scheduler.core.restarts import back_off_ms, has_lasted, is_replica, is_worn, short_runs
from scheduler.model.job import TERMINAL, Attempt, Job, JobState, RankCause, RankStatus, Retries
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.model.service import WITHOUT_END
from scheduler.model.sitelink import AttemptPhase, AttemptReport

SIGNAL_EXIT_BASE = 128
"""The exit code of a job that signal n ended is 128 + n, as in a shell."""


class Event(StrEnum):
    """What was established about a job."""

    PLACED = "placed"
    STARTING = "starting"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCEL = "cancel"
    STOPPED = "stopped"
    PREEMPT = "preempt"
    LOST = "lost"
    REQUEUED = "requeued"
    TASKS_SUCCEEDED = "tasks succeeded"


_OVER = {Event.SUCCEEDED: JobState.SUCCEEDED, Event.FAILED: JobState.FAILED}
_AWAY = {Event.CANCEL: JobState.CANCELLING, Event.REQUEUED: JobState.QUEUED}
_LIVE = {**_OVER, **_AWAY, Event.LOST: JobState.LOST, Event.PREEMPT: JobState.PREEMPTING}

_MOVES: dict[JobState, dict[Event, JobState]] = {
    JobState.QUEUED: {
        Event.PLACED: JobState.PLACED,
        Event.CANCEL: JobState.CANCELLED,
        # Attempts may prove impossible before one starts: its spec was erased, a job that it waits
        # for failed. An array never leaves the queue otherwise: its tasks do that.
        Event.FAILED: JobState.FAILED,
        Event.TASKS_SUCCEEDED: JobState.SUCCEEDED,
    },
    JobState.PLACED: {
        **_LIVE,
        Event.STARTING: JobState.STARTING,
        Event.STARTED: JobState.RUNNING,
    },
    JobState.STARTING: {**_LIVE, Event.STARTED: JobState.RUNNING},
    JobState.RUNNING: _LIVE,
    JobState.PREEMPTING: {**_OVER, **_AWAY, Event.LOST: JobState.LOST},
    JobState.CANCELLING: {**_OVER, Event.STOPPED: JobState.CANCELLED},
    JobState.LOST: {
        **_OVER,
        **_AWAY,
        Event.STARTING: JobState.STARTING,
        Event.STARTED: JobState.RUNNING,
    },
}

TABLE: dict[tuple[JobState, Event], JobState] = {
    (state, event): after for state, moves in _MOVES.items() for event, after in moves.items()
}
"""Every legal move. Terminal states have none."""


def step(state: JobState, event: Event) -> JobState | None:
    """The state after `event`, or None where the table has no such move."""
    return TABLE.get((state, event))


def must_step(state: JobState, event: Event) -> JobState:
    """The state after `event`; refuses what the table does not have."""
    after = step(state, event)
    if after is None:
        message = f"a job that is {state.name} cannot become {event.value}"
        raise Refused(Code.FAILED_PRECONDITION, Reason.ILLEGAL_TRANSITION, message)
    return after


HARDWARE_REASONS = frozenset(
    {
        Reason.LEASE_LAPSED,
        Reason.NODE_RUNTIME_LOST,
        Reason.NODE_LOST,
        Reason.NODE_FAILED,
        Reason.RANK_LOST,
        Reason.START_FAILED,
        Reason.GUARD_REFUSED,
        Reason.GRANT_REFUSED,
        Reason.DATA_MISSING,
        Reason.IMAGE_UNAVAILABLE,
        Reason.OPERATOR_FENCE,
    }
)
"""Ends of an attempt that are not the job's fault: `retries.hardware` counts these."""


APPLICATION_REASONS = frozenset({Reason.EXIT_NONZERO, Reason.SIGNALLED})
"""Ends that `retries.application` counts."""

REPLICA_REASONS = HARDWARE_REASONS | APPLICATION_REASONS | {Reason.REPLICA_ENDED}
"""Ends of a replica after which it backs off."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a report makes of a job. `attempt_reason` says how the attempt ended, None: it goes on;
    `reason` says why the job is where it is. `exit_code` only where a rank told one."""

    event: Event
    state: JobState
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    attempt_reason: Reason | None = None
    back_off_ms: int = 0

    def ends_attempt(self) -> bool:
        """Whether nothing of the attempt runs any more."""
        return self.state in TERMINAL or self.state is JobState.QUEUED


def outcome(job: Job, report: AttemptReport) -> Outcome | None:
    """What `report` on the current attempt of `job` means. None: nothing that is not known yet.

    The caller matches the report's key against the job's last attempt first; a report on any
    other attempt is about the past.
    """
    if job.state in TERMINAL or job.state is JobState.QUEUED:
        return None
    match report.phase:
        case AttemptPhase.UNSPECIFIED | AttemptPhase.STOPPING:
            return None
        case AttemptPhase.ACCEPTED | AttemptPhase.STARTING:
            return _progress(job, Event.STARTING)
        case AttemptPhase.RUNNING:
            return _progress(job, Event.STARTED)
        case AttemptPhase.ENDED:
            return _ended(job, report)
        case AttemptPhase.REFUSED:
            if report.reason is Reason.KEY_WITHHELD:
                return _withheld(job, report.detail)
            detail = report.detail or "the site's guard refused it"
            return _fault(job, _hardware_reason(report, Reason.GUARD_REFUSED), detail)
        case AttemptPhase.FAILED_TO_START:
            detail = report.detail or "it could not be started"
            return _fault(job, _hardware_reason(report, Reason.START_FAILED), detail)
        case AttemptPhase.LOST:
            detail = report.detail or "its node was lost and is fenced"
            return _fault(job, _hardware_reason(report, Reason.NODE_LOST), detail)


def lapsed(job: Job, reason: Reason, detail: str) -> Outcome:
    """The current attempt is certainly over, although its site did not say so.

    A lapsed lease, a node's new boot id, or an operator's word that a node is fenced.
    """
    assert reason in HARDWARE_REASONS, "only faults of the infrastructure end an attempt unheard"
    return _fault(job, reason, detail)


def _progress(job: Job, event: Event) -> Outcome | None:
    """A sign of life. What is being stopped stays so; a step back is an old report."""
    after = step(job.state, event)
    if after is None or after is job.state:
        return None
    return Outcome(event, after)


def _ended(job: Job, report: AttemptReport) -> Outcome:
    ranks = sorted(report.ranks, key=lambda rank: (rank.ended_at_ms, rank.rank))
    is_done = bool(ranks) and all(_succeeded(rank) for rank in ranks)
    if is_done and not is_replica(job):
        return Outcome(Event.SUCCEEDED, _after(job, Event.SUCCEEDED), exit_code=0)
    if job.state is JobState.CANCELLING:
        return _cancelled(job, ranks)
    over = next((rank for rank in ranks if rank.cause is RankCause.TIME_LIMIT), None)
    if over is not None and is_replica(job):
        return _again(job, Reason.TIME_LIMIT, "its run reached its time limit", over)
    if over is not None:
        return _failed(job, Reason.TIME_LIMIT, _told(over, "reached its time limit"), over)
    if job.state is JobState.PREEMPTING:
        return _preempted(job)
    return _exited(job, ranks[0]) if is_done else _unasked(job, report, ranks)


def _unasked(job: Job, report: AttemptReport, ranks: list[RankStatus]) -> Outcome:
    """The end of ranks that nobody had told to end; one of them tells whose fault it was."""
    for rank in ranks:
        if rank.cause in _HARDWARE_CAUSES:
            reason, what = _HARDWARE_CAUSES[rank.cause]
            return _fault(job, _hardware_reason(report, reason), _told(rank, what))
    for rank in ranks:
        if rank.cause is RankCause.EXIT and not _succeeded(rank):
            return _exited(job, rank)
    detail = report.detail or "it was stopped, and nothing here had asked for that"
    return _fault(job, _hardware_reason(report, Reason.RANK_LOST), detail)


_HARDWARE_CAUSES: dict[RankCause, tuple[Reason, str]] = {
    RankCause.LEASE: (Reason.LEASE_LAPSED, "stopped as its lease lapsed"),
    RankCause.FENCE: (Reason.NODE_LOST, "was fenced"),
    RankCause.LOST: (Reason.RANK_LOST, "lost its keeper"),
    RankCause.INFRASTRUCTURE: (Reason.START_FAILED, "could not be started"),
}


def _exited(job: Job, rank: RankStatus) -> Outcome:
    """The job's own failure; again where `retries.application` has some left."""
    if rank.signal:
        reason, message = Reason.SIGNALLED, _told(rank, f"was ended by signal {rank.signal}")
    elif rank.exit_code:
        reason, message = Reason.EXIT_NONZERO, _told(rank, f"exited with {rank.exit_code}")
    else:
        reason, message = Reason.REPLICA_ENDED, "it ended by itself, with code 0"
    ours = {*APPLICATION_REASONS, Reason.REPLICA_ENDED}
    used = sum(1 for past in _past(job) if past.reason in ours)
    if job.spec is not None and is_replica(job):
        most = job.spec.retries.application
        if most == WITHOUT_END or used < most:
            return _again(job, reason, message, rank)
    elif job.spec is not None and used < job.spec.retries.application:
        return Outcome(
            Event.REQUEUED,
            _after(job, Event.REQUEUED),
            reason,
            f"{message}; retry {used + 1} of {job.spec.retries.application}",
            exit_code_of(rank),
            reason,
        )
    return _failed(job, reason, message, rank)


def _fault(job: Job, reason: Reason, detail: str) -> Outcome:
    """The infrastructure's fault; again, after a back-off, where `retries.hardware` has some."""
    if job.state is JobState.CANCELLING:
        return _cancelled(job, [])
    if job.state is JobState.PREEMPTING:
        return _preempted(job)
    return _hardware_fault(job, reason, detail)


def _withheld(job: Job, detail: str) -> Outcome:
    """The tenant's own key service gave out no key: no retry would change that."""
    if job.state is JobState.CANCELLING:
        return _cancelled(job, [])
    reason = Reason.KEY_WITHHELD
    after = _after(job, Event.FAILED)
    return Outcome(Event.FAILED, after, reason, detail, attempt_reason=reason)


def _hardware_fault(job: Job, reason: Reason, detail: str) -> Outcome:
    # An erased spec cannot be launched again.
    retries = job.spec.retries if job.spec is not None else Retries(hardware=0)
    used = sum(1 for past in _past(job) if past.reason in HARDWARE_REASONS)
    if is_replica(job) and (retries.hardware == WITHOUT_END or used < retries.hardware):
        return _again(job, reason, detail, None)
    if used < retries.hardware:
        return Outcome(
            Event.REQUEUED,
            _after(job, Event.REQUEUED),
            reason,
            f"{detail}; retry {used + 1} of {retries.hardware}",
            attempt_reason=reason,
            back_off_ms=0 if used == 0 and _lost_a_node(job, reason) else back_off_ms(used),
        )
    after = _after(job, Event.FAILED)
    if retries.hardware == 0:
        return Outcome(Event.FAILED, after, reason, detail, attempt_reason=reason)
    message = f"{detail}; all {retries.hardware} retries for faults of the hardware are used"
    return Outcome(
        Event.FAILED, after, Reason.RETRIES_EXHAUSTED, message, attempt_reason=reason
    )  # fmt: skip


def _again(job: Job, reason: Reason, message: str, rank: RankStatus | None) -> Outcome:
    """A replica waits to be started again: at once when its run was over in time, else the longer
    the more often it ended soon. `rank`: the one whose end was its own."""
    if is_worn(job):
        said = f"{message}; another replica takes its place after {job.attempts[-1].key.attempt}"
        return Outcome(
            Event.FAILED,
            _after(job, Event.FAILED),
            Reason.REPLICA_WORN,
            f"{said} attempts",
            attempt_reason=reason,
        )
    again = 0 if rank is not None and has_lasted(rank) else short_runs(_past(job), REPLICA_REASONS)
    wait_ms = 0 if reason is Reason.TIME_LIMIT else back_off_ms(again)
    return Outcome(
        Event.REQUEUED,
        _after(job, Event.REQUEUED),
        reason,
        f"{message}; it is started again" + (f" in {wait_ms // 1000} s" if wait_ms else ""),
        attempt_reason=reason,
        back_off_ms=wait_ms,
    )


def _lost_a_node(job: Job, reason: Reason) -> bool:
    """Whether a gang lost one of its nodes. There is nothing to wait for then, and younger jobs
    would take one after another of those that it had, spares of its NVLink domain included."""
    lost = reason in (Reason.NODE_LOST, Reason.OPERATOR_FENCE, Reason.RANK_LOST)
    return lost and job.spec is not None and job.spec.resources.nodes > 1


def exit_code_of(rank: RankStatus) -> int | None:
    """A rank's exit code as a shell would tell it."""
    return SIGNAL_EXIT_BASE + rank.signal if rank.signal else rank.exit_code


def _cancelled(job: Job, ranks: list[RankStatus]) -> Outcome:
    code = next((code for rank in ranks if (code := exit_code_of(rank))), None)
    return Outcome(
        Event.STOPPED,
        _after(job, Event.STOPPED),
        Reason.CANCELLED,
        "cancelled",
        code,
        Reason.CANCELLED,
    )


def _preempted(job: Job) -> Outcome:
    leaving = job.attempts[-1]
    if leaving.reason is Reason.NODE_FAILED:
        return _hardware_fault(job, leaving.reason, leaving.message)
    if leaving.reason is Reason.RESIDENCY_LOST:
        return Outcome(
            Event.REQUEUED,
            _after(job, Event.REQUEUED),
            leaving.reason,
            leaving.message,
            attempt_reason=leaving.reason,
        )
    return Outcome(
        Event.REQUEUED,
        _after(job, Event.REQUEUED),
        Reason.PREEMPTED,
        "preempted; it waits for another place",
        attempt_reason=Reason.PREEMPTED,
    )


def _failed(job: Job, reason: Reason, message: str, rank: RankStatus) -> Outcome:
    return Outcome(
        Event.FAILED, _after(job, Event.FAILED), reason, message, exit_code_of(rank), reason
    )


def _after(job: Job, event: Event) -> JobState:
    after = step(job.state, event)
    assert after is not None, f"{job.state.name} has no move for {event.value}"
    return after


def _succeeded(rank: RankStatus) -> bool:
    return rank.cause is RankCause.EXIT and rank.exit_code == 0 and not rank.signal


def _hardware_reason(report: AttemptReport, default: Reason) -> Reason:
    said = report.reason
    return said if said is not None and said in HARDWARE_REASONS else default


def _past(job: Job) -> tuple[Attempt, ...]:
    return job.attempts[:-1]


def _told(rank: RankStatus, what: str) -> str:
    message = f"rank {rank.rank} on {rank.node} {what}"
    return f"{message}: {rank.detail}" if rank.detail else message
