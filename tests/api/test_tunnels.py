"""Relayed streams: nothing is stored, and a slow reader makes the site wait."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from scheduler.api.tunnels import Tunnels
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime.sites import Line, Sites
from sovapi.v1 import jobs_pb2, sitelink_pb2
from sovshared.tunnels import MESSAGES_HELD_MAX

A, B = SiteId("exch-a"), SiteId("exch-b")
TRUST_A = TenantPath("trust-a")
WAIT_S = 60


class World:
    """Two sites with open sessions, and the tunnels between."""

    def __init__(self, open_s_max: float = WAIT_S) -> None:
        self.sites: Sites[sitelink_pb2.ControlMessage] = Sites(lambda: 0)
        self.lines = {site: self.sites.open(site) for site in (A, B)}
        ids = itertools.count()
        self.tunnels = Tunnels(self.sites, new_id=lambda: f"t{next(ids)}", open_s_max=open_s_max)

    def ask(
        self, site: SiteId = A, owner: TenantPath = TRUST_A
    ) -> AsyncGenerator[jobs_pb2.LogsResponse, None]:
        return self.tunnels.logs(site, "job-1", 1, jobs_pb2.LogsRequest(rank=1), owner=owner)


async def asked(line: Line[sitelink_pb2.ControlMessage]) -> sitelink_pb2.OpenTunnel:
    (message,) = await line.wait(WAIT_S)
    return message.open_tunnel


def chunk(n: int, tunnel_id: str = "") -> sitelink_pb2.TunnelUp:
    logs = jobs_pb2.LogsResponse(rank=1, chunk=b"%d" % n, offset=n)
    return sitelink_pb2.TunnelUp(tunnel_id=tunnel_id, logs=logs)


async def drain(downs: AsyncIterator[sitelink_pb2.TunnelDown]) -> None:
    async for _ in downs:
        pass


async def test_what_the_site_sends_reaches_the_tenant_in_order() -> None:
    world = World()
    reading = asyncio.create_task(collect(world.ask()))
    opening = await asked(world.lines[A])
    assert (opening.job_id, opening.attempt, opening.logs.rank) == ("job-1", 1, 1)

    async def ups() -> AsyncIterator[sitelink_pb2.TunnelUp]:
        for n in range(100):
            yield chunk(n, opening.tunnel_id)

    await drain(world.tunnels.attach(A, ups()))
    assert await reading == [b"%d" % n for n in range(100)]
    assert world.tunnels.count() == 0


async def collect(logs: AsyncIterator[jobs_pb2.LogsResponse]) -> list[bytes]:
    return [response.chunk async for response in logs]


async def test_who_follows_many_logs_leaves_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scheduler.api.tunnels.TUNNELS_OF_OWNER_AT_SITE_MAX", 1)
    world = World()
    first = asyncio.ensure_future(anext(world.ask()))
    await asked(world.lines[A])
    with pytest.raises(Refused, match="allowed 1 of trust-a at exch-a"):
        await anext(world.ask())
    other = asyncio.ensure_future(anext(world.ask(owner=TenantPath("uni-b"))))
    await asked(world.lines[A])
    for reading in (first, other):
        reading.cancel()
    await asyncio.gather(first, other, return_exceptions=True)


async def test_a_slow_reader_makes_the_site_wait() -> None:
    world = World()
    logs = world.ask()
    first = asyncio.ensure_future(anext(logs))
    opening = await asked(world.lines[A])
    taken = 0

    async def ups() -> AsyncIterator[sitelink_pb2.TunnelUp]:
        nonlocal taken
        for n in range(1000):
            yield chunk(n, opening.tunnel_id)
            taken = n + 1

    site = asyncio.create_task(drain(world.tunnels.attach(A, ups())))
    await first
    for _ in range(1000):
        await asyncio.sleep(0)
    assert taken <= MESSAGES_HELD_MAX + 2
    rest = [response async for response in logs]
    assert len(rest) == 999
    await site


async def test_a_tenant_that_leaves_ends_the_sites_stream() -> None:
    world = World()
    logs = world.ask()
    first = asyncio.ensure_future(anext(logs))
    opening = await asked(world.lines[A])

    async def ups() -> AsyncIterator[sitelink_pb2.TunnelUp]:
        yield chunk(0, opening.tunnel_id)
        await asyncio.Event().wait()

    site = asyncio.create_task(drain(world.tunnels.attach(A, ups())))
    await first
    await logs.aclose()
    await asyncio.wait_for(site, WAIT_S)
    assert world.tunnels.count() == 0


async def test_a_site_that_vanishes_in_the_middle_is_told_to_the_tenant() -> None:
    world = World()
    logs = world.ask()
    first = asyncio.ensure_future(anext(logs))
    opening = await asked(world.lines[A])

    async def ups() -> AsyncIterator[sitelink_pb2.TunnelUp]:
        yield chunk(0, opening.tunnel_id)
        await asyncio.Event().wait()

    site = asyncio.create_task(drain(world.tunnels.attach(A, ups())))
    await first
    site.cancel()
    with pytest.raises(Refused, match="broke"):
        await asyncio.wait_for(anext(logs), WAIT_S)


async def test_only_the_site_that_was_asked_may_answer_and_once() -> None:
    world = World()
    logs = world.ask()
    first = asyncio.ensure_future(anext(logs))
    opening = await asked(world.lines[A])

    async def ups() -> AsyncIterator[sitelink_pb2.TunnelUp]:
        yield chunk(0, opening.tunnel_id)

    with pytest.raises(Refused, match="nobody asked"):
        await drain(world.tunnels.attach(B, ups()))
    await drain(world.tunnels.attach(A, ups()))
    with pytest.raises(Refused, match="nobody asked"):
        await drain(world.tunnels.attach(A, ups()))
    assert (await first).chunk == b"0"
    await logs.aclose()


@pytest.mark.parametrize(
    ("said", "reason", "code"),
    [
        ("NOT_FOUND", Reason.NOT_FOUND, Code.FAILED_PRECONDITION),
        ("UNAVAILABLE", Reason.UNAVAILABLE, Code.UNAVAILABLE),
        ("OF_A_LATER_AGENT", Reason.UNAVAILABLE, Code.FAILED_PRECONDITION),
    ],
)
async def test_a_sites_refusal_reaches_the_tenant(said: str, reason: Reason, code: Code) -> None:
    world = World()
    reading = asyncio.create_task(collect(world.ask()))
    opening = await asked(world.lines[A])
    no = sitelink_pb2.TunnelRefused(tunnel_id=opening.tunnel_id, reason=said, detail="says why")
    world.tunnels.refused(B, no)
    world.tunnels.refused(A, no)
    with pytest.raises(Refused) as caught:
        await reading
    assert (caught.value.reason, caught.value.code) == (reason, code)


async def test_a_site_that_does_not_answer_or_is_away_is_unavailable() -> None:
    world = World(open_s_max=0.01)
    with pytest.raises(Refused, match="in time"):
        await collect(world.ask())
    world.sites.close(world.lines[A])
    with pytest.raises(Refused) as caught:
        await collect(world.ask())
    assert caught.value.reason is Reason.SITE_DISCONNECTED
    assert world.tunnels.count() == 0
