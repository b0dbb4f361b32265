"""How a job lies in two tables, and the statements about it that are run a thousand at once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Select, select

from scheduler.model.ids import JobId
from scheduler.model.job import JobState
from scheduler.model.reasons import Reason
from scheduler.store.attempt_rows import STATE_OF
from scheduler.store.bulk import IDS, How, Statement, Values, inserting
from scheduler.store.records import Arrival, JobRow
from scheduler.store.schema import JOBS, PARTICULARS

_COLUMNS: tuple[ColumnElement[Any], ...] = tuple(
    (PARTICULARS if name in PARTICULARS.c else JOBS).c[name] if name != "id" else JOBS.c.id
    for name in JobRow._fields
)
JOB = select(*_COLUMNS).join_from(JOBS, PARTICULARS, PARTICULARS.c.id == JOBS.c.id)
"""The rows of jobs with their particulars; `row_of` reads them."""
JOBS_BY_ID = Statement(
    JOBS,
    f"SELECT {', '.join(map(str, _COLUMNS))} FROM jobs"
    f" JOIN job_particulars ON job_particulars.id = jobs.id WHERE jobs.id IN {IDS}",
)
"""As `JOB`, of many."""
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
    "replicas",
)
"""What `save` may change of a job."""
CONSTANT = ("id", "tenant", "array_id", "task", "tasks", "running_max")
ADD = inserting(JOBS, How.NEW, (*CONSTANT, *CHANGING))
ADD_PARTICULARS = inserting(
    PARTICULARS, How.NEW, ("id", "owner", "name", "spec_digest", "spec_number")
)
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
        row.replicas,
    )


def arrived(arrivals: Sequence[Arrival], now_ms: int) -> list[Values]:
    """Rows of `ADD`: for each what `constant` and `changing` say of a job that was just queued."""
    state = int(JobState.QUEUED)
    rest = (None, "", 0, None, False, False, 0, None)  # From `reason` on, as they all begin.
    return [
        (a.id, a.tenant, None, None, 0, 0, a.class_id, state, now_ms, 1, 0, a.leased, *rest)
        for a in arrivals
    ]


def row_of(row: Any) -> JobRow:
    """A row of `JOB` as the record it is."""
    return JobRow(
        id=row[0],
        class_id=row[1],
        tenant=row[2],
        owner=row[3],
        name=row[4],
        state=STATE_OF[row[5]],
        submitted_at_ms=row[6],
        next_attempt=row[7],
        spec_digest=row[8],
        spec_number=row[9],
        leased=bool(row[10]),
        not_before_ms=row[11],
        reason=None if row[12] is None else Reason(row[12]),
        message=row[13],
        ended_at_ms=row[14],
        exit_code=row[15],
        cancel_requested=bool(row[16]),
        held=bool(row[17]),
        array_id=row[18],
        task=row[19],
        tasks=row[20],
        unfolded=row[21],
        running_max=row[22],
        replicas=row[23],
    )


class Lines(Enum):
    """Which jobs a list has."""

    EVERY = "every"
    """All rows there are."""
    ARRAYS = "arrays"
    """An array is one line, and its tasks are none."""
    TASKS = "tasks"
    """Tasks are lines of their own, and an array only while it has none, and when it is over."""


def lined(query: Select[Any], lines: Lines, array: JobId | None) -> Select[Any]:
    """`query` of the jobs that such a list has; of the tasks of `array` only, if it is given."""
    if array is not None:
        return query.where(JOBS.c.array_id == array)
    match lines:
        case Lines.EVERY:
            return query
        case Lines.ARRAYS:
            return query.where(JOBS.c.array_id.is_(None))
        case Lines.TASKS:
            over = JOBS.c.state >= int(JobState.SUCCEEDED)
            return query.where((JOBS.c.unfolded == 0) | over)
