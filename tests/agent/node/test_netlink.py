"""What the kernel is told of links and neighbours, and what it says to it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.node import netlink, overlay
from agent.node.gate import made_ahead
from agent.node.netlink import AT_ONCE_MAX
from agent.node.network import LOOPBACK_INDEX, Namespace
from agent.node.overlay import Meeting
from tests.agent.node.rig import needs_root, wait_until

pytestmark = needs_root
# Of this run's links, one a test: packets of all of them are the node's, as are those of other
# runs, and a namespace that was let go of is gone a moment later.
NUMBERS = itertools.count(os.getpid() * 8)


NODES = [("127.0.0.1", 20_000), ("127.0.0.1", 20_001)]


def meeting(nodes: Sequence[overlay.Node], node_rank: int = 0) -> Meeting:
    """Of these nodes, on a VXLAN of its own."""
    return {"nodes": nodes, "node_rank": node_rank, "number": next(NUMBERS)}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """One that this process is not in."""
    made = made_ahead()
    yield made
    made.close()


def arp(namespace: Namespace) -> list[list[str]]:
    """The words of each neighbour's line, by the kernel's own table."""
    with namespace.visit():
        table = Path("/proc/thread-self/net/arp").read_text()
    return [line.split() for line in table.splitlines()[1:]]


def test_the_ways_to_more_nodes_than_one_message_holds_are_all_known(namespace: Namespace) -> None:
    nodes = [("192.0.2.1", 20_000 + at) for at in range(2 * AT_ONCE_MAX)]
    where = meeting(nodes, 1)
    where["number"] += 0x534F56 * overlay.NUMBERS  # What of a number is no VXLAN's is the links'.
    overlay.make(where, namespace)
    known = {line[0]: line[3] for line in arp(namespace)}
    assert len(known) == len(nodes) - 1
    assert known[overlay.address_of(0)] == "02:53:4f:56:00:00"
    assert known[overlay.address_of(127)] == "02:53:4f:56:00:7f"
    with namespace.visit():
        links = Path("/proc/thread-self/net/dev").read_text()
    assert overlay.LINK in links


def test_a_link_over_ipv6_is_made_too(namespace: Namespace) -> None:
    overlay.make(meeting([("::1", 20_000), ("::1", 20_001)]), namespace)
    assert [line[0] for line in arp(namespace)] == [overlay.address_of(1)]


def test_what_the_kernel_refuses_is_told_with_what_it_was(namespace: Namespace) -> None:
    orders = [
        netlink.address(LOOPBACK_INDEX, "192.0.2.1", 32),
        netlink.address(overlay.LINK_INDEX, "192.0.2.2", 32),
        netlink.up(overlay.LINK_INDEX),
    ]
    with pytest.raises(OSError, match="two addresses: No such device") as refused:
        namespace.kernel.ask("two addresses", orders)
    assert refused.value.errno == errno.ENODEV
    with pytest.raises(OSError, match="again: File exists"):  # The first was done, and is heard of.
        namespace.kernel.ask("again", orders[:1])


def test_nothing_of_it_reaches_the_node(namespace: Namespace) -> None:
    overlay.make(meeting(NODES), namespace)
    assert overlay.LINK not in Path("/proc/net/dev").read_text()


def test_a_link_is_gone_with_its_namespace() -> None:
    """Its number and port are free again, which they are not while it stands."""
    where, first, second = meeting(NODES), made_ahead(), made_ahead()
    overlay.make(where, first)
    with pytest.raises(OSError, match="make sov0: File exists"):
        overlay.make(where, second)
    first.close()
    wait_until(lambda: _can_be_made(where, second), "the end of the link")
    second.close()


def _can_be_made(where: Meeting, namespace: Namespace) -> bool:
    with contextlib.suppress(FileExistsError):
        overlay.make(where, namespace)
        return True
    return False
