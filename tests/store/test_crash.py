"""A process that is killed between two statements leaves all of a transaction, or nothing of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler.store.apply import apply_plan
from scheduler.store.dialect import reading_engine
from scheduler.store.merkle import Peaks
from scheduler.store.rebuild import as_told, rebuild
from scheduler.store.store import Store
from tests.store.builders import CODEC, NOW_MS, lay_out, place, plan, queue, salts

STATEMENTS_AT_MOST = 100
"""More statements than the transaction under test has."""

VICTIM = """
import os, signal, sys
from sqlalchemy import Engine, event
from bench.heard import heard_by
from tests.store.test_crash import open_store, work

deadly = int(sys.argv[2])
seen, working = 0, False

def count(*_):
    global seen
    if seen == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    seen += working

event.listen(Engine, "do_connect", heard_by(count))
store = open_store(sys.argv[1])
working = True
work(store)
if seen < deadly:
    print("survived")
"""


def open_store(path: str) -> Store:
    """The store at `path`, led by the caller."""
    store = Store(path, salts=salts(), codec=CODEC)
    store.open()
    return store


def work(store: Store) -> None:
    """One transaction that touches every kind of table."""
    with store.transaction() as txn:
        rows = [queue(txn) for _ in range(2)]
        assert not apply_plan(txn, plan(place(rows[0].id, "n01")), NOW_MS).stale


def run_victim(path: Path, deadly: int) -> subprocess.CompletedProcess[str]:
    """Does the work in a child that is killed before its statement number `deadly`."""
    return subprocess.run(
        [sys.executable, "-c", VICTIM, str(path), str(deadly)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("deadly", [1, 3, 5, 8, 11, 14, 17, 20, 24, 28])
def test_a_killed_writer_leaves_all_or_nothing(tmp_path: Path, deadly: int) -> None:
    path = tmp_path / "store.db"
    store = open_store(str(path))
    with store.transaction() as txn:
        lay_out(txn)
    store.close()
    victim = run_victim(path, deadly)
    assert victim.returncode == -signal.SIGKILL, victim.stderr
    check_whole(path, jobs_allowed={0})


def test_a_writer_that_lived_left_all(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(str(path))
    with store.transaction() as txn:
        lay_out(txn)
    store.close()
    victim = run_victim(path, STATEMENTS_AT_MOST)
    assert victim.stdout.strip() == "survived", victim.stderr
    check_whole(path, jobs_allowed={2})


def check_whole(path: Path, jobs_allowed: set[int]) -> None:
    """The tables, the log and the tree over it agree with one another."""
    engine = reading_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    engine.dispose()
    store = open_store(str(path))
    with store.read() as view:
        rows = view.jobs.page(None, states=frozenset(), before=None, limit=100)
        assert len(rows) in jobs_allowed
        jobs = {job.id: as_told(job) for job in view.jobs.whole(rows, with_spec=False)}
        assert rebuild(view.audit.all(), CODEC) == jobs
        peaks = Peaks(0, [])
        for leaf in view.audit.all():
            peaks.append(leaf.leaf_hash)
        assert view.audit.peaks() == peaks
    with store.transaction() as txn:
        assert txn.ledger().queues() == {
            tenant: 1 for tenant in ("trust-a", "trust-a/radiology") if rows
        }
    store.close()
