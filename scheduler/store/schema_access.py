"""Tables of operators' access to tenants' data, and of what only tenants can read."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text

from scheduler.store.schema import METADATA

ACCESS_GRANTS = Table(
    "access_grants",
    METADATA,
    Column("id", Text, primary_key=True, nullable=False),
    Column("organisation", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("ends_at_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("ix_access_grants_organisation", "organisation"),
    Index("ix_access_grants_ends", "ends_at_ms"),
    sqlite_with_rowid=False,
)
"""What operators asked for. Rows stay: a tenant sees what was before. Revoking ends a row."""

ACCESS_POLICIES = Table(
    "access_policies",
    METADATA,
    Column("tenant", Text, primary_key=True, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Whom tenants let operators be. No row: the default."""

OPERATOR_USES = Table(
    "operator_uses",
    METADATA,
    Column("job", BigInteger, primary_key=True, nullable=False, autoincrement=False),
    Column("number", BigInteger, primary_key=True, nullable=False, autoincrement=False),
    Column("body", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""When an operator touched a job with a grant, in order; as its certificate tells it."""

SECRETS = Table(
    "secrets",
    METADATA,
    Column("name", Text, primary_key=True, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Tenants' secrets, sealed with their keys. Their values have never been here."""

TABLES = (ACCESS_GRANTS, ACCESS_POLICIES)
