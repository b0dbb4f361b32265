"""Tables of what proves something to strangers: inner hashes, checkpoints, certificates."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
)

from scheduler.store.schema import METADATA, ROW_ID

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

CERTIFICATES = Table(
    "certificates",
    METADATA,
    Column("job", ROW_ID, primary_key=True, autoincrement=False),
    Column("tenant", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("prev", Text, nullable=False),
    Column("issued_at_ms", BigInteger, nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Index("ix_certificates_tenant", "tenant", "seq", "digest", unique=True),
)
"""What was certified of jobs that are over: the statement, compressed, and where the log holds its
digest. A tenant's certificates are numbered from 1, and each names the digest of the one before."""

SITE_FACTS = Table(
    "site_facts",
    METADATA,
    Column("site", Text, primary_key=True, nullable=False),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What was known of each site from which moment on."""

NODE_FACTS = Table(
    "node_facts",
    METADATA,
    Column("node", Text, primary_key=True, nullable=False),
    Column("key", Text, primary_key=True, nullable=False),
    Column("since_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("renewed_ms", BigInteger, nullable=False),
    Column("stalest_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What was known of each node from which moment on. What is found again with the same result is no
new row: the row then has the newest, when that was, and how old the fact ever was before."""
