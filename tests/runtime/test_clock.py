"""The time of the control plane never goes back: what had expired stays so."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from scheduler.runtime import checkpoints, clock
from scheduler.runtime.clock import STEP_MS, ClockIsBehind, Steady
from scheduler.store.store import Store
from sovshared import signing
from sovshared.grants import SKEW_MS
from tests.store.builders import CODEC, NOW_MS, salts

HOUR_MS = 3_600_000


class Clocks:
    """A machine's two clocks."""

    def __init__(self) -> None:
        self.utc, self.boot = NOW_MS, 5_000

    def passes(self, by_ms: int) -> None:
        self.utc += by_ms
        self.boot += by_ms

    def steady(self) -> Steady:
        return Steady(lambda: self.utc, lambda: self.boot)


def test_it_follows_a_clock_that_runs() -> None:
    clocks = Clocks()
    steady = clocks.steady()
    for _ in range(5):
        clocks.passes(700)
        assert steady.now_ms() == clocks.utc


def test_it_goes_on_where_the_clock_is_set_back_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clocks = Clocks()
    steady = clocks.steady()
    clocks.utc -= HOUR_MS
    with caplog.at_level(logging.ERROR):
        for passed in range(1, 4):
            clocks.passes(10_000)
            assert steady.now_ms() == NOW_MS + passed * 10_000
    assert [record.getMessage() for record in caplog.records] == [
        f"the system's clock was set back by {HOUR_MS} ms: time goes on as if it were not"
    ]


def test_small_steps_back_add_up_to_none() -> None:
    clocks = Clocks()
    steady = clocks.steady()
    last = steady.now_ms()
    for _ in range(100):
        clocks.passes(10)
        clocks.utc -= STEP_MS // 2
        found = steady.now_ms()
        assert found >= last
        last = found
    assert last >= NOW_MS


def test_it_follows_a_clock_that_is_set_forward_and_back_to_where_it_was_right() -> None:
    clocks = Clocks()
    steady = clocks.steady()
    clocks.utc += HOUR_MS
    assert steady.now_ms() == NOW_MS + HOUR_MS
    clocks.utc -= HOUR_MS
    assert steady.now_ms() == NOW_MS + HOUR_MS, "what expired meanwhile stays expired"
    clocks.utc += 2 * HOUR_MS
    assert steady.now_ms() == NOW_MS + 2 * HOUR_MS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose newest head was signed at `NOW_MS`."""
    made = Store(tmp_path / "store.db", salts=salts(), codec=CODEC)
    made.open()
    log = checkpoints.log_key("x.example", signing.kept_in(tmp_path / "k.pem"))
    with made.transaction() as txn:
        txn.audit.append("something", NOW_MS, {})
    with made.transaction() as txn:
        checkpoints.newest(txn, log, NOW_MS)
    return made


def _start(store: Store, now_ms: int, word: str = "") -> None:
    with store.transaction() as txn:
        clock.go_on(txn, word, now_ms)


def test_a_start_before_what_was_signed_is_refused_unless_somebody_says_why(store: Store) -> None:
    with pytest.raises(ClockIsBehind, match=r"3600 s behind .* --clock-was-ahead"):
        _start(store, NOW_MS - HOUR_MS)
    _start(store, NOW_MS - HOUR_MS, "its battery was empty")
    with store.read() as view:
        *_, leaf = view.audit.all()
    assert leaf.kind == "clock_set_back"
    assert json.loads(leaf.body)["word"] == "its battery was empty"
    assert json.loads(leaf.body)["behind_ms"] == HOUR_MS


def test_hosts_that_lead_in_turn_may_differ_a_little(store: Store) -> None:
    _start(store, NOW_MS - SKEW_MS)
    with pytest.raises(ClockIsBehind):
        _start(store, NOW_MS - SKEW_MS - 1)


def test_a_word_where_nothing_is_later_is_refused(store: Store) -> None:
    # Or it would stay in a unit's file, and let the next clock pass.
    with pytest.raises(ClockIsBehind, match="nothing of a later time"):
        _start(store, NOW_MS + HOUR_MS, "just so")
    _start(store, NOW_MS + HOUR_MS)
