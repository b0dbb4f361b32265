"""Tables of agreements, of what is used under them, and of their ledgers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, LargeBinary, Table, Text

from scheduler.store.schema import METADATA

AGREEMENTS = Table(
    "agreements",
    METADATA,
    Column("name", Text, primary_key=True, nullable=False),
    Column("body", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("applied_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger, nullable=False),
    Column("revoked_because", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Every agreement as it was last applied, with the document that its parties signed. Those that
are not revoked are in the policy too, which is what is judged by."""

AGREEMENT_USES = Table(
    "agreement_uses",
    METADATA,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", BigInteger, primary_key=True, autoincrement=False),
    Column("agreement", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("gpu_class", Text, nullable=False),
    Column("gpu_milli", BigInteger, nullable=False),
    Column("day", BigInteger, nullable=False),
    Column("live", Boolean, nullable=False),
    Column("gpu_ms", BigInteger, nullable=False),
    Index("ix_agreement_uses_day", "agreement", "day"),
    sqlite_with_rowid=False,
)
"""Attempts that an agreement admitted to their site. `gpu_ms` is what is reserved while they are
`live`, and then what they were charged; it counts on the day they were placed on."""

AGREEMENT_ENTRIES = Table(
    "agreement_entries",
    METADATA,
    Column("agreement", Text, primary_key=True, nullable=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf_index", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Where in the audit log each entry of an agreement's ledger stands. Entries are numbered from 1,
and each names the digest of the one before."""

AGREEMENT_TABLES = (AGREEMENTS, AGREEMENT_USES, AGREEMENT_ENTRIES)
