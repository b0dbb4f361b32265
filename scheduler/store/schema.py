"""Every table, as SQLAlchemy Core. Tables never leave `store/`; the domain sees `model` only.

Quantities are 64-bit integers with their unit in the name; enums are stored by number, structured
values that are only ever read whole as JSON text (`codec.py`). Nothing here counts what is in use:
that is derived from live placements. What was used by attempts that are over is summed by day.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    SmallInteger,
    Table,
    Text,
    literal_column,
)
from sqlalchemy.types import TypeDecorator

from scheduler.model.job import JobState

METADATA = MetaData()

# An INTEGER primary key is SQLite's own row key; a BIGINT one would cost a second index.
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
INT64_SIGN = 1 << 63
MASK64 = (1 << 64) - 1


def signed_mask(value: int) -> int:
    """A mask of 64 bits as a signed column has it."""
    if not 0 <= value <= MASK64:
        raise ValueError(f"a GPU mask has 64 bits; found {value:#x}")
    return value - (1 << 64) if value & INT64_SIGN else value


class Mask64(TypeDecorator[int]):
    """64 bits in a signed column: GPU 63 is the sign."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """Bits 0 to 63 as two's complement."""
        return None if value is None else signed_mask(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> int | None:
        """The mask as a non-negative integer."""
        return None if value is None else value & MASK64


def _table(name: str, *columns: Column[object] | Index) -> Table:
    """A table keyed by all that identifies a row; on SQLite the key is the table."""
    return Table(name, METADATA, *columns, sqlite_with_rowid=False)


def _key(name: str, kind: object = Text) -> Column[object]:
    return Column(name, kind, primary_key=True, autoincrement=False, nullable=False)  # type: ignore[arg-type]


def _text(name: str, default: str | None = None) -> Column[object]:
    return Column(name, Text, nullable=False, default=default)


def _int(name: str) -> Column[object]:
    return Column(name, BigInteger, nullable=False)


def _small(name: str) -> Column[object]:
    return Column(name, SmallInteger, nullable=False)


META = _table("meta", _key("name"), _text("value"))
"""`schema_version`, and nothing that changes while the program runs."""

COUNTERS = _table("counters", _key("name"), _int("value"))
"""Last numbers given out: job ids, change sequence, audit index, policy revision."""

LEASES = _table("leases", _key("name"), _int("epoch"))
"""Who may write: the holder of the newest epoch (`lease.py`)."""

TENANTS = _table("tenants", _key("path"), _text("body"))

POLICIES = _table("policies", _key("revision", BigInteger), _text("body"), _int("applied_at_ms"))
"""Every revision is kept: decisions name the revision they were made under."""

SITES = _table(
    "sites",
    _key("id"),
    _text("body"),
    Column("cordoned", Boolean, nullable=False),
    _text("reason"),
    Column("drain_at_ms", BigInteger, nullable=True),
)
"""Sites as declared, facts included; the operator's cordon lies beside the declaration, and with it
when work that still runs there is stopped, if it is."""

NODES = _table(
    "nodes",
    _key("id"),
    _text("site"),
    _text("body"),
    Column("cordoned", Boolean, nullable=False),
    _text("reason"),
    Column("drain_at_ms", BigInteger, nullable=True),
    Column("report", Text, nullable=True),
    Column("reported_at_ms", BigInteger, nullable=True),
    Column("facts", Text, nullable=True),
    Index("ix_nodes_site", "site"),
)

SITE_STATE = _table(
    "site_state",
    _key("site"),
    Column("connected", Boolean, nullable=False),
    _int("generation"),
    _int("acked_generation"),
    _text("agent_version"),
    _text("incarnation"),
    _int("contact_at_ms"),
    _text("metrics_address", ""),
)
"""The session side of a site: what was sent, what it confirmed."""

JOB_CLASSES = Table(
    "job_classes",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False, unique=True),
)
"""Classes of alike jobs, interned: a queued row names its class by number."""

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=False),
    _int("class_id"),
    _text("tenant"),
    _small("state"),
    _int("submitted_at_ms"),
    _int("next_attempt"),
    _int("not_before_ms"),
    Column("leased", Boolean, nullable=False),
    Column("reason", Text, nullable=True),
    _text("message", ""),
    _int("ended_at_ms"),
    Column("exit_code", BigInteger, nullable=True),
    Column("cancel_requested", Boolean, nullable=False),
    Column("held", Boolean, nullable=False, default=False),
    Column("array_id", BigInteger, nullable=True),
    Column("task", BigInteger, nullable=True),
    Column("tasks", BigInteger, nullable=False, default=0),
    Column("unfolded", BigInteger, nullable=False, default=0),
    Column("running_max", BigInteger, nullable=False, default=0),
    Column("replicas", BigInteger, nullable=True),
)
"""How a job fares: a narrow row, because whatever changes rewrites a page, and rows share it. What
never changes is in `job_particulars`. `held` while a queued job is not for the planner: it waits
for other jobs, or is an array. A task has its array and its number there; an array has how many
there are, how many have rows of their own, and how many may be under way at once (0: no bound). A
service is an array of its replicas that says how many there are to be; of nothing else is that
said."""
QUEUED: ColumnElement[bool] = JOBS.c.state == literal_column(str(int(JobState.QUEUED)))
"""Written out, not bound: a database finds an index over some rows only by the same words."""
# The queue, oldest job first, with all that the planner starts from: it reads no row of the table.
# Class by class would spare it a little; but then each job that comes or goes has a page to itself.
Index(
    "ix_jobs_queued",
    JOBS.c.id,
    JOBS.c.class_id,
    JOBS.c.submitted_at_ms,
    JOBS.c.next_attempt,
    JOBS.c.not_before_ms,
    JOBS.c.held,
    JOBS.c.state,  # Though it is the same in every row: SQLite would look it up.
    sqlite_where=QUEUED,
    postgresql_where=QUEUED,
)
# A tenant's list, newest first.
Index("ix_jobs_tenant", JOBS.c.tenant, JOBS.c.id)

