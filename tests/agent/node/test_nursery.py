"""Shims that are forked by a process that waits for orders: they owe it nothing, nor it them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.node.launcher import Nursery
from agent.node.spool import Cause, Phase
from tests.agent.node.rig import LEVELS, Site, running, wait_until

KEY = "job-a.1.0"


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


def gated(site: Site, key: str, text: str, level: str = "none") -> None:
    """A rank that only wants its shim."""
    site.prepare(key, ["/bin/sh", "-c", text], level)
    assert site.spool.open_gate(key)


def pid_of(nursery: Nursery) -> int:
    assert nursery.pid is not None
    return nursery.pid


@pytest.mark.parametrize("level", LEVELS)
def test_a_rank_runs_and_its_end_is_recorded(site: Site, nursery: Nursery, level: str) -> None:
    gated(site, KEY, "echo ran; exit 3", level)
    nursery.run_shim(site.spool, KEY)
    end = site.end(KEY)
    assert (end.exit_code, end.cause) == (3, Cause.EXIT)
    assert site.log(KEY) == "ran\n"


def test_an_order_is_back_when_the_rank_runs(site: Site, nursery: Nursery) -> None:
    gated(site, KEY, "sleep 1000")
    nursery.run_shim(site.spool, KEY)
    assert site.spool.status(KEY).phase is Phase.RUNNING


@pytest.mark.parametrize("level", LEVELS)
def test_ranks_outlive_their_nursery(site: Site, nursery: Nursery, level: str) -> None:
    gated(site, KEY, "echo up; read x < /dev/zero; sleep 1000", level)
    nursery.run_shim(site.spool, KEY)
    pid = pid_of(nursery)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not running(pid), "the end of the nursery")
    site.wait_log(KEY, "up\n")
    assert site.spool.status(KEY).phase is Phase.RUNNING
    site.spool.stop(KEY, 0)
    assert site.end(KEY).cause is Cause.STOP


def test_a_nursery_that_was_killed_is_replaced(site: Site, nursery: Nursery) -> None:
    nursery.warm_up()
    first = pid_of(nursery)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not running(first), "the end of the nursery")
    gated(site, KEY, "echo ran")
    nursery.run_shim(site.spool, KEY)
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY) == "ran\n"
    assert pid_of(nursery) != first


def test_a_nursery_ends_with_whoever_orders_from_it(site: Site) -> None:
    made = Nursery()
    made.warm_up()
    gated(site, KEY, "echo ran; sleep 1000")
    made.run_shim(site.spool, KEY)
    pid = pid_of(made)
    made.close()
    assert not running(pid)
    assert site.spool.status(KEY).phase is Phase.RUNNING


def test_what_forks_ranks_has_seen_nothing_of_whoever_started_it(nursery: Nursery) -> None:
    nursery.warm_up()
    process = Path(f"/proc/{pid_of(nursery)}")
    wait_until(lambda: b"nursery" in (process / "cmdline").read_bytes(), "its program")
    assert (process / "environ").read_bytes() == b""
    # Nothing is open but /dev/null and its channel.
    opened = {os.readlink(entry) for entry in (process / "fd").iterdir()}
    assert {name for name in opened if not name.startswith("socket:")} <= {"/dev/null"}


def test_many_orders_at_once_start_each_rank_once(site: Site, nursery: Nursery) -> None:
    keys = [f"job-{number}.1.0" for number in range(6)]
    for key in keys:
        gated(site, key, "echo ran")
    orders = [
        threading.Thread(target=nursery.run_shim, args=(site.spool, key))
        for key in keys
        for _ in range(2)
    ]
    for order in orders:
        order.start()
    for order in orders:
        order.join()
    assert [site.end(key).exit_code for key in keys] == [0] * len(keys)
    assert [site.log(key) for key in keys] == ["ran\n"] * len(keys)
