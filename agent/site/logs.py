"""A tenant's log stream: from the spools of the nodes, through a tunnel, to the control plane.

Nothing is kept here: a stretch is read from a node only when the one before it was taken, so a slow
reader slows the reading and costs no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from agent.site.tunnels import NodeAway, NotServed, OneWay, Place, Spools, slot_of
from sovapi.v1.jobs_pb2 import LogsResponse
from sovapi.v1.nodelink_pb2 import LogChunk, ReadLog
from sovapi.v1.sitelink_pb2 import OpenTunnel, TunnelUp

READ_BYTES = 64 * 1024
FOLLOW_S = 0.25  # Between looks at a log that has nothing new.
RANKS_MAX = 4096
SILENT_S_MAX = 60.0  # A node that stays away for longer ends the stream.


class LogStream(OneWay):
    """One tenant's stream."""

    def __init__(self, spools: Spools, place: Place, opening: OpenTunnel) -> None:
        self._spools = spools
        self._opening = opening
        self._key = f"{opening.job_id}.{opening.attempt}"
        self._place = place

    async def open(self) -> AsyncGenerator[TunnelUp, None]:
        """What to send up the tunnel; NotServed when there is no log."""
        return self._messages(await self._find())

    async def _find(self) -> dict[int, str]:
        """The ranks asked for and where their logs are."""
        asked = self._opening.logs
        if not asked.all_ranks:
            slot = await self._slot(asked.rank)
            if slot is None:
                raise NotServed("NOT_FOUND", f"rank {asked.rank} has no log at this site")
            return {asked.rank: slot}
        if known := self._place(self._key):
            return known
        found: dict[int, str] = {}
        while len(found) < RANKS_MAX and (slot := await self._slot(len(found))) is not None:
            found[len(found)] = slot
        if not found:
            raise NotServed("NOT_FOUND", "no rank of this attempt has a log at this site")
        return found

    async def _slot(self, rank: int) -> str | None:
        return await slot_of(self._spools, self._place, self._key, rank)

    async def _messages(self, ranks: dict[int, str]) -> AsyncGenerator[TunnelUp, None]:
        """What to send up the tunnel, until the logs end."""
        yield TunnelUp(tunnel_id=self._opening.tunnel_id)
        if len(ranks) == 1:
            for rank, slot in ranks.items():
                async for up in self._one(rank, slot):
                    yield up
            return
        async for up in self._merged(ranks):
            yield up

    async def _merged(self, ranks: dict[int, str]) -> AsyncGenerator[TunnelUp, None]:
        """Several ranks, a stretch at a time, in turn."""
        queue: asyncio.Queue[TunnelUp | Exception | None] = asyncio.Queue(2)

        async def feed(stream: AsyncGenerator[TunnelUp, None]) -> None:
            try:
                async for up in stream:
                    await queue.put(up)
            except NodeAway as error:
                await queue.put(error)
            await queue.put(None)

        left = len(ranks)
        tasks = [asyncio.create_task(feed(self._one(*place))) for place in sorted(ranks.items())]
        try:
            while left:
                up = await queue.get()
                if isinstance(up, Exception):
                    raise up
                if up is None:
                    left -= 1
                else:
                    yield up
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, rank: int, slot: str) -> AsyncGenerator[TunnelUp, None]:
        """One rank's log, from the offset or the time asked for."""
        asked, silent_s = self._opening.logs, 0.0
        wanted = ReadLog(
            key=f"{self._key}.{rank}",
            offset=max(0, asked.offset),
            max_bytes=READ_BYTES,
            since_ms=asked.since_ms,
        )
        while True:
            try:
                part = await self._spools.read_log(slot, wanted)
            except NodeAway:
                if not asked.follow or silent_s >= SILENT_S_MAX:
                    raise
                part = LogChunk()
                silent_s += FOLLOW_S
            else:
                silent_s, wanted.since_ms = 0.0, 0
                wanted.offset = part.offset + len(part.chunk)
            if part.chunk:
                response = LogsResponse(
                    rank=rank, chunk=part.chunk, offset=part.offset, attempt=self._opening.attempt
                )
                yield TunnelUp(logs=response)
            if part.over or (not part.chunk and not asked.follow):
                return
            if not part.chunk:
                await asyncio.sleep(FOLLOW_S)
