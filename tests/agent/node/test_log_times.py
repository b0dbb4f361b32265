"""Since when a log is read: what is found by the marks that its shim makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.node import log_times
from agent.node.clock import wall_ms
from agent.node.log_times import LogTimes, marks_of, offset_since
from agent.node.spool import Phase
from tests.agent.node.rig import Site
from tests.agent.node.test_shim import KEY, shell

BEGUN_MS = 1_700_000_000_000


class Written:
    """A log as its shim leaves it, written at times of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[tuple[int, bytes]] = []
        self._times = LogTimes(0, BEGUN_MS)
        self._size = 0

    def add(self, line: bytes, at_ms: int) -> None:
        """A line that was read then."""
        self._times.note(self._size, at_ms)
        with open(self.folder / "log", "ab") as file:
            file.write(line)
        os.utime(self.folder / "log", ns=(0, at_ms * 1_000_000))
        self._size += len(line)
        self.lines.append((at_ms, line))

    def since(self, at_ms: int) -> bytes:
        """What is found."""
        with open(self.folder / "log", "rb") as file:
            return os.pread(
                file.fileno(),
                self._size,
                offset_since(file.fileno(), marks_of(self.folder), at_ms),
            )


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.chdir(tmp_path)
    return Written(tmp_path)


def test_what_is_older_is_left_out_to_the_second(written: Written) -> None:
    for second in range(0, 3600, 7):
        written.add(b"%d\n" % second, BEGUN_MS + second * 1000)
    assert written.since(BEGUN_MS) == b"".join(line for _, line in written.lines)
    assert written.since(BEGUN_MS + 3_500_000).startswith(b"3500\n")
    assert written.since(BEGUN_MS + 3_499_000).startswith(b"3500\n")
    assert written.since(BEGUN_MS + 3_600_000) == b""


def test_a_line_after_an_hours_silence_comes_without_what_was_before(written: Written) -> None:
    written.add(b"old\n", BEGUN_MS + 10)
    written.add(b"new\n", BEGUN_MS + 3_600_000)
    assert written.since(BEGUN_MS + 11) == b"new\n"


def test_a_stretch_begins_with_its_whole_line(written: Written) -> None:
    written.add(b"first\nbegun", BEGUN_MS + 10)
    written.add(b" and ended\nlast\n", BEGUN_MS + 60_000)
    assert written.since(BEGUN_MS + 30_000) == b"begun and ended\nlast\n"


def test_a_clock_that_is_set_back_hides_nothing(written: Written) -> None:
    written.add(b"ahead\n", BEGUN_MS + 86_400_000)
    written.add(b"a\n", BEGUN_MS + 2_000)
    written.add(b"b\n", BEGUN_MS + 4_000)
    assert written.since(BEGUN_MS + 3_000) == b"b\n"
    assert b"b\n" in written.since(BEGUN_MS + 1_000)


@given(
    gaps_ms=st.lists(st.integers(0, 30_000), min_size=1, max_size=200),
    ask=st.integers(0, 200),
    off_ms=st.integers(-2_000, 2_000),
)
def test_nothing_younger_is_missed_however_few_marks_are_kept(
    tmp_path_factory: pytest.TempPathFactory, gaps_ms: list[int], ask: int, off_ms: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("log")
        patch.chdir(folder)
        patch.setattr(log_times, "MARKS_MAX", 16)
        written, at_ms = Written(folder), BEGUN_MS
        for number, gap_ms in enumerate(gaps_ms):
            at_ms += gap_ms
            written.add(b"line %d\n" % number, at_ms)
        asked_ms = written.lines[ask % len(written.lines)][0] + off_ms
        younger = b"".join(line for at, line in written.lines if at >= asked_ms)
        assert written.since(asked_ms).endswith(younger)
        assert len(marks_of(folder)) <= 16


def test_the_newest_marks_stay_exact_when_the_old_are_thinned(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_times, "MARKS_MAX", 64)
    for second in range(5_000):
        written.add(b"%d\n" % second, BEGUN_MS + second * 1000)
    assert written.since(BEGUN_MS + 4_990_000).startswith(b"4990\n")
    early = int(written.since(BEGUN_MS + 1_000_000).split(b"\n")[0])
    assert early <= 1_000, "too much, never too little"
    assert (written.folder / log_times.NAME).stat().st_size <= 64 * 16


def test_marks_that_were_torn_are_no_marks(written: Written) -> None:
    written.add(b"a\n", BEGUN_MS)
    written.add(b"b\n", BEGUN_MS + 5_000)
    with open(written.folder / log_times.NAME, "ab") as file:
        file.write(b"\0" * 9)
    assert written.since(BEGUN_MS + 4_000) == b"b\n"


def test_a_ranks_log_is_read_since_a_time_while_it_runs_and_after(site: Site) -> None:
    go = site.root / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.05; done"
    site.start(KEY, shell(f"echo old; sleep 1.2; echo middle; {wait}; sleep 1.2; echo new"))
    site.wait_log(KEY, "middle\n")
    before_ms = wall_ms()
    assert site.spool.read_log(KEY, 0, 100, before_ms - 600_000).data == b"old\nmiddle\n"
    assert site.spool.read_log(KEY, 0, 100, before_ms + 600_000).data == b""
    go.touch()
    site.end(KEY)
    assert site.spool.read_log(KEY, 0, 100, before_ms + 500).data == b"new\n"
    assert site.spool.read_log(KEY, 0, 1, before_ms + 500).offset == len(b"old\nmiddle\n")
    assert site.spool.read_log(KEY, 13, 100, before_ms + 500).data == b"w\n", "the later one counts"
    site.spool.archive(KEY)
    assert site.spool.status(KEY).phase is Phase.OVER
    assert site.spool.read_log(KEY, 0, 100, before_ms + 500).data == b"new\n"
    site.spool.enforce_retention(log_bytes_max=1)
    assert site.spool.read_log(KEY, 0, 100, before_ms + 500).data == b""
    archived = site.spool.root / "archive" / KEY
    assert sorted(os.listdir(archived)) == ["exit.json"]
