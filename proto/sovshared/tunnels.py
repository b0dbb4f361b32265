"""Streams that one side asks the other to open, because only the other can dial.

Who asks keeps a `Tunnel` for each, with a short queue each way, and orders the other side to open a
stream that names it. What flows is held in those queues and nowhere else: when a reader is slow its
queue is full, the stream is not read, and HTTP/2 makes the writer wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

MESSAGES_HELD_MAX = 8
"""Messages of one tunnel, one way, between its two ends."""
OPEN_S_MAX = 20
"""How long the other side may take to open a tunnel it was asked for."""

_log = logging.getLogger(__name__)


class Named(Protocol):
    """A message of the side that opens; its first one says of which tunnel it is."""

    @property
    def tunnel_id(self) -> str:
        """The tunnel's name."""
        ...

    def WhichOneof(self, oneof_group: str) -> str | None:
        """Whether it carries anything."""
        ...


UpT = TypeVar("UpT", bound=Named)
DownT = TypeVar("DownT")
ItemT = TypeVar("ItemT")


class NobodyAsked(Exception):
    """A stream was opened that was not asked for, or by another than who was asked."""


class NotOpened(Exception):
    """The other side did not open a tunnel in time."""


class Channel(Generic[ItemT]):
    """A short queue between one producer and one consumer, either of whom may go away."""

    def __init__(self, held_max: int = MESSAGES_HELD_MAX) -> None:
        self._held_max = held_max
        self._items: deque[ItemT] = deque()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    async def put(self, item: ItemT) -> None:
        """Adds `item`, waiting while the queue is full; drops it when it has ended."""
        while len(self._items) >= self._held_max and not self._ended:
            self._writable.clear()
            await self._writable.wait()
        if not self._ended:
            self._items.append(item)
            self._readable.set()

    async def get(self) -> ItemT | None:
        """The next item, None at the end; raises when the end was a failure."""
        while not self._items and not self._ended:
            self._readable.clear()
            await self._readable.wait()
        if self._items:
            self._writable.set()
            return self._items.popleft()
        if self._error is not None:
            raise self._error
        return None

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; what is held is still handed out. The first end counts."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._readable.set()
            self._writable.set()

    async def items(self) -> AsyncGenerator[ItemT]:
        """All that comes, to the end."""
        while (item := await self.get()) is not None:
            yield item


@dataclass(slots=True, eq=False)
class Tunnel(Generic[UpT, DownT]):
    """One of them. `peer` was asked to open it, for `owner`."""

    id: str
    peer: str
    owner: str
    ups: Channel[UpT] = field(default_factory=Channel[UpT])
    downs: Channel[DownT] = field(default_factory=Channel[DownT])
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: Exception | None = None


class Tunnels(Generic[UpT, DownT]):
    """Those that are open or asked for. `broken` makes what a reader is told of a peer that went
    away in the middle."""

    def __init__(
        self,
        *,
        new_id: Callable[[], str],
        broken: Callable[[str], Exception],
        open_s_max: float = OPEN_S_MAX,
    ) -> None:
        self._new_id = new_id
        self._broken = broken
        self._open_s_max = open_s_max
        self._tunnels: dict[str, Tunnel[UpT, DownT]] = {}

    def all(self) -> tuple[Tunnel[UpT, DownT], ...]:
        """In the order in which they were asked for."""
        return tuple(self._tunnels.values())

    def add(self, peer: str, owner: str = "") -> Tunnel[UpT, DownT]:
        """One that `peer` is now to be asked to open. `remove` it, whatever becomes of it."""
        tunnel: Tunnel[UpT, DownT] = Tunnel(self._new_id(), peer, owner)
        self._tunnels[tunnel.id] = tunnel
        return tunnel

    def remove(self, tunnel: Tunnel[UpT, DownT]) -> None:
        """Nobody reads it any more: the other side's stream ends."""
        tunnel.ups.end()
        tunnel.downs.end()
        self._tunnels.pop(tunnel.id, None)

    async def joined(self, tunnel: Tunnel[UpT, DownT]) -> None:
        """Until it is open. Raises its refusal, or NotOpened."""
        try:
            async with asyncio.timeout(self._open_s_max):
                await tunnel.opened.wait()
        except TimeoutError:
            raise NotOpened(tunnel.peer) from None
        if tunnel.refusal is not None:
            raise tunnel.refusal

    def asked(self, name: str, peer: str) -> Tunnel[UpT, DownT] | None:
        """The tunnel that `peer` was asked for and neither opened nor refused yet."""
        tunnel = self._tunnels.get(name)
        return tunnel if tunnel and tunnel.peer == peer and not tunnel.opened.is_set() else None

    def refuse(self, name: str, peer: str, refusal: Exception) -> None:
        """The other side will not open it."""
        if (tunnel := self.asked(name, peer)) is not None:
            tunnel.refusal = refusal
            tunnel.opened.set()

    async def attach(self, peer: str, ups: AsyncIterator[UpT]) -> AsyncGenerator[DownT]:
        """The other side's stream, whose first message names the tunnel and is carried like the
        rest; what is to be sent back to it. Raises NobodyAsked."""
        try:
            async with asyncio.timeout(self._open_s_max):
                first = await anext(ups, None)
        except TimeoutError:
            first = None
        tunnel = self.asked(first.tunnel_id, peer) if first is not None else None
        if first is None or tunnel is None:
            raise NobodyAsked
        tunnel.opened.set()
        pump = asyncio.create_task(self._pump(tunnel, first, ups))
        try:
            while (down := await tunnel.downs.get()) is not None:
                yield down
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            # Reached with an open queue only when the other side went away in the middle.
            tunnel.ups.end(self._broken(peer))

    async def _pump(self, tunnel: Tunnel[UpT, DownT], first: UpT, ups: AsyncIterator[UpT]) -> None:
        """Carries messages into the queue, waiting while it is full; then says how it ended."""
        end: Exception | None = None
        try:
            if first.WhichOneof("message") is not None:
                await tunnel.ups.put(first)
            async for up in ups:
                await tunnel.ups.put(up)
        except Exception as error:  # The stream broke; who reads is told.
            _log.info("a tunnel broke: %s", error)
            end = self._broken(tunnel.peer)
        tunnel.ups.end(end)
        tunnel.downs.end()
