"""Tables of what is to happen later: jobs that wait for jobs, follow-ups, windows of time."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, SmallInteger, Table, Text

from scheduler.store.schema import METADATA

DEPENDENCIES = Table(
    "dependencies",
    METADATA,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("on_job", BigInteger, primary_key=True, autoincrement=False),
    Column("state", SmallInteger, primary_key=True, autoincrement=False),
    Index("ix_dependencies_on", "on_job"),
    sqlite_with_rowid=False,
)
"""What queued jobs still wait for. A row goes when it is met, and when its job is over."""

FOLLOW_UPS = Table(
    "follow_ups",
    METADATA,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Jobs whose move has consequences for others that one transaction could not hold."""

WINDOWS = Table(
    "windows",
    METADATA,
    Column("id", Text, primary_key=True, nullable=False),
    Column("site", Text, nullable=False),
    Column("starts_at_ms", BigInteger, nullable=False),
    Column("ends_at_ms", BigInteger, nullable=False),
    Column("begun", Boolean, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_windows_site", "site"),
    sqlite_with_rowid=False,
)
"""Spans of time for which nodes are taken out of the common pool. A row goes when it is over."""

RESERVATIONS = Table(
    "reservations",
    METADATA,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Nodes that are kept for queued jobs. A row goes with the plan that finds it is not needed."""

TABLES = (DEPENDENCIES, FOLLOW_UPS, WINDOWS)
