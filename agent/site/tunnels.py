"""What the streams that a site serves to tenants have in common: where they read, and how they say
no."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sovapi.v1.nodelink_pb2 import (
    GoodsChunk,
    GoodsPage,
    ListGoods,
    LogChunk,
    ReadGoods,
    ReadLog,
)
from sovapi.v1.sitelink_pb2 import OpenTunnel, TunnelDown, TunnelUp
from sovshared.tunnels import Tunnel

NodeTunnel: TypeAlias = Tunnel[TunnelUp, TunnelDown]


class Spools(Protocol):
    """What is asked of nodes: the server of the node agents."""

    def slots(self) -> tuple[str, ...]:
        """Nodes that can be asked."""
        ...

    async def read_log(self, slot: str, wanted: ReadLog) -> LogChunk:
        """A stretch of a rank's log, or NodeAway."""
        ...

    async def list_goods(self, slot: str, asked: ListGoods) -> GoodsPage:
        """A page of what a job left, or NodeAway."""
        ...

    async def read_goods(self, slot: str, asked: ReadGoods) -> GoodsChunk:
        """A stretch of a file that a job left, or NodeAway."""
        ...


class Visited(Protocol):
    """Nodes whose ranks are entered: the server of the node agents."""

    def ask_tunnel(self, slot: str, asked: OpenTunnel) -> NodeTunnel:
        """A stream that a node is asked to open, or NodeAway."""
        ...

    async def joined(self, tunnel: NodeTunnel) -> None:
        """Until it is open; NodeAway, or NotServed by the node."""
        ...

    def close_tunnel(self, tunnel: NodeTunnel) -> None:
        """Nobody reads it any more."""
        ...


class NodeAway(Exception):
    """The node's agent is not connected, or did not answer."""


@dataclass(frozen=True, slots=True)
class NotServed(Exception):
    """There is nothing to stream; the tenant is told why."""

    reason: str
    detail: str


class TenantStream(Protocol):
    """A tenant's stream, as the site serves it."""

    async def open(self) -> AsyncGenerator[TunnelUp, None]:
        """What to send up the tunnel; NotServed when there is nothing."""
        ...

    async def heard(self, down: TunnelDown) -> None:
        """What the tenant says."""
        ...

    def close(self) -> None:
        """It is over, begun or not."""
        ...


class OneWay:
    """Of a stream on which the tenant only listens."""

    async def heard(self, down: TunnelDown) -> None:
        """Nothing that counts."""

    def close(self) -> None:
        """Nothing is held."""


Place = Callable[[str], dict[int, str]]
"""The slots of an attempt's ranks, as far as they are known."""


async def slot_of(spools: Spools, place: Place, attempt: str, rank: int) -> str | None:
    """The node that has a rank's log. An attempt that is forgotten here is looked for on all."""

    async def ask(slot: str) -> str | None:
        try:
            chunk = await spools.read_log(slot, ReadLog(key=f"{attempt}.{rank}"))
        except NodeAway:
            return None
        return None if chunk.unknown else slot

    known = place(attempt).get(rank)
    if known is not None:
        return known
    answers = await asyncio.gather(*(ask(slot) for slot in spools.slots()))
    return next((slot for slot in answers if slot is not None), None)
