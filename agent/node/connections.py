"""A tenant's connection to a port of a rank, as the node agent serves it, and the watch over a
session of them.

Only loopback of the rank's own network is ever connected to. A rank that shares its node's network
is not entered: what listens there may be anybody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agent.node import network
from agent.node.entry import Entry, NoEntry, entered
from sovapi.v1.jobs_pb2 import PortForwardResponse, PortForwardStart
from sovapi.v1.sitelink_pb2 import TunnelDown, TunnelUp
from sovshared.visits import port_faults

CONNECT_S_MAX = 10.0
READ_BYTES = 64 * 1024
LOOPBACK = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
"""Where a program listens that is meant for its own machine, in the order in which it is tried."""

FoundT = TypeVar("FoundT")


class Connection:
    """One that stands. Whoever `begin`s it must `close` it."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._said_all = asyncio.Event()
        """The tenant has."""

    @classmethod
    async def begin(cls, home: Path, asked: PortForwardStart) -> Connection:
        """Connects to a port of the rank of this spool directory. Raises NoEntry."""
        if faults := port_faults(asked.port):
            raise NoEntry("INVALID_ARGUMENT", "; ".join(map(str, faults)))
        why = ""
        for family, host in LOOPBACK:
            try:
                return cls(await _connected(home, family, (host, asked.port)))
            except OSError as error:  # Of both the first: few programs listen on the second.
                why = why or (os.strerror(error.errno) if error.errno else "no answer")
        raise NoEntry("UNAVAILABLE", f"port {asked.port} of the rank: {why}")

    async def said(self) -> AsyncGenerator[TunnelUp]:
        """What the rank sends, to its end, and then until the tenant has said all too."""
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._line, READ_BYTES):
                yield TunnelUp(port_forward=PortForwardResponse(data=data))
        except OSError:  # Reset: it ends, and not by a word of its own.
            return
        yield TunnelUp(port_forward=PortForwardResponse(closed=True))
        await self._said_all.wait()

    async def heard(self, down: TunnelDown) -> None:
        """What the tenant sends; what the rank does not take any more is dropped."""
        request = down.port_forward
        with contextlib.suppress(OSError):
            if request.data:
                await asyncio.get_running_loop().sock_sendall(self._line, request.data)
            elif request.closed:
                self._said_all.set()
                self._line.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Ends it."""
        self._line.close()


class RankWatch:
    """What holds a session of connections open: the rank's life."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    async def begin(cls, home: Path) -> RankWatch:
        """Finds the rank of this spool directory, with a network of its own. Raises NoEntry."""

        def find(entry: Entry) -> RankWatch:
            with _network_of(entry):
                return cls(os.dup(entry.handle))

        return await _apart(home, find)

    async def said(self) -> AsyncGenerator[TunnelUp]:
        """That it began, and at last that the rank is over."""
        yield TunnelUp(port_forward=PortForwardResponse())
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._handle, lambda: over.done() or over.set_result(None))
        try:
            await over
        finally:
            loop.remove_reader(self._handle)
        yield TunnelUp(port_forward=PortForwardResponse(closed=True))

    async def heard(self, down: TunnelDown) -> None:
        """Nothing that counts: connections have streams of their own."""

    async def close(self) -> None:
        """Ends it."""
        os.close(self._handle)


async def _connected(home: Path, family: int, address: tuple[str, int]) -> socket.socket:
    def make(entry: Entry) -> socket.socket:
        with _network_of(entry) as namespace:
            network.enter(namespace)  # This thread alone, which ends here.
            return socket.socket(family, socket.SOCK_STREAM)

    line = await _apart(home, make)
    line.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            await asyncio.get_running_loop().sock_connect(line, address)
    except BaseException:
        line.close()
        raise
    return line


async def _apart(home: Path, work: Callable[[Entry], FoundT]) -> FoundT:
    """Does something with a rank on a thread that does nothing afterwards: it may be anywhere."""

    def enter() -> FoundT:
        with entered(str(home)) as entry:
            return work(entry)

    with ThreadPoolExecutor(1, "entering") as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, enter)


@contextlib.contextmanager
def _network_of(entry: Entry) -> Generator[int]:
    """A handle of the rank's own network. Raises NoEntry."""
    namespace = os.open(f"/proc/{entry.pid}/ns/net", os.O_RDONLY)
    try:
        alive = select.poll()
        alive.register(entry.handle, select.POLLIN)
        if alive.poll(0):
            raise NoEntry("ILLEGAL_TRANSITION", "the rank is over")
        if os.path.samestat(os.fstat(namespace), os.stat("/proc/self/ns/net")):
            why = "its node's network and none of its own, so its ports may be another's"
            raise NoEntry("ISOLATION", f"the rank has {why}")
        yield namespace
    finally:
        os.close(namespace)
