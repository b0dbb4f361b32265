"""How statements reach the database inside one view of it, and rows that may wait a little.

Rows that are only added (jobs, specs, keys) wait until something is read or changed, and then go
to the database many at once: one statement a thousand rows instead of one each. Nobody can tell:
every other statement sends them first, and a savepoint that is rolled back forgets its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, Table, insert

from scheduler.store.dialect import Row, insert_absent, upsert

WAITING_MAX = 20_000
"""Rows that wait at most: memory is bounded, whatever a transaction adds."""


class How(Enum):
    """What becomes of a row whose key is there already."""

    NEW = "new"
    """It cannot be."""
    ABSENT = "absent"
    """The one that is there stays."""
    REPLACE = "replace"
    """The later one stays."""


@dataclass(frozen=True, slots=True)
class LinkMark:
    """Which rows waited, and which of them had been sent, when a savepoint began."""

    rows: int
    sent: int


@dataclass(slots=True)
class Link:
    """A connection, and rows on their way to it."""

    connection: Connection
    _rows: list[tuple[Table, How, Row]] = field(default_factory=lambda: [])
    _sent: int = 0

    def execute(
        self, statement: Executable, parameters: Row | Sequence[Row] | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Executes a statement, which sees every row that was added before it."""
        self.send()
        return self.connection.execute(statement, parameters)

    def execute_around(
        self, statement: Executable, parameters: Row | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Executes a question that waiting rows have no part in."""
        return self.connection.execute(statement, parameters)

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Inserts rows now, or replaces those with the same primary key."""
        self.send()
        upsert(self.connection, table, rows)

    def add(self, table: Table, row: Row, how: How = How.NEW) -> None:
        """Adds a row soon."""
        self._rows.append((table, how, row))
        if len(self._rows) - self._sent >= WAITING_MAX:
            self.send()

    def send(self) -> None:
        """Sends the rows that wait, table by table."""
        if self._sent == len(self._rows):
            return
        groups: dict[tuple[Table, How], list[Row]] = {}
        for table, how, row in self._rows[self._sent :]:
            groups.setdefault((table, how), []).append(row)
        self._sent = len(self._rows)
        for (table, how), rows in groups.items():
            match how:
                case How.NEW:
                    self.connection.execute(insert(table), rows)
                case How.ABSENT:
                    insert_absent(self.connection, table, rows)
                case How.REPLACE:
                    upsert(self.connection, table, rows)

    def mark(self) -> LinkMark:
        """Where we are now."""
        return LinkMark(len(self._rows), self._sent)

    def roll_back(self, mark: LinkMark) -> None:
        """The database is as it was at `mark`: what was sent since waits again, if it is older."""
        del self._rows[mark.rows :]
        self._sent = mark.sent
