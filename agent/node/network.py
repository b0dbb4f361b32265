"""A rank's own network: a namespace that has loopback and nothing else.

Nothing leaves it, for there is no way out: no interface, no route, no resolver, and no rule that
could be missing or be left behind. It is gone with the last process in it, however that ends. The
kernel counts what found no way, and the counts can be read as long as the namespace is open here.

Standard library only, and little of it: a shim loads this.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Generator, Mapping
from typing import Any

from agent.node import confine, netlink
from agent.node.netlink import Kernel

OWN, SHARED = "own", "shared"
"""In a spec, as `network`: whether the rank is in a network of its attempt or in its node's. Left
out, the former."""
NEWNET = 0x40000000
LOOPBACK_INDEX = 1
GATE_S = 20.0
"""For a gate to answer: it has nothing else to do."""
COUNTS_BYTES_MAX = 64 * 1024


class Namespace:
    """A network namespace, made and entered by its constructor: `leave` when those who are to live
    in it were forked.

    `outside` leads back to the network of whoever made it, and those forked meanwhile hold it too.
    `inside` leads to it from wherever, and `kernel` speaks of it.
    """

    def __init__(self) -> None:
        self.outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._counts: list[int] = []
        self._held = contextlib.ExitStack()
        try:
            confine.check(confine.LIBC.unshare(NEWNET), "unshare network namespace")
            self.inside = self._hold("/proc/self/ns/net")
            self.kernel = self._held.enter_context(contextlib.closing(Kernel()))
            self.kernel.ask("bring loopback up", [netlink.up(LOOPBACK_INDEX)])
            for name in ("snmp", "snmp6"):
                with contextlib.suppress(FileNotFoundError):  # A kernel without IPv6.
                    self._counts.append(self._hold(f"/proc/self/net/{name}"))
        except OSError:
            self.close()
            raise

    def _hold(self, path: str) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        self._held.callback(os.close, descriptor)
        return descriptor

    def leave(self) -> None:
        """Back to the network that this process came from."""
        enter(self.outside)
        os.close(self.outside)
        self.outside = -1

    def denied(self) -> int:
        """How many connections and datagrams of its processes found no way out."""
        return sum(_without_route(_read_again(fd)) for fd in self._counts)

    def answer_for(self, address: str) -> None:
        """Have loopback answer for this address too."""
        width = 128 if ":" in address else 32
        own = netlink.address(LOOPBACK_INDEX, address, width)
        self.kernel.ask(f"give loopback {address}", [own])

    @contextlib.contextmanager
    def visit(self) -> Generator[None]:
        """Be in it for a while; the calling thread alone is."""
        outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        enter(self.inside)
        try:
            yield
        finally:
            enter(outside)
            os.close(outside)

    def descriptors(self) -> list[int]:
        """What is open here of it, which those below must not hold."""
        return [*self._counts, self.inside, self.kernel.fileno()]

    def close(self) -> None:
        """Let go of it. Inside, this goes back outside first."""
        if self.outside >= 0:
            self.leave()
        self._counts.clear()
        self._held.close()


def enter(namespace: int) -> None:
    """Be in the network namespace that this descriptor leads to."""
    confine.check(confine.LIBC.setns(namespace, NEWNET), "enter network namespace")


def write_hosts(path: str, names: Mapping[str, str]) -> None:
    """What the ranks of a network find in /etc/hosts: an address by each name."""
    with open(f"{path}.part", "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.writelines(f"{address} {name}\n" for name, address in sorted(names.items()))
    os.rename(f"{path}.part", path)


def enter_by(gate: str) -> None:
    """Be in the network of the gate that answers on this socket; see `gate.py`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(GATE_S)
        line.connect(gate)
        line.send(b"enter")
        _, namespaces, _, _ = socket.recv_fds(line, 16, 1)
    if not namespaces:
        raise OSError("the gate closed before it let us in")
    enter(namespaces[0])
    os.close(namespaces[0])


class Stay:
    """A gate's promise to be there as long as this is open."""

    def __init__(self, gate: str) -> None:
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(GATE_S)
        self._line.connect(gate)
        self._line.send(b"stay")
        if not self._line.recv(16):
            raise OSError("the gate closed before its rank began")

    def told(self) -> dict[str, Any] | None:
        """What was counted until now; None if the gate is gone, and its counts with it."""
        try:
            self._line.send(b"told")
            answer = self._line.recv(COUNTS_BYTES_MAX)
        except OSError:
            return None
        return json.loads(answer) if answer else None


def _read_again(fd: int) -> str:
    return os.pread(fd, COUNTS_BYTES_MAX, 0).decode()


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
