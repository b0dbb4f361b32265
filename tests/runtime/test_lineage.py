"""A store that is older than what was signed is not served unless somebody says why."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scheduler.runtime import checkpoints
from scheduler.runtime.checkpoints import LogKey
from scheduler.runtime.lineage import HEAD_FILE, JOBS_SKIPPED, Lineage, StoreIsOlder
from scheduler.store import backup
from scheduler.store.store import Store
from sovshared import pki, signing
from tests.store.builders import CODEC, NOW_MS, salts


class Plane:
    """A state directory, and who serves the store in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "store.db"
        self.log: LogKey = checkpoints.log_key("x.example", signing.kept_in(directory / "k.pem"))

    @contextmanager
    def serving(self, word: str = "") -> Generator[Store]:
        """The store, as a control plane opens it."""
        store = Store(self.file, salts=salts(), codec=CODEC)
        lineage = Lineage(self.directory)
        kept = lineage.kept()
        store.open(beyond=0 if kept is None else kept.epoch)
        try:
            with store.transaction() as txn:
                lineage.go_on(txn, word, NOW_MS)
            yield store
        finally:
            store.close()

    def work(self, store: Store, what: str) -> int:
        """Something happens and is signed; the id that a job got."""
        with store.transaction() as txn:
            job = txn.jobs.take_id()
            txn.audit.append(what, NOW_MS, {})
        with store.transaction() as txn:
            signed = checkpoints.newest(txn, self.log, NOW_MS)
        Lineage(self.directory).remember(store.epoch, signed.note)
        return int(job)

    def put_back(self, copy: Path) -> None:
        """What an operator does with a backup."""
        for file in self.directory.glob("store.db*"):
            file.unlink()
        self.file.write_bytes(copy.read_bytes())


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    made = Plane(tmp_path)
    with made.serving() as store:
        made.work(store, "first")
    return made


def test_the_store_that_was_signed_last_is_served_again_and_again(plane: Plane) -> None:
    for _ in range(3):
        with plane.serving() as store:
            plane.work(store, "more")


def test_what_was_committed_after_the_newest_head_does_no_harm(plane: Plane) -> None:
    with plane.serving() as store, store.transaction() as txn:
        txn.audit.append("unsigned", NOW_MS, {})
    with plane.serving():
        pass


def test_an_older_store_is_refused(plane: Plane, tmp_path: Path) -> None:
    backup.copy(plane.file, tmp_path / "copy")
    with plane.serving() as store:
        plane.work(store, "lost")
    plane.put_back(tmp_path / "copy")
    with pytest.raises(StoreIsOlder, match=r"has 1 leaves, and the head.* has 2"), plane.serving():
        pass


def test_another_history_is_refused_however_long_it_is(plane: Plane, tmp_path: Path) -> None:
    backup.copy(plane.file, tmp_path / "copy")
    with plane.serving() as store:
        plane.work(store, "lost")
    head = (tmp_path / HEAD_FILE).read_bytes()
    plane.put_back(tmp_path / "copy")
    (tmp_path / HEAD_FILE).unlink()
    with plane.serving() as store:
        for _ in range(5):
            plane.work(store, "otherwise")
    (tmp_path / HEAD_FILE).write_bytes(head)
    with pytest.raises(StoreIsOlder), plane.serving():
        pass


def test_with_an_operators_word_it_goes_on_and_gives_no_number_twice(
    plane: Plane, tmp_path: Path
) -> None:
    backup.copy(plane.file, tmp_path / "copy")
    lost = led = 0
    for _ in range(3):  # Each start is an epoch.
        with plane.serving() as store:
            lost, led = plane.work(store, "lost"), store.epoch
    plane.put_back(tmp_path / "copy")
    with plane.serving("the disk of rack 4 died") as store:
        assert store.epoch > led
        with store.read() as view:
            *_, leaf = view.audit.all()
        assert leaf.kind == "store_restored"
        assert json.loads(leaf.body)["word"] == "the disk of rack 4 died"
        assert plane.work(store, "since") > lost + JOBS_SKIPPED // 2
    with plane.serving():
        pass


def test_a_word_where_nothing_is_lost_is_refused(plane: Plane) -> None:
    # Or it would stay in a unit's file, and let the next older store pass.
    with pytest.raises(StoreIsOlder, match="has all that was signed"), plane.serving("just so"):
        pass


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"epoch": 1, "checkpoint": "x"}', '{"epoch": 1, "checkpoint": 2}']
)
def test_a_file_that_says_no_head_is_named(plane: Plane, tmp_path: Path, content: str) -> None:
    (tmp_path / HEAD_FILE).write_text(content)
    with pytest.raises(pki.PkiInvalid, match=HEAD_FILE), plane.serving():
        pass
