"""How statements reach the database inside one view of it, and rows that may wait a little.

Rows that are added or changed one at a time (jobs, attempts, ranks, keys) wait until something is
asked, and then go to the database many at once: one statement a thousand rows instead of one each.
Nobody can tell: every question sends them first, and a savepoint that is rolled back forgets its
own. Savepoints wait too: one inside which nothing reached the database never does itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, CursorResult, Executable, NestedTransaction, Table

from scheduler.store.bulk import How, Statement, Values, inserting
from scheduler.store.dialect import Row, upsert

WAITING_MAX = 20_000
"""Rows that wait at most: memory is bounded, whatever a transaction adds."""


@dataclass(frozen=True, slots=True)
class LinkMark:
    """Which lots of rows waited, and which of them had been sent, when a savepoint began."""

    lots: int
    sent: int


@dataclass(slots=True)
class Savepoint:
    """A savepoint; `nested` once the database knows of it."""

    nested: NestedTransaction | None = None


@dataclass(slots=True)
class Link:
    """A connection, and rows on their way to it."""

    connection: Connection
    _lots: list[tuple[Statement, Sequence[Values]]] = field(default_factory=lambda: [])
    _sent: int = 0
    _waiting: int = 0
    """Rows of the lots that were not sent."""
    _by_subject: dict[tuple[str, str], Statement] = field(default_factory=lambda: {})
    _savepoints: list[Savepoint] = field(default_factory=lambda: [])

    def execute(
        self, statement: Executable, parameters: Row | Sequence[Row] | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Executes a statement, which sees every row that was added before it."""
        self.send()
        if not statement.is_select:
            self._save()
        return self.connection.execute(statement, parameters)

    def execute_around(
        self, question: Executable, parameters: Row | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """Asks what waiting rows have no part in."""
        assert question.is_select, "only a question may go before rows that wait"
        return self.connection.execute(question, parameters)

    def rows(self, question: Statement, values: Values = ()) -> Sequence[Any]:
        """All that a question answers."""
        self.send()
        return question.rows(self.connection, values)

    def pages(self, question: Statement, values: Values = ()) -> Iterator[Sequence[Any]]:
        """All that a question answers, where that may be very much."""
        self.send()
        return question.pages(self.connection, values)

    def among(self, question: Statement, ids: Iterable[object], values: Values = ()) -> list[Any]:
        """All that a question answers for any of `ids`; `values` stand before them in it."""
        wanted = tuple(ids)
        if not wanted:
            return []
        self.send()
        return question.among(self.connection, wanted, values)

    def upsert(self, table: Table, rows: Sequence[Row]) -> None:
        """Inserts rows now, or replaces those with the same primary key."""
        self.send()
        self._save()
        upsert(self.connection, table, rows)

    def add(self, table: Table, row: Row, how: How = How.NEW) -> None:
        """Adds a row soon. Its values are what drivers take as they are: no enums."""
        self.do(inserting(table, how, tuple(row)), tuple(row.values()))

    def do(self, statement: Statement, *rows: Values) -> None:
        """Executes `statement` with each of `rows` soon, after what waits for the same subject."""
        waiting = self._by_subject.setdefault(statement.subject, statement)
        if waiting is not statement:
            self.send()
            self._by_subject[statement.subject] = statement
        self._lots.append((statement, rows))
        self._waiting += len(rows)
        if self._waiting >= WAITING_MAX:
            self.send()

    def send(self) -> None:
        """Sends the rows that wait, statement by statement."""
        if self._sent == len(self._lots):
            return
        self._save()
        groups: dict[Statement, list[Values]] = {}
        for statement, rows in self._lots[self._sent :]:
            groups.setdefault(statement, []).extend(rows)
        self._sent = len(self._lots)
        self._waiting = 0
        self._by_subject.clear()
        for statement, rows in groups.items():
            statement.many(self.connection, rows)
        if not self._savepoints:
            # Nothing can make them wait again.
            self._lots.clear()
            self._sent = 0

    def begin_savepoint(self) -> Savepoint:
        """From here on, until it ends, everything may be undone."""
        begun = Savepoint()
        self._savepoints.append(begun)
        return begun

    def end_savepoint(self, begun: Savepoint, *, undo: bool) -> None:
        """The innermost savepoint ends: what happened since stays, or is undone."""
        assert self._savepoints.pop() is begun, "savepoints end in the order they were nested in"
        if begun.nested is None:
            return
        if undo:
            begun.nested.rollback()
        else:
            begun.nested.commit()

    def mark(self) -> LinkMark:
        """Where we are now."""
        return LinkMark(len(self._lots), self._sent)

    def roll_back(self, mark: LinkMark) -> None:
        """The database is as it was at `mark`: what was sent since waits again, if it is older."""
        del self._lots[mark.lots :]
        self._sent = mark.sent
        unsent = self._lots[mark.sent :]
        self._waiting = sum(len(rows) for _, rows in unsent)
        self._by_subject = {statement.subject: statement for statement, _ in unsent}

    def _save(self) -> None:
        """Something is about to change: the database is told of every savepoint around it."""
        for savepoint in self._savepoints:
            if savepoint.nested is None:
                savepoint.nested = self.connection.begin_nested()
