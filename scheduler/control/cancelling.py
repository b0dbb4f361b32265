"""Cancelling: at once what waits, by its site what runs, task by task what is an array."""

from __future__ import annotations

from scheduler.control.evidence import hastened
from scheduler.control.life import Cause, begin_stop, cancel_queued, stop, stop_grace_ms
from scheduler.core.lifecycle import Event
from scheduler.model.ids import AttemptKey
from scheduler.model.job import TERMINAL, JobState
from scheduler.store import leaves
from scheduler.store.records import JobRow
from scheduler.store.store import Txn


def cancel(txn: Txn, row: JobRow, cause: Cause, *, now: bool, now_ms: int) -> JobRow:
    """Cancels a job that waits, begins to stop one that is placed; `now` skips the grace.

    One that is over is left as it is; of one that is being stopped the grace may yet be cut. An
    array is only marked: what follows for its tasks is `follow`'s.
    """
    if row.state in TERMINAL:
        return row
    if row.tasks:
        return _mark(txn, row, cause, now_ms)
    if row.state is JobState.QUEUED:
        txn.waits.forget(row.id)
        return cancel_queued(txn, row, cause=cause, now_ms=now_ms)
    attempt = txn.attempts.row(AttemptKey(row.id, row.next_attempt - 1))
    assert attempt is not None, "a live job has an attempt"
    grace_ms = 0 if now else stop_grace_ms(txn.jobs.spec(row.spec_number))
    if row.state is not JobState.CANCELLING:
        return begin_stop(
            txn, row, attempt, Event.CANCEL, grace_ms=grace_ms, cause=cause, now_ms=now_ms
        )
    told = txn.outbox.get(attempt.site, attempt.key)
    if now and told is not None and told.grace_ms > 0:
        stop(txn, attempt, 0, cause.what)
        hastened(txn.audit, row, attempt.key, cause.actor, told.grace_ms, now_ms)
    return row


def _mark(txn: Txn, array: JobRow, cause: Cause, now_ms: int) -> JobRow:
    if array.cancel_requested:
        return array
    txn.waits.forget(array.id)
    after = array._replace(cancel_requested=True)
    txn.jobs.save(array, after)
    leaves.moved(txn.audit, array, after, None, cause=cause.what, actor=cause.actor, now_ms=now_ms)
    return after
