"""What was learned of the work that comes: rows that are replaced now and then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import and_, case, func, or_, select

from scheduler.model.ids import TenantPath
from scheduler.model.job import JobState
from scheduler.model.plan import LengthsChanged, MixChanged
from scheduler.model.reasons import Reason
from scheduler.store.codec import decode, encode
from scheduler.store.link import Link
from scheduler.store.schema import ATTEMPTS, JOBS, META
from scheduler.store.scratch import ChangeKind, Scratch

MIX_KEY = "usual_requests"
LENGTHS_KEY = "run_lengths/"
"""Before the project's path."""
SCANNED_MAX = 20_000
"""A project's newest jobs that are looked at for such as have run."""
BY_THEMSELVES = (Reason.EXIT_NONZERO, Reason.SIGNALLED, Reason.TIME_LIMIT)
"""Ends that are the job's own; a success has no reason."""


class RunRow(NamedTuple):
    """How long a job ran in all its attempts so far, and whether it ended by itself."""

    class_id: int
    ran_ms: int
    is_over: bool


class LearnedReader:
    """Finds what was learned, and what there is to learn from."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def mix(self) -> MixChanged:
        """What is usually asked for; an empty one while nothing was learned."""
        body = self._body(MIX_KEY)
        return MixChanged() if body is None else decode(MixChanged, body)

    def lengths(self, tenant: TenantPath) -> LengthsChanged:
        """How long the jobs of a project run; an empty answer while nothing was learned."""
        body = self._body(LENGTHS_KEY + tenant)
        return LengthsChanged(tenant) if body is None else decode(LengthsChanged, body)

    def all_lengths(self) -> Iterator[LengthsChanged]:
        """The same of all projects, by name."""
        ours = META.c.name.startswith(LENGTHS_KEY, autoescape=True)
        for body in self._link.execute(select(META.c.value).where(ours).order_by(META.c.name)):
            yield decode(LengthsChanged, body[0])

    def runs(self, tenant: TenantPath, limit: int, now_ms: int) -> list[RunRow]:
        """A project's newest jobs that have run, `limit` at most, the newest first.

        Only SCANNED_MAX of its jobs are looked at: behind a longer queue nothing is found.
        """
        newest = (
            select(JOBS.c.id, JOBS.c.class_id, JOBS.c.state, JOBS.c.reason)
            .where(JOBS.c.tenant == tenant)
            .order_by(JOBS.c.id.desc())
            .limit(SCANNED_MAX)
            .subquery()
        )
        until_ms = case((ATTEMPTS.c.ended_at_ms > 0, ATTEMPTS.c.ended_at_ms), else_=now_ms)
        failed = and_(
            newest.c.state == int(JobState.FAILED),
            newest.c.reason.in_([str(reason) for reason in BY_THEMSELVES]),
        )
        over = or_(newest.c.state == int(JobState.SUCCEEDED), failed)
        query = (
            select(
                newest.c.class_id,
                func.sum(until_ms - ATTEMPTS.c.started_at_ms),
                case((over, 1), else_=0),
            )
            .join(ATTEMPTS, ATTEMPTS.c.job == newest.c.id)
            .where(ATTEMPTS.c.started_at_ms > 0)
            .group_by(newest.c.id, newest.c.class_id, newest.c.state, newest.c.reason)
            .order_by(newest.c.id.desc())
            .limit(limit)
        )
        rows = self._link.execute(query)
        return [RunRow(row[0], max(0, int(row[1])), bool(row[2])) for row in rows]

    def _body(self, name: str) -> str | None:
        query = select(META.c.value).where(META.c.name == name)
        return self._link.execute(query).scalar()


class LearnedWriter(LearnedReader):
    """Changes what was learned and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def put_mix(self, mix: MixChanged) -> None:
        """From now on this is what is usually asked for."""
        self._link.upsert(META, [{"name": MIX_KEY, "value": encode(mix)}])
        self._scratch.changed(ChangeKind.MIX, MIX_KEY)

    def put_lengths(self, lengths: LengthsChanged) -> None:
        """From now on this is how long the jobs of a project are to be expected to run."""
        name = LENGTHS_KEY + lengths.tenant
        self._link.upsert(META, [{"name": name, "value": encode(lengths)}])
        self._scratch.changed(ChangeKind.LENGTHS, lengths.tenant)
