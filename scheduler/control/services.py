"""Services: as many replicas as are wanted, each a job like any other.

A service is stored as an array is, with its replicas for tasks, and is never the planner's. What
there should be is compared with what there is after each move of a replica, so nothing has to be
remembered: too few open ones, and others get rows; too many, and some are cancelled. One that
failed for good (`core.restarts`) is not begun again, and keeps its place among those that are
wanted; the service fails once all of them have.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.control import certify
from scheduler.control.arrays import add_tasks
from scheduler.control.life import Cause
from scheduler.core.lifecycle import Event, must_step
from scheduler.core.service_rules import REPLICAS_MAX, replica_faults
from scheduler.model.identity import Principal
from scheduler.model.job import TERMINAL, JobState
from scheduler.model.reasons import Code, Reason, Refused, invalid
from scheduler.store import leaves
from scheduler.store.records import JobRow
from scheduler.store.store import Txn

CANCELLED = Cause("its service was cancelled")
SCALED_DOWN = Cause("its service was scaled down")


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done about a service."""

    missing: int = 0
    surplus: tuple[JobRow, ...] = ()
    """Replicas to cancel."""


def due(txn: Txn, service: JobRow) -> Due:
    """How many replicas a service lacks, or which of them are too many: those that do least yet,
    and of these the youngest."""
    assert service.replicas is not None, "an array has no replicas"
    rows = txn.jobs.open_tasks(service.id, REPLICAS_MAX * 2)
    failed = txn.jobs.task_counts([service])[service.id].failed
    staying = [row for row in rows if row.state is not JobState.CANCELLING]
    surplus = len(staying) - service.replicas
    if surplus > 0:
        staying.sort(key=lambda row: (row.state is JobState.RUNNING, -(row.task or 0)))
        return Due(surplus=tuple(staying[:surplus]))
    # One that is still ending holds its place: never more than are wanted run at once.
    return Due(missing=max(0, service.replicas - failed - len(rows)))


def begin(txn: Txn, service: JobRow, missing: int, most: int, now_ms: int) -> tuple[JobRow, bool]:
    """Gives rows to `missing` replicas, `most` at most; the service after it, and whether there is
    more to begin at once."""
    count = min(missing, most)
    return add_tasks(txn, service, count, now_ms) if count else service, count < missing


def end_if_over(txn: Txn, service: JobRow, now_ms: int) -> JobRow | None:
    """Ends a service that is cancelled, or whose replicas all failed for good, once nothing of it
    runs; its row after that. None: it goes on."""
    counts = txn.jobs.task_counts([service])[service.id]
    given_up = counts.total > 0 and counts.failed >= counts.total
    if txn.jobs.open_task_count(service.id) or not (service.cancel_requested or given_up):
        return None
    if service.cancel_requested:
        event, reason, message = Event.CANCEL, Reason.CANCELLED, "cancelled"
    else:
        event, reason = Event.FAILED, Reason.TASKS_FAILED
        message = f"all of its {counts.total} replicas failed for good"
    after = service._replace(
        state=must_step(service.state, event),
        reason=reason,
        message=message,
        ended_at_ms=now_ms,
    )
    txn.jobs.save(service, after)
    leaves.moved(txn.audit, service, after, None, cause="its replicas are over", now_ms=now_ms)
    certify.ended(txn, after, now_ms)
    return after


def scale(txn: Txn, principal: Principal, row: JobRow, replicas: int, now_ms: int) -> JobRow:
    """Sets how many replicas a service is to have; its row after it. Zero keeps the service."""
    if faults := tuple(replica_faults("replicas", replicas, least=0)):
        raise invalid(*faults)
    if row.replicas is None:
        detail = "the job is no service: it has no replicas"
        raise Refused(Code.FAILED_PRECONDITION, Reason.ILLEGAL_TRANSITION, detail)
    if row.state in TERMINAL or row.cancel_requested:
        detail = f"the service is {row.state.name if row.state in TERMINAL else 'being cancelled'}"
        raise Refused(Code.FAILED_PRECONDITION, Reason.ILLEGAL_TRANSITION, detail)
    if row.replicas == replicas:
        return row
    after = row._replace(replicas=replicas)
    txn.jobs.save(row, after)
    leaves.scaled(txn.audit, row, after, principal.path, now_ms)
    return after
