"""Visits over the node's own stream to its site, and what ends them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from agent.node import visits
from agent.node.spool import Phase
from agent.site import events as ev
from agent.site.nodelink import NodeLinkServer
from agent.site.tunnels import NodeAway, NodeTunnel, NotServed
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1.nodelink_pb2_grpc import NodeLinkStub
from sovapi.v1.sitelink_pb2 import OpenTunnel, TunnelDown, TunnelUp
from tests.agent.node.linking import KEY, SITE, SLOT, Server, node_agent
from tests.agent.node.rig import Site as Rig
from tests.agent.node.rig import mark_of, marked, needs_root
from tests.agent.waiting import until

LIVES = ["/bin/sh", "-c", "echo up; exec sleep 600"]

pytestmark = needs_root


async def lives(rig: Rig) -> None:
    """A rank that has become its program."""
    await asyncio.to_thread(rig.start, KEY, LIVES, "pidns")
    await until(lambda: rig.log(KEY) == "up\n")


async def known(server: Server) -> NodeLinkServer:
    """The site's server, once the node agent has told of its spool."""
    await until(lambda: server.count(ev.SpoolReported))
    assert server.link is not None
    return server.link


async def opened(link: NodeLinkServer, script: str) -> NodeTunnel:
    tunnel = link.ask_tunnel(SLOT, opening(script))
    await link.joined(tunnel)
    return tunnel


def opening(script: str, rank: int = 0) -> OpenTunnel:
    start = jobs.ExecStart(rank=rank, command=["/bin/sh", "-c", script])
    return OpenTunnel(job_id="job-a", attempt=1, exec=start)


async def test_a_command_goes_through_a_stream_of_its_own(server: Server, rig: Rig) -> None:
    await lives(rig)
    async with node_agent(server, rig):
        link = await known(server)
        tunnel = await opened(link, "cat; exit 3")
        await tunnel.downs.put(TunnelDown(exec=jobs.ExecRequest(stdin=b"to and fro")))
        await tunnel.downs.put(TunnelDown(exec=jobs.ExecRequest(stdin_closed=True)))
        ups = [up async for up in tunnel.ups.items()]
        assert b"".join(up.exec.stdout for up in ups) == b"to and fro"
        assert ups[-1].exec.exit_code == 3
        link.close_tunnel(tunnel)


async def test_what_cannot_be_entered_says_why(server: Server, rig: Rig) -> None:
    async with node_agent(server, rig):
        link = await known(server)
        tunnel = link.ask_tunnel(SLOT, opening("true"))
        with pytest.raises(NotServed) as refused:
            await link.joined(tunnel)
        found = (refused.value.reason, refused.value.detail)
        assert found == ("ILLEGAL_TRANSITION", "the rank does not run")
        link.close_tunnel(tunnel)
    await until(lambda: not link.slots())
    with pytest.raises(NodeAway):
        link.ask_tunnel(SLOT, opening("true"))


async def test_a_node_agent_that_goes_away_ends_what_goes_on(server: Server, rig: Rig) -> None:
    await lives(rig)
    async with node_agent(server, rig):
        link = await known(server)
        tunnel = await opened(link, f"MARK={mark_of('gone')} exec sleep 1000")
        await until(lambda: marked("gone"))
    with contextlib.suppress(NodeAway):
        assert await tunnel.ups.get() is None, "it ends, and nobody says how the command did"
    link.close_tunnel(tunnel)
    await until(lambda: not marked("gone"))
    assert rig.spool.status(KEY).phase is Phase.RUNNING


async def test_a_tenant_that_leaves_ends_it(server: Server, rig: Rig) -> None:
    await lives(rig)
    async with node_agent(server, rig):
        link = await known(server)
        tunnel = await opened(link, f"MARK={mark_of('left')} exec sleep 1000")
        await until(lambda: marked("left"))
        link.close_tunnel(tunnel)
        await until(lambda: not marked("left"))


async def test_a_site_that_goes_away_ends_it(server: Server, rig: Rig) -> None:
    await lives(rig)
    async with node_agent(server, rig):
        link = await known(server)
        await opened(link, f"MARK={mark_of('cut')} exec sleep 1000")
        await until(lambda: marked("cut"))
        await link.stop()
        await until(lambda: not marked("cut"))


async def test_a_node_has_so_many_visits_and_no_more(
    server: Server, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visits, "VISITS_MAX", 1)
    await lives(rig)
    async with node_agent(server, rig):
        link = await known(server)
        first = await opened(link, "exec sleep 1000")
        second = link.ask_tunnel(SLOT, opening("true"))
        with pytest.raises(NotServed) as refused:
            await link.joined(second)
        assert refused.value.reason == "RESOURCE_EXHAUSTED"
        for tunnel in (first, second):
            link.close_tunnel(tunnel)


async def test_a_stream_that_nobody_asked_for_is_refused(server: Server) -> None:
    async with server.dial(f"/site/{SITE}/node/{SLOT}") as node:

        async def ups() -> AsyncIterator[TunnelUp]:
            yield TunnelUp(tunnel_id="1")

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in NodeLinkStub(node).Tunnel(ups()):
                pass
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
