"""Links, addresses and neighbours of a network namespace, by the kernel's own protocol.

What `ip` and `bridge` do, without starting them: rtnetlink(7). A request is bytes that the
functions here make; a `Kernel` asks the kernel for a series of them, in the namespace in which it
was opened, wherever its owner is by then. Standard library only: shims and gates load this.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from collections.abc import Iterator, Sequence

ANSWER_S = 20.0
AT_ONCE_MAX = 64
"""Requests in one message: their answers must have room in the socket."""
ANSWER_BYTES = 64 * 1024

Address = tuple[str, int]
"""Of IP, with a UDP port."""

_HEADER, _ATTRIBUTE = struct.Struct("IHHII"), struct.Struct("HH")
_LINK, _ADDRESS, _NEIGHBOUR = (
    struct.Struct("BxHiII"),
    struct.Struct("BBBBI"),
    struct.Struct("BxxxiHBB"),
)
_REQUEST, _ACK, _EXCL, _CREATE, _APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
_NEWLINK, _NEWADDR, _NEWNEIGH, _ERROR = 16, 20, 28, 2
_IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT = 1, 4, 7, 15
_VXLAN_LOCAL6, _VXLAN_LOCALBYPASS = 17, 31
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NDA_DST, _NDA_LLADDR, _NDA_PORT = 1, 2, 6
_NUD_NOARP, _NUD_PERMANENT, _NTF_SELF = 0x40, 0x80, 0x02


def vxlan(
    name: str, index: int, *, number: int, at: Address, hardware: bytes, mtu: int, namespace: int
) -> bytes:
    """Make a VXLAN link of this name and index in `namespace`, a descriptor; its packets are the
    asked namespace's, UDP from and to `at`.

    It learns nothing, and carries to a node on this very machine as to any other: the kernel's
    short cut (`localbypass`) loses what is routed from one namespace to another.
    """
    address, port = at
    data = (
        _attribute(_VXLAN_ID, struct.pack("I", number))
        + _attribute(_VXLAN_LOCAL6 if ":" in address else _VXLAN_LOCAL, _packed(address))
        + _attribute(_VXLAN_PORT, struct.pack("!H", port))
        + _attribute(_VXLAN_LEARNING, b"\0")
        + _attribute(_VXLAN_LOCALBYPASS, b"\0")
    )
    kind = _attribute(_INFO_KIND, b"vxlan\0") + _attribute(_INFO_DATA, data)
    body = (
        _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
        + _attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + _attribute(_IFLA_MTU, struct.pack("I", mtu))
        + _attribute(_IFLA_ADDRESS, hardware)
        + _attribute(_IFLA_NET_NS_FD, struct.pack("I", namespace))
        + _attribute(_IFLA_LINKINFO, kind)
    )
    return _request(_NEWLINK, _CREATE | _EXCL, body)


def address(index: int, own: str, width: int) -> bytes:
    """Give a link this address, in a network of so many bits."""
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    body = _ADDRESS.pack(family, width, 0, 0, index)
    body += _attribute(_IFA_LOCAL, _packed(own)) + _attribute(_IFA_ADDRESS, _packed(own))
    return _request(_NEWADDR, _CREATE | _EXCL, body)


def up(index: int) -> bytes:
    """Bring a link up."""
    return _request(_NEWLINK, 0, _LINK.pack(socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP))


def neighbour(index: int, other: str, hardware: bytes) -> bytes:
    """Say for good which hardware address this IP address has behind a link."""
    family = socket.AF_INET6 if ":" in other else socket.AF_INET
    body = _NEIGHBOUR.pack(family, index, _NUD_PERMANENT, 0, 0)
    body += _attribute(_NDA_DST, _packed(other)) + _attribute(_NDA_LLADDR, hardware)
    return _request(_NEWNEIGH, _CREATE | _EXCL, body)


def way(index: int, hardware: bytes, through: Address) -> bytes:
    """Say for good where a VXLAN link sends what is for this hardware address."""
    place, port = through
    body = _NEIGHBOUR.pack(socket.AF_BRIDGE, index, _NUD_NOARP | _NUD_PERMANENT, _NTF_SELF, 0)
    body += _attribute(_NDA_LLADDR, hardware) + _attribute(_NDA_DST, _packed(place))
    body += _attribute(_NDA_PORT, struct.pack("!H", port))
    return _request(_NEWNEIGH, _CREATE | _APPEND, body)


class Kernel:
    """A line to the kernel, about the network namespace in which it was made."""

    def __init__(self) -> None:
        self._line = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._line.settimeout(ANSWER_S)
        self._numbers = itertools.count(1)

    def ask(self, what: str, requests: Sequence[bytes]) -> None:
        """Have all of it, in that order; OSError, which names `what`, for the first refused."""
        for first in range(0, len(requests), AT_ONCE_MAX):
            part = requests[first : first + AT_ONCE_MAX]
            numbers = [next(self._numbers) for _ in part]
            last = numbers[-1]
            asked = [
                _numbered(one, at, told=at == last) for one, at in zip(part, numbers, strict=True)
            ]
            self._line.send(b"".join(asked))
            answers: dict[int, int] = {}
            while last not in answers:  # Of the others, only what is refused is answered.
                answers |= dict(_answers(self._line.recv(ANSWER_BYTES)))
            if code := next((answers[at] for at in numbers if answers.get(at)), 0):
                raise OSError(code, f"{what}: {os.strerror(code)}")

    def fileno(self) -> int:
        """Its descriptor."""
        return self._line.fileno()

    def close(self) -> None:
        """Let go of it, and of its namespace."""
        self._line.close()


def _packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _request(kind: int, flags: int, body: bytes) -> bytes:
    """Without its number, which `ask` gives it."""
    flags |= _REQUEST
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _numbered(request: bytes, number: int, *, told: bool) -> bytes:
    """`told`: it is answered though it be done."""
    size, kind, flags, _, port = _HEADER.unpack_from(request)
    flags |= _ACK if told else 0
    return _HEADER.pack(size, kind, flags, number, port) + request[_HEADER.size :]


def _answers(data: bytes) -> Iterator[tuple[int, int]]:
    """The numbers of the requests that were answered, with the errno of each, 0 if it was done."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, number, _ = _HEADER.unpack_from(data, at)
        if kind == _ERROR:
            (code,) = struct.unpack_from("i", data, at + _HEADER.size)
            yield number, -code
        at += (size + 3) & ~3
