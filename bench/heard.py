"""What is executed on SQLite, heard at its driver: not all of it passes through SQLAlchemy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Dialect

Heard = Callable[[str, Sequence[Any]], None]
"""Is given a statement that is about to be executed, and the rows that it is executed with."""


def heard_by(heard: Heard) -> Callable[[Dialect, object, object, dict[str, object]], None]:
    """A listener of SQLAlchemy's `do_connect`: connections made from then on tell `heard`."""

    class Telling(sqlite3.Cursor):
        """A cursor that tells what it executes."""

        def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
            heard(sql, [values])
            return super().execute(sql, values)

        def executemany(self, sql: str, rows: Any, /) -> sqlite3.Cursor:
            heard(sql, rows)
            return super().executemany(sql, rows)

    class Connection(sqlite3.Connection):
        """A connection of such cursors."""

        def cursor(self, factory: Any = None) -> Any:
            return super().cursor(factory or Telling)

    def connecting(
        dialect: Dialect, _record: object, _args: object, how: dict[str, object]
    ) -> None:
        if dialect.name == "sqlite":
            how["factory"] = Connection

    return connecting
