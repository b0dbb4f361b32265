"""What the streams that a site serves to tenants have in common: where they read, and how they say
no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.site.nodelink import NodeAway
from sovapi.v1.nodelink_pb2 import GoodsChunk, GoodsPage, ListGoods, LogChunk, ReadGoods


class Spools(Protocol):
    """What is asked of nodes: the server of the node agents."""

    def slots(self) -> tuple[str, ...]:
        """Nodes that can be asked."""
        ...

    async def read_log(self, slot: str, key: str, offset: int, max_bytes: int) -> LogChunk:
        """A stretch of a rank's log, or NodeAway."""
        ...

    async def list_goods(self, slot: str, asked: ListGoods) -> GoodsPage:
        """A page of what a job left, or NodeAway."""
        ...

    async def read_goods(self, slot: str, asked: ReadGoods) -> GoodsChunk:
        """A stretch of a file that a job left, or NodeAway."""
        ...


@dataclass(frozen=True, slots=True)
class NotServed(Exception):
    """There is nothing to stream; the tenant is told why."""

    reason: str
    detail: str


Place = Callable[[str], dict[int, str]]
"""The slots of an attempt's ranks, as far as they are known."""


async def slot_of(spools: Spools, place: Place, attempt: str, rank: int) -> str | None:
    """The node that has a rank's log. An attempt that is forgotten here is looked for on all."""

    async def ask(slot: str) -> str | None:
        try:
            chunk = await spools.read_log(slot, f"{attempt}.{rank}", 0, 0)
        except NodeAway:
            return None
        return None if chunk.unknown else slot

    known = place(attempt).get(rank)
    if known is not None:
        return known
    answers = await asyncio.gather(*(ask(slot) for slot in spools.slots()))
    return next((slot for slot in answers if slot is not None), None)
