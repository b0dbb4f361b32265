"""The network that the ranks of one attempt share on one node, and the doors in it.

A **gate** is a process that owns a network namespace without a way out, and listens in it in the
place of each destination that the job may reach: at the destination's own address where that was
written, else at an address of loopback that the ranks' /etc/hosts gives for its name. Whoever
connects there is connected by the gate, which itself is in the node's network, to what the name
means at that moment, and every byte that passes is counted. So nothing is translated or filtered,
names need no resolver inside, and there is no rule that could be missing or be left behind.

It is made ahead by the nursery, namespace and all, or started through `COMMAND`, as a shim is. Its
place is the folder `<spool>/net/<attempt>`: it reads `gate.json` there, writes `hosts`, and answers
on the socket `gate`, which only one process can ever bind. A rank enters; its shim stays connected
as long as the rank lives, and asks what was counted. The gate ends with the last of them. When a
gate is killed, its ranks reach nothing any more.

Of an attempt on several nodes the namespaces are joined by an overlay (`overlay.py`). To elsewhere
it is TCP only. Standard library only.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from agent.node import overlay, shim
from agent.node.network import Namespace, write_hosts

COMMAND = (  # Run with -c; the directory that holds this package, a folder, a descriptor.
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from agent.node.gate import main; main(sys.argv[2], int(sys.argv[3]))"
)
STANDS = b"stands"
TOLD_BYTES_MAX = 1024
CONNECTIONS_MAX = 512
"""At once, of all the ranks here; one more is closed at once."""
CONNECT_S = 15.0
COPY_BYTES = 256 * 1024
BACKLOG = 128
MESSAGE_BYTES = 64
NOBODY_S = 60.0
"""Without a shim for so long, nobody will come any more."""
NAMES_AT = "127.64.0.{}"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset, as a refusal would look.


@dataclass(slots=True)
class Door:
    """A destination, where it is listened for, and what passed."""

    host: str
    port: int
    listener: socket.socket
    counted: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Connections, bytes sent, bytes received."""


