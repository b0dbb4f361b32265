"""A tenant's visit to a rank: passed on between the tunnel that leads to the control plane and the
stream that the rank's node opens for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from agent.site.tunnels import NodeTunnel, NotServed, Place, Visited
from sovapi.v1.sitelink_pb2 import OpenTunnel, TunnelDown, TunnelUp


class VisitStream:
    """One tenant's visit to the rank numbered `rank`."""

    def __init__(self, nodes: Visited, place: Place, opening: OpenTunnel, rank: int) -> None:
        self._nodes = nodes
        self._place = place
        self._opening = opening
        self._rank = rank
        self._tunnel: NodeTunnel | None = None

    async def open(self) -> AsyncGenerator[TunnelUp, None]:
        """What the node says; NotServed when the rank cannot be entered."""
        slot = self._place(f"{self._opening.job_id}.{self._opening.attempt}").get(self._rank)
        if slot is None:
            raise NotServed("ILLEGAL_TRANSITION", f"rank {self._rank} does not run at this site")
        self._tunnel = self._nodes.ask_tunnel(slot, self._opening)
        await self._nodes.joined(self._tunnel)
        return self._messages(self._tunnel)

    async def heard(self, down: TunnelDown) -> None:
        """Passes on what the tenant says, waiting while the node does not take it."""
        if self._tunnel is not None:
            await self._tunnel.downs.put(down)

    def close(self) -> None:
        """The node's stream ends too."""
        if self._tunnel is not None:
            self._nodes.close_tunnel(self._tunnel)

    async def _messages(self, tunnel: NodeTunnel) -> AsyncGenerator[TunnelUp, None]:
        yield TunnelUp(tunnel_id=self._opening.tunnel_id)
        async for up in tunnel.ups.items():
            yield up
