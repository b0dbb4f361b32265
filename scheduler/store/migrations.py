"""The schema's version, and the way forward from older ones. A newer database is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table, inspect, select, text

from scheduler.model.operator_access import AccessGrant, OperatorUse
from scheduler.store import schema_access, schema_data, tree
from scheduler.store.bulk import Statement
from scheduler.store.codec import decode, encode
from scheduler.store.dialect import upsert
from scheduler.store.schema import (
    ATTEMPTS,
    AUDIT,
    JOBS,
    JOIN_TOKENS,
    META,
    METADATA,
    NODES,
    PARTICULARS,
    SETTLED,
    SITE_STATE,
    SPECS,
)
from scheduler.store.schema_agreements import AGREEMENT_TABLES
from scheduler.store.schema_evidence import (
    AUDIT_NODES,
    CERTIFICATES,
    CHECKPOINTS,
    COSIGNATURES,
    NODE_FACTS,
    SITE_FACTS,
)
from scheduler.store.schema_time import RESERVATIONS, TABLES

VERSION_KEY = "schema_version"


class SchemaMismatch(Exception):
    """The database is not one that this program can use as it is."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What makes a database of version `to` - 1 one of version `to`."""

    to: int
    migrate: Callable[[Connection], None]


def _add_metrics_address(connection: Connection) -> None:
    """Where a site's agent is scraped; it says so when it next connects."""
    column = "metrics_address TEXT NOT NULL DEFAULT ''"
    connection.execute(text(f"ALTER TABLE {SITE_STATE.name} ADD COLUMN {column}"))


def _add_arrays_and_time(connection: Connection) -> None:
    """Arrays, dependencies, windows of time: no job there was had any of it."""
    known = {column["name"] for column in inspect(connection).get_columns(JOBS.name)}
    for column in (
        "held BOOLEAN NOT NULL DEFAULT FALSE",
        "array_id BIGINT",
        "task BIGINT",
        "tasks BIGINT NOT NULL DEFAULT 0",
        "unfolded BIGINT NOT NULL DEFAULT 0",
        "running_max BIGINT NOT NULL DEFAULT 0",
    ):
        if column.partition(" ")[0] not in known:
            connection.execute(text(f"ALTER TABLE {JOBS.name} ADD COLUMN {column}"))
    for table in TABLES:
        table.create(connection, checkfirst=True)
    _create_index(connection, JOBS, "ix_jobs_task")


def _part_jobs(connection: Connection) -> None:
    """What changes of a job lies apart from what does not, and attempts know their leaf."""
    PARTICULARS.create(connection)
    for step in (
        "INSERT INTO job_particulars (id, owner, name, spec_digest, spec_number)"
        " SELECT id, owner, name, spec_digest, 0 FROM jobs",
        "DROP INDEX ix_jobs_open",
        "ALTER TABLE jobs DROP COLUMN owner",
        "ALTER TABLE jobs DROP COLUMN name",
        "ALTER TABLE jobs DROP COLUMN spec_digest",
        "DROP INDEX ix_attempts_live_site",
        "DROP INDEX ix_audit_job",
        "ALTER TABLE attempts ADD COLUMN leaf_index BIGINT NOT NULL DEFAULT -1",
    ):
        connection.execute(text(step))
    _create_index(connection, JOBS, "ix_jobs_queued")
    _create_index(connection, AUDIT, "ix_audit_job")
    _find_leaves(connection)


def _create_index(connection: Connection, table: Table, name: str) -> None:
    next(index for index in table.indexes if index.name == name).create(connection)


def _find_leaves(connection: Connection) -> None:
    """Each attempt learns where in the audit log its placement is told: the n-th of its job."""
    query = select(AUDIT.c.job, AUDIT.c.leaf_index).where(AUDIT.c.kind == "attempt_placed")
    seen: Counter[int] = Counter()
    rows: list[tuple[int, int, int]] = []
    for job, leaf_index in connection.execute(query.order_by(AUDIT.c.leaf_index)):
        seen[job] += 1
        rows.append((leaf_index, job, seen[job]))
    told = "UPDATE attempts SET leaf_index = ? WHERE job = ? AND attempt = ?"
    Statement(ATTEMPTS, told).many(connection, rows)


