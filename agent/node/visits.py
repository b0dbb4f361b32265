"""What tenants do inside ranks that run, each through a stream of its own that this node opens.

The site asks for it in the node's session. A visit ends with its rank, with its stream, and with
this agent, whichever is first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

import grpc

from agent.node.commands import Command
from agent.node.connections import Connection, RankWatch
from agent.node.entry import NoEntry
from agent.node.link import NodeLink
from agent.node.spool import Spool
from agent.node.spool_files import SpoolError
from sovapi.v1.nodelink_pb2 import NodeMessage
from sovapi.v1.sitelink_pb2 import OpenTunnel, TunnelDown, TunnelRefused, TunnelUp

VISITS_MAX = 64
"""On this node, at once."""

_log = logging.getLogger(__name__)


class Visit(Protocol):
    """One of them, begun."""

    def said(self) -> AsyncGenerator[TunnelUp]:
        """What goes to the tenant, to the end."""
        ...

    async def heard(self, down: TunnelDown) -> None:
        """What the tenant says."""
        ...

    async def close(self) -> None:
        """Ends it, and waits until it has ended."""
        ...


class Visits:
    """Those of this node."""

    def __init__(self, spool: Spool, link: NodeLink) -> None:
        self._spool = spool
        self._link = link
        self._open: set[asyncio.Task[None]] = set()

    def open(self, opening: OpenTunnel) -> None:
        """Begins one, by and by; the site is told when it cannot be."""
        if len(self._open) >= VISITS_MAX:
            self._refuse(opening, "RESOURCE_EXHAUSTED", f"{VISITS_MAX} are open, allowed no more")
            return
        task = asyncio.create_task(self._serve(opening))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, opening: OpenTunnel) -> None:
        try:
            visit = await self._begin(opening)
        except NoEntry as none:
            self._refuse(opening, none.reason, str(none))
            return
        except (SpoolError, OSError) as error:
            _log.warning("a visit did not begin: %s", error)
            self._refuse(opening, "UNAVAILABLE", "the node cannot do it now")
            return
        try:
            await self._carry(opening, visit)
        finally:
            await asyncio.shield(visit.close())

    async def _begin(self, opening: OpenTunnel) -> Visit:
        kind = opening.WhichOneof("request")
        if kind == "exec":
            key = f"{opening.job_id}.{opening.attempt}.{opening.exec.rank}"
            return await Command.begin(self._spool.home(key), opening.exec)
        if kind == "port_forward":
            asked = opening.port_forward
            home = self._spool.home(f"{opening.job_id}.{opening.attempt}.{asked.rank}")
            # A connection names its session, and a session is there before it has any.
            return await (Connection.begin(home, asked) if asked.session else RankWatch.begin(home))
        raise NoEntry("FEATURE_NOT_AVAILABLE", f"this node does not serve {kind}")

    async def _carry(self, opening: OpenTunnel, visit: Visit) -> None:
        """Both ways, until the visit has said all or the stream ends."""

        async def ups() -> AsyncGenerator[TunnelUp]:
            yield TunnelUp(tunnel_id=opening.tunnel_id)
            async with aclosing(visit.said()) as said:
                async for up in said:
                    yield up

        with contextlib.suppress(grpc.aio.AioRpcError, ConnectionError):
            async with self._link.tunnel(ups()) as downs:
                async for down in downs:
                    await visit.heard(down)

    def _refuse(self, opening: OpenTunnel, reason: str, detail: str) -> None:
        refused = TunnelRefused(tunnel_id=opening.tunnel_id, reason=reason, detail=detail)
        self._link.say(NodeMessage(tunnel_refused=refused))