PARTICULARS = Table(
    "job_particulars",
    METADATA,
    Column("id", ROW_ID, primary_key=True, autoincrement=False),
    _text("owner"),
    _text("name"),
    _text("spec_digest"),
    _int("spec_number"),
    Index("ix_job_particulars_name", "name", "id"),
)
"""Whose a job is and what it is: written once. `spec_number`: of its row in `specs`."""
# The tasks of an array, by state: how many are where.
Index(
    "ix_jobs_task",
    JOBS.c.array_id,
    JOBS.c.state,
    JOBS.c.task,
    sqlite_where=JOBS.c.array_id.is_not(None),
    postgresql_where=JOBS.c.array_id.is_not(None),
)

SPECS = Table(
    "specs",
    METADATA,
    Column("number", ROW_ID, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=True),
)
"""Specs in the order in which they came: by their digests, which are chance, each would lie on a
page of its own, and a commit write that many pages. Erased: the row stays, its body goes."""

ATTEMPTS = _table(
    "attempts",
    _key("job", BigInteger),
    _key("attempt", BigInteger),
    _text("site"),
    _small("state"),
    Column("live", Boolean, nullable=False),
    Column("leased", Boolean, nullable=False),
    _text("gpu_class"),
    _int("gpu_milli"),
    _text("country"),
    _int("leaf_index"),
    Column("reason", Text, nullable=True),
    _text("message", ""),
    _int("placed_at_ms"),
    _int("started_at_ms"),
    _int("ended_at_ms"),
    Column("checkpoint_at_ms", BigInteger, nullable=False, default=0),
)
"""`live` while its placement counts against capacity and quota; `placements` knows by place which
are. `leaf_index` is where in the audit log its placement is told.
`checkpoint_at_ms` is when it was last heard that there is a newer checkpoint, by our clock."""

