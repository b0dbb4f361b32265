"""A node's raylet is killed: what ran there is fenced before it runs again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from sovapi.v1 import common_pb2
from tests.agent.node.rig import wait_until
from tests.e2e.local import LIFE, NARVIK, World, bearing

SLOTS = ("n01", "n02")


@pytest.fixture
def raylet(world: World) -> Iterator[int]:
    """The raylet of the site's second node (the first one's also carries Ray's head); it is there
    again afterwards."""
    cell = world.cluster.cell(world.site(NARVIK))
    world.cluster.wait_ready()
    yield cell.pid("n02", "raylet")
    if not [one for one in cell.processes() if (one.slot, one.program) == ("n02", "raylet")]:
        cell.start_node("n02")
    world.cluster.wait_ready()


def test_an_attempt_is_fenced_before_the_next_one_starts(world: World, raylet: int) -> None:
    # The first node is full, so that the job has to begin on the second.
    holder = world.run(LIFE, site=NARVIK, gpus=8)
    on_first = world.until_said(holder, "start")
    assert on_first
    job = world.run(LIFE, site=NARVIK, gpus=1, grace_s=1)
    world.until_said(job, "start")
    assert place(world, job.id) == [f"{NARVIK}/n02"]
    os.kill(raylet, signal.SIGKILL)
    # It goes on while the raylet is waited for, and ends only by being fenced: it heeds no TERM.
    world.until_said(job, "term")
    wait_until(lambda: bearing(f"SOV_RANK_KEY={job.id}.1.0") == [], "the end of the first attempt")
    world.tell(holder, "go")
    assert world.end(holder).state == "SUCCEEDED"
    world.until_said(job, "start", 2)
    world.until(job, "runs again", lambda info: len(info.attempts) == 2)
    world.tell(job, "go")
    info = world.end(job)
    first, second = info.attempts
    assert info.state == "SUCCEEDED"
    assert (first.state, first.reason) == ("FAILED", "NODE_RUNTIME_LOST")
    assert [(rank.cause, rank.signal) for rank in first.ranks] == [("FENCE", 9)]
    assert second.nodes == (f"{NARVIK}/n01",)
    assert [rank.exit_code for rank in second.ranks] == [0]
    starts = [one for one in world.said(job) if one.what == "start"]
    assert [one.attempt for one in starts] == [1, 2]
    fenced_at_ms = first.ranks[0].ended_at_ms
    assert fenced_at_ms is not None
    assert fenced_at_ms <= starts[1].at_ms


def test_a_node_whose_raylet_is_dead_takes_nothing_and_takes_work_again(
    world: World, raylet: int
) -> None:
    os.kill(raylet, signal.SIGKILL)

    def health() -> dict[str, int]:
        return {node.id: node.health for node in world.operator.nodes(NARVIK)}

    lost = f"{NARVIK}/n02"
    wait_until(lambda: health()[lost] != common_pb2.HEALTH_OK, "the news of the raylet's death")
    both = world.run("exit 0", site=NARVIK, nodes=2)
    world.until(both, "waits", lambda info: bool(info.reason))
    assert both.info.state == "QUEUED"
    (here,) = [site for site in both.explain().sites if site.site == NARVIK]
    assert [denial.reason for denial in here.denials] == ["NODES_UNHEALTHY"]
    world.cluster.cell(world.site(NARVIK)).start_node("n02")
    assert world.end(both).state == "SUCCEEDED"


def place(world: World, job: str) -> list[str]:
    """Where a job is."""
    attempt = world.ada.get(job).info.attempt
    assert attempt is not None
    return list(attempt.nodes)
