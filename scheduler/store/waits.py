"""Jobs that wait for other jobs, and moves whose consequences are not all drawn yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import bindparam, delete, func, select

from scheduler.model.ids import JobId
from scheduler.model.job import Awaited, JobState
from scheduler.store.bulk import IDS, Statement
from scheduler.store.dialect import chunks
from scheduler.store.link import How, Link
from scheduler.store.schema_time import DEPENDENCIES, FOLLOW_UPS
from scheduler.store.scratch import Scratch

_ON = (
    select(DEPENDENCIES.c.job, DEPENDENCIES.c.state)
    .where(DEPENDENCIES.c.on_job == bindparam("on"))
    .order_by(DEPENDENCIES.c.job, DEPENDENCIES.c.state)
    .limit(bindparam("most"))
)
_AWAITED = Statement(
    DEPENDENCIES, f"SELECT DISTINCT on_job FROM dependencies WHERE on_job IN {IDS}"
)


class WaitsReader:
    """Finds who waits for whom."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def of_jobs(self, jobs: Iterable[JobId]) -> dict[JobId, tuple[Awaited, ...]]:
        """What each of `jobs` still waits for, by job and state."""
        found: defaultdict[JobId, list[Awaited]] = defaultdict(list)
        for chunk in chunks(sorted(set(jobs))):
            query = select(DEPENDENCIES).where(DEPENDENCIES.c.job.in_(chunk))
            query = query.order_by(
                DEPENDENCIES.c.job, DEPENDENCIES.c.on_job, DEPENDENCIES.c.state
            )  # fmt: skip
            for row in self._link.execute(query):
                awaited = Awaited(JobId(row.on_job), JobState(row.state))
                found[JobId(row.job)].append(awaited)
        return {job: tuple(awaited) for job, awaited in found.items()}

    def on(self, job: JobId, limit: int) -> tuple[tuple[JobId, JobState], ...]:
        """Who waits for `job`, and for which state of it; the first `limit`."""
        rows = self._link.execute(_ON, {"on": job, "most": limit})
        return tuple((JobId(row.job), JobState(row.state)) for row in rows)

    def awaited(self, jobs: Iterable[JobId]) -> frozenset[JobId]:
        """Those of `jobs` that somebody waits for."""
        rows = self._link.among(_AWAITED, sorted(set(jobs)))
        return frozenset(JobId(row[0]) for row in rows)

    def follow_ups(self, limit: int) -> tuple[JobId, ...]:
        """Jobs whose consequences are not all drawn, oldest first."""
        query = select(FOLLOW_UPS.c.job).order_by(FOLLOW_UPS.c.job).limit(limit)
        return tuple(JobId(row.job) for row in self._link.execute(query))


class WaitsWriter(WaitsReader):
    """Adds and removes waits."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)

    def add(self, job: JobId, awaited: Iterable[Awaited]) -> None:
        """`job` waits for these."""
        for each in awaited:
            row = {"job": job, "on_job": each.job, "state": int(each.state)}
            self._link.add(DEPENDENCIES, row, How.ABSENT)

    def met(self, job: JobId, on: JobId, state: JobState) -> int:
        """`job` no longer waits for this; how many more it waits for."""
        this = (
            DEPENDENCIES.c.job == job,
            DEPENDENCIES.c.on_job == on,
            DEPENDENCIES.c.state == int(state),
        )
        self._link.execute(delete(DEPENDENCIES).where(*this))
        query = select(func.count()).where(DEPENDENCIES.c.job == job)
        return int(self._link.execute(query).scalar_one())

    def forget(self, job: JobId) -> None:
        """`job` waits for nothing any more."""
        self._link.execute(delete(DEPENDENCIES).where(DEPENDENCIES.c.job == job))

    def follow_later(self, job: JobId) -> None:
        """More follows from where `job` is."""
        self._link.add(FOLLOW_UPS, {"job": job}, How.ABSENT)

    def followed(self, job: JobId) -> None:
        """Nothing more follows from where `job` is."""
        self._link.execute(delete(FOLLOW_UPS).where(FOLLOW_UPS.c.job == job))
