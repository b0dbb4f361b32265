"""Full disks, and a site that is cut off: work says why it does not run, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from sovctl import SovError
from tests.agent.node.rig import needs_root, wait_until
from tests.e2e.local import LIFE, NARVIK, World, stopped


def link(world: World, site: str) -> bool:
    """Whether the control plane holds a session with a site."""
    return next(one.connected for one in world.operator.sites() if one.id == site)


def test_a_site_that_is_cut_off_runs_on_takes_nothing_and_catches_up(world: World) -> None:
    world.cluster.wait_ready()
    ends, stays = (world.run(LIFE, site=NARVIK) for _ in range(2))
    for job in (ends, stays):
        world.until_said(job, "start")
        world.until_state(job, "RUNNING")
    with stopped(world.pid(f"site-{NARVIK}")):
        world.tell(ends, "go")
        world.until_said(ends, "end")
        waiting = world.run(LIFE, site=NARVIK)
        wait_until(lambda: not link(world, NARVIK), "the news that the site is cut off")
        later = world.run("exit 0", site=NARVIK)
        world.until(later, "waits", lambda info: bool(info.reason))
        assert later.info.state == "QUEUED"
        assert [world.said(job)[-1].what for job in (ends, stays)] == ["end", "start"]
        assert world.said(waiting) == []
        assert ends.refresh().state == stays.refresh().state == "RUNNING"
        with pytest.raises(SovError) as caught:
            world.log(ends)
        assert caught.value.reason == "SITE_DISCONNECTED"
    assert world.end(ends).state == "SUCCEEDED"
    world.until_said(waiting, "start")
    for job in (stays, waiting):
        world.tell(job, "go")
    for job in (ends, stays, waiting, later):
        assert world.end(job).state == "SUCCEEDED"
        assert len(job.info.attempts) == 1
    assert len([one for one in world.said(waiting) if one.what == "start"]) == 1
    assert world.log(ends) == b"first line of rank 0\nlast line\n"


@contextlib.contextmanager
def small(folder: Path, tmp_path: Path) -> Generator[Path]:
    """The folder on a small disk of its own, with room enough; never away. Its ballast's path."""
    below, disk = tmp_path / "below", tmp_path / "disk"
    below.mkdir()
    disk.mkdir()
    options = f"size=400m,mode={folder.stat().st_mode & 0o7777:o}"
    run("mount", "--bind", str(folder), str(below))
    run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk))
    run("cp", "-a", f"{folder}/.", str(disk))
    run("mount", "--bind", str(disk), str(folder))
    try:
        yield disk / "ballast"
    finally:
        (disk / "ballast").unlink(missing_ok=True)
        run("cp", "-a", f"{disk}/.", str(below))
        for place in (folder, disk, below):
            run("umount", "--lazy", str(place))


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=30)


def fill(ballast: Path) -> None:
    """Leaves no byte free beside it; again, if something was freed since."""
    with open(ballast, "ab", 0) as file:
        for chunk in (bytes(1 << 20), bytes(4096)):
            with contextlib.suppress(OSError):
                while True:
                    file.write(chunk)


@needs_root
def test_a_full_spool_loses_nothing_and_new_work_says_why_it_did_not_start(
    world: World, tmp_path: Path
) -> None:
    site = NARVIK
    with world.settled():
        pass
    blocker = world.run(LIFE, site=site, gpus=8)  # The other node, so that all is on one.
    world.until_said(blocker, "start")
    attempt = blocker.refresh().attempt
    assert attempt is not None
    other = "n02" if attempt.nodes[0].endswith("n01") else "n01"
    node = world.site(site).node_dir(other)
    with small(node / "spool", tmp_path) as ballast:
        running = world.run(LIFE, site=site)
        world.until_said(running, "start")
        world.until_state(running, "RUNNING")
        home = node / "spool" / f"{running.id}.1.0"
        started = json.loads((home / "started.json").read_text())
        fill(ballast)
        world.tell(running, "go")
        world.until_said(running, "end")
        assert world.end(running).state == "SUCCEEDED"
        shim = Path("/proc", str(started["shim_pid"]))
        wait_until(lambda: not shim.exists() and not home.exists(), "all that gives room back")
        fill(ballast)
        late = world.run("exit 4", site=site)
        info = world.until(
            late,
            "tried, or told to wait",
            lambda j: any(a.ended_at_ms for a in j.attempts) or j.reason is not None,
        )
        if info.attempts:  # It came before the node's next reading of its disk.
            first = info.attempts[0]
            assert first.reason == "START_FAILED"
            # Of the attempt if its executor met the full disk, of the rank if its shim did.
            told = (first.message, first.ranks[0].detail)
            assert any("No space left" in text for text in told), told
        else:
            explained = {each.site: each.denials for each in late.explain().sites}
            assert "NODES_UNHEALTHY" in [denial.reason for denial in explained[site]]
        ballast.unlink()
        world.tell(blocker, "go")
        assert world.end(blocker).state == "SUCCEEDED"
        info = world.end(late)
        assert (info.state, info.exit_code) == ("FAILED", 4)
        assert [one.exit_code for one in info.attempts[-1].ranks] == [4]
        with world.settled():
            pass
    after = world.run("exit 0", site=site, nodes=2)
    assert world.end(after).state == "SUCCEEDED"
