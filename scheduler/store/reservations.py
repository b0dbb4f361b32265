"""Nodes that are kept for queued jobs: few rows, put and removed by the plans that are applied."""

from __future__ import annotations

from sqlalchemy import delete, select

from scheduler.model.ids import JobId
from scheduler.model.plan import Reservation
from scheduler.store.codec import decode, encode
from scheduler.store.link import Link
from scheduler.store.schema_time import RESERVATIONS
from scheduler.store.scratch import ChangeKind, Scratch


class ReservationsReader:
    """Finds reservations."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def all(self) -> tuple[Reservation, ...]:
        """All of them, by job."""
        bodies = self._link.execute(select(RESERVATIONS.c.body).order_by(RESERVATIONS.c.job))
        return tuple(decode(Reservation, body) for body in bodies.scalars())

    def get(self, job: JobId) -> Reservation | None:
        """What is kept for a job."""
        query = select(RESERVATIONS.c.body).where(RESERVATIONS.c.job == job)
        body = self._link.execute(query).scalar()
        return None if body is None else decode(Reservation, body)


class ReservationsWriter(ReservationsReader):
    """Changes reservations and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def put(self, made: Reservation) -> None:
        """From now on this is kept for its job."""
        self._link.upsert(RESERVATIONS, [{"job": made.job, "body": encode(made)}])
        self._scratch.changed(ChangeKind.RESERVATION, str(made.job))

    def remove(self, job: JobId) -> bool:
        """Nothing is kept for `job` any more; whether anything was."""
        found = self._link.execute(delete(RESERVATIONS).where(RESERVATIONS.c.job == job))
        if found.rowcount:
            self._scratch.changed(ChangeKind.RESERVATION, str(job))
        return bool(found.rowcount)
