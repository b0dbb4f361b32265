"""Answers of earlier requests, by caller and key, for a bounded time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import bindparam, delete, select

from scheduler.model.ids import JobId
from scheduler.store.bulk import IDS, How, Statement, inserting
from scheduler.store.link import Link
from scheduler.store.schema import IDEMPOTENCY
from scheduler.store.scratch import Scratch

RETENTION_MS = 24 * 3600 * 1000
"""A request repeated later than this is a new request."""
TRIM_ROWS_MAX = 10_000
"""Most rows that one trim deletes."""

_BY_KEY = select(IDEMPOTENCY).where(
    IDEMPOTENCY.c.principal == bindparam("who"), IDEMPOTENCY.c.key == bindparam("what")
)
_OF_KEYS = Statement(
    IDEMPOTENCY,
    "SELECT key, request_digest, job FROM idempotency"
    f" WHERE principal = ? AND at_ms >= ? AND key IN {IDS}",
)
_COLUMNS = ("principal", "key", "request_digest", "job", "at_ms")
_PUT = inserting(IDEMPOTENCY, How.REPLACE, _COLUMNS)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a key was used for."""

    request_digest: str
    job: JobId


class IdempotencyReader:
    """Looks keys up."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def get(self, principal: str, key: str, now_ms: int) -> Remembered | None:
        """What `principal` used `key` for, unless that is too long ago."""
        row = self._link.execute_around(_BY_KEY, {"who": principal, "what": key}).first()
        if row is None or row.at_ms < now_ms - RETENTION_MS:
            return None
        return Remembered(row.request_digest, JobId(row.job))

    def get_many(self, principal: str, keys: Iterable[str], now_ms: int) -> dict[str, Remembered]:
        """As `get`, for those of `keys` that were used."""
        # Waiting rows are new ones of this transaction: `IdempotencyWriter` knows those itself.
        oldest_ms = now_ms - RETENTION_MS
        rows = _OF_KEYS.among(self._link.connection, sorted(keys), (principal, oldest_ms))
        return {key: Remembered(digest, JobId(job)) for key, digest, job in rows}


class IdempotencyWriter(IdempotencyReader):
    """Remembers and forgets keys."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch
        self._new: dict[tuple[str, str], Remembered] = {}

    def get(self, principal: str, key: str, now_ms: int) -> Remembered | None:
        """As before, keys of this transaction included."""
        return self._new.get((principal, key)) or super().get(principal, key, now_ms)

    def get_many(self, principal: str, keys: Iterable[str], now_ms: int) -> dict[str, Remembered]:
        """As before, keys of this transaction included."""
        asked = sorted(keys)
        new = {key: self._new[principal, key] for key in asked if (principal, key) in self._new}
        return super().get_many(principal, asked, now_ms) | new

    def put(self, principal: str, seen: Mapping[str, Remembered], now_ms: int) -> None:
        """From now on each key stands for its request."""
        new = self._new
        keys = [(principal, key) for key in seen]
        new.update(zip(keys, seen.values(), strict=True))

        def forget() -> None:
            for key in keys:
                new.pop(key, None)

        self._scratch.undo.append(forget)
        rows = ((principal, key, s.request_digest, s.job, now_ms) for key, s in seen.items())
        self._link.do(_PUT, *rows)

    def trim(self, now_ms: int) -> int:
        """Deletes keys that no longer count; how many."""
        old = (
            select(IDEMPOTENCY.c.principal, IDEMPOTENCY.c.key)
            .where(IDEMPOTENCY.c.at_ms < now_ms - RETENTION_MS)
            .order_by(IDEMPOTENCY.c.at_ms)
            .limit(TRIM_ROWS_MAX)
        )
        rows = self._link.execute(old).all()
        for principal, key in rows:
            mine = (IDEMPOTENCY.c.principal == principal, IDEMPOTENCY.c.key == key)
            self._link.execute(delete(IDEMPOTENCY).where(*mine))
        return len(rows)