def _add_settled_use(connection: Connection) -> None:
    """What attempts that are over have used; of those that ended before, nothing is known."""
    SETTLED.create(connection, checkfirst=True)


def _add_checkpoints(connection: Connection) -> None:
    """When a checkpoint was last heard of; what runs now has none until its site tells of one."""
    known = {column["name"] for column in inspect(connection).get_columns(ATTEMPTS.name)}
    if "checkpoint_at_ms" not in known:
        column = "checkpoint_at_ms BIGINT NOT NULL DEFAULT 0"
        connection.execute(text(f"ALTER TABLE {ATTEMPTS.name} ADD COLUMN {column}"))


def _add_reservations(connection: Connection) -> None:
    """What is kept for jobs that wait; the next plan makes what is due."""
    RESERVATIONS.create(connection, checkfirst=True)


def _add_proofs(connection: Connection) -> None:
    """Inner hashes of the log, from its leaves; of checkpoints there was none yet."""
    for table in (AUDIT_NODES, CHECKPOINTS, COSIGNATURES):
        table.create(connection, checkfirst=True)
    tree.rebuild(connection)


def _order_queue_by_age(connection: Connection) -> None:
    """The index over the queue has the oldest job first."""
    connection.execute(text("DROP INDEX IF EXISTS ix_jobs_queued"))
    _create_index(connection, JOBS, "ix_jobs_queued")


def _add_certificates(connection: Connection) -> None:
    """Jobs that are over have none; of sites, what is declared now is all that is remembered."""
    for table in (CERTIFICATES, SITE_FACTS):
        table.create(connection, checkfirst=True)


def _add_datasets(connection: Connection) -> None:
    """The data catalogue; no job there was read any of it."""
    for table in schema_data.TABLES:
        table.create(connection, checkfirst=True)


def _add_operator_access(connection: Connection) -> None:
    """Operators have access to nothing yet, and of no person is anything vouched for."""
    for table in schema_access.TABLES:
        table.create(connection, checkfirst=True)
    known = {column["name"] for column in inspect(connection).get_columns(JOIN_TOKENS.name)}
    for column in ("country TEXT NOT NULL DEFAULT ''", "clearance SMALLINT NOT NULL DEFAULT 0"):
        if column.partition(" ")[0] not in known:
            connection.execute(text(f"ALTER TABLE {JOIN_TOKENS.name} ADD COLUMN {column}"))


def _add_node_facts(connection: Connection) -> None:
    """Nothing is known of any node until it is measured again."""
    known = {column["name"] for column in inspect(connection).get_columns(NODES.name)}
    if "facts" not in known:
        connection.execute(text(f"ALTER TABLE {NODES.name} ADD COLUMN facts TEXT"))
    NODE_FACTS.create(connection, checkfirst=True)


def _add_secrets(connection: Connection) -> None:
    """Sealed secrets; no job there was named any."""
    schema_access.SECRETS.create(connection, checkfirst=True)


def _add_agreements(connection: Connection) -> None:
    """Agreements, and what is used under them: there was none."""
    for table in AGREEMENT_TABLES:
        table.create(connection, checkfirst=True)


def _add_operator_uses(connection: Connection) -> None:
    """Operators' uses of access to jobs, for their certificates: taken from the log."""
    schema_access.OPERATOR_USES.create(connection, checkfirst=True)
    query = select(AUDIT.c.job, AUDIT.c.body).where(AUDIT.c.kind == "operator_access_used")
    numbers: Counter[int] = Counter()
    for job, body in connection.execute(query.order_by(AUDIT.c.leaf_index)).all():
        told = json.loads(body)
        grant = connection.execute(
            select(schema_access.ACCESS_GRANTS.c.body).where(
                schema_access.ACCESS_GRANTS.c.id == told["grant"]
            )
        ).scalar_one()
        asked, numbers[job] = decode(AccessGrant, grant), numbers[job] + 1
        use = OperatorUse(
            at_ms=told["at_ms"],
            grant=told["grant"],
            action=told["action"],
            reason=asked.reason.name,
            break_glass=asked.break_glass,
            country=told["by"]["country"],
            clearance=told["by"]["clearance"],
        )
        row = {"job": job, "number": numbers[job], "body": encode(use)}
        upsert(connection, schema_access.OPERATOR_USES, [row])


