"""Jobs that wait for other jobs: what was asked for at the door, and what becomes of it.

A job waits for states that others must reach. It has reached RUNNING once it was seen running, or
has succeeded. What is met when the job is submitted is not kept; what can never be met any more is
refused at the door, and fails a job that waits. Only jobs that exist can be named, so there are no
circles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from scheduler.control import certify
from scheduler.control.views import find_job
from scheduler.core.job_ids import JobIdCodec
from scheduler.core.lifecycle import Event, must_step
from scheduler.model.identity import Principal
from scheduler.model.ids import JobId
from scheduler.model.job import TERMINAL, Awaited, JobSpec, JobState
from scheduler.model.reasons import Denial, Reason, Refused
from scheduler.store import leaves
from scheduler.store.records import JobRow
from scheduler.store.store import Snapshot, Txn


class Hope(Enum):
    """Whether what a job waits for will come."""

    MET = "met"
    OPEN = "open"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Waits:
    """What a submission waits for. `faults`: fields that name no job of the caller's; `lost`: what
    can never come any more."""

    open: tuple[Awaited, ...] = ()
    faults: tuple[Denial, ...] = ()
    lost: tuple[Denial, ...] = ()


def waits_of(read: Snapshot, codec: JobIdCodec, principal: Principal, spec: JobSpec) -> Waits:
    """What the job of `spec` would have to wait for."""
    still_open: dict[Awaited, None] = {}
    faults: list[Denial] = []
    lost: list[Denial] = []
    for n, dependency in enumerate(spec.depends_on):
        field = f"depends_on[{n}]"
        try:
            row = find_job(read, codec, principal, dependency.job)
        except Refused as refused:
            faults.append(Denial(refused.reason, refused.message, f"{field}.job"))
            continue
        match hope(read, row, dependency.state):
            case Hope.MET:
                continue
            case Hope.OPEN:
                still_open[Awaited(row.id, dependency.state)] = None
            case Hope.LOST:
                detail = never(codec.encode(row.id), row.state, dependency.state)
                lost.append(Denial(Reason.DEPENDENCY_FAILED, detail, field))
    return Waits(tuple(still_open), tuple(faults), tuple(lost))


def hope(read: Snapshot, row: JobRow, wanted: JobState) -> Hope:
    """Whether the job of `row` has reached a state, may yet, or never will."""
    if row.state is wanted:
        return Hope.MET
    if wanted is JobState.RUNNING and _ran(read, row):
        return Hope.MET
    return Hope.LOST if row.state in TERMINAL else Hope.OPEN


def never(name: str, state: JobState, wanted: JobState) -> str:
    """A sentence about what will not come."""
    return f"it waits for {name} to be {wanted.name}, which is {state.name} and stays so"


def waiting_text(codec: JobIdCodec, waits: Iterable[Awaited]) -> str:
    """A sentence about what has not come yet."""
    listed = [f"{codec.encode(each.job)} to be {each.state.name}" for each in waits]
    return f"it waits for {' and for '.join(listed)}"


def release(txn: Txn, row: JobRow, now_ms: int) -> JobRow:
    """All that a job waited for has come: the planner may have it. An array is never its."""
    if row.tasks:
        return row
    after = row._replace(held=False)
    txn.jobs.save(row, after)
    leaves.released(txn.audit, after, now_ms)
    return after


def fail(txn: Txn, row: JobRow, on: JobRow, wanted: JobState, now_ms: int) -> JobRow:
    """What a job waits for never comes: it fails."""
    message = never(txn.audit.name_of(on.id), on.state, wanted)
    after = row._replace(
        state=must_step(row.state, Event.FAILED),
        reason=Reason.DEPENDENCY_FAILED,
        message=message,
        ended_at_ms=now_ms,
        not_before_ms=0,
    )
    txn.jobs.save(row, after)
    leaves.moved(txn.audit, row, after, None, cause="a dependency failed", now_ms=now_ms)
    certify.ended(txn, after, now_ms)
    txn.waits.forget(row.id)
    return after


def _ran(read: Snapshot, row: JobRow) -> bool:
    """Whether a job was ever seen running; an array, whether all its tasks were; a service, whether
    all its replicas are ready."""
    if row.state is JobState.SUCCEEDED:
        return True
    if row.replicas is not None:
        ready = read.jobs.task_counts([row])[row.id].ready or 0
        return 0 < row.replicas <= ready
    if row.tasks:
        return row.unfolded == row.tasks and not read.jobs.unstarted_tasks(row.id)
    return row.next_attempt > 1 and read.attempts.any_started(row.id)


def on_whom(txn: Txn, job: JobId, limit: int) -> tuple[tuple[JobRow, JobState], ...]:
    """The queued jobs that wait for `job`, with the state that each waits for."""
    found = txn.waits.on(job, limit)
    rows = txn.jobs.rows(waiting for waiting, _ in found)
    return tuple((rows[waiting], state) for waiting, state in found)
