"""Answers of earlier requests, by caller and key, for a bounded time."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from scheduler.model.ids import JobId
from scheduler.store.schema import IDEMPOTENCY
from scheduler.store.scratch import Scratch

RETENTION_MS = 24 * 3600 * 1000
"""A request repeated later than this is a new request."""
TRIM_ROWS_MAX = 10_000
"""Most rows that one trim deletes."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a key was used for."""

    request_digest: str
    job: JobId


class IdempotencyReader:
    """Looks keys up."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, principal: str, key: str, now_ms: int) -> Remembered | None:
        """What `principal` used `key` for, unless that is too long ago."""
        query = select(IDEMPOTENCY).where(
            IDEMPOTENCY.c.principal == principal, IDEMPOTENCY.c.key == key
        )
        row = self._connection.execute(query).first()
        if row is None or row.at_ms < now_ms - RETENTION_MS:
            return None
        return Remembered(row.request_digest, JobId(row.job))


class IdempotencyWriter(IdempotencyReader):
    """Remembers and forgets keys."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.connection)

    def put(self, principal: str, key: str, seen: Remembered, now_ms: int) -> None:
        """From now on `key` stands for this request."""
        mine = (IDEMPOTENCY.c.principal == principal, IDEMPOTENCY.c.key == key)
        self._connection.execute(delete(IDEMPOTENCY).where(*mine))
        row = {
            "principal": principal,
            "key": key,
            "request_digest": seen.request_digest,
            "job": seen.job,
            "at_ms": now_ms,
        }
        self._connection.execute(insert(IDEMPOTENCY), row)

    def trim(self, now_ms: int) -> int:
        """Deletes keys that no longer count; how many."""
        old = (
            select(IDEMPOTENCY.c.principal, IDEMPOTENCY.c.key)
            .where(IDEMPOTENCY.c.at_ms < now_ms - RETENTION_MS)
            .order_by(IDEMPOTENCY.c.at_ms)
            .limit(TRIM_ROWS_MAX)
        )
        rows = self._connection.execute(old).all()
        for principal, key in rows:
            mine = (IDEMPOTENCY.c.principal == principal, IDEMPOTENCY.c.key == key)
            self._connection.execute(delete(IDEMPOTENCY).where(*mine))
        return len(rows)
