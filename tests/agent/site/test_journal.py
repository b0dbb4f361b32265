"""The journal survives what disks do, or starts anew; it never tells half a truth."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.site.journal import JournalDamaged, JournalFile, JournalUnwritable, decode, encode
from agent.site.state import Journal, Memory, Verdict
from sovapi.v1 import sitelink_pb2 as sitelink
from tests.agent.site.builders import FORGET, STOP, row

VERDICT = Verdict(sitelink.ATTEMPT_PHASE_REFUSED, "GUARD_REFUSED", "JURISDICTION: in NO")
FULL = Journal(
    epoch=3,
    generation=77,
    rows={
        "job-a.1": row(),
        "job-b.1": row(STOP, job="job-b"),
        "job-c.1": row(FORGET, job="job-c"),
    },
    memory={
        "job-a.1": Memory(boots={"n01": "boot-a"}, unsure=True),
        "job-b.1": Memory(verdict=VERDICT),
    },
)


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    JournalFile(tmp_path).store(FULL)
    assert JournalFile(tmp_path).load() == FULL
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


def test_an_absent_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert JournalFile(tmp_path).load() == Journal()


@given(cut=st.integers(0, len(encode(FULL)) - 1))
def test_a_torn_journal_is_recognised_wherever_it_ends(cut: int) -> None:
    with pytest.raises(JournalDamaged):
        decode(encode(FULL)[:cut])


@given(where=st.integers(0, len(encode(FULL)) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_recognised_wherever_it_is(where: int, bit: int) -> None:
    content = bytearray(encode(FULL))
    content[where] ^= 1 << bit
    with pytest.raises(JournalDamaged):
        decode(bytes(content))


def test_a_damaged_journal_is_put_aside_and_nothing_is_assumed(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    file.store(FULL)
    file.path.write_bytes(file.path.read_bytes()[:-10])
    assert file.load() == Journal()
    assert [path.name for path in tmp_path.iterdir()] == ["journal.damaged"]
    file.store(FULL)
    assert file.load() == FULL


def test_what_a_crash_left_half_written_is_not_looked_at(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    file.store(FULL)
    (tmp_path / ".journal.new").write_bytes(b"half")
    assert file.load() == FULL
    file.store(Journal(3, 78))
    assert file.load() == Journal(3, 78)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from agent.site.journal import JournalFile, JournalUnwritable
from agent.site.state import Journal
from tests.agent.site.test_journal import FULL
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
try:
    JournalFile(Path(sys.argv[1])).store(FULL)
except JournalUnwritable:
    sys.exit(3)
"""


def test_a_full_disk_leaves_the_journal_before_it_in_force(tmp_path: Path) -> None:
    before = Journal(3, 76)
    JournalFile(tmp_path).store(before)
    root = Path(__file__).resolve().parents[3]
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=root,
        check=False,
    )
    assert ended.returncode == 3
    assert JournalFile(tmp_path).load() == before
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 64


def test_a_directory_that_went_away_is_an_error_that_can_be_handled(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "state")
    (tmp_path / "state").rmdir()
    with pytest.raises(JournalUnwritable, match="No such file"):
        file.store(FULL)
