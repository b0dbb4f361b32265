"""kill -9 of each program at each moment of a job: it runs once, and all of it arrives.

The moments are held, not hit by chance: a program that stands between a moment and the next one is
stopped (SIGSTOP) until the victim is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sovctl import JobInfo
from sovctl.client import Job
from tests.agent.node.rig import wait_until
from tests.e2e.local import LIFE, LONDON, Said, World, kill, over, stopped

SLOTS = ("n01", "n02")
CODE = 7
LOG = "first line of rank {rank}\nlast line\n"
CANCELLED_LOG = "first line of rank {rank}\nterminating\nlast line\n"


VICTIMS: dict[str, Callable[[World], None]] = {
    "site agent": lambda world: world.kill_site_agent(LONDON),
    "Ray driver": lambda world: kill(world.driver(LONDON)),  # The site agent starts another.
    "executor": lambda world: kill(world.executor(LONDON, "n02")),  # Ray starts another.
    "scheduler": World.kill_control,
    "planner": lambda world: kill(world.planner()),  # The scheduler starts another.
}


@dataclass(slots=True)
class Case:
    """One job, one victim."""

    world: World
    kill: Callable[[World], None]
    folder: Path
    """To make a bundle of."""

    def submit(self, working_dir: str | None = None) -> Job:
        """A gang on both nodes of the site."""
        return self.world.run(
            LIFE, nodes=2, env={"CODE": str(CODE)}, grace_s=60, working_dir=working_dir
        )

    def running(self) -> Job:
        """A gang that runs, both ranks, and is known to."""
        job = self.submit()
        self.world.until_said(job, "start", 2)
        self.world.until_state(job, "RUNNING")
        return job

    def finish(self, job: Job) -> None:
        """Lets the second rank end, then the first: a gang that loses a rank is stopped."""
        for rank, slot in reversed(list(enumerate(SLOTS))):
            self.world.tell_all(job, LONDON, [slot], "go")
            name, spool = f"{job.id}.1.{rank}", self.world.spool(LONDON, slot)
            wait_until(lambda n=name, s=spool: over(s.status(n)), f"the end of {name} in its spool")


def before_start(case: Case, victim: str) -> Job:
    """Queued when the planner or the scheduler dies, placed when anybody of the site does."""
    world = case.world
    holder = world.planner() if victim in ("planner", "scheduler") else world.pid(f"site-{LONDON}")
    with stopped(holder):
        job = case.submit()
        if victim in ("planner", "scheduler"):
            assert job.refresh().state == "QUEUED"
        else:
            world.until_state(job, "PLACED")
        case.kill(world)
    return job


def in_prepare(case: Case, _victim: str) -> Job:
    """The first rank is prepared; the second one's executor has not answered. All ranks of a gang
    with a bundle are prepared before one starts."""
    world = case.world
    with stopped(world.executor(LONDON, "n02")):
        job = case.submit(working_dir=str(case.folder))
        first = f"{job.id}.1.0"
        spool = world.spool(LONDON, "n01")
        wait_until(lambda: spool.status(first).phase == "prepared", f"{first} prepared")
        case.kill(world)
        assert world.said(job) == []
    return job


def in_start(case: Case, _victim: str) -> Job:
    """The first rank runs; the second one's executor has not answered."""
    world = case.world
    # A gang before it: the driver has to know where each node's ranks are found.
    world.end(world.run("true", nodes=2))
    with stopped(world.executor(LONDON, "n02")):
        job = case.submit()
        world.until_said(job, "start", 1)
        case.kill(world)
    return job


def while_running(case: Case, _victim: str) -> Job:
    job = case.running()
    case.kill(case.world)
    return job


def while_ending(case: Case, _victim: str) -> Job:
    """It was told to stop and is at it."""
    world = case.world
    job = case.running()
    job.cancel()
    world.until_said(job, "term", 2)
    case.kill(world)
    world.tell(job, "finish")
    return job


def after_the_end(case: Case, _victim: str) -> Job:
    """Both exits are in their spools, and nobody was told."""
    world = case.world
    job = case.running()
    with stopped(*(world.pid(f"node-{LONDON}-{slot}") for slot in SLOTS)):
        case.finish(job)
        assert job.refresh().state == "RUNNING"
        case.kill(world)
    return job


MOMENTS: dict[str, Callable[[Case, str], Job]] = {
    "before start": before_start,
    "in prepare": in_prepare,
    "in start": in_start,
    "running": while_running,
    "ending": while_ending,
    "after the exit was spooled": after_the_end,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", VICTIMS)
def test_whoever_is_killed_when_a_job_runs_once_and_all_of_it_arrives(
    world: World, tmp_path: Path, victim: str, moment: str
) -> None:
    world.cluster.wait_ready()
    case = Case(world, VICTIMS[victim], tmp_path)
    job = MOMENTS[moment](case, victim)
    if moment in ("before start", "in prepare", "in start", "running"):
        world.until_said(job, "start", 2)
        case.finish(job)
    info = world.end(job)
    assert [(one.attempt, one.rank) for one in sorted_starts(world, job)] == [(1, 0), (1, 1)]
    assert_whole(world, job, info, cancelled=moment == "ending")


def sorted_starts(world: World, job: Job) -> list[Said]:
    """Every start that the job itself knows of."""
    starts = [one for one in world.said(job) if one.what == "start"]
    return sorted(starts, key=lambda one: (one.attempt, one.rank))


def assert_whole(world: World, job: Job, info: JobInfo, *, cancelled: bool) -> None:
    """One attempt, its state, each rank's code and cause, and both whole logs."""
    (attempt,) = info.attempts
    assert info.state == ("CANCELLED" if cancelled else "FAILED")
    cause = "STOP" if cancelled else "EXIT"
    ends = [(rank.rank, rank.exit_code, rank.signal, rank.cause) for rank in attempt.ranks]
    code = CODE if cancelled else 0
    assert ends == [(0, CODE, None, cause), (1, code, None, cause)]
    text = CANCELLED_LOG if cancelled else LOG
    for rank in (0, 1):
        assert world.log(job, rank).decode() == text.format(rank=rank)