class Gate:
    """What there is between a namespace and the node's network; see the module."""

    def __init__(self, plan: dict[str, Any], namespace: Namespace) -> None:
        """`plan`: `egress`, the destinations; `ranks`, how many will come; `overlay`, where those
        on other nodes are, if there are any (`overlay.Meeting`).
        """
        self._ranks = int(plan["ranks"])
        self._lock = threading.Lock()
        self._open = 0
        self._namespace = namespace
        meeting = plan["overlay"]
        self.names = overlay.names(meeting)
        with namespace.visit():
            self._doors = self._make_doors(plan["egress"])
        if meeting is not None:
            overlay.make(meeting, namespace)

    def _make_doors(self, egress: list[str]) -> list[Door]:
        """One for each destination; several ports of one host are at one address."""
        at: dict[str, str] = {}
        doors: list[Door] = []
        for destination in egress:
            host, _, port = destination.rpartition(":")
            host = host.strip("[]")
            if host not in at:
                at[host] = self._place(host, len(at) + 1)
            family = socket.AF_INET6 if ":" in at[host] else socket.AF_INET
            listener = socket.create_server((at[host], int(port)), family=family, backlog=BACKLOG)
            doors.append(Door(host, int(port), listener))
        return doors

    def _place(self, host: str, number: int) -> str:
        """Where `host` is to be found inside."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            self.names[host] = NAMES_AT.format(number)
            return self.names[host]
        self._namespace.answer_for(host)
        return host

    def serve(self, listener: socket.socket) -> None:
        """Until every rank that was to come has gone, or nobody comes."""
        events = select.poll()
        doors = {door.listener.fileno(): door for door in self._doors}
        for fd in (listener.fileno(), *doors):
            events.register(fd, select.POLLIN)
        callers: dict[int, socket.socket] = {}
        staying: set[int] = set()
        came, alone_since = 0, time.monotonic()
        while staying or (came < self._ranks and time.monotonic() < alone_since + NOBODY_S):
            for fd, _ in events.poll(None if staying else 1000):
                if fd == listener.fileno():
                    caller, _ = listener.accept()
                    callers[caller.fileno()] = caller
                    events.register(caller.fileno(), select.POLLIN)
                elif fd in doors:
                    self._admit(doors[fd])
                elif (word := _heard(callers[fd])) == b"stay":
                    staying.add(fd)
                    came += 1
                    self._answer(callers[fd], word)
                elif word:
                    self._answer(callers[fd], word)
                else:
                    events.unregister(fd)
                    callers.pop(fd).close()
                    staying.discard(fd)
                    alone_since = time.monotonic()

    def _answer(self, caller: socket.socket, word: bytes) -> None:
        with contextlib.suppress(OSError):  # It may be gone already.
            if word == b"enter":
                socket.send_fds(caller, [b"in"], [self._namespace.inside])
            elif word == b"told":
                with self._lock:
                    uses = [list(door.counted) for door in self._doors]
                told = {"denied": self._namespace.denied(), "uses": uses}
                caller.send(json.dumps(told).encode())
            else:
                caller.send(word)

    def _admit(self, door: Door) -> None:
        try:
            inner, _ = door.listener.accept()
        except OSError:  # It left before we looked.
            return
        with self._lock:
            full = self._open >= CONNECTIONS_MAX
            self._open += not full
        if full:
            _refuse(inner)
        else:
            threading.Thread(target=self._carry, args=(door, inner), daemon=True).start()

    def _carry(self, door: Door, inner: socket.socket) -> None:
        """Both ways, until both sides have said all."""
        try:
            outer = connect(door.host, door.port)
            if outer is None:
                _refuse(inner)
                return
            self._count(door, 0, 1)
            back = threading.Thread(target=self._copy, args=(outer, inner, door, 2), daemon=True)
            back.start()
            self._copy(inner, outer, door, 1)
            back.join()
            outer.close()
        finally:
            inner.close()
            with self._lock:
                self._open -= 1

    def _copy(self, source: socket.socket, target: socket.socket, door: Door, which: int) -> None:
        """One way, to its end; a side that breaks ends both."""
        buffer = memoryview(bytearray(COPY_BYTES))
        try:
            while size := source.recv_into(buffer):
                target.sendall(buffer[:size])
                self._count(door, which, size)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for side in (source, target):
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _count(self, door: Door, which: int, much: int) -> None:
        with self._lock:
            door.counted[which] += much


def connect(host: str, port: int) -> socket.socket | None:
    """A connection to what `host` means now; None if there is none, or it means this very node."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    for family, kind, protocol, _, address in found:
        outer = socket.socket(family, kind, protocol)
        try:
            outer.settimeout(CONNECT_S)
            if not _is_elsewhere(str(address[0])):
                raise PermissionError(f"{address[0]} is not another host's")
            outer.connect(address)
            if outer.getsockname()[0] == outer.getpeername()[0]:
                raise PermissionError(f"{address[0]} is this node's own")
            outer.settimeout(None)
        except OSError:
            outer.close()
        else:
            return outer
    return None


def _is_elsewhere(text: str) -> bool:
    """Whether an address can be another host's: names may be made to mean anything."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    unfit = (address.is_loopback, address.is_link_local, address.is_multicast)
    return not any(unfit) and not address.is_unspecified


def _refuse(inner: socket.socket) -> None:
    with contextlib.suppress(OSError):
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    inner.close()


def _heard(caller: socket.socket) -> bytes:
    try:
        return caller.recv(MESSAGE_BYTES)
    except OSError:
        return b""


def made_ahead() -> Namespace:
    """The namespace of a gate of whom nothing else is known yet."""
    namespace = Namespace()
    namespace.leave()
    return namespace


def keep(ready: int, namespace: Namespace | None = None) -> None:
    """Everything, from the plan in the working directory to the last rank's end. `ready` hears
    STANDS when ranks may come, or why they never may.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        try:
            with open("gate.json", encoding="utf-8") as file:
                gate = Gate(json.load(file), namespace or made_ahead())
            write_hosts("hosts", gate.names)
            listener.bind("gate")
            listener.listen(BACKLOG)
        except (OSError, ValueError, KeyError) as error:
            os.write(ready, f"{type(error).__name__}: {error}".encode()[:TOLD_BYTES_MAX])
            return
        os.write(ready, STANDS)
        os.close(ready)
        gate.serve(listener)


def main(folder: str, ready: int) -> None:
    """Detach, and be the gate."""
    if os.fork():
        return
    shim.detach()
    os.chdir(folder)
    keep(ready)
