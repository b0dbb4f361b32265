"""Tasks of arrays and replicas of services: found by whose they are, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select

from scheduler.model.ids import JobId
from scheduler.model.job import HOLDS_NODES, JobState, TaskCounts
from scheduler.model.reasons import Reason
from scheduler.store.dialect import chunks
from scheduler.store.job_rows import JOB, row_of
from scheduler.store.link import Link
from scheduler.store.records import JobRow
from scheduler.store.schema import JOBS


class TasksReader:
    """Finds tasks."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def task_row(self, array: JobId, task: int) -> JobRow | None:
        """The row of one task of an array; None when it has none yet."""
        states = [int(state) for state in JobState]
        query = JOB.where(JOBS.c.array_id == array, JOBS.c.state.in_(states), JOBS.c.task == task)
        found = self._link.execute(query).first()
        return None if found is None else row_of(found)

    def open_tasks(self, array: JobId, limit: int) -> tuple[JobRow, ...]:
        """Tasks of an array that are not over, by state and number; the first `limit`."""
        query = JOB.where(JOBS.c.array_id == array, JOBS.c.state < int(JobState.SUCCEEDED))
        query = query.order_by(JOBS.c.state, JOBS.c.task).limit(limit)
        return tuple(row_of(row) for row in self._link.execute(query))

    def open_task_count(self, array: JobId) -> int:
        """How many tasks of an array have a row and are not over."""
        query = select(func.count()).where(
            JOBS.c.array_id == array, JOBS.c.state < int(JobState.SUCCEEDED)
        )
        return int(self._link.execute(query).scalar_one())

    def unstarted_tasks(self, array: JobId) -> int:
        """How many tasks of an array have a row and do not run yet."""
        states = (JobState.QUEUED, JobState.PLACED, JobState.STARTING)
        query = select(func.count()).where(
            JOBS.c.array_id == array, JOBS.c.state.in_([int(state) for state in states])
        )
        return int(self._link.execute(query).scalar_one())

    def worst_exit_code(self, array: JobId) -> int | None:
        """The highest exit code among the tasks of an array."""
        return self._link.execute(
            select(func.max(JOBS.c.exit_code)).where(JOBS.c.array_id == array)
        ).scalar()

    def task_counts(self, arrays: Sequence[JobRow]) -> dict[JobId, TaskCounts]:
        """How many tasks of each of `arrays` are where."""
        found: dict[JobId, Counter[JobState]] = {row.id: Counter() for row in arrays}
        for chunk in chunks(sorted(found)):
            query = select(JOBS.c.array_id, JOBS.c.state, func.count())
            query = query.where(JOBS.c.array_id.in_(chunk))
            for array, state, tasks in self._link.execute(
                query.group_by(JOBS.c.array_id, JOBS.c.state)
            ):
                found[JobId(array)][JobState(state)] += int(tasks)
        services = [row.id for row in arrays if row.replicas is not None]
        worn = self._worn(services) if services else {}
        return {
            row.id: _tasks(row, found[row.id])
            if row.replicas is None
            else _replicas(row.replicas, found[row.id], worn.get(row.id, 0))
            for row in arrays
        }

    def _worn(self, services: Sequence[JobId]) -> dict[JobId, int]:
        """How many replicas of each of `services` ended for others to take their place."""
        found: dict[JobId, int] = {}
        for chunk in chunks(sorted(services)):
            query = select(JOBS.c.array_id, func.count())
            query = query.where(
                JOBS.c.array_id.in_(chunk),
                JOBS.c.state == int(JobState.FAILED),
                JOBS.c.reason == Reason.REPLICA_WORN.value,
            )
            for service, count in self._link.execute(query.group_by(JOBS.c.array_id)):
                found[JobId(service)] = int(count)
        return found


def _tasks(row: JobRow, states: Counter[JobState]) -> TaskCounts:
    """How the tasks of an array fare, of which so many have rows in each state."""
    return TaskCounts(
        total=row.tasks,
        queued=row.tasks - row.unfolded + states[JobState.QUEUED],
        live=sum(states[state] for state in HOLDS_NODES),
        succeeded=states[JobState.SUCCEEDED],
        failed=states[JobState.FAILED],
        cancelled=states[JobState.CANCELLED],
    )


def _replicas(wanted: int, states: Counter[JobState], worn: int) -> TaskCounts:
    """Those that failed for good are not begun again; all others that are over were replaced."""
    failed = states[JobState.FAILED] + states[JobState.SUCCEEDED] - worn
    live = sum(states[state] for state in HOLDS_NODES)
    return TaskCounts(
        total=wanted,
        queued=max(states[JobState.QUEUED], wanted - live - failed),
        live=live,
        failed=failed,
        cancelled=states[JobState.CANCELLED] + worn,
        ready=states[JobState.RUNNING],
    )
