"""What a failure leaves behind: of a savepoint, of a transaction, of the disk."""

from pathlib import Path

import pytest

from scheduler.model.ids import JobId
from scheduler.store.backfill import Backfill
from scheduler.store.dialect import WAL_PAGE_BYTES, bound_log
from scheduler.store.idempotency import Remembered
from scheduler.store.store import Store, StoreFailed, Txn
from tests.store.builders import ADA, CODEC, NOW_MS, RADIOLOGY, lay_out, queue, salts, spec

LOG_PAGES = 100


class Interrupted(Exception):
    """Raised in the middle of things, after a job was queued."""

    def __init__(self, job: JobId) -> None:
        super().__init__()
        self.job = job


def queue_and_stop(txn: Txn) -> None:
    """Queues a job and fails."""
    raise Interrupted(queue(txn).id)


def test_a_transaction_that_raises_leaves_nothing_behind(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as before:
        sequence = before.changes.sequence()
    with pytest.raises(Interrupted), store.transaction() as txn:
        queue_and_stop(txn)
    with store.read() as view:
        assert view.jobs.page(None, states=frozenset(), before=None, limit=10) == ()
        assert view.changes.sequence() == sequence
        assert list(view.audit.all()) == []
    with store.transaction() as txn:
        assert txn.ledger().queues() == {}


def test_a_transaction_that_fails_at_its_very_end_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """What is written last can fail as well; the sums would be wrong until the next start."""
    sources = [salts(), _no_salt, salts()]
    store = Store(tmp_path / "s.db", salts=lambda: sources[0](), codec=CODEC)
    store.open()
    with store.transaction() as txn:
        lay_out(txn)
    del sources[0]
    with pytest.raises(RuntimeError), store.transaction() as txn:
        queue(txn)
    del sources[0]
    with store.transaction() as txn:
        assert txn.ledger().queues() == {}
        queue(txn)
    with store.read() as view:
        assert view.ledger().queues()[RADIOLOGY] == 1
    store.close()


def _no_salt() -> bytes:
    raise RuntimeError("no randomness to be had")


def test_a_savepoint_that_raises_undoes_its_own_part_only(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        kept = queue(txn)
        with pytest.raises(Interrupted) as stopped, txn.savepoint():
            queue_and_stop(txn)
        later = queue(txn, name="later")
    lost = stopped.value.job
    assert len({kept.id, lost, later.id}) == 3
    with store.read() as view:
        assert [leaf.index for leaf in view.audit.all()] == [0, 1]
        assert view.jobs.row(lost) is None
        queues = view.ledger().queues()
    assert queues[RADIOLOGY] == 2
    with store.transaction() as txn:
        assert txn.ledger().queues() == queues


def test_rows_that_waited_before_a_savepoint_survive_it(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        before = queue(txn)
        with pytest.raises(Interrupted) as stopped, txn.savepoint():
            look_queue_and_stop(txn, before.id)
        assert txn.jobs.row(before.id) is not None
        assert txn.jobs.row(stopped.value.job) is None
        txn.idempotency.put(ADA, {"k": Remembered("d", before.id)}, NOW_MS)
        with pytest.raises(Interrupted), txn.savepoint():
            put_key_look_and_stop(txn, before.id)
        assert txn.idempotency.get(ADA, "lost", NOW_MS) is None
        assert txn.idempotency.get(ADA, "k", NOW_MS) is not None
    with store.read() as view:
        rows = view.jobs.page(None, states=frozenset(), before=None, limit=10)
        assert [row.id for row in rows] == [before.id]
        assert view.jobs.spec(before.spec_number) is not None
        assert view.idempotency.get(ADA, "k", NOW_MS) == Remembered("d", before.id)
        assert view.idempotency.get(ADA, "lost", NOW_MS) is None


def look_queue_and_stop(txn: Txn, job: JobId) -> None:
    """Makes waiting rows go to the database inside a savepoint, and fails."""
    assert txn.jobs.row(job) is not None
    queue_and_stop(txn)


def put_key_look_and_stop(txn: Txn, job: JobId) -> None:
    """As above, after remembering a key."""
    txn.idempotency.put(ADA, {"lost": Remembered("d", job)}, NOW_MS)
    look_queue_and_stop(txn, job)


def test_a_full_disk_changes_nothing_and_the_store_goes_on(tmp_path: Path) -> None:
    """On SQLite, which can be told how large its file may become."""
    store = Store(tmp_path / "s.db", salts=salts(), codec=CODEC)
    store.open()
    with store.transaction() as txn:
        lay_out(txn)
        first = queue(txn)
    pages = limit_pages(store, 1)
    with pytest.raises(StoreFailed), store.transaction() as txn:
        queue_many(txn)
    limit_pages(store, pages + 1000)
    with store.read() as view:
        rows = view.jobs.page(None, states=frozenset(), before=None, limit=10)
        assert [row.id for row in rows] == [first.id]
        queues = view.ledger().queues()
    with store.transaction() as txn:
        assert txn.ledger().queues() == queues
        queue(txn)
    with store.read() as view:
        assert [leaf.index for leaf in view.audit.all()] == [0, 1]
    store.close()


def queue_many(txn: Txn) -> None:
    """More than a full disk has room for."""
    for n in range(2000):
        queue(txn, name=f"job-{n}")


def limit_pages(store: Store, most: int) -> int:
    """How large the database may become; SQLite answers what it allows: no less than there is."""
    with store._writer.connect() as connection:  # pyright: ignore[reportPrivateUsage]
        answer = connection.exec_driver_sql(f"PRAGMA max_page_count={most}").scalar()
    assert isinstance(answer, int)
    return answer


def test_a_class_interned_in_an_undone_savepoint_is_interned_again(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        with pytest.raises(Interrupted), txn.savepoint():
            queue_and_stop(txn)
        row = queue(txn)
    with store.read() as view:
        assert view.jobs.job_class(row.class_id).tenant == RADIOLOGY


def test_the_log_starts_anew_once_nobody_reads_what_is_old_in_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db", salts=salts(), codec=CODEC)
    store.open()
    log = tmp_path / "s.db-wal"
    with store.transaction() as txn:
        lay_out(txn)
    with store.read() as view:
        before = view.changes.sequence()
        with store.transaction() as txn:
            queue_many(txn)
        bound_log(store._writer, LOG_PAGES)  # pyright: ignore[reportPrivateUsage]
        assert log.stat().st_size > LOG_PAGES * WAL_PAGE_BYTES
        assert view.changes.sequence() == before
    bound_log(store._writer, LOG_PAGES)  # pyright: ignore[reportPrivateUsage]
    assert log.stat().st_size == 0
    with store.transaction() as txn:
        queue(txn)
    with store.read() as view:
        assert view.changes.sequence() > before
    store.close()


def test_what_was_committed_is_copied_beside_readers_and_the_writer(tmp_path: Path) -> None:
    """On SQLite, whose log is copied to its place by whoever asks."""
    store = Store(tmp_path / "s.db", salts=salts(), codec=CODEC)
    backfill = Backfill(store.url)
    assert not backfill.is_due()
    store.open()
    assert Backfill(store.url).is_due()
    assert backfill.copy() == 0
    assert not backfill.is_due()
    with store.transaction() as txn:
        lay_out(txn)
        queue(txn)
        assert backfill.copy() == 0  # What is not committed is not there yet.
    with store.read() as view:
        before = view.changes.sequence()
        with store.transaction() as txn:
            queue(txn)
        assert backfill.copy() > 0  # The reader needs the pages as they were.
        assert view.changes.sequence() == before
    assert backfill.copy() == 0
    with store.read() as view:
        assert view.changes.sequence() > before
    store.close()


def test_other_databases_copy_by_themselves() -> None:
    backfill = Backfill("postgresql+psycopg://localhost/sov")
    assert not backfill.is_due()
    assert backfill.copy() == 0


def test_specs_that_come_again_are_kept_once_unless_they_were_undone_or_erased(
    store: Store,
) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        with pytest.raises(Interrupted), txn.savepoint():
            queue_and_stop(txn)
        first, again, other = queue(txn), queue(txn), queue(txn, name="other")
        assert again.spec_number == first.spec_number != other.spec_number
        assert txn.jobs.spec(first.spec_number) == spec()
        txn.jobs.erase_spec(first.spec_number)
        anew = queue(txn)
    with store.read() as view:
        found = view.jobs.specs(row.spec_number for row in (first, other, anew))
        assert found == {other.spec_number: spec("other"), anew.spec_number: spec()}