def _add_consent(connection: Connection) -> None:
    """By whose consent a join token was made: of those there were, nobody's is known."""
    known = {column["name"] for column in inspect(connection).get_columns(JOIN_TOKENS.name)}
    if "consent" not in known:
        column = "consent TEXT NOT NULL DEFAULT ''"
        connection.execute(text(f"ALTER TABLE {JOIN_TOKENS.name} ADD COLUMN {column}"))


def _add_services(connection: Connection) -> None:
    """How many replicas a service is to have: no job there was is one."""
    known = {column["name"] for column in inspect(connection).get_columns(JOBS.name)}
    if "replicas" not in known:
        connection.execute(text(f"ALTER TABLE {JOBS.name} ADD COLUMN replicas BIGINT"))


def _number_specs(connection: Connection) -> None:
    """A spec has the number of the first job that has it."""
    known = {column["name"] for column in inspect(connection).get_columns(PARTICULARS.name)}
    if "spec_number" not in known:
        column = "spec_number BIGINT NOT NULL DEFAULT 0"
        connection.execute(text(f"ALTER TABLE {PARTICULARS.name} ADD COLUMN {column}"))
    for step in (
        "CREATE TABLE spec_numbers (digest TEXT PRIMARY KEY, number BIGINT NOT NULL)",
        "INSERT INTO spec_numbers SELECT spec_digest, MIN(id) FROM job_particulars GROUP BY 1",
        "UPDATE job_particulars SET spec_number ="
        " (SELECT number FROM spec_numbers WHERE digest = spec_digest)",
        "INSERT INTO counters SELECT 'spec', COALESCE(MAX(number), 0) FROM spec_numbers",
        "ALTER TABLE specs RENAME TO specs_by_digest",
    ):
        connection.execute(text(step))
    SPECS.create(connection)
    for step in (
        "INSERT INTO specs (number, body) SELECT number, body FROM specs_by_digest"
        " JOIN spec_numbers ON spec_numbers.digest = specs_by_digest.digest ORDER BY number",
        "DROP TABLE specs_by_digest",
        "DROP TABLE spec_numbers",
    ):
        connection.execute(text(step))


MIGRATIONS: tuple[Migration, ...] = (
    Migration(2, _add_metrics_address),
    Migration(3, _add_arrays_and_time),
    Migration(4, _add_settled_use),
    Migration(5, _add_checkpoints),
    Migration(6, _add_reservations),
    Migration(7, _part_jobs),
    Migration(8, _add_proofs),
    Migration(9, _order_queue_by_age),
    Migration(10, _add_certificates),
    Migration(11, _add_datasets),
    Migration(12, _add_operator_access),
    Migration(13, _add_node_facts),
    Migration(14, _add_secrets),
    Migration(15, _add_agreements),
    Migration(16, _add_operator_uses),
    Migration(17, _add_consent),
    Migration(18, _add_services),
    Migration(19, _number_specs),
)
"""Oldest first, from version 2 on. Version 1 is the first that was ever released."""
SCHEMA_VERSION = 1 + len(MIGRATIONS)


def version_of(connection: Connection) -> int | None:
    """The version of the database; None when it is empty."""
    if not inspect(connection).has_table(META.name):
        return None
    query = select(META.c.value).where(META.c.name == VERSION_KEY)
    found = connection.execute(query).scalar()
    return None if found is None else int(found)


def bring_up_to_date(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Creates the tables in an empty database, or migrates an older one; inside one transaction."""
    newest = 1 + len(migrations)
    found = version_of(connection)
    if found is None:
        METADATA.create_all(connection)
    elif found > newest:
        raise SchemaMismatch(
            f"the database has schema version {found}, this program knows {newest} at most:"
            " use the program version that wrote it, or a newer one"
        )
    else:
        for step in migrations:
            if step.to > found:
                step.migrate(connection)
    upsert(connection, META, [{"name": VERSION_KEY, "value": str(newest)}])


def assert_current(connection: Connection) -> None:
    """Refuses, for readers, which change nothing."""
    found = version_of(connection)
    if found != SCHEMA_VERSION:
        raise SchemaMismatch(
            f"the database has schema version {found}, this program reads {SCHEMA_VERSION}"
        )
