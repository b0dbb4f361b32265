"""A rank's own network: a namespace that has loopback and nothing else.

Nothing leaves it, for there is no way out: no interface, no route, no resolver, and no rule that
could be missing or be left behind. It is gone with the last process in it, however that ends. The
kernel counts what found no way, and the counts can be read as long as the namespace is open here.

Standard library only, and little of it: a shim loads this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct

from agent.node import confine

SHARED = "shared"
"""In a spec, as `network`: the rank is to be in its node's own network. Left out, it is not."""
NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
_FLAGS = struct.Struct("16sh22x")  # struct ifreq with its flags.
_COUNTS_BYTES_MAX = 64 * 1024


class Namespace:
    """A network namespace, made and entered by its constructor: `leave` when those who are to live
    in it were forked.

    `outside` leads back to the network of whoever made it, and those forked meanwhile hold it too.
    """

    def __init__(self) -> None:
        self.outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._counts: list[int] = []
        try:
            confine.check(confine.LIBC.unshare(NEWNET), "unshare network namespace")
            _loopback_up()
            for name in ("snmp", "snmp6"):
                with contextlib.suppress(FileNotFoundError):  # A kernel without IPv6.
                    self._counts.append(os.open(f"/proc/self/net/{name}", os.O_RDONLY))
        except OSError:
            self.close()
            raise

    def leave(self) -> None:
        """Back to the network that this process came from."""
        enter(self.outside)
        os.close(self.outside)
        self.outside = -1

    def denied(self) -> int:
        """How many connections and datagrams of its processes found no way out."""
        return sum(_without_route(_read_again(fd)) for fd in self._counts)

    def descriptors(self) -> list[int]:
        """What is open here of it, which those below must not hold."""
        return list(self._counts)

    def close(self) -> None:
        """Let go of it. Inside, this goes back outside first."""
        if self.outside >= 0:
            self.leave()
        while self._counts:
            os.close(self._counts.pop())


def enter(namespace: int) -> None:
    """Be in the network namespace that this descriptor leads to."""
    confine.check(confine.LIBC.setns(namespace, NEWNET), "enter network namespace")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, _FLAGS.pack(b"lo", IFF_UP))


def _read_again(fd: int) -> str:
    return os.pread(fd, _COUNTS_BYTES_MAX, 0).decode()


def _without_route(text: str) -> int:
    """OutNoRoutes of the kernel's table for IPv4, which names columns, or for IPv6, one a line."""
    names: list[str] = []
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["Ip6OutNoRoutes"]:
            return int(words[1])
        if words[:1] == ["Ip:"] and names:
            return int(dict(zip(names, words, strict=False)).get("OutNoRoutes", 0))
        names = words if words[:1] == ["Ip:"] else names
    return 0
