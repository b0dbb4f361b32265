"""How a job moves: row, attempt, outbox and audit leaf together, by the table in `core.lifecycle`.

Every move of a job after its placement passes through here, whoever caused it. What its site is
told of an attempt that is over is for the caller, who knows how it is known: a site that said so
itself may forget it, any other is to stop it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from scheduler.control import certify
from scheduler.control.requirements import effective
from scheduler.core import budgets
from scheduler.core.lifecycle import HARDWARE_REASONS, Event, Outcome, must_step
from scheduler.core.ranks import gpus_of, tells_length, with_service
from scheduler.model.job import TERMINAL, Attempt, Job, JobSpec, JobState, RankStatus
from scheduler.model.operator_access import OperatorUse
from scheduler.model.reasons import Reason
from scheduler.model.sitelink import DesiredAction
from scheduler.model.tenancy import QueueOrder, SettledUse
from scheduler.store import leaves
from scheduler.store.records import AttemptRow, JobRow
from scheduler.store.store import Txn

MESSAGE_CHARACTERS_MAX = 1_000
"""Messages come from sites too; longer ones are cut."""
STOP_GRACE_MS_DEFAULT = 30_000
"""Grace of a job whose spec was erased."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a job moves: what happened, and whose doing it was ("" for nobody's)."""

    what: str
    actor: str = ""


class Live(NamedTuple):
    """A job with a live attempt as they were just read: its rows, and the whole, whose last
    attempt it is."""

    job: JobRow
    attempt: AttemptRow
    whole: Job
    ranks: tuple[RankStatus, ...]
    """Of the attempt as they are known now; `whole` may have them as they were before."""
    uses: tuple[OperatorUse, ...] | None = None
    """Of operators' grants on it, where they were read with those of others."""


def settle(txn: Txn, live: Live, outcome: Outcome, *, cause: Cause, now_ms: int) -> JobRow:
    """Makes `outcome` of a live attempt so; the job's row after it."""
    job, attempt = live.job, live.attempt
    assert live.whole.attempts[-1].key == attempt.key, "a live attempt is its job's last"
    ends = outcome.ends_attempt()
    over = outcome.state in TERMINAL
    after = job._replace(
        state=outcome.state,
        reason=outcome.reason,
        message=short(outcome.message),
        exit_code=outcome.exit_code if over else None,
        ended_at_ms=now_ms if over else 0,
        not_before_ms=now_ms + outcome.back_off_ms if outcome.state is JobState.QUEUED else 0,
    )
    if outcome.state is JobState.QUEUED:
        after = after._replace(class_id=_class_id(txn, live, now_ms))
    attempt_after = attempt._replace(
        state=_attempt_state(outcome),
        live=not ends,
        reason=outcome.attempt_reason if ends else attempt.reason,
        message=short(outcome.message) if ends else attempt.message,
        started_at_ms=_started_at_ms(attempt, outcome, now_ms),
        ended_at_ms=now_ms if ends else 0,
    )
    placed = live.whole.attempts[-1].placement.nodes
    settled = _settled(txn, job, attempt_after) if ends else None
    txn.jobs.save(job, after)
    txn.attempts.save(job.tenant, attempt, attempt_after, [each.node for each in placed])
    leaves.moved(
        txn.audit,
        job,
        after,
        attempt_after,
        cause=cause.what,
        actor=cause.actor,
        now_ms=now_ms,
        settled=settled,
    )
    if settled is not None:
        txn.tenancy.agreements.close(txn.audit, attempt.key, settled.charged_gpu_ms, now_ms)
    if over:
        past = live.whole.spec, _as_ended(live, attempt_after)
        certify.ended(txn, after, now_ms, past, live.uses)
    return after


def _as_ended(live: Live, row: AttemptRow) -> tuple[Attempt, ...]:
    """A job's attempts, the last with what is known of its ranks and the times of its row."""
    last = live.whole.attempts[-1]._replace(
        ranks=live.ranks, started_at_ms=row.started_at_ms, ended_at_ms=row.ended_at_ms
    )
    return (*live.whole.attempts[:-1], last)


def _class_id(txn: Txn, live: Live, now_ms: int) -> int:
    """The class of a job that waits again: what its attempts had may count from now on, and its
    inputs may have other labels than before."""
    job, spec = live.job, live.whole.spec
    job_class = txn.jobs.job_class(job.class_id)
    reads = spec is not None and bool(spec.inputs)
    if spec is not None and reads:
        job_class = replace(job_class, residency=effective(txn, spec))
    order = txn.tenancy.tree().tenants[job.tenant].queue_order
    if order is not QueueOrder.SHORTEST or tells_length(job_class):
        return txn.jobs.intern(job_class) if reads else job.class_id
    ran_ms = sum(
        max(0, (attempt.ended_at_ms or now_ms) - attempt.started_at_ms)
        for attempt in live.whole.attempts
        if attempt.started_at_ms
    )
    return txn.jobs.intern(with_service(job_class, ran_ms * gpus_of(job_class), order))


