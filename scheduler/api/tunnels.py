"""Streams that are relayed between a tenant's call and the site that serves it.

A site is never dialled: its session is asked to open a Tunnel stream, which names the tunnel that
it belongs to. What flows through is held in a short queue and nowhere else (`sovshared.tunnels`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeAlias

from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.reasons import Code, Denial, Reason, Refused
from scheduler.runtime.sites import Sites
from sovapi.v1 import jobs_pb2, sitelink_pb2
from sovapi.v1.sitelink_pb2 import OpenTunnel, TunnelDown, TunnelUp
from sovshared import tunnels
from sovshared.limits import CHUNK_BYTES_MAX
from sovshared.tunnels import OPEN_S_MAX, NobodyAsked, NotOpened

TUNNELS_MAX = 1_000
TUNNELS_OF_SITE_MAX = 200
TUNNELS_OF_OWNER_MAX = 250
TUNNELS_OF_OWNER_AT_SITE_MAX = 50
"""What one organisation may have: who follows many logs must not keep others from theirs."""
RETRY_AFTER_MS = 1_000

Tunnel: TypeAlias = tunnels.Tunnel[TunnelUp, TunnelDown]


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
        self._tunnels: tunnels.Tunnels[TunnelUp, TunnelDown] = tunnels.Tunnels(
            new_id=new_id, broken=_broken, open_s_max=open_s_max
        )

    def count(self) -> int:
        """How many there are; for metrics."""
        return len(self._tunnels.all())

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
        opening = OpenTunnel(
            kind=sitelink_pb2.TUNNEL_KIND_LOGS, job_id=job_id, attempt=attempt, logs=request
        )
        async for up in self._relay(site, owner, opening):
            if up.WhichOneof("message") != "logs" or len(up.logs.chunk) > CHUNK_BYTES_MAX:
                raise _strange(site, "a log")
            yield up.logs

    async def download(
        self, site: SiteId, opening: OpenTunnel, *, owner: TenantPath
    ) -> AsyncGenerator[jobs_pb2.DownloadResponse, None]:
        """What a job left at `site`, as `opening` asks for it."""
        opening.kind = sitelink_pb2.TUNNEL_KIND_DOWNLOAD
        async for up in self._relay(site, owner, opening):
            if up.WhichOneof("message") != "download" or len(up.download.chunk) > CHUNK_BYTES_MAX:
                raise _strange(site, "files")
            yield up.download

    async def command(
        self,
        site: SiteId,
        opening: OpenTunnel,
        requests: AsyncIterator[jobs_pb2.ExecRequest],
        *,
        owner: TenantPath,
    ) -> AsyncGenerator[jobs_pb2.ExecResponse, None]:
        """A command inside a rank at `site`, with what its caller goes on to say."""
        opening.kind = sitelink_pb2.TUNNEL_KIND_EXEC

        async def downs() -> AsyncGenerator[TunnelDown, None]:
            async for request in requests:
                yield TunnelDown(exec=request)
            yield TunnelDown(exec=jobs_pb2.ExecRequest(stdin_closed=True))

        async for up in self._relay(site, owner, opening, downs()):
            size = len(up.exec.stdout) + len(up.exec.stderr)
            if up.WhichOneof("message") != "exec" or size > CHUNK_BYTES_MAX:
                raise _strange(site, "a command's output")
            yield up.exec
            if up.exec.WhichOneof("part") == "exit_code":
                return
        raise _broken(site)  # An end that nobody spoke of.

    async def connection(
        self,
        site: SiteId,
        opening: OpenTunnel,
        requests: AsyncIterator[jobs_pb2.PortForwardRequest],
        *,
        owner: TenantPath,
    ) -> AsyncGenerator[jobs_pb2.PortForwardResponse, None]:
        """A connection to a port of a rank at `site`, or the watch over a session of them."""
        opening.kind = sitelink_pb2.TUNNEL_KIND_PORT_FORWARD
        closed = False

        async def downs() -> AsyncGenerator[TunnelDown, None]:
            async for request in requests:
                yield TunnelDown(port_forward=request)
            yield TunnelDown(port_forward=jobs_pb2.PortForwardRequest(closed=True))

        async for up in self._relay(site, owner, opening, downs()):
            said = up.port_forward
            if up.WhichOneof("message") != "port_forward" or len(said.data) > CHUNK_BYTES_MAX:
                raise _strange(site, "a connection's data")
            closed = closed or said.closed
            yield said
        if not closed:
            raise _broken(site)  # An end that nobody spoke of.

    async def _relay(
        self,
        site: SiteId,
        owner: TenantPath,
        opening: OpenTunnel,
        downs: AsyncIterator[TunnelDown] | None = None,
    ) -> AsyncGenerator[TunnelUp, None]:
        """Asks the site for a tunnel, hands out what comes through it, and sends `downs`."""
        tunnel = self._register(site, owner)
        opening.tunnel_id = tunnel.id
        sending: asyncio.Task[None] | None = None
        try:
            self._sites.line(site).order(sitelink_pb2.ControlMessage(open_tunnel=opening))
            await self._wait_open(tunnel)
            if downs is not None:
                sending = asyncio.create_task(_send(tunnel, downs))
            async for up in tunnel.ups.items():
                yield up
        finally:
            self._tunnels.remove(tunnel)
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def attach(
        self, site: SiteId, ups: AsyncIterator[TunnelUp]
    ) -> AsyncGenerator[TunnelDown, None]:
        """The site's end: its first message names the tunnel, and is carried like the rest."""
        try:
            async with aclosing(self._tunnels.attach(site, ups)) as downs:
                async for down in downs:
                    yield down
        except NobodyAsked:
            raise Refused(
                Code.NOT_FOUND, Reason.NOT_FOUND, "nobody asked for this tunnel"
            ) from None

    def refused(self, site: SiteId, message: sitelink_pb2.TunnelRefused) -> None:
        """The site will not open a tunnel that it was asked for."""
        known = message.reason in Reason.__members__
        reason = Reason(message.reason) if known else Reason.UNAVAILABLE
        detail = f"{site}: {message.detail[:500]}"
        denial = Denial(reason, detail, site)
        passes = known and reason is Reason.UNAVAILABLE
        code = Code.UNAVAILABLE if passes else Code.FAILED_PRECONDITION
        self._tunnels.refuse(message.tunnel_id, site, Refused(code, reason, detail, (denial,)))

    def _register(self, site: SiteId, owner: TenantPath) -> Tunnel:
        open_now = self._tunnels.all()
        at_site = [tunnel for tunnel in open_now if tunnel.peer == site]
        owned = [tunnel for tunnel in open_now if tunnel.owner == owner]
        here = sum(1 for tunnel in at_site if tunnel.owner == owner)
        for found, allowed, which in (
            (len(open_now), TUNNELS_MAX, "in all"),
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
        return self._tunnels.add(site, owner)

    async def _wait_open(self, tunnel: Tunnel) -> None:
        try:
            await self._tunnels.joined(tunnel)
        except NotOpened:
            raise Refused(
                Code.UNAVAILABLE,
                Reason.UNAVAILABLE,
                f"{tunnel.peer} did not open the stream in time",
                retry_after_ms=RETRY_AFTER_MS,
            ) from None


async def _send(tunnel: Tunnel, downs: AsyncIterator[TunnelDown]) -> None:
    """Carries what the caller says; a message that is refused ends the stream for it."""
    try:
        async for down in downs:
            await tunnel.downs.put(down)
    except Refused as refused:
        tunnel.ups.end(refused)


def _broken(site: str) -> Refused:
    return Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, f"the stream from {site} broke")


def _strange(site: SiteId, wanted: str) -> Refused:
    return Refused(
        Code.UNAVAILABLE, Reason.UNAVAILABLE, f"{site} sent something else than {wanted}"
    )
