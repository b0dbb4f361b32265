"""What every database behind the store must do."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from scheduler.model.ids import JobId
from scheduler.model.job import Job, JobState
from scheduler.model.reasons import Reason, Refused
from scheduler.store import leaves, migrations
from scheduler.store.idempotency import RETENTION_MS, Remembered
from scheduler.store.identity import JoinToken, Revocation
from scheduler.store.merkle import Peaks, leaf_hash, node_hash
from scheduler.store.migrations import (
    MIGRATIONS,
    SCHEMA_VERSION,
    Migration,
    SchemaMismatch,
)
from scheduler.store.records import Arrival, NewAttempt
from scheduler.store.schema import METADATA
from scheduler.store.store import ReadStore, Store
from scheduler.wire.spec import spec_digest, spec_to_bytes
from tests.store.builders import (
    ADA,
    CODEC,
    LONDON,
    NOW_MS,
    RADIOLOGY,
    lay_out,
    place,
    queue,
    salts,
    spec,
)


@pytest.mark.parametrize("table", METADATA.sorted_tables, ids=lambda table: table.name)
def test_every_table_can_be_made_on_postgresql(table: Table) -> None:
    assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))
    for index in table.indexes:
        made = str(CreateIndex(index).compile(dialect=postgresql.dialect()))
        assert made.startswith(("CREATE INDEX", "CREATE UNIQUE INDEX"))


def test_whoever_opens_the_store_later_leads_and_the_earlier_is_refused(
    store: Store, dialect: str
) -> None:
    successor = Store(dialect, salts=salts(), codec=CODEC)
    successor.open()
    assert successor.epoch > store.epoch
    with pytest.raises(Refused) as refused, store.transaction() as txn:
        lay_out(txn)
    assert refused.value.reason is Reason.NOT_LEADER
    with successor.transaction() as txn:
        lay_out(txn)
    with successor.read() as view:
        assert view.fleet.site(LONDON) is not None
    successor.close()


def test_numbers_go_on_where_they_were_after_a_restart(store: Store, dialect: str) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        first = queue(txn)
    successor = Store(dialect, salts=salts(), codec=CODEC)
    successor.open()
    with successor.transaction() as txn:
        assert queue(txn).id > first.id
        assert txn.ledger().queues()[RADIOLOGY] == 2
    with successor.read() as view:
        assert [leaf.index for leaf in view.audit.all()] == [0, 1]
    successor.close()


def test_a_newer_database_is_refused(store: Store, dialect: str) -> None:
    with store._writer.begin() as connection:  # pyright: ignore[reportPrivateUsage]
        newer = (*MIGRATIONS, Migration(SCHEMA_VERSION + 1, lambda _: None))
        migrations.bring_up_to_date(connection, newer)
    newest = f"schema version {SCHEMA_VERSION + 1}, this program knows {SCHEMA_VERSION}"
    with pytest.raises(SchemaMismatch, match=newest):
        Store(dialect, salts=salts(), codec=CODEC).open()
    with pytest.raises(SchemaMismatch, match=f"this program reads {SCHEMA_VERSION}"):
        ReadStore(dialect).open()


def test_migrations_run_once_each_in_order(store: Store) -> None:
    ran: list[int] = []
    following = (SCHEMA_VERSION + 1, SCHEMA_VERSION + 2)
    new = tuple(Migration(to, lambda _, to=to: ran.append(to)) for to in following)
    steps = (*MIGRATIONS, *new)
    with store._writer.begin() as connection:  # pyright: ignore[reportPrivateUsage]
        migrations.bring_up_to_date(connection, steps[:-1])
        migrations.bring_up_to_date(connection, steps)
        assert migrations.version_of(connection) == SCHEMA_VERSION + 2
    assert ran == list(following)


def test_a_snapshot_does_not_see_what_is_committed_after_its_first_question(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        before = view.changes.sequence()
        with store.transaction() as txn:
            row = queue(txn)
        assert view.changes.sequence() == before
        assert view.jobs.row(row.id) is None


def test_a_reader_cannot_write(store: Store) -> None:
    with store.read() as view, pytest.raises(Exception, match=r"readonly|read-only"):
        view.connection.exec_driver_sql("DELETE FROM jobs")


def test_gpu_63_survives_the_signed_column(store: Store) -> None:
    mask = 1 << 63 | 1
    with store.transaction() as txn:
        lay_out(txn)
        row = queue(txn)
        wide = place(row.id, "n01", mask=mask)
        new = NewAttempt(row.tenant, False, "GB", wide)
        txn.attempts.add([new], first_leaf=0, now_ms=NOW_MS)
    with store.read() as view:
        placement = view.attempts.placement(wide.key)
        assert placement is not None
        assert placement.nodes[0].gpu_mask == mask


def test_a_leaf_hash_is_the_documented_one(store: Store) -> None:
    with store.transaction() as txn:
        txn.audit.append("note", 7, {"b": 2, "a": "é"}, tenant=RADIOLOGY)
    with store.read() as view:
        leaf = next(view.audit.all())
    text = '{"a":"é","at_ms":7,"b":2,"kind":"note","tenant":"trust-a/radiology"}'
    assert leaf.body == text
    assert leaf.leaf_hash == sha256(b"\x00" + leaf.salt + text.encode()).digest()


@pytest.mark.parametrize("size", range(18))
def test_the_root_from_peaks_is_the_root_of_rfc_6962(size: int) -> None:
    hashes = [leaf_hash(n.to_bytes(16, "big"), "{}") for n in range(size)]
    peaks = Peaks(0, [])
    for leaf in hashes:
        peaks.append(leaf)
    assert peaks.root() == rfc_root(hashes)
    assert Peaks.of(size, peaks.joined()).root() == peaks.root()
    for first in range(size + 1):
        at_once = Peaks(0, [])
        at_once.extend(hashes[:first])
        at_once.extend(hashes[first:])
        assert at_once == peaks


def test_leaves_added_at_once_keep_the_roots_that_single_ones_keep() -> None:
    hashes = [leaf_hash(n.to_bytes(16, "big"), "{}") for n in range(1_100)]
    one_by_one, at_once = Peaks(0, []), Peaks(0, [])
    for leaf in hashes:
        one_by_one.append(leaf)
    for first, end in ((0, 3), (3, 255), (255, 256), (256, 700), (700, 1_100)):
        at_once.extend(hashes[first:end])
    assert at_once == one_by_one
    assert at_once.kept == one_by_one.kept


def rfc_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(rfc_root(hashes[:split]), rfc_root(hashes[split:]))


def test_the_stored_tree_covers_every_leaf(store: Store) -> None:
    for n in range(5):
        with store.transaction() as txn:
            for m in range(n):
                txn.audit.append("note", m, {})
    with store.read() as view:
        hashes = [leaf.leaf_hash for leaf in view.audit.all()]
        assert len(hashes) == 10
        assert view.audit.peaks().root() == rfc_root(hashes)


def test_leaves_are_found_by_tenant_and_by_job(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        rows = [queue(txn) for _ in range(4)]
        txn.audit.append("note", 1, {})
    with store.read() as view:
        assert len(view.audit.page(first=0, limit=10, tenant=RADIOLOGY)) == 4
        mine = view.audit.page(first=0, limit=10, job=rows[2].id)
        assert [leaf.index for leaf in mine] == [2]
        assert [leaf.index for leaf in view.audit.page(first=3, limit=1)] == [3]


def test_plain_jobs_that_come_together_are_as_if_each_had_come_alone(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        alone = [queue(txn, name=f"job-{n}") for n in range(3)]
        bodies = {row.name: spec_to_bytes(spec(row.name, row.tenant)) for row in alone}
        since = txn.changes_made()
        together = [
            Arrival(
                txn.jobs.take_id(),
                row.class_id,
                row.tenant,
                row.name,
                row.leased,
                spec_digest(bodies[row.name]),
                bodies[row.name],
            )
            for row in alone
        ]
        txn.jobs.add_all(ADA, together, NOW_MS)
        leaves.arrived(txn.audit, ADA, together, NOW_MS)
        assert list(txn.jobs_changed(since)) == [job.id for job in together]
        assert txn.ledger().queues()[RADIOLOGY] == 6
    with store.read() as view:
        rows = view.jobs.rows([job.id for job in together])
        for row, job in zip(alone, together, strict=True):
            assert rows[job.id] == row._replace(id=job.id)
            assert view.jobs.get(job.id, with_spec=True) == replace(
                some(view.jobs.get(row.id)), id=job.id
            )
        told = [json.loads(leaf.body) for leaf in view.audit.all()]
        names = [leaf.pop("job") for leaf in told]
        assert told[:3] == told[3:]
        assert names[3:] == [CODEC.encode(job.id) for job in together]


def some(job: Job | None) -> Job:
    """A job that is there."""
    assert job is not None
    return job


def test_an_idempotency_key_counts_until_its_retention_is_over(store: Store) -> None:
    with store.transaction() as txn:
        txn.idempotency.put(ADA, {"k": Remembered("d", JobId(4))}, NOW_MS)
    with store.transaction() as txn:
        assert txn.idempotency.get(ADA, "k", NOW_MS + RETENTION_MS) == Remembered("d", JobId(4))
        assert txn.idempotency.get(ADA, "k", NOW_MS + RETENTION_MS + 1) is None
        assert txn.idempotency.get("/tenant/x", "k", NOW_MS) is None
        assert txn.idempotency.trim(NOW_MS + RETENTION_MS) == 0
        assert txn.idempotency.trim(NOW_MS + RETENTION_MS + 1) == 1


def test_idempotency_keys_are_looked_up_many_at_once(store: Store) -> None:
    many = [f"k{n:04}" for n in range(1_200)]
    with store.transaction() as txn:
        for n, key in enumerate(many[:1_100]):
            txn.idempotency.put(ADA, {key: Remembered(key, JobId(n))}, NOW_MS)
        assert txn.idempotency.get_many(ADA, many, NOW_MS).keys() == set(many[:1_100])
    with store.transaction() as txn:
        txn.idempotency.put(ADA, {"k1150": Remembered("new", JobId(9))}, NOW_MS)
        found = txn.idempotency.get_many(ADA, many, NOW_MS + RETENTION_MS)
        assert found.keys() == {*many[:1_100], "k1150"}
        assert found["k0007"] == Remembered("k0007", JobId(7))
        assert txn.idempotency.get_many("/tenant/x", many, NOW_MS) == {}
    with store.read() as view:
        late = NOW_MS + RETENTION_MS + 1
        assert view.idempotency.get_many(ADA, many, late) == {}


def test_a_join_token_is_used_once(store: Store) -> None:
    token = JoinToken(b"h" * 32, "/site/exch-london-1/agent", "/operator/olga", NOW_MS + 10)
    with store.transaction() as txn:
        txn.identity.add_join_token(token)
        assert txn.identity.open_tokens() == 1
        txn.identity.use_join_token(token.token_hash, NOW_MS)
        assert txn.identity.open_tokens() == 0
        with pytest.raises(AssertionError), txn.savepoint():
            txn.identity.use_join_token(token.token_hash, NOW_MS)
    with store.read() as view:
        found = view.identity.join_token(token.token_hash)
        assert found is not None
        assert found.used_at_ms == NOW_MS


def test_a_revocation_is_found_by_its_name(store: Store) -> None:
    revocation = Revocation("/site/x/agent", NOW_MS, "/operator/olga", "stolen")
    with store.transaction() as txn:
        txn.identity.revoke(revocation)
    with store.read() as view:
        assert view.identity.revocation("/site/x/agent") == revocation
        assert view.identity.revocation("/site/y/agent") is None
        assert view.identity.revocations() == (revocation,)


def test_an_erased_spec_leaves_its_digest(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        row = queue(txn)
        txn.jobs.erase_spec(row.spec_number)
    with store.read() as view:
        job = view.jobs.get(row.id)
        assert job is not None
        assert job.spec is None
        assert job.spec_digest == row.spec_digest


def test_pages_of_jobs_go_newest_first_across_projects(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        rows = [queue(txn) for _ in range(5)]
    with store.read() as view:
        first = view.jobs.page(RADIOLOGY, states=frozenset(), before=None, limit=2)
        second = view.jobs.page(RADIOLOGY, states=frozenset(), before=first[-1].id, limit=9)
        other = view.jobs.page(
            RADIOLOGY, states=frozenset({JobState.RUNNING}), before=None, limit=9
        )
    assert [row.id for row in (*first, *second)] == [row.id for row in reversed(rows)]
    assert other == ()
