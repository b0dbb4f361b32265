"""The writer: batches, savepoints, and what becomes of requests when things break."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime.writer import OWN_MAX, Place, Writer
from scheduler.store.scratch import News
from scheduler.store.store import Store, Txn
from tests.store.builders import CODEC

WAIT_S = 60


class Watched:
    """A writer on a real store, and what it told."""

    def __init__(self, path: Path, queue_max: int = 1000) -> None:
        self.path = path
        self.store = Store(path, salts=lambda: b"0" * 16, codec=CODEC)
        self.store.open()
        self.commits = 0
        self.ended: Future[BaseException | None] = Future()
        self.writer = Writer(
            self.store,
            committed=self._committed,
            ended=self.ended.set_result,
            queue_max=queue_max,
        )

    def _committed(self, _news: News) -> None:
        self.commits += 1

    def kinds(self) -> list[str]:
        with self.store.read() as snapshot:
            return [leaf.kind for leaf in snapshot.audit.all()]

    def close(self) -> None:
        self.writer.close()
        self.store.close()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path / "s.db")
    made.writer.start()
    yield made
    made.close()


def leaf(kind: str) -> "Leaf":
    return Leaf(kind)


class Leaf:
    """Work that adds one audit leaf."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, txn: Txn) -> str:
        txn.audit.append(self.kind, 1, {})
        return self.kind


def refusing(txn: Txn) -> None:
    txn.audit.append("never", 1, {})
    raise Refused(Code.FAILED_PRECONDITION, Reason.QUOTA_LIMIT, "no")


def broken(txn: Txn) -> None:
    txn.audit.append("never", 1, {})
    raise ZeroDivisionError


class Gate:
    """Work that holds the writer until the test lets it go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, txn: Txn) -> None:
        self.entered.set()
        assert self.open.wait(WAIT_S)


def test_an_answer_comes_after_its_commit(watched: Watched) -> None:
    assert watched.writer.post(leaf("a")).result(WAIT_S) == "a"
    assert watched.kinds() == ["a"]
    assert watched.commits == 1


def test_what_waits_is_committed_together(watched: Watched) -> None:
    gate = Gate()
    held = watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    answers = [watched.writer.post(leaf(f"k{n}")) for n in range(50)]
    gate.open.set()
    held.result(WAIT_S)
    assert [a.result(WAIT_S) for a in answers] == [f"k{n}" for n in range(50)]
    assert watched.kinds() == [f"k{n}" for n in range(50)]
    assert watched.commits == 2


def test_a_refused_request_leaves_nothing_and_harms_no_neighbour(watched: Watched) -> None:
    gate = Gate()
    watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    before, bad, after = (watched.writer.post(w) for w in (leaf("a"), refusing, leaf("b")))
    gate.open.set()
    assert before.result(WAIT_S) == "a"
    assert after.result(WAIT_S) == "b"
    with pytest.raises(Refused, match="no"):
        bad.result(WAIT_S)
    assert watched.kinds() == ["a", "b"]


def test_a_bug_in_one_request_harms_no_neighbour(watched: Watched) -> None:
    gate = Gate()
    watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    before, bad, after = (watched.writer.post(w) for w in (leaf("a"), broken, leaf("b")))
    gate.open.set()
    with pytest.raises(ZeroDivisionError):
        bad.result(WAIT_S)
    assert before.result(WAIT_S) == "a"
    assert after.result(WAIT_S) == "b"
    assert watched.kinds() == ["a", "b"]
    assert not watched.ended.done()


class Leaves:
    """Work that adds leaves of many requests; "no" is refused, and "bug" is one."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def add(self, txn: Txn, kinds: Sequence[str]) -> Sequence[str | Refused]:
        self.calls.append(list(kinds))
        found: list[str | Refused] = []
        for kind in kinds:
            if kind == "no":
                found.append(Refused(Code.FAILED_PRECONDITION, Reason.QUOTA_LIMIT, "no"))
                continue
            txn.audit.append(kind, 1, {})
            if kind == "raised":
                raise Refused(Code.FAILED_PRECONDITION, Reason.QUOTA_LIMIT, "late")
            assert kind != "bug", "a bug"
            found.append(kind)
        return found


def test_neighbours_that_are_alike_are_done_by_one_call(watched: Watched) -> None:
    gate, leaves = Gate(), Leaves()
    watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    answers = [watched.writer.post_together(leaves.add, kind) for kind in ("a", "no", "b")]
    answers.append(watched.writer.post(leaf("c")))
    answers.append(watched.writer.post_together(leaves.add, "d"))
    gate.open.set()
    told = [answer.exception(WAIT_S) or answer.result() for answer in answers]
    assert [str(each) for each in told] == ["a", "no", "b", "c", "d"]
    assert leaves.calls == [["a", "no", "b"], ["d"]]
    assert watched.kinds() == ["a", "b", "c", "d"]
    assert watched.commits == 2


