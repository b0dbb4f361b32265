"""Streams that are relayed between a tenant's call and the site that serves it.

A site is never dialled: its session is asked to open a Tunnel stream, which names the tunnel that
it belongs to. What flows through is held in a short queue and nowhere else; when the reader is
slow, the queue is full, the site's stream is not read, and HTTP/2 makes the site wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field

from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.reasons import Code, Denial, Reason, Refused
from scheduler.runtime.sites import Sites
from sovapi.v1 import jobs_pb2, sitelink_pb2
from sovshared.limits import CHUNK_BYTES_MAX

TUNNELS_MAX = 1_000
TUNNELS_OF_SITE_MAX = 200
TUNNELS_OF_OWNER_MAX = 250
TUNNELS_OF_OWNER_AT_SITE_MAX = 50
"""What one organisation may have: who follows many logs must not keep others from theirs."""
MESSAGES_HELD_MAX = 8
"""Messages of one tunnel between its two ends."""
OPEN_S_MAX = 20
"""How long a site may take to open a tunnel it was asked for."""
RETRY_AFTER_MS = 1_000

_log = logging.getLogger(__name__)


class _Channel:
    """A short queue between one producer and one consumer, either of whom may go away."""

    def __init__(self) -> None:
        self._items: deque[sitelink_pb2.TunnelUp] = deque()
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._ended = False
        self._error: Refused | None = None

    async def put(self, item: sitelink_pb2.TunnelUp) -> None:
        """Adds `item`, waiting while the queue is full; drops it when it has ended."""
        while len(self._items) >= MESSAGES_HELD_MAX and not self._ended:
            self._writable.clear()
            await self._writable.wait()
        if not self._ended:
            self._items.append(item)
            self._readable.set()

    async def get(self) -> sitelink_pb2.TunnelUp | None:
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

    def end(self, error: Refused | None) -> None:
        """Nothing more comes; what is held is still handed out. The first end counts."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._readable.set()
            self._writable.set()


@dataclass(slots=True)
class Tunnel:
    """One relayed stream."""

    id: str
    site: SiteId
    owner: TenantPath
    ups: _Channel = field(default_factory=_Channel)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    refusal: Refused | None = None


