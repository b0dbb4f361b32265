"""How ranks end, and how jobs are ended: codes, signals, whole logs, and nothing left behind."""

from __future__ import annotations

import hashlib
import textwrap

import pytest

from agent.node.clock import wall_ms
from tests.agent.node.rig import wait_until
from tests.e2e.local import LIFE, LONDON, World, bearing, over

BIG_BYTES = 5 * 1024 * 1024
MANY_LINES = """
import hashlib, os, sys
block = hashlib.sha512(b"rank %s" % os.environ["RANK"].encode()).digest() * 1024
written = 0
while written < {total}:
    written += os.write(1, block[: {total} - written])
"""
# A child that leaves session and parent, ignores TERM, and would live for a long time.
STRAY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.execv("/bin/sh", ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.2; done", sys.argv[1]])
open(os.environ["SOV_CHECKPOINT_DIR"] + "/ready", "w").close()
while True:
    time.sleep(1)
"""


def test_exit_codes_and_signals_come_back(world: World) -> None:
    wanted = {
        "exit 0": ("SUCCEEDED", 0, None),
        "exit 3": ("FAILED", 3, None),
        "kill -SEGV $$": ("FAILED", None, 11),
        "exec /nowhere/program": ("FAILED", 127, None),
    }
    jobs = {text: world.run(text) for text in wanted}
    direct = world.ada.submit(
        {"name": "missing", "command": ["no-such-program"], "resources": {"gpus_per_node": 1}}
    )
    for text, (state, code, number) in wanted.items():
        info = world.end(jobs[text])
        assert info.attempt is not None
        (rank,) = info.attempt.ranks
        found = (info.state, rank.exit_code, rank.signal)
        assert found == (state, code, number), (text, info)
        assert rank.cause == "EXIT"
        assert info.exit_code == (128 + number if number else code)
        assert len(info.attempts) == 1
    info = world.end(direct)
    assert (info.state, info.exit_code) == ("FAILED", 127)
    assert b"cannot run 'no-such-program'" in world.log(direct)


def test_each_rank_of_a_gang_has_its_own_end(world: World) -> None:
    both = world.run(LIFE + "exit 5", nodes=2)
    world.until_said(both, "start", 2)
    for rank, slot in enumerate(("n01", "n02")):
        world.tell_all(both, LONDON, [slot], "go")
        wait_until(
            lambda r=rank, s=slot: over(world.rank(both, LONDON, s, r)), f"the end of rank {rank}"
        )
    info = world.end(both)
    assert info.attempt is not None
    ends = {
        rank.rank: (rank.node.rpartition("/")[2], rank.exit_code) for rank in info.attempt.ranks
    }
    assert ends == {0: ("n01", 0), 1: ("n02", 5)}
    assert info.state == "FAILED"


def test_whole_logs_of_both_ranks_arrive_byte_for_byte(world: World) -> None:
    text = textwrap.dedent(MANY_LINES).format(total=BIG_BYTES)
    job = world.ada.submit(
        {
            "name": "big-log",
            "command": ["python3", "-c", text],
            "resources": {"nodes": 2, "gpus_per_node": 1},
        }
    )
    followed: dict[int, bytearray] = {0: bytearray(), 1: bytearray()}
    for chunk in job.logs(rank=None, follow=True):
        assert chunk.offset == len(followed[chunk.rank])
        followed[chunk.rank] += chunk.data
    assert world.end(job).state == "SUCCEEDED"
    for rank in (0, 1):
        block = hashlib.sha512(b"rank %d" % rank).digest() * 1024
        whole = (block * (BIG_BYTES // len(block) + 1))[:BIG_BYTES]
        assert bytes(followed[rank]) == whole
        assert world.log(job, rank) == whole


def test_a_log_is_read_since_a_time_whoever_of_its_agents_was_killed(world: World) -> None:
    wait = "while [ ! -e $SOV_CHECKPOINT_DIR/.go ]; do sleep 0.1; done"
    job = world.run(f"echo old; sleep 1.2; echo middle; {wait}; sleep 1.2; echo new")
    attempt = world.until_state(job, "RUNNING").attempt
    assert attempt is not None
    wait_until(lambda: world.log(job) == b"old\nmiddle\n", "what comes before")
    between_ms = wall_ms() + 500  # `new` is read 1.2 s after the word that it waits for, or later.
    world.kill_node_agent(attempt.site, attempt.nodes[0].rpartition("/")[2])
    world.kill_site_agent(attempt.site)
    world.tell(job, "go")
    followed = job.logs(follow=True, since_ms=between_ms)
    assert [(chunk.offset, chunk.data) for chunk in followed] == [(11, b"new\n")]
    assert world.end(job).state == "SUCCEEDED"
    later = job.logs(rank=None, since_ms=between_ms)
    assert b"".join(chunk.data for chunk in later) == b"new\n"
    assert list(job.logs(since_ms=wall_ms() + 600_000)) == []


def test_cancel_lets_a_job_end_itself_within_its_grace(world: World) -> None:
    job = world.run(LIFE, grace_s=60)
    world.until_said(job, "start")
    world.until_state(job, "RUNNING")
    job.cancel()
    world.until_said(job, "term")
    assert job.refresh().state == "CANCELLING"
    world.tell(job, "finish")
    info = world.end(job)
    assert info.state == "CANCELLED"
    assert info.attempt is not None
    assert [(r.exit_code, r.cause) for r in info.attempt.ranks] == [(7, "STOP")]
    assert world.log(job) == b"first line of rank 0\nterminating\nlast line\n"


@pytest.mark.parametrize("now", [False, True], ids=["after the grace", "at once"])
def test_cancel_leaves_no_process_of_a_job_that_ignores_it(world: World, *, now: bool) -> None:
    mark = f"stray-{now}-mark"
    grace_s = 600 if now else 1
    job = world.ada.submit(
        {
            "name": "stray",
            "command": ["python3", "-c", STRAY, mark],
            "resources": {"gpus_per_node": 1},
            "preemption": {"grace": f"{grace_s}s"},
        }
    )
    world.until_state(job, "RUNNING")
    wait_until(lambda: len(bearing(mark)) >= 2, "the job and the child that left it")
    job.cancel(now=now)
    info = world.end(job)
    assert info.state == "CANCELLED"
    assert info.attempt is not None
    assert [(r.exit_code, r.signal, r.cause) for r in info.attempt.ranks] == [(None, 9, "STOP")]
    assert bearing(mark) == []
    assert bearing(f"SOV_JOB_ID={job.id}") == []


def test_cancelling_twice_and_shortening_the_grace(world: World) -> None:
    job = world.run("trap '' TERM; while :; do sleep 0.1; done", grace_s=600)
    world.until_state(job, "RUNNING")
    job.cancel()
    world.until_state(job, "CANCELLING")
    job.cancel()
    job.cancel(now=True)
    assert world.end(job).state == "CANCELLED"
    assert job.cancel().state == "CANCELLED"


def test_a_queued_job_is_cancelled_and_never_runs(world: World) -> None:
    holder = world.run(LIFE, gpus=4, nodes=2)
    world.until_said(holder, "start", 2)
    waiting = world.run(LIFE, gpus=4)
    world.until(waiting, "waits with a reason", lambda info: bool(info.reason))
    assert waiting.info.state == "QUEUED"
    assert waiting.cancel().state == "CANCELLED"
    world.tell(holder, "go")
    assert world.end(holder).state == "SUCCEEDED"
    info = waiting.refresh()
    assert (info.state, info.attempts) == ("CANCELLED", ())
    assert world.said(waiting) == []
    assert world.spool(LONDON, "n01").status(f"{waiting.id}.1.0").phase == "absent"