@pytest.mark.parametrize("bad", ["raised", "bug"])
def test_what_fails_one_of_those_done_together_harms_no_other(watched: Watched, bad: str) -> None:
    gate, leaves = Gate(), Leaves()
    watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    answers = [watched.writer.post_together(leaves.add, kind) for kind in ("a", bad, "b")]
    gate.open.set()
    assert answers[0].result(WAIT_S) == "a"
    with pytest.raises((Refused, AssertionError), match=r"late|a bug"):
        answers[1].result(WAIT_S)
    assert answers[2].result(WAIT_S) == "b"
    assert leaves.calls[-3:] == [["a"], [bad], ["b"]]
    assert watched.kinds() == ["a", "b"]


def test_a_full_queue_refuses_and_recovers(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "s.db", queue_max=3)
    gate = Gate()
    watched.writer.start()
    watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    answers = [watched.writer.post(leaf("k")) for _ in range(3)]
    with pytest.raises(Refused) as caught:
        watched.writer.post(leaf("one too many"))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_after_ms
    gate.open.set()
    for answer in answers:
        answer.result(WAIT_S)
    assert watched.writer.post(leaf("again")).result(WAIT_S) == "again"
    watched.close()


def test_callers_who_crowd_the_queue_leave_room_for_our_own(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "s.db", queue_max=3)
    gate = Gate()
    watched.writer.start()
    watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    for _ in range(3):
        watched.writer.post(leaf("theirs"))
    with pytest.raises(Refused):
        watched.writer.post(leaf("one too many"))
    ours = [watched.writer.post(leaf("ours"), Place.OWN) for _ in range(OWN_MAX)]
    with pytest.raises(Refused):
        watched.writer.post(leaf("ours, without end"), Place.OWN)
    gate.open.set()
    assert {answer.result(WAIT_S) for answer in ours} == {"ours"}
    watched.close()


def test_a_writer_deposed_between_the_parts_of_a_broken_batch_answers_all(
    watched: Watched,
) -> None:
    successor = Store(watched.path, salts=lambda: b"0" * 16, codec=CODEC)
    gate = Gate()
    held = watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    works = (leaf("mine"), broken, leaf("late"), leaf("later"))
    first, *others = [watched.writer.post(work) for work in works]
    # The batch breaks, and is done again one by one: the other one takes over after the first.
    first.add_done_callback(lambda _answer: successor.open())
    gate.open.set()
    held.result(WAIT_S)
    assert first.result(WAIT_S) == "mine"
    for answer in others:
        with pytest.raises(Refused) as caught:
            answer.result(WAIT_S)
        assert caught.value.reason is Reason.NOT_LEADER
    assert isinstance(watched.ended.result(WAIT_S), Refused)
    assert watched.kinds() == ["mine"]
    successor.close()


def test_a_request_given_up_before_its_turn_is_not_done(watched: Watched) -> None:
    gate = Gate()
    watched.writer.post(gate)
    assert gate.entered.wait(WAIT_S)
    given_up = watched.writer.post(leaf("given up"))
    assert given_up.cancel()
    gate.open.set()
    watched.writer.post(leaf("next")).result(WAIT_S)
    assert watched.kinds() == ["next"]


def test_a_database_that_fails_is_unavailable_and_may_come_back(watched: Watched) -> None:
    other = sqlite3.connect(watched.path, isolation_level=None)
    pages = other.execute("PRAGMA page_count").fetchone()[0]
    other.close()

    def cap(txn: Txn) -> None:
        txn.connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")

    def uncap(txn: Txn) -> None:
        txn.connection.exec_driver_sql("PRAGMA max_page_count=1000000")

    def huge(txn: Txn) -> None:
        txn.audit.append("huge", 1, {"text": "x" * 900_000})

    watched.writer.post(cap).result(WAIT_S)
    with pytest.raises(Refused) as caught:
        watched.writer.post(huge).result(WAIT_S)
    assert caught.value.code is Code.UNAVAILABLE
    watched.writer.post(uncap).result(WAIT_S)
    watched.writer.post(leaf("after")).result(WAIT_S)
    assert watched.kinds() == ["after"]


def test_a_deposed_writer_writes_nothing_more_and_ends(watched: Watched) -> None:
    watched.writer.post(leaf("mine")).result(WAIT_S)
    successor = Store(watched.path, salts=lambda: b"0" * 16, codec=CODEC)
    successor.open()
    with pytest.raises(Refused) as caught:
        watched.writer.post(leaf("late")).result(WAIT_S)
    assert caught.value.reason is Reason.NOT_LEADER
    error = watched.ended.result(WAIT_S)
    assert isinstance(error, Refused)
    with pytest.raises(Refused) as caught:
        watched.writer.post(leaf("later")).result(WAIT_S)
    assert caught.value.code is Code.UNAVAILABLE
    assert watched.kinds() == ["mine"]
    successor.close()


def test_closing_commits_what_waits(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "s.db")
    answers = [watched.writer.post(leaf(f"k{n}")) for n in range(5)]
    watched.writer.start()
    watched.writer.close()
    assert [a.result(0) for a in answers] == [f"k{n}" for n in range(5)]
    assert watched.ended.result(WAIT_S) is None
    with pytest.raises(Refused):
        watched.writer.post(leaf("late"))
    watched.store.close()
