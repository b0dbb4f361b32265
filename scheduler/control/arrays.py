"""Arrays: many tasks on one row, each of which gets a row of its own when its turn is near.

The array itself stays queued and is never the planner's, until all its tasks are over. A task is a
job like any other, of the same class and specification: it has an id, attempts, retries and a log
of its own. Of an array at most `running_max` tasks, and at most UNFOLD_MAX, have a row and are not
over; as tasks end, others follow in the same transaction. A failed task does not stop the rest.
"""

from __future__ import annotations

from scheduler.control import certify
from scheduler.core.classes import of_service
from scheduler.core.lifecycle import Event, must_step
from scheduler.model.job import JobSpec, JobState, TaskCounts
from scheduler.model.reasons import Reason
from scheduler.store import leaves
from scheduler.store.records import JobRow
from scheduler.store.store import Txn

UNFOLD_MAX = 5_000
"""Most tasks of one array that have a row and are not over."""


def tasks_of(spec: JobSpec) -> int:
    """How many jobs one is, tasks of an array or replicas of a service; 0: it is one itself."""
    if spec.array is not None:
        return spec.array.count
    return 0 if spec.service is None else spec.service.replicas


def as_queued(spec: JobSpec) -> TaskCounts | None:
    """The tasks of a job that was just let in; None: it is one itself."""
    tasks = tasks_of(spec)
    ready = None if spec.service is None else 0
    return TaskCounts(tasks, queued=tasks, ready=ready) if tasks else None


def unfold(txn: Txn, array: JobRow, most: int, now_ms: int) -> tuple[JobRow, bool]:
    """Gives rows to the next tasks, `most` at most; the array after it, and whether there is more
    to unfold at once."""
    if array.cancel_requested or array.unfolded == array.tasks:
        return array, False
    room = min(array.running_max or UNFOLD_MAX, UNFOLD_MAX) - txn.jobs.open_task_count(array.id)
    due = max(0, min(room, array.tasks - array.unfolded))
    count = min(due, most)
    if not count:
        return array, due > 0
    return add_tasks(txn, array, count, now_ms), count < due


def add_tasks(txn: Txn, array: JobRow, count: int, now_ms: int) -> JobRow:
    """Gives rows to the next `count` tasks of an array, or replicas of a service; its row then."""
    after = array._replace(unfolded=array.unfolded + count)
    txn.jobs.save(array, after)
    class_id = txn.jobs.intern(of_service(txn.jobs.job_class(array.class_id), array.id))
    for task in range(array.unfolded, after.unfolded):
        row = JobRow(
            id=txn.jobs.take_id(),
            class_id=class_id,
            tenant=array.tenant,
            owner=array.owner,
            name=array.name,
            state=JobState.QUEUED,
            submitted_at_ms=now_ms,
            next_attempt=1,
            spec_digest=array.spec_digest,
            spec_number=array.spec_number,
            leased=array.leased,
            array_id=array.id,
            task=task,
        )
        txn.jobs.add(row)
        leaves.submitted(txn.audit, row)
    return after


def end_if_over(txn: Txn, array: JobRow, now_ms: int) -> JobRow | None:
    """Ends an array all of whose tasks are over; its row after that. None: it goes on."""
    if array.unfolded < array.tasks and not array.cancel_requested:
        return None
    if txn.jobs.open_task_count(array.id):
        return None
    counts = txn.jobs.task_counts([array])[array.id]
    event, reason, message = _verdict(counts)
    after = array._replace(
        state=must_step(array.state, event),
        reason=reason,
        message=message,
        exit_code=txn.jobs.worst_exit_code(array.id),
        ended_at_ms=now_ms,
    )
    txn.jobs.save(array, after)
    leaves.moved(txn.audit, array, after, None, cause="its tasks are over", now_ms=now_ms)
    certify.ended(txn, after, now_ms)
    return after


def _verdict(counts: TaskCounts) -> tuple[Event, Reason | None, str]:
    if counts.failed:
        message = f"{counts.failed} of {counts.total} tasks failed"
        return Event.FAILED, Reason.TASKS_FAILED, message
    left = counts.total - counts.succeeded
    if left:
        message = f"{left} of {counts.total} tasks were cancelled"
        return Event.CANCEL, Reason.CANCELLED, message
    return Event.TASKS_SUCCEEDED, None, ""
