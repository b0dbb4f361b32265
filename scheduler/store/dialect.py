"""The one place where databases differ: how to open them, and how to say "insert or replace"."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

BUSY_TIMEOUT_MS = 10_000
"""How long a second process on the same SQLite file may keep us waiting."""
READERS_MAX = 16
"""Snapshots open at the same time in one process; more wait."""
WAL_AUTOCHECKPOINT_PAGES = 16_000
"""A commit that finds so many pages in the log copies to their places those that `backfill.py` has
not, and the log begins anew. Most were written many times by then."""
WAL_SIZE_LIMIT_BYTES = 256 << 20
WAL_RESTART_PAGES = 64_000
"""Past this many pages of log a commit waits for those who still read and starts it anew: what
checkpoints by themselves, only as far as the oldest reader, lets it grow for ever."""
WAL_PAGE_BYTES = 4_096
WAL_RESTART_MS_MAX = 100
"""How long it waits for them at most; the next commit tries again."""
SQLITE_CACHE_KIB = 64 << 10
BIND_CHUNK = 500
"""Most values in one IN list: far below every database's limit on parameters."""
_SQLITE = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    f"PRAGMA cache_size=-{SQLITE_CACHE_KIB}",
    "PRAGMA temp_store=MEMORY",
)
SQLITE_READING = (*_SQLITE, "PRAGMA query_only=ON")
SQLITE_WRITING = (
    *_SQLITE,
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA wal_autocheckpoint={WAL_AUTOCHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit={WAL_SIZE_LIMIT_BYTES}",
)
"""How a connection to a SQLite database is set up."""

Row = Mapping[str, Any]


def url_of(place: str | Path) -> str:
    """A database's URL; a plain path means SQLite."""
    text = str(place)
    return text if "://" in text else f"sqlite:///{Path(text).absolute()}"


def writing_engine(url: str) -> Engine:
    """An engine of one connection, whose transactions are serialised from their first statement."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_size=1, max_overflow=0, isolation_level="REPEATABLE READ")
    engine = create_engine(
        url, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False}
    )
    _set_up_sqlite(engine, begin="BEGIN IMMEDIATE", read_only=False)
    return engine


def reading_engine(url: str) -> Engine:
    """An engine whose transactions are consistent snapshots and cannot write."""
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_size=READERS_MAX,
            max_overflow=0,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )
    engine = create_engine(
        url, pool_size=READERS_MAX, max_overflow=0, connect_args={"check_same_thread": False}
    )
    _set_up_sqlite(engine, begin="BEGIN", read_only=True)
    return engine


def _set_up_sqlite(engine: Engine, *, begin: str, read_only: bool) -> None:
    pragmas = SQLITE_READING if read_only else SQLITE_WRITING

    def on_connect(connection: Any, _record: object) -> None:
        # The driver would begin transactions by itself, late and not before every statement.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)


def bound_log(engine: Engine, pages_max: int = WAL_RESTART_PAGES) -> None:
    """Keeps the log of a SQLite database from growing for ever; call it between transactions."""
    file = engine.url.database
    if engine.dialect.name != "sqlite" or not file:
        return
    try:
        size = Path(f"{file}-wal").stat().st_size
    except FileNotFoundError:
        return
    if size <= pages_max * WAL_PAGE_BYTES:
        return
    raw = engine.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA busy_timeout={WAL_RESTART_MS_MAX}")
        # What was committed stands, whatever becomes of this; the next commit tries again.
        with suppress(sqlite3.OperationalError):
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.close()
    finally:
        raw.close()


def upsert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts `rows`, or replaces the rows with the same primary key by them."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    others = [name for name in rows[0] if name not in keys]
    module = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = module.insert(table)
    if others:
        new = {name: statement.excluded[name] for name in others}
        statement = statement.on_conflict_do_update(index_elements=keys, set_=new)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, list(rows))


def insert_absent(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts those of `rows` whose primary key is not there yet."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    module = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = module.insert(table).on_conflict_do_nothing(index_elements=keys)
    connection.execute(statement, list(rows))


def chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    """`values` in pieces that fit an IN list."""
    return [values[n : n + BIND_CHUNK] for n in range(0, len(values), BIND_CHUNK)]