def _settled(txn: Txn, job: JobRow, attempt: AttemptRow) -> SettledUse:
    """Adds what an attempt that is over has used; charges it, unless hardware destroyed it."""
    limit_ms = txn.jobs.job_class(job.class_id).time_limit_bucket_ms
    used = budgets.settled(
        attempt.gpu_milli, limit_ms, attempt.placed_at_ms, attempt.ended_at_ms
    )  # fmt: skip
    destroyed = attempt.reason in HARDWARE_REASONS
    use = SettledUse(
        tenant=job.tenant,
        gpu_class=attempt.gpu_class,
        day=budgets.day_of(attempt.placed_at_ms),
        charged_gpu_ms=0 if destroyed else used,
        refunded_gpu_ms=used if destroyed else 0,
        attempts=1,
    )
    reserved = budgets.gpu_ms(attempt.gpu_milli, limit_ms)
    txn.usage.reserve(job.tenant, attempt.gpu_class, -reserved, attempt.placed_at_ms)
    tree = txn.tenancy.tree()
    borne = any(True for _ in budgets.budgets_over(tree, job.tenant, attempt.gpu_class))
    txn.usage.add(use, budgeted=borne)
    return use


def begin_stop(
    txn: Txn,
    job: JobRow,
    attempt: AttemptRow,
    event: Event,
    *,
    grace_ms: int,
    cause: Cause,
    because: Reason | None = None,
    now_ms: int,
) -> JobRow:
    """A live job begins to end: cancelled or preempted. It is over when its site says so.

    `because`: the fault that makes it leave, which its attempt keeps until then.
    """
    assert event in (Event.CANCEL, Event.PREEMPT)
    state = must_step(job.state, event)
    reason = because or (Reason.CANCELLED if event is Event.CANCEL else Reason.PREEMPTED)
    after = job._replace(
        state=state,
        reason=reason,
        message=short(f"being stopped: {cause.what}"),
        cancel_requested=job.cancel_requested or event is Event.CANCEL,
    )
    attempt_after = attempt._replace(state=state)
    if because is not None:
        attempt_after = attempt_after._replace(reason=because, message=short(cause.what))
    txn.jobs.save(job, after)
    txn.attempts.save(job.tenant, attempt, attempt_after)
    leaves.moved(
        txn.audit, job, after, attempt_after, cause=cause.what, actor=cause.actor, now_ms=now_ms
    )
    stop(txn, attempt, grace_ms, cause.what)
    return after


def stop(txn: Txn, attempt: AttemptRow, grace_ms: int, reason: str) -> None:
    """Its site is to stop an attempt, with `grace_ms` between asking and forcing."""
    txn.outbox.put(
        attempt.site, [attempt.key], DesiredAction.STOP, grace_ms=grace_ms, reason=reason
    )


def cancel_queued(txn: Txn, job: JobRow, *, cause: Cause, now_ms: int) -> JobRow:
    """A job that waits is cancelled at once."""
    after = job._replace(
        state=must_step(job.state, Event.CANCEL),
        reason=Reason.CANCELLED,
        message="cancelled before it started",
        cancel_requested=True,
        ended_at_ms=now_ms,
        not_before_ms=0,
    )
    txn.jobs.save(job, after)
    leaves.moved(txn.audit, job, after, None, cause=cause.what, actor=cause.actor, now_ms=now_ms)
    certify.ended(txn, after, now_ms)
    return after


def stop_grace_ms(spec: JobSpec | None) -> int:
    """How long a job has between SIGTERM and SIGKILL."""
    return STOP_GRACE_MS_DEFAULT if spec is None else spec.preemption.grace_ms


def short(message: str) -> str:
    """A message of bounded length."""
    if len(message) <= MESSAGE_CHARACTERS_MAX:
        return message
    return message[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def _attempt_state(outcome: Outcome) -> JobState:
    """An attempt that is over without its job being over failed, whoever is to blame."""
    return JobState.FAILED if outcome.state is JobState.QUEUED else outcome.state


def _started_at_ms(attempt: AttemptRow, outcome: Outcome, now_ms: int) -> int:
    if attempt.started_at_ms or outcome.state is not JobState.RUNNING:
        return attempt.started_at_ms
    return now_ms
