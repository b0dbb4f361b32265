"""What a node tells of checkpoints: the newest whole one, and nothing of what is being written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.node.checkpoints import Checkpoints, newest_ms

KEY = "job-a.1.0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the rank KEY of a spool writes its checkpoints."""
    made = tmp_path / "checkpoints" / "job-a"
    made.mkdir(parents=True)
    home = tmp_path / "spool" / KEY
    home.mkdir(parents=True)
    (home / "spec.json").write_text(json.dumps({"env": {"SOV_CHECKPOINT_DIR": str(made)}}))
    return made


def write(path: Path, at_s: int) -> None:
    """A file that was last written then."""
    path.write_text("weights")
    os.utime(path, (at_s, at_s))


def test_the_newest_of_files_and_directories_counts(folder: Path) -> None:
    write(folder / "step-1", 1_000)
    write(folder / "step-2", 3_000)
    (folder / "latest").mkdir()
    os.utime(folder / "latest", (2_000, 2_000))
    assert newest_ms(str(folder)) == 3_000_000


def test_what_is_being_written_under_a_dotted_name_does_not_count(folder: Path) -> None:
    write(folder / "step-1", 1_000)
    write(folder / ".step-2", 3_000)
    assert newest_ms(str(folder)) == 1_000_000
    (folder / ".step-2").rename(folder / "step-2")
    assert newest_ms(str(folder)) == 3_000_000


def test_a_link_is_not_followed_out_of_the_directory(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", 9_000)
    (folder / "step-1").symlink_to(tmp_path / "elsewhere")
    os.utime(folder / "step-1", (1_000, 1_000), follow_symlinks=False)
    assert newest_ms(str(folder)) == 1_000_000


def test_ranks_are_looked_for_while_they_live(folder: Path, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "spool")
    checkpoints.look([KEY, "job-b.1.0"])
    assert checkpoints.newest_ms == {}
    write(folder / "step-1", 1_000)
    checkpoints.look([KEY, "job-b.1.0"])
    assert checkpoints.newest_ms == {KEY: 1_000_000}
    checkpoints.look([])
    assert checkpoints.newest_ms == {}


def test_a_directory_that_is_gone_tells_nothing(tmp_path: Path) -> None:
    assert newest_ms(str(tmp_path / "never")) == 0
