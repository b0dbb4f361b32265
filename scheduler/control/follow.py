"""What follows for other jobs from a job's move: those that wait for it, and the array it is of.

Everything follows in the transaction of the move, as far as FOLLOW_MAX rows go; the rest is noted
in the store, and `catch_up` draws it with the next ticks. Each step looks at the rows as they are,
so that stopping between two and doing one twice are harmless.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from scheduler.control import arrays, dependencies, services
from scheduler.control.cancelling import cancel
from scheduler.control.dependencies import Hope
from scheduler.control.life import Cause
from scheduler.model.ids import JobId
from scheduler.model.job import TERMINAL, JobState
from scheduler.store.records import JobRow
from scheduler.store.store import Txn

FOLLOW_MAX = 1_000
"""Most jobs that one move releases, fails, cancels or unfolds in its own transaction."""
FOLLOW_UPS_PER_TICK_MAX = 100
ARRAY_CANCELLED = Cause("its array was cancelled")


@dataclass(slots=True)
class _Work:
    """What is to be looked at, and how much may yet be changed."""

    txn: Txn
    now_ms: int
    todo: list[JobId]
    left: int = FOLLOW_MAX
    later: set[JobId] = field(default_factory=lambda: set[JobId]())


def follow(txn: Txn, moved: JobRow, now_ms: int) -> None:
    """Draws the consequences of where `moved` now is."""
    _work_off(_Work(txn, now_ms, [moved.id]))


def catch_up(txn: Txn, now_ms: int) -> int:
    """Draws consequences that were left over; of how many jobs."""
    due = txn.waits.follow_ups(FOLLOW_UPS_PER_TICK_MAX)
    for job in due:
        txn.waits.followed(job)
    if due:
        _work_off(_Work(txn, now_ms, list(reversed(due))))
    return len(due)


def _work_off(work: _Work) -> None:
    while work.todo:
        job = work.todo.pop()
        if work.left <= 0:
            work.later.add(job)
            continue
        row = work.txn.jobs.row(job)
        assert row is not None, "a job that moved has a row"
        _tell_dependents(work, row)
        if row.array_id is not None:
            _tell_array(work, row.array_id)
        if row.tasks and row.state not in TERMINAL:
            _turn_array(work, row)
    for job in sorted(work.later):
        work.txn.waits.follow_later(job)


def _tell_dependents(work: _Work, row: JobRow) -> None:
    """Releases, or fails, the jobs that wait for this one."""
    if row.state in (JobState.QUEUED, JobState.PLACED, JobState.STARTING) and not row.tasks:
        return
    txn = work.txn
    found = dependencies.on_whom(txn, row.id, work.left + 1)
    hopes = {state: dependencies.hope(txn, row, state) for _, state in found}
    for waiting, state in found:
        if work.left <= 0:
            work.later.add(row.id)
            return
        match hopes[state]:
            case Hope.OPEN:
                continue
            case Hope.MET:
                if txn.waits.met(waiting.id, row.id, state) == 0:
                    released = dependencies.release(txn, waiting, work.now_ms)
                    work.todo += [released.id] if released.tasks else []
            case Hope.LOST:
                # It may have failed a moment ago, by another of the states it waited for.
                current = txn.jobs.row(waiting.id)
                if current is not None and current.state is JobState.QUEUED:
                    failed = dependencies.fail(txn, current, row, state, work.now_ms)
                    work.todo.append(failed.id)
        work.left -= 1


def _tell_array(work: _Work, array: JobId) -> None:
    """A task has moved: what people see of its array has, and it may go on, or be over."""
    work.txn.jobs.touch(array)
    if array not in work.todo:
        work.todo.append(array)


def _turn_array(work: _Work, array: JobRow) -> None:
    """Unfolds more of an array, or cancels what there is of it; ends it when all is over."""
    txn = work.txn
    if txn.waits.of_jobs([array.id]):
        return
    if array.cancel_requested:
        _cancel_tasks(work, array, _open_tasks(txn, array), _cancelled(array))
    else:
        array, more = _begin_tasks(work, array)
        if more:
            work.later.add(array.id)
            return
    end_if_over = arrays.end_if_over if array.replicas is None else services.end_if_over
    if (over := end_if_over(txn, array, work.now_ms)) is not None:
        work.todo.append(over.id)


def _begin_tasks(work: _Work, array: JobRow) -> tuple[JobRow, bool]:
    """Begins what may begin, ends what a service has too many; the array after it, and whether
    there is more to begin."""
    before = array.unfolded
    if array.replicas is None:
        array, more = arrays.unfold(work.txn, array, work.left, work.now_ms)
    else:
        due = services.due(work.txn, array)
        _cancel_tasks(work, array, due.surplus, services.SCALED_DOWN)
        array, more = services.begin(work.txn, array, due.missing, work.left, work.now_ms)
    work.left -= array.unfolded - before
    return array, more


def _cancelled(array: JobRow) -> Cause:
    return ARRAY_CANCELLED if array.replicas is None else services.CANCELLED


def _open_tasks(txn: Txn, array: JobRow) -> tuple[JobRow, ...]:
    return txn.jobs.open_tasks(array.id, arrays.UNFOLD_MAX)


def _cancel_tasks(work: _Work, array: JobRow, tasks: Iterable[JobRow], cause: Cause) -> None:
    for row in tasks:
        if row.state is JobState.CANCELLING:
            continue
        if work.left <= 0:
            work.later.add(array.id)
            return
        ended = cancel(work.txn, row, cause, now=False, now_ms=work.now_ms)
        work.left -= 1
        if ended.state in TERMINAL:
            _tell_dependents(work, ended)
