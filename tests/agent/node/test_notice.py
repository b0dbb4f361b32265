"""The kernel's word that a directory changed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.node.notice import DirectoryNotice
from tests.agent.node.rig import DEADLINE_S


async def test_each_kind_of_change_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    noticed = asyncio.Event()
    notice = DirectoryNotice(tmp_path / "spool", noticed.set)
    entry = tmp_path / "spool" / "entry"
    try:
        for change in (
            entry.mkdir,
            lambda: entry.rename(tmp_path / "away"),
            lambda: (tmp_path / "away").rename(entry),
            entry.rmdir,
        ):
            change()
            async with asyncio.timeout(DEADLINE_S):
                await noticed.wait()
            noticed.clear()
    finally:
        notice.close()
    entry.mkdir()
    await asyncio.sleep(0)
    assert not noticed.is_set()


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        DirectoryNotice(tmp_path / "gone", lambda: None)
