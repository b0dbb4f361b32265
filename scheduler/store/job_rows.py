"""How a job lies in two tables, and the statements about it that are run a thousand at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import HOLDS_NODES, JobState, TaskCounts
from scheduler.model.reasons import Reason
from scheduler.store.bulk import IDS, How, Statement, Values, inserting
from scheduler.store.records import Arrival, JobRow
from scheduler.store.schema import JOBS, PARTICULARS

JOB = select(JOBS, *(c for c in PARTICULARS.c if c is not PARTICULARS.c.id)).join(
    PARTICULARS, PARTICULARS.c.id == JOBS.c.id
)
"""The rows of jobs with their particulars; `row_of` reads them."""
CHANGING = (
    "class_id",
    "state",
    "submitted_at_ms",
    "next_attempt",
    "not_before_ms",
    "leased",
    "reason",
    "message",
    "ended_at_ms",
    "exit_code",
    "cancel_requested",
    "held",
    "unfolded",
)
"""What `save` may change of a job."""
CONSTANT = ("id", "tenant", "array_id", "task", "tasks", "running_max")
ADD = inserting(JOBS, How.NEW, (*CONSTANT, *CHANGING))
ADD_PARTICULARS = inserting(PARTICULARS, How.NEW, ("id", "owner", "name", "spec_digest"))
STANDINGS = Statement(
    JOBS,
    "SELECT id, class_id, state, next_attempt, not_before_ms, leased, cancel_requested, held"
    f" FROM jobs WHERE id IN {IDS}",
)
SAVE = Statement(
    JOBS,
    f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in CHANGING)} WHERE id = ? AND state = ?",
    exact=True,
)
PLACE = Statement(
    JOBS,
    f"UPDATE jobs SET state = {int(JobState.PLACED)}, next_attempt = next_attempt + 1,"
    " not_before_ms = 0, reason = NULL, message = ''"
    f" WHERE state = {int(JobState.QUEUED)} AND id IN {IDS}",
    exact=True,
)


def constant(row: JobRow) -> tuple[object, ...]:
    """The values of `CONSTANT`."""
    return (
        row.id,
        row.tenant,
        row.array_id,
        row.task,
        row.tasks,
        row.running_max,
    )


def changing(row: JobRow) -> tuple[object, ...]:
    """The values of `CHANGING`, as drivers take them."""
    return (
        row.class_id,
        int(row.state),
        row.submitted_at_ms,
        row.next_attempt,
        row.not_before_ms,
        row.leased,
        None if row.reason is None else row.reason.value,
        row.message,
        row.ended_at_ms,
        row.exit_code,
        row.cancel_requested,
        row.held,
        row.unfolded,
    )


def arrived(arrivals: Sequence[Arrival], now_ms: int) -> list[Values]:
    """Rows of `ADD`: for each what `constant` and `changing` say of a job that was just queued."""
    state = int(JobState.QUEUED)
    rest = (None, "", 0, None, False, False, 0)  # From `reason` on, as they all begin.
    return [
        (a.id, a.tenant, None, None, 0, 0, a.class_id, state, now_ms, 1, 0, a.leased, *rest)
        for a in arrivals
    ]


def task_counts(row: JobRow, states: Counter[JobState]) -> TaskCounts:
    """How the tasks of an array fare, of which so many have rows in each state."""
    return TaskCounts(
        total=row.tasks,
        queued=row.tasks - row.unfolded + states[JobState.QUEUED],
        live=sum(states[state] for state in HOLDS_NODES),
        succeeded=states[JobState.SUCCEEDED],
        failed=states[JobState.FAILED],
        cancelled=states[JobState.CANCELLED],
    )


def row_of(row: Any) -> JobRow:
    """A row of `JOB` as the record it is."""
    return JobRow(
        id=JobId(row.id),
        class_id=row.class_id,
        tenant=TenantPath(row.tenant),
        owner=row.owner,
        name=row.name,
        state=JobState(row.state),
        submitted_at_ms=row.submitted_at_ms,
        next_attempt=row.next_attempt,
        spec_digest=row.spec_digest,
        leased=row.leased,
        not_before_ms=row.not_before_ms,
        reason=None if row.reason is None else Reason(row.reason),
        message=row.message,
        ended_at_ms=row.ended_at_ms,
        exit_code=row.exit_code,
        cancel_requested=row.cancel_requested,
        held=row.held,
        array_id=None if row.array_id is None else JobId(row.array_id),
        task=row.task,
        tasks=row.tasks,
        unfolded=row.unfolded,
        running_max=row.running_max,
    )