PLACEMENTS = _table(
    "placements",
    _key("job", BigInteger),
    _key("attempt", BigInteger),
    _key("ordinal", BigInteger),
    _text("node"),
    Column("gpu_mask", Mask64, nullable=False),
    Column("live", Boolean, nullable=False),
    _text("boot_id", ""),
    _text("gone", ""),
)
"""`boot_id` is that under which a rank was first seen running there; `gone` is the proof (a reason)
that nothing of this attempt runs there any more."""
IS_LIVE: ColumnElement[bool] = literal_column("placements.live", Boolean)
"""In the same words on every database, as the index has it; `PLACEMENTS.c.live` is not."""
Index(
    "ix_placements_live_node",
    PLACEMENTS.c.node,
    sqlite_where=literal_column("live"),
    postgresql_where=literal_column("live"),
)


def of_live(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """`query` of attempts that are live: each has one live placement with ordinal 0."""
    same = (PLACEMENTS.c.job == ATTEMPTS.c.job) & (PLACEMENTS.c.attempt == ATTEMPTS.c.attempt)
    return query.join(PLACEMENTS, same).where(IS_LIVE, PLACEMENTS.c.ordinal == 0)


RANKS = _table(
    "ranks",
    _key("job", BigInteger),
    _key("attempt", BigInteger),
    _key("rank", BigInteger),
    _text("body"),
)

SETTLED = _table(
    "settled_use",
    _key("tenant"),
    _key("gpu_class"),
    _key("day", BigInteger),
    _int("charged_gpu_ms"),
    _int("refunded_gpu_ms"),
    _int("attempts"),
)
"""What attempts that are over have used, by tenant, GPU class and the day they were placed on."""
Index("ix_settled_day", SETTLED.c.day)

OUTBOX = _table(
    "outbox",
    _key("site"),
    _key("job", BigInteger),
    _key("attempt", BigInteger),
    _int("generation"),
    _small("action"),
    _int("grace_ms"),
    _text("reason"),
)
Index("ix_outbox_generation", OUTBOX.c.site, OUTBOX.c.generation)

AUDIT = Table(
    "audit",
    METADATA,
    Column("leaf_index", ROW_ID, primary_key=True, autoincrement=False),
    _text("kind"),
    _text("tenant"),
    Column("job", BigInteger, nullable=True),
    _int("at_ms"),
    _text("body"),
    Column("salt", LargeBinary, nullable=False),
    Column("leaf_hash", LargeBinary, nullable=False),
)
Index("ix_audit_tenant", AUDIT.c.tenant, AUDIT.c.leaf_index)
# Placements are the most of all leaves; each is found by its attempt, which has its index.
FOUND_BY_JOB = AUDIT.c.job.is_not(None) & (AUDIT.c.kind != literal_column("'attempt_placed'"))
Index(
    "ix_audit_job",
    AUDIT.c.job,
    AUDIT.c.leaf_index,
    sqlite_where=FOUND_BY_JOB,
    postgresql_where=FOUND_BY_JOB,
)

TREE = _table("audit_tree", _key("name"), _int("size"), Column("peaks", LargeBinary))
"""The hashes from which the root of the whole log is made without reading it."""

CHANGES = Table(
    "changes",
    METADATA,
    Column("seq", ROW_ID, primary_key=True, autoincrement=False),
    _small("kind"),
    _text("key"),
)
"""What the planner child follows: that something changed, never how."""

IDEMPOTENCY = _table(
    "idempotency",
    _key("principal"),
    _key("key"),
    _text("request_digest"),
    _int("job"),
    _int("at_ms"),
)
Index("ix_idempotency_at", IDEMPOTENCY.c.at_ms)

JOIN_TOKENS = _table(
    "join_tokens",
    _key("token_hash", LargeBinary),
    _text("name"),
    _text("created_by"),
    _int("expires_at_ms"),
    Column("used_at_ms", BigInteger, nullable=True),
    _text("country", ""),
    _small("clearance"),
    _text("consent", ""),
)

REVOCATIONS = _table(
    "revocations", _key("name"), _int("at_ms"), _text("revoked_by"), _text("reason")
)
