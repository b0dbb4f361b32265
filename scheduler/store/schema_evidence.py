"""Tables of what proves something to strangers: the log's inner hashes and its checkpoints."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, SmallInteger, Table, Text

from scheduler.store.schema import METADATA

AUDIT_NODES = Table(
    "audit_nodes",
    METADATA,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("n", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Roots of perfect subtrees of 256^level leaves, level 1 and up: one row for every 256 leaves.
Level 0 is the leaves' own hashes, in `audit`."""

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("cosigned", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""Signed notes about the log, by its size then. `cosigned` once a witness has."""

COSIGNATURES = Table(
    "cosignatures",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("witness", Text, primary_key=True, nullable=False),
    Column("line", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Signature lines of witnesses under checkpoints."""
