"""Statements as plain text with plain tuples, for what is done to a thousand rows at once.

The simple equivalent is SQLAlchemy Core with a dict a row; building and converting those costs
several times what the database does with them. Text is made from the tables, once; values must be
what the drivers take as they are: `int`, `str`, `bytes`, `bool` and None, no enums.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from functools import lru_cache
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import SQLAlchemyError

from scheduler.store.dialect import BIND_CHUNK

Values = tuple[Any, ...]
INSERTS_MAX = 256
"""Kinds of inserts whose text is remembered; there are a few for each table."""
PAGE_ROWS = 1_000
"""Rows of a long answer that are tuples at a time: few enough to stay in a processor's cache."""
ROWS_OF_INSERT = (100, 25, 5, 1)
"""How many rows one execution of an insert has on SQLite. Row by row its driver would let other
threads of Python run before each, and wait for them: milliseconds, where a busy event loop is one.
"""
IDS = "(:ids)"
"""Stands for a list of values in a statement that is read with `among`, or changes those rows."""


class DriverFailed(SQLAlchemyError):
    """What the driver raised when it was used past SQLAlchemy."""


class How(Enum):
    """What becomes of a row whose key is there already."""

    NEW = "new"
    """It cannot be."""
    ABSENT = "absent"
    """The one that is there stays."""
    REPLACE = "replace"
    """The later one stays."""


class Statement:
    """SQL about one table, with `?` for each value whatever the driver calls them.

    `exact`: each row of values must touch exactly one row of the table. `part`: which of its
    columns it changes, where others that change different ones need not wait for it. `places`: of
    an insert, the places of one row in its text, which may be there many times.
    """

    __slots__ = ("_ready", "by_ids", "exact", "places", "subject", "table", "text")

    def __init__(
        self, table: Table, text: str, *, exact: bool = False, part: str = "", places: str = ""
    ) -> None:
        self.table = table.name
        self.subject = (table.name, part)
        self.text = text
        self.exact = exact
        self.places = places
        self.by_ids = IDS in text
        self._ready: dict[tuple[str, int], str] = {}

    def many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Executes it with each of `rows`; where its text has `IDS`, a row is one of them."""
        if self.by_ids:
            self._at(connection, [values[0] for values in rows])
            return
        if not rows:
            return
        if self.places and connection.dialect.name == "sqlite":
            self._wide(connection, rows)
            return
        done = connection.exec_driver_sql(self._for(connection), list(rows))
        if self.exact:
            self._expect(done.rowcount, len(rows))

    def _wide(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Inserts `rows` by few executions, given to the driver itself: what SQLAlchemy adds to
        each is more than the rest of it, and a small commit has a dozen."""
        cursor = connection.connection.cursor()
        done = 0
        try:
            for wide in ROWS_OF_INSERT:
                while len(rows) - done >= wide:
                    values = tuple(chain.from_iterable(rows[done : done + wide]))
                    cursor.execute(self._for(connection, wide), values)
                    done += wide
        except sqlite3.Error as failure:
            raise DriverFailed(str(failure)) from failure
        finally:
            cursor.close()

    def _at(self, connection: Connection, ids: Sequence[object]) -> None:
        for n in range(0, len(ids), BIND_CHUNK):
            chunk = tuple(ids[n : n + BIND_CHUNK])
            done = connection.exec_driver_sql(self._for(connection, len(chunk)), chunk)
            if self.exact:
                self._expect(done.rowcount, len(chunk))

    def _expect(self, found: int, wanted: int) -> None:
        assert found == wanted, f"{found} rows of {self.table} were as expected, not {wanted}"

    def rows(self, connection: Connection, values: Values = ()) -> Sequence[Any]:
        """All that it answers, as tuples of what the driver gives."""
        answered = connection.exec_driver_sql(self._for(connection), values)
        return _fetched(answered)

    def pages(self, connection: Connection, values: Values = ()) -> Iterator[Sequence[Any]]:
        """All that it answers, a page at a time: the rest stays with the driver."""
        answered = connection.exec_driver_sql(self._for(connection), values)
        cursor: Any = answered.cursor
        try:
            while rows := cursor.fetchmany(PAGE_ROWS):
                yield rows
        finally:
            answered.close()

    def among(
        self, connection: Connection, ids: Iterable[object], values: Values = ()
    ) -> list[Any]:
        """The rows that it answers for any of `ids`; `values` are for what stands before them."""
        wanted = tuple(ids)
        found: list[Any] = []
        for n in range(0, len(wanted), BIND_CHUNK):
            chunk = wanted[n : n + BIND_CHUNK]
            text = self._for(connection, len(chunk))
            found += _fetched(connection.exec_driver_sql(text, values + chunk))
        return found

    def _for(self, connection: Connection, many: int = 0) -> str:
        """Its text for the dialect, with room for so many ids, or rows of an insert."""
        dialect = connection.dialect.name
        known = self._ready.get((dialect, many))
        if known is None:
            known = self.text.replace(IDS, f"({', '.join('?' * many)})")
            if self.places and many:
                known = known.replace(self.places, ", ".join([self.places] * many), 1)
            if dialect != "sqlite":
                known = known.replace("?", "%s")
            self._ready[dialect, many] = known
        return known


def _fetched(answered: Any) -> list[Any]:
    """The driver's own rows: wrapping each one costs more than reading it."""
    found: list[Any] = answered.cursor.fetchall()
    answered.close()
    return found


@lru_cache(maxsize=INSERTS_MAX)
def inserting(table: Table, how: How = How.NEW, names: Values | None = None) -> Statement:
    """Inserts rows that have the columns `names`, in their order; all columns, if none is named."""
    columns = tuple(column.name for column in table.columns) if names is None else names
    places = f"({', '.join('?' * len(columns))})"
    text = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {places}"
    keys = [column.name for column in table.primary_key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    match how:
        case How.NEW:
            then = ""
        case How.REPLACE if changes:
            then = f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
        case How.REPLACE | How.ABSENT:
            then = f" ON CONFLICT ({', '.join(keys)}) DO NOTHING"
    return Statement(table, f"{text}{then}", places=places)
