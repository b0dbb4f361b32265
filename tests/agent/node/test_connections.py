"""Connections to ports of ranks: of the rank's own loopback alone, and no longer than it."""

import asyncio
import sys
from pathlib import Path

import pytest

from agent.node.connections import Connection, RankWatch
from agent.node.entry import NoEntry
from sovapi.v1.jobs_pb2 import PortForwardRequest, PortForwardStart
from sovapi.v1.sitelink_pb2 import TunnelDown
from tests.agent.node.rig import DEADLINE_S, Site, needs_root

KEY, PORT = "job-a.1.0", 8080
ECHO = f"""
import socket
listener = socket.create_server(("127.0.0.1", {PORT}))
print("up", flush=True)
while True:
    line, _ = listener.accept()
    text = b""
    while part := line.recv(65536):
        text += part
    line.sendall(b"heard " + text)
    line.close()
"""

pytestmark = needs_root


def lives(site: Site, **more: object) -> Path:
    """A rank that listens, answers when its caller has said all, and hangs up."""
    site.start(KEY, [sys.executable, "-I", "-S", "-c", ECHO], "pidns", **more)
    site.wait_log(KEY, "up")
    return site.spool.home(KEY)


async def say(connection: Connection, **part: object) -> None:
    request = PortForwardRequest(**part)  # type: ignore[arg-type]
    await connection.heard(TunnelDown(port_forward=request))


async def test_each_side_may_have_said_all_before_the_other(site: Site) -> None:
    home = lives(site)
    for text in (b"once", b"again" * 100_000):
        connection = await Connection.begin(home, PortForwardStart(port=PORT))
        await say(connection, data=text)
        await say(connection, closed=True)
        async with asyncio.timeout(DEADLINE_S):
            ups = [up.port_forward async for up in connection.said()]
        await connection.close()
        assert b"".join(up.data for up in ups) == b"heard " + text
        assert [up.closed for up in ups][-1]


async def test_nothing_but_the_ranks_own_loopback_is_reached(site: Site) -> None:
    home = lives(site)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    taken: int = server.sockets[0].getsockname()[1]
    with pytest.raises(NoEntry, match=f"port {taken} of the rank: Connection refused"):
        await Connection.begin(home, PortForwardStart(port=taken))
    server.close()
    with pytest.raises(NoEntry, match="found 0, allowed 1 to 65535"):
        await Connection.begin(home, PortForwardStart(port=0))


async def test_a_rank_in_its_nodes_network_is_not_connected_to(site: Site) -> None:
    home = lives(site, network="shared")
    with pytest.raises(NoEntry, match="its node's network") as refused:
        await Connection.begin(home, PortForwardStart(port=PORT))
    assert refused.value.reason == "ISOLATION"
    with pytest.raises(NoEntry, match="its node's network"):
        await RankWatch.begin(home)


async def test_a_session_and_its_connections_end_with_the_rank(site: Site) -> None:
    home = lives(site)
    watch = await RankWatch.begin(home)
    connection = await Connection.begin(home, PortForwardStart(port=PORT))
    said = watch.said()
    assert not (await anext(said)).port_forward.closed
    site.spool.stop(KEY, 0)
    async with asyncio.timeout(DEADLINE_S):
        assert [up.port_forward.closed async for up in said] == [True]
        await say(connection, closed=True)
        assert all([up.port_forward.closed async for up in connection.said()])
    await watch.close()
    await connection.close()
    with pytest.raises(NoEntry):
        await RankWatch.begin(home)
