"""How ranks of one attempt on several nodes reach one another, each node's in a network of its own.

A VXLAN of the attempt: a link in the gate's namespace whose packets its node carries, as UDP,
between the addresses of the attempt's nodes. Each node has said an address and a port when it was
asked to prepare; who is where is written down before anything starts, so nothing is learned or
asked for on the way. The link is the namespace's, and gone with it.

Needs `ip` and `bridge` of iproute2, and a kernel with VXLAN.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence

NODES_MAX = 65_534
NETWORK = ipaddress.ip_network("198.18.0.0/15")
"""Set aside for tests of networks; no host of anybody's is there."""
LINK = "sov0"
PROGRAMS_IN = "/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM_S = 20
MTU_MIN, MTU_IF_UNKNOWN = 1280, 1500
OVERHEAD_BYTES = {4: 50, 6: 70}  # Of the outer frame's headers, by the version of IP.
_IP_MTU, _IPV6_MTU = 14, 24
_RTM_NEWLINK, _NLM_F_REQUEST, _NLM_F_ACK = 16, 1, 4
_IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VXLAN_LOCALBYPASS = 18, 1, 2, 31
_HEADER, _LINK, _ATTRIBUTE = struct.Struct("IHHII"), struct.Struct("BxHiII"), struct.Struct("HH")
_ANSWER_BYTES = 4096

Node = tuple[str, int]
"""A node's address and the UDP port at which it takes what is for the attempt."""


def address_of(node_rank: int) -> str:
    """Where the ranks of a node are found by the others."""
    if not 0 <= node_rank < NODES_MAX:
        raise ValueError(f"node rank: found {node_rank}, allowed 0 to {NODES_MAX - 1}")
    return str(NETWORK[node_rank + 1])


@functools.cache
def can_be_made() -> bool:
    """Whether this node has what it takes, found by making a link in a namespace of its own."""
    order = f"link add {LINK} type vxlan id 1 local 127.0.0.1 dstport 4789".split()
    try:
        _run(["unshare", "--net", _program("ip"), *order])
        _program("bridge")
    except OSError:
        return False
    return True


def make(
    nodes: Sequence[Node],
    node_rank: int,
    number: int,
    namespace: int,
    inside: Callable[[], contextlib.AbstractContextManager[None]],
) -> None:
    """Have the link in `namespace`, which the caller is not in, and is while it is `inside()`.

    `nodes` by node rank; `number`: of the VXLAN, 24 bits. OSError says what could not be done.
    """
    own, port = nodes[node_rank]
    others = [(at, node) for at, node in enumerate(nodes) if at != node_rank]
    place = f"/proc/{os.getpid()}/fd/{namespace}"
    kind = f"type vxlan id {number} local {own} dstport {port} nolearning".split()
    how = f"mtu {_mtu([node for _, node in others])} address {_hardware(node_rank)}".split()
    _run([_program("ip"), "link", "add", LINK, "netns", place, *how, *kind])
    width = NETWORK.prefixlen
    orders = [f"addr add {address_of(node_rank)}/{width} dev {LINK}", f"link set {LINK} up"]
    orders += [
        f"neigh add {address_of(at)} lladdr {_hardware(at)} dev {LINK} nud permanent"
        for at, _ in others
    ]
    ways = [
        f"fdb append {_hardware(at)} dev {LINK} dst {address} port {peer_port}"
        for at, (address, peer_port) in others
    ]
    with inside():
        _pass_by_udp_always()
        _run([_program("ip"), "-batch", "-"], orders)
        _run([_program("bridge"), "-batch", "-"], ways)


def _pass_by_udp_always() -> None:
    """Have the link carry to a node on this very machine as to any other.

    The kernel's short cut (`localbypass`) loses what is routed from one namespace to another; the
    `ip` of Debian 12 knows no word for it. One RTM_NEWLINK that changes the link.
    """

    def attribute(kind: int, value: bytes) -> bytes:
        size = _ATTRIBUTE.size + len(value)
        return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)

    off = attribute(_IFLA_VXLAN_LOCALBYPASS, b"\0")
    kind = attribute(_IFLA_INFO_KIND, b"vxlan\0")
    link = attribute(_IFLA_LINKINFO, kind + attribute(_IFLA_INFO_DATA, off))
    body = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(LINK), 0, 0) + link
    flags = _NLM_F_REQUEST | _NLM_F_ACK
    header = _HEADER.pack(_HEADER.size + len(body), _RTM_NEWLINK, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(PROGRAM_S)
        kernel.send(header + body)
        answer = kernel.recv(_ANSWER_BYTES)
    (code,) = struct.unpack_from("i", answer, _HEADER.size)
    if code:
        raise OSError(-code, f"{LINK}: no localbypass: {os.strerror(-code)}")


def _hardware(node_rank: int) -> str:
    """A hardware address that is nobody's else in the attempt."""
    return f"02:53:4f:56:{node_rank >> 8:02x}:{node_rank & 0xFF:02x}"


def _mtu(others: Sequence[Node]) -> int:
    """What goes to every one of these nodes in one packet, with the outer headers taken off."""
    least: list[int] = []
    for address, port in others:
        six = ":" in address
        family = socket.AF_INET6 if six else socket.AF_INET
        found = MTU_IF_UNKNOWN
        with socket.socket(family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect((address, port))
            level, option = (
                (socket.IPPROTO_IPV6, _IPV6_MTU) if six else (socket.IPPROTO_IP, _IP_MTU)
            )
            found = probe.getsockopt(level, option)
        least.append(min(found, 65_535) - OVERHEAD_BYTES[6 if six else 4])
    return max(MTU_MIN, min(least, default=MTU_IF_UNKNOWN))


def _program(name: str) -> str:
    found = shutil.which(name, path=PROGRAMS_IN)
    if found is None:
        raise FileNotFoundError(f"{name}: not found in {PROGRAMS_IN}")
    return found


def _run(command: Sequence[str], lines: Sequence[str] = ()) -> None:
    try:
        ended = subprocess.run(
            command,
            input="".join(f"{line}\n" for line in lines),
            env={"PATH": PROGRAMS_IN},
            capture_output=True,
            text=True,
            timeout=PROGRAM_S,
            check=False,
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"{command[0]}: {error}") from error
    if ended.returncode:
        raise OSError(f"{' '.join(command[:4])}: {ended.stderr.strip()[-300:]}")