class Tunnels:
    """The tunnels that are open or asked for."""

    def __init__(
        self,
        sites: Sites[sitelink_pb2.ControlMessage],
        *,
        new_id: Callable[[], str],
        open_s_max: float = OPEN_S_MAX,
    ) -> None:
        self._sites = sites
        self._new_id = new_id
        self._open_s_max = open_s_max
        self._tunnels: dict[str, Tunnel] = {}

    def count(self) -> int:
        """How many there are; for metrics."""
        return len(self._tunnels)

    async def logs(
        self,
        site: SiteId,
        job_id: str,
        attempt: int,
        request: jobs_pb2.LogsRequest,
        *,
        owner: TenantPath,
    ) -> AsyncGenerator[jobs_pb2.LogsResponse, None]:
        """The log that `request` asks for, from `site`, for the organisation `owner`."""
        opening = sitelink_pb2.OpenTunnel(
            kind=sitelink_pb2.TUNNEL_KIND_LOGS, job_id=job_id, attempt=attempt, logs=request
        )
        async for up in self._relay(site, owner, opening):
            if up.WhichOneof("message") != "logs" or len(up.logs.chunk) > CHUNK_BYTES_MAX:
                raise Refused(
                    Code.UNAVAILABLE, Reason.UNAVAILABLE, f"{site} sent something else than a log"
                )
            yield up.logs

    async def download(
        self, site: SiteId, opening: sitelink_pb2.OpenTunnel, *, owner: TenantPath
    ) -> AsyncGenerator[jobs_pb2.DownloadResponse, None]:
        """What a job left at `site`, as `opening` asks for it."""
        opening.kind = sitelink_pb2.TUNNEL_KIND_DOWNLOAD
        async for up in self._relay(site, owner, opening):
            if up.WhichOneof("message") != "download" or len(up.download.chunk) > CHUNK_BYTES_MAX:
                raise Refused(
                    Code.UNAVAILABLE, Reason.UNAVAILABLE, f"{site} sent something else than files"
                )
            yield up.download

    async def _relay(
        self, site: SiteId, owner: TenantPath, opening: sitelink_pb2.OpenTunnel
    ) -> AsyncGenerator[sitelink_pb2.TunnelUp, None]:
        """Asks the site for a tunnel and hands out what comes through it."""
        tunnel = self._register(site, owner)
        opening.tunnel_id = tunnel.id
        try:
            self._sites.line(site).order(sitelink_pb2.ControlMessage(open_tunnel=opening))
            await self._wait_open(tunnel)
            while (up := await tunnel.ups.get()) is not None:
                yield up
        finally:
            tunnel.ups.end(None)
            tunnel.closed.set()
            self._tunnels.pop(tunnel.id, None)

    async def attach(
        self, site: SiteId, ups: AsyncIterator[sitelink_pb2.TunnelUp]
    ) -> AsyncGenerator[sitelink_pb2.TunnelDown, None]:
        """The site's end: its first message names the tunnel, and is carried like the rest."""
        try:
            async with asyncio.timeout(self._open_s_max):
                first = await anext(ups, None)
        except TimeoutError:
            first = None
        tunnel = self._tunnels.get(first.tunnel_id) if first is not None else None
        if first is None or tunnel is None or tunnel.site != site or tunnel.opened.is_set():
            raise Refused(Code.NOT_FOUND, Reason.NOT_FOUND, "nobody asked for this tunnel")
        tunnel.opened.set()
        pump = asyncio.create_task(_pump(tunnel, first, ups))
        closed = asyncio.create_task(tunnel.closed.wait())
        try:
            await asyncio.wait({pump, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pump, closed):
                task.cancel()
            await asyncio.gather(pump, closed, return_exceptions=True)
            # Reached with an open queue only when the site went away in the middle.
            tunnel.ups.end(_broken(site))
        return
        yield  # Nothing flows down yet, but this is a stream.

    def refused(self, site: SiteId, message: sitelink_pb2.TunnelRefused) -> None:
        """The site will not open a tunnel that it was asked for."""
        tunnel = self._tunnels.get(message.tunnel_id)
        if tunnel is None or tunnel.site != site or tunnel.opened.is_set():
            return
        known = message.reason in Reason.__members__
        reason = Reason(message.reason) if known else Reason.UNAVAILABLE
        detail = f"{site}: {message.detail[:500]}"
        denial = Denial(reason, detail, site)
        passes = known and reason is Reason.UNAVAILABLE
        code = Code.UNAVAILABLE if passes else Code.FAILED_PRECONDITION
        tunnel.refusal = Refused(code, reason, detail, (denial,))
        tunnel.opened.set()

    def _register(self, site: SiteId, owner: TenantPath) -> Tunnel:
        at_site = [tunnel for tunnel in self._tunnels.values() if tunnel.site == site]
        owned = [tunnel for tunnel in self._tunnels.values() if tunnel.owner == owner]
        here = sum(1 for tunnel in at_site if tunnel.owner == owner)
        for found, allowed, which in (
            (len(self._tunnels), TUNNELS_MAX, "in all"),
            (len(at_site), TUNNELS_OF_SITE_MAX, f"at {site}"),
            (len(owned), TUNNELS_OF_OWNER_MAX, f"of {owner}"),
            (here, TUNNELS_OF_OWNER_AT_SITE_MAX, f"of {owner} at {site}"),
        ):
            if found >= allowed:
                raise Refused(
                    Code.RESOURCE_EXHAUSTED,
                    Reason.RESOURCE_EXHAUSTED,
                    f"too many streams are open, allowed {allowed} {which}",
                    retry_after_ms=RETRY_AFTER_MS,
                )
        tunnel = Tunnel(self._new_id(), site, owner)
        self._tunnels[tunnel.id] = tunnel
        return tunnel

    async def _wait_open(self, tunnel: Tunnel) -> None:
        try:
            async with asyncio.timeout(self._open_s_max):
                await tunnel.opened.wait()
        except TimeoutError:
            raise Refused(
                Code.UNAVAILABLE,
                Reason.UNAVAILABLE,
                f"{tunnel.site} did not open the stream in time",
                retry_after_ms=RETRY_AFTER_MS,
            ) from None
        if tunnel.refusal is not None:
            raise tunnel.refusal


async def _pump(
    tunnel: Tunnel, first: sitelink_pb2.TunnelUp, ups: AsyncIterator[sitelink_pb2.TunnelUp]
) -> None:
    """Carries messages into the queue, waiting while it is full; then says how it ended."""
    end: Refused | None = None
    try:
        if first.WhichOneof("message") is not None:
            await tunnel.ups.put(first)
        async for up in ups:
            await tunnel.ups.put(up)
    except Exception as error:  # The site's stream broke; the tenant is told.
        _log.info("a tunnel broke: %s", error)
        end = _broken(tunnel.site)
    tunnel.ups.end(end)


def _broken(site: SiteId) -> Refused:
    return Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, f"the stream from {site} broke")
