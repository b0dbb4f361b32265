"""Shims that are forked by a process that waits for orders: they owe it nothing, nor it them."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.node.confine import descendants
from agent.node.launcher import Nursery
from agent.node.nursery import SHIMS
from agent.node.spool import Cause, Phase
from tests.agent.node.rig import LEVELS, Site, running, wait_until

KEY = "job-a.1.0"


@pytest.fixture
def nursery(site: Site) -> Iterator[Nursery]:
    made = Nursery("none", site.spool)
    yield made
    made.close()


@pytest.fixture(params=LEVELS)
def isolating(request: pytest.FixtureRequest, site: Site) -> Iterator[tuple[Nursery, str]]:
    """A nursery of each level that this machine reaches."""
    made = Nursery(request.param, site.spool)
    yield made, request.param
    made.close()


def gated(site: Site, key: str, text: str, level: str = "none") -> None:
    """A rank that only wants its shim."""
    site.prepare(key, ["/bin/sh", "-c", text], level)
    assert site.spool.open_gate(key)


def pid_of(nursery: Nursery) -> int:
    assert nursery.pid is not None
    return nursery.pid


def test_a_rank_runs_and_its_end_is_recorded(site: Site, isolating: tuple[Nursery, str]) -> None:
    nursery, level = isolating
    gated(site, KEY, "echo ran; exit 3", level)
    nursery.run_shim(KEY)
    end = site.end(KEY)
    assert (end.exit_code, end.cause) == (3, Cause.EXIT)
    assert site.log(KEY) == "ran\n"


def test_an_order_is_back_when_the_rank_runs(site: Site, nursery: Nursery) -> None:
    gated(site, KEY, "sleep 1000")
    nursery.run_shim(KEY)
    assert site.spool.status(KEY).phase is Phase.RUNNING


def test_ranks_outlive_their_nursery(site: Site, isolating: tuple[Nursery, str]) -> None:
    nursery, level = isolating
    gated(site, KEY, "echo up; sleep 1000", level)
    nursery.run_shim(KEY)
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
    nursery.run_shim(KEY)
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY) == "ran\n"
    assert pid_of(nursery) != first


def test_a_nursery_ends_with_whoever_orders_from_it(site: Site) -> None:
    made = Nursery("none", site.spool)
    made.warm_up()
    gated(site, KEY, "echo ran; sleep 1000")
    made.run_shim(KEY)
    pid = pid_of(made)
    made.close()
    assert not running(pid)
    assert site.spool.status(KEY).phase is Phase.RUNNING


def test_spares_are_made_ahead_and_end_with_their_nursery(nursery: Nursery) -> None:
    nursery.warm_up()
    pid = pid_of(nursery)
    wait_until(lambda: len(descendants(pid)) == 3 * SHIMS, "shims with an init and a rank each")
    family = descendants(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(running, family)), "the end of the spares")


def test_spares_that_were_killed_are_made_up_for(site: Site, nursery: Nursery) -> None:
    nursery.warm_up()
    pid = pid_of(nursery)
    wait_until(lambda: len(descendants(pid)) == 3 * SHIMS, "spares")
    for spare in descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(spare, signal.SIGKILL)
    wait_until(lambda: len(descendants(pid)) == 3 * SHIMS, "spares again")
    gated(site, KEY, "echo ran")
    nursery.run_shim(KEY)
    assert site.end(KEY).exit_code == 0


def test_what_forks_ranks_has_seen_nothing_of_whoever_started_it(nursery: Nursery) -> None:
    nursery.warm_up()
    process = Path(f"/proc/{pid_of(nursery)}")
    # Until then it has its own modules open, one after the other.
    wait_until(lambda: len(descendants(pid_of(nursery))) == 3 * SHIMS, "its spares")
    assert (process / "environ").read_bytes() == b""
    # Nothing is open but /dev/null, its channel and pipes of its own.
    opened = {os.readlink(entry) for entry in (process / "fd").iterdir()}
    own = ("socket:", "pipe:")
    assert {name for name in opened if not name.startswith(own)} <= {"/dev/null"}


def test_many_orders_at_once_start_each_rank_once(site: Site, nursery: Nursery) -> None:
    keys = [f"job-{number}.1.0" for number in range(6)]
    for key in keys:
        gated(site, key, "echo ran")
    orders = [
        threading.Thread(target=nursery.run_shim, args=(key,)) for key in keys for _ in range(2)
    ]
    for order in orders:
        order.start()
    for order in orders:
        order.join()
    assert [site.end(key).exit_code for key in keys] == [0] * len(keys)
    assert [site.log(key) for key in keys] == ["ran\n"] * len(keys)
