"""How ranks of one attempt on several nodes reach one another, each node's in a network of its own.

A VXLAN of the attempt: a link in the attempt's namespace whose packets its node carries, as UDP,
between the addresses of the attempt's nodes. Each node has one port for all its attempts
(`overlay_port.py`); who is where is written down before anything starts, so nothing is learned or
asked for on the way. The link is the namespace's, and gone with it.

Needs a kernel with VXLAN, and nothing else. Standard library only: shims and gates load this.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Sequence
from typing import TypedDict

from agent.node import netlink
from agent.node.netlink import Kernel
from agent.node.network import Namespace

NODES_MAX = 65_534
NETWORK, NETWORK_BITS = int.from_bytes(socket.inet_aton("198.18.0.0")), 15
"""Set aside for tests of networks; no host of anybody's is there."""
LOOPBACK = "127.0.0.1"
LINK, LINK_INDEX = "sov0", 4096
"""The index is far above what a namespace has by itself."""
MTU_MIN, MTU_IF_UNKNOWN = 1280, 1500
OVERHEAD_BYTES = {4: 50, 6: 70}  # Of the outer frame's headers, by the version of IP.
HOLDERS = range(4)
"""Numbers that no attempt has: of links that hold a node's port."""
NUMBER_BITS, NUMBERS = 24, 1 << 24
"""Of a VXLAN."""
_IP_MTU, _IPV6_MTU = 14, 24

Node = tuple[str, int]
"""A node's address and the UDP port at which it takes what is for the attempt."""


class Meeting(TypedDict):
    """Where the nodes of an attempt are, by node rank, and which of them this is; `number` is the
    attempt's (`number_of`)."""

    nodes: Sequence[Node]
    node_rank: int
    number: int


def number_of(attempt: str) -> int:
    """An attempt's number, 48 bits: its VXLAN's, and what is above that is in the hardware
    addresses of its links. So what one attempt sends is no other's, even where their VXLANs have
    one number.
    """
    digest = hashlib.blake2b(attempt.encode(), digest_size=6).digest()
    above, vxlan = divmod(int.from_bytes(digest), NUMBERS)
    return above << NUMBER_BITS | max(vxlan, HOLDERS.stop)


def address_of(node_rank: int) -> str:
    """Where the ranks of a node are found by the others."""
    if not 0 <= node_rank < NODES_MAX:
        raise ValueError(f"node rank: found {node_rank}, allowed 0 to {NODES_MAX - 1}")
    return socket.inet_ntoa((NETWORK + node_rank + 1).to_bytes(4))


def names(meeting: Meeting | None) -> dict[str, str]:
    """What a rank there finds by the names of its own host."""
    own = address_of(meeting["node_rank"]) if meeting else LOOPBACK
    return {"localhost": LOOPBACK, socket.gethostname(): own}


def make(meeting: Meeting, namespace: Namespace) -> None:
    """Have the link in `namespace`, its packets in the network that the caller is in. OSError says
    what could not be done.
    """
    nodes, node_rank = meeting["nodes"], meeting["node_rank"]
    above, number = divmod(meeting["number"], NUMBERS)
    others = [(at, node) for at, node in enumerate(nodes) if at != node_rank]
    link = netlink.vxlan(
        LINK,
        LINK_INDEX,
        number=number,
        at=nodes[node_rank],
        hardware=_hardware(above, node_rank),
        mtu=_mtu([node for _, node in others]),
        namespace=namespace.inside,
    )
    with contextlib.closing(Kernel()) as here:
        here.ask(f"make {LINK}", [link])
    own = netlink.address(LINK_INDEX, address_of(node_rank), NETWORK_BITS)
    known = [
        netlink.neighbour(LINK_INDEX, address_of(at), _hardware(above, at)) for at, _ in others
    ]
    ways = [netlink.way(LINK_INDEX, _hardware(above, at), node) for at, node in others]
    namespace.kernel.ask(f"set up {LINK}", [own, netlink.up(LINK_INDEX), *known, *ways])


def _hardware(above: int, node_rank: int) -> bytes:
    """A hardware address that is nobody's else, in the attempt or in one whose VXLAN is called the
    same."""
    return b"\x02" + above.to_bytes(3) + node_rank.to_bytes(2)


def _mtu(others: Sequence[Node]) -> int:
    """What goes to every one of these nodes in one packet, with the outer headers taken off."""
    four = [node for node in others if ":" not in node[0]]
    six = [node for node in others if ":" in node[0]]
    ways = (
        (four, socket.AF_INET, socket.IPPROTO_IP, _IP_MTU, OVERHEAD_BYTES[4]),
        (six, socket.AF_INET6, socket.IPPROTO_IPV6, _IPV6_MTU, OVERHEAD_BYTES[6]),
    )
    least: list[int] = []
    for nodes, family, level, option, overhead in ways:
        if not nodes:
            continue
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            for node in nodes:
                found = MTU_IF_UNKNOWN
                with contextlib.suppress(OSError):
                    probe.connect((node[0], node[1]))  # A list, where it was JSON.
                    found = probe.getsockopt(level, option)
                least.append(min(found, 65_535) - overhead)
    return max(MTU_MIN, min(least, default=MTU_IF_UNKNOWN))
