"""Copies what was committed from the log of a SQLite database to its place, beside the writer.

The simple equivalent leaves it to commits: one in so many finds the log long and copies all of it,
sixty megabytes and a flush, while everybody waits. Copying in between holds up nobody, and leaves
such a commit only what was written since. PostgreSQL does so by itself.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy.engine import make_url


class Backfill:
    """Of one database; for one thread at a time."""

    def __init__(self, url: str) -> None:
        where = make_url(url)
        file = where.database if where.get_backend_name() == "sqlite" else None
        self._file = Path(file) if file else None
        self._copied_at_ns = 0

    def is_due(self) -> bool:
        """Whether anything was committed since the last copy."""
        return self._written_at_ns() > self._copied_at_ns

    def copy(self) -> int:
        """Copies what no reader holds back; how many pages of the log are still to be copied. Where
        somebody else is at it, or the disk fails, it is for the next time."""
        self._copied_at_ns = self._written_at_ns()
        if self._file is None:
            return 0
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(self._file)) as connection:
            _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return int(pages) - int(copied)
        return 0

    def _written_at_ns(self) -> int:
        if self._file is None:
            return 0
        try:
            return Path(f"{self._file}-wal").stat().st_mtime_ns
        except FileNotFoundError:
            return 0
