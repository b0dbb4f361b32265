"""A rank's own network: what leads out of it, what is counted, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.node.network import SHARED
from agent.node.status import Egress
from tests.agent.node.rig import Site, needs_root, running, wait_until
from tests.agent.node.test_shim import KEY, shell

pytestmark = needs_root
PYTHON = "/usr/bin/python3"  # One that any user can run.

# Dials each address it is given and says how that went.
DIAL = """
import socket, sys
for address in sys.argv[1:]:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 5) as line:
            print(address, "connected", line.recv(16).decode())
    except OSError as error:
        print(address, error.strerror or type(error).__name__)
"""
# An address for documentation, which nobody has.
NOBODY = "192.0.2.77:443"


def dialling(*addresses: str) -> list[str]:
    """A rank that dials these."""
    return [PYTHON, "-c", DIAL, *addresses]


@pytest.fixture
def listener() -> Iterator[str]:
    """Somebody on the node's loopback, who would hear a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def recorded(site: Site, key: str = KEY) -> dict[str, object]:
    """The exit record."""
    return json.loads((site.spool.home(key) / "exit.json").read_text())


@pytest.mark.parametrize("level", ["pidns", "uid"])
def test_a_rank_reaches_neither_the_node_nor_anybody_else(
    site: Site, level: str, listener: str
) -> None:
    site.start(KEY, dialling(listener, NOBODY), level)
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).splitlines()[:2] == [
        f"{listener} Connection refused",
        f"{NOBODY} Network is unreachable",
    ]


def test_what_was_denied_is_counted_recorded_and_told(site: Site) -> None:
    """Where the record goes later, too: when the rank is archived."""
    site.start(KEY, dialling(NOBODY, "[2001:db8::7]:443", NOBODY), "uid")
    assert site.end(KEY).exit_code == 0
    assert recorded(site)["egress"] == {"denied": 3}
    assert "3 attempts to reach" in site.log(KEY)
    site.spool.archive(KEY)
    assert site.spool.status(KEY).egress == Egress(3)


def test_a_rank_that_was_killed_has_its_count_too(site: Site) -> None:
    waiting = f"{DIAL}\nsys.stdout.flush()\nimport time\ntime.sleep(600)"
    site.start(KEY, [PYTHON, "-c", waiting, NOBODY], "uid")
    site.wait_log(KEY, "unreachable")
    site.spool.stop(KEY, 0)
    assert site.end(KEY).signal == signal.SIGKILL
    assert recorded(site)["egress"] == {"denied": 1}


def test_its_loopback_is_its_own_and_works(site: Site) -> None:
    talk = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    with socket.create_connection(server.getsockname()) as line:
        server.accept()[0].sendall(b"hello")
        print(line.recv(16).decode())
"""
    site.start(KEY, [PYTHON, "-c", talk], "uid")
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY) == "hello\n"
    assert recorded(site)["egress"] == {"denied": 0}


def test_a_rank_that_is_to_share_its_nodes_network_does_and_nothing_is_claimed(
    site: Site, listener: str
) -> None:
    site.start(KEY, shell("readlink /proc/self/ns/net"), "uid", network=SHARED)
    assert site.end(KEY).exit_code == 0
    assert site.log(KEY).strip() == os.readlink("/proc/self/ns/net")
    assert "egress" not in recorded(site)


def test_nothing_of_a_network_is_left_when_its_shim_is_killed(site: Site) -> None:
    site.start(KEY, shell("readlink /proc/self/ns/net; sleep 600"), "uid")
    site.wait_log(KEY, "net:[")
    name = site.log(KEY).strip()
    started = json.loads((site.spool.home(KEY) / "started.json").read_text())
    assert name in networks()
    os.kill(started["shim_pid"], signal.SIGKILL)
    wait_until(lambda: not running(started["init_pid"]), "the end of the init")
    wait_until(lambda: name not in networks(), "the end of its network")
    assert name != os.readlink("/proc/self/ns/net")


def networks() -> set[str]:
    """The network namespaces that any process is in or holds open."""
    found: set[str] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found.add(os.readlink(folder / "ns/net"))
                found |= {os.readlink(fd) for fd in (folder / "fd").iterdir()}
            except OSError:
                continue
    return found
