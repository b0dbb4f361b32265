"""The UDP port at which a node takes what is for the overlays of all its attempts.

One for the node, told once, so that nobody has to ask before each launch where its nodes are found.
It is held by a link of our own, of a number that no attempt's has: the kernel gives a port to all
VXLAN links of a network that ask for it, and to nobody else, and then tells them apart by number.
An executor that comes after another takes the same port, which links of ranks may still use: it is
written in the spool.
"""

from __future__ import annotations

import errno
import threading
from pathlib import Path

from agent.node import overlay
from agent.node.network import Namespace
from agent.node.ports import free_port
from agent.node.spool_files import number, put, read_document

FILE = "overlay.json"
TRIES_MAX = 16
"""Ports that turned out to be another's as we took them, before there is no overlay here."""
_TAKEN = (errno.EADDRINUSE, errno.EEXIST)


class OverlayPort:
    """The port of one node, from when it is first asked for until `close`. Thread-safe."""

    def __init__(self, spool: Path, address: str) -> None:
        """`spool`: where it is written; `address`: the node's own."""
        self._spool = spool
        self._address = address
        self._lock = threading.Lock()
        self._held: Namespace | None = None
        self._number: int | None = None

    def number(self) -> int | None:
        """The port; None if this node can be part of no overlay."""
        with self._lock:
            if self._held is None:
                self._number = self._take_again() or self._take_new()
            return self._number

    def close(self) -> None:
        """Let go of it. Attempts that use it keep it."""
        with self._lock:
            if self._held is not None:
                self._held.close()
            self._held = None

    def _take_again(self) -> int | None:
        """The port that this node had; one before us may not be quite gone with its link."""
        port = number(read_document(self._spool / FILE).get("port", 0))
        for holder in overlay.HOLDERS if port else ():
            if self._take(port, holder) is None:
                return port
        return None

    def _take_new(self) -> int | None:
        taken: set[int] = set()
        for _ in range(TRIES_MAX):
            port = free_port(self._address, str(self._spool), frozenset(taken))
            why = self._take(port, overlay.HOLDERS[0])
            if why is None:
                put(self._spool, FILE, {"port": port})
                return port
            if why not in _TAKEN:
                break
            taken.add(port)
        return None

    def _take(self, port: int, holder: int) -> int | None:
        """Hold it by a link of this number; the errno if that cannot be."""
        try:
            namespace = Namespace()
        except OSError as error:
            return error.errno or errno.EIO
        namespace.leave()
        try:
            overlay.make(
                {"nodes": [(self._address, port)], "node_rank": 0, "number": holder}, namespace
            )
        except OSError as error:
            namespace.close()
            return error.errno or errno.EIO
        self._held = namespace
        return None
