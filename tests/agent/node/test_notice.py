"""The kernel's word on the ranks of a spool."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.node.notice import SpoolNotice
from tests.agent.node.rig import DEADLINE_S

EVENTS_KEPT = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
KEY, OTHER = "job-a.1.0", "job-b.1.0"


@contextmanager
def noticing(spool: Path) -> Generator[asyncio.Event]:
    noticed = asyncio.Event()
    notice = SpoolNotice(spool, noticed.set)
    try:
        yield noticed
    finally:
        notice.close()


async def heard(noticed: asyncio.Event) -> None:
    """Once, and no more."""
    async with asyncio.timeout(DEADLINE_S):
        await noticed.wait()
    noticed.clear()


def touch(path: Path) -> Callable[[], None]:
    return lambda: path.touch()


def link(path: Path) -> Callable[[], None]:
    """As a shim names its record."""

    def act() -> None:
        (path.parent / "room").touch()
        os.link(path.parent / "room", path)

    return act


async def test_a_rank_that_starts_ends_or_goes_is_noticed(tmp_path: Path) -> None:
    home = tmp_path / KEY
    with noticing(tmp_path) as noticed:
        home.mkdir()
        await asyncio.sleep(0)  # The directory is heard of before what is made in it, or with it.
        for change in (
            link(home / "started.json"),
            touch(home / "exit.json"),
            lambda: home.rename(tmp_path / "away"),
        ):
            change()
            await heard(noticed)


async def test_ranks_that_were_there_before_are_noticed(tmp_path: Path) -> None:
    (tmp_path / KEY).mkdir()
    with noticing(tmp_path) as noticed:
        (tmp_path / KEY / "exit.json").touch()
        await heard(noticed)


async def test_a_rank_that_started_as_its_directory_came_is_noticed(tmp_path: Path) -> None:
    with noticing(tmp_path) as noticed:
        (tmp_path / KEY).mkdir()
        (tmp_path / KEY / "started.json").touch()  # Before we could watch the directory.
        await heard(noticed)


async def test_what_a_start_writes_besides_is_not_told(tmp_path: Path) -> None:
    with noticing(tmp_path) as noticed:
        for name in ("archive", KEY):
            (tmp_path / name).mkdir()
        for name in ("prepare.json", "spec.json", "log"):
            (tmp_path / KEY / name).touch()
        os.symlink("start", tmp_path / KEY / "gate")
        (tmp_path / "archive" / "exit.json").touch()
        await asyncio.sleep(0.1)
        assert not noticed.is_set()
        (tmp_path / KEY / "started.json").touch()
        await heard(noticed)


async def test_what_was_archived_is_told_of_no_more(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for name in (KEY, OTHER):
        (tmp_path / name).mkdir()
    with noticing(tmp_path) as noticed:
        (tmp_path / KEY).rename(tmp_path / "archive" / KEY)
        await heard(noticed)
        (tmp_path / "archive" / KEY / "exit.json").touch()
        await asyncio.sleep(0.1)
        assert not noticed.is_set()
        (tmp_path / OTHER / "exit.json").touch()
        await heard(noticed)


async def test_more_than_the_kernel_kept_is_looked_for(tmp_path: Path) -> None:
    """What overflowed is not known: whoever is told looks at everything."""
    with noticing(tmp_path) as noticed:
        for number in range(EVENTS_KEPT // 2 + 1):  # Two words each: made, and removed.
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number)).rmdir()
        (tmp_path / KEY).mkdir()
        await heard(noticed)
        await asyncio.sleep(0.1)
        noticed.clear()
        (tmp_path / KEY / "started.json").touch()
        await heard(noticed)


async def test_nothing_is_told_after_the_end(tmp_path: Path) -> None:
    with noticing(tmp_path) as noticed:
        pass
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "exit.json").touch()
    await asyncio.sleep(0)
    assert not noticed.is_set()


async def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        SpoolNotice(tmp_path / "gone", lambda: None)


@pytest.mark.parametrize("there_before", [True, False])
async def test_an_end_so_soon_after_its_start_is_told_with_it(
    tmp_path: Path, there_before: bool
) -> None:
    home = tmp_path / KEY
    if there_before:
        home.mkdir()
    with noticing(tmp_path) as noticed:
        home.mkdir(exist_ok=True)
        for name in ("spec.json", "started.json", "exit.json"):
            (home / name).touch()
            for _ in range(3):  # Turns of the loop, in which it would be heard.
                await asyncio.sleep(0)
        await heard(noticed)
        await asyncio.sleep(0.2)
        assert not noticed.is_set()
