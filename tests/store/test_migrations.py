"""Databases that earlier versions made, as they made them, and what becomes of them."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect

from scheduler.model.ids import AttemptKey, JobId, TenantPath, node_id
from scheduler.model.job import JobState
from scheduler.store.codec import encode
from scheduler.store.dialect import writing_engine
from scheduler.store.migrations import SCHEMA_VERSION, version_of
from scheduler.store.schema import METADATA
from scheduler.store.store import Store
from scheduler.wire.spec import spec_to_bytes
from tests.store.builders import ADA, CODEC, H100, LONDON, RADIOLOGY, job_class, queue, salts, spec

OLD = Path(__file__).with_name("schema_2.sql")
WAITING, PLACED = JobId(1), JobId(2)


@pytest.fixture
def old(dialect: str) -> str:
    """A database of version 2 in which one job waits and one is placed."""
    engine = writing_engine(dialect)
    with engine.begin() as connection:
        for statement in _script(engine):
            connection.exec_driver_sql(statement)
    engine.dispose()
    return dialect


def _script(engine: Engine) -> list[str]:
    script = OLD.read_text()
    if engine.dialect.name != "sqlite":
        for here, there in (("INTEGER", "BIGINT"), ("BLOB", "BYTEA"), (" WITHOUT ROWID", "")):
            script = script.replace(here, there)
    body = encode(job_class())
    script += f"""
        INSERT INTO meta VALUES ('schema_version', '2');
        INSERT INTO counters VALUES ('job', 2);
        INSERT INTO counters VALUES ('class', 1);
        INSERT INTO job_classes VALUES (1, '{body}');
        INSERT INTO specs VALUES ('sha256:d', {_bytes(engine, spec_to_bytes(spec()))});
        INSERT INTO audit_tree VALUES ('log', 3, {_peaks(engine)});
    """
    for job, state in ((WAITING, JobState.QUEUED), (PLACED, JobState.PLACED)):
        script += f"""
            INSERT INTO jobs VALUES ({job}, 1, '{RADIOLOGY}', '{ADA}', 'train', {int(state)},
                5, 2, 0, 'sha256:d', FALSE, NULL, '', 0, NULL, FALSE);
            INSERT INTO audit VALUES ({job - 1}, 'job_submitted', '{RADIOLOGY}', {job}, 5, '{{}}',
                {_bytes(engine, bytes(16))}, {_bytes(engine, bytes(32))});
        """
    script += f"""
        INSERT INTO audit VALUES (2, 'attempt_placed', '{RADIOLOGY}', {PLACED}, 6, '{{}}',
            {_bytes(engine, bytes(16))}, {_bytes(engine, bytes(32))});
        INSERT INTO attempts VALUES ({PLACED}, 1, '{LONDON}', {int(JobState.PLACED)}, TRUE, FALSE,
            'H100', 1000, 'GB', NULL, '', 6, 0, 0);
        INSERT INTO placements VALUES ({PLACED}, 1, 0, '{node_id(LONDON, "n01")}', 1, TRUE, '', '');
    """
    return [part for part in script.split(";") if part.strip()]


def _bytes(engine: Engine, value: bytes) -> str:
    digits = value.hex()
    return f"X'{digits}'" if engine.dialect.name == "sqlite" else f"'\\x{digits}'"


def _peaks(engine: Engine) -> str:
    return _bytes(engine, bytes(64))


def test_an_old_database_becomes_what_a_new_one_is(old: str) -> None:
    store = Store(old, salts=salts(), codec=CODEC)
    store.open()
    with store.read() as view:
        assert version_of(view.connection) == SCHEMA_VERSION
        found = inspect(view.connection)
        for table in METADATA.sorted_tables:
            columns = {column["name"] for column in found.get_columns(table.name)}
            assert columns == {column.name for column in table.columns}, table.name
            indices = {index["name"] for index in found.get_indexes(table.name)}
            assert indices >= {index.name for index in table.indexes}, table.name
    store.close()


def test_jobs_of_an_old_database_are_all_there(old: str) -> None:
    store = Store(old, salts=salts(), codec=CODEC)
    store.open()
    with store.transaction() as txn:
        assert txn.ledger().queues() == {TenantPath("trust-a"): 1, RADIOLOGY: 1}
        assert txn.ledger().usage()[RADIOLOGY][H100] == 1000
        assert queue(txn).id == 3
    with store.read() as view:
        rows = view.jobs.open_by_name(RADIOLOGY, "train", 10)
        assert [(row.id, row.owner, row.spec_digest) for row in rows[:2]] == [
            (WAITING, ADA, "sha256:d"),
            (PLACED, ADA, "sha256:d"),
        ]
        assert [view.jobs.spec(row.spec_number) for row in rows[:2]] == [spec(), spec()]
        assert [row.key for row in view.attempts.live_at(LONDON)] == [AttemptKey(PLACED, 1)]
        leaves = view.audit.page(first=0, limit=10, job=PLACED)
        assert [leaf.kind for leaf in leaves] == ["job_submitted", "attempt_placed"]
        placed = view.jobs.get(PLACED, with_spec=False)
        assert placed is not None
        assert placed.attempts[0].placement.nodes[0].gpu_mask == 1
    store.close()
