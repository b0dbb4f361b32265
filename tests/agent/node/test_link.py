"""A node agent and its site's server: what one tells and the other orders."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from agent.node import store_expiry
from agent.node.clock import wall_ms
from agent.node.collectors.simulated import POWER_IDLE_MW
from agent.node.spool import Phase
from agent.node.store_expiry import BoundedStore, StoreExpiry, StoreLimits
from agent.site import events as ev
from agent.site import nodelink
from agent.site.state import Archive, StopRank
from agent.site.tunnels import NodeAway
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1.identity_pb2 import JoinRequest, RenewRequest
from sovapi.v1.nodelink_pb2 import NodeHello, NodeMessage, ReadLog, SiteWelcome
from sovapi.v1.nodelink_pb2_grpc import NodeLinkStub
from sovapi.v1.sitelink_pb2 import JobOver, JobsOver
from sovshared import limits, pki, tls
from tests.agent.identities import TRUST_DOMAIN, Identities
from tests.agent.node.linking import KEY, SERVER, SITE, SLOT, Server, node_agent
from tests.agent.node.rig import Site as Rig
from tests.agent.waiting import until


async def test_who_needs_no_certificate_takes_no_nodes_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodelink, "JOINS_MAX", 2)
    monkeypatch.setattr(nodelink, "STREAMS_MAX", 2)
    server = Server(Identities(tmp_path / "pki", time.time_ns() // 1_000_000))  # noqa: TID251
    await server.start()
    assert server.link is not None
    server.authority.answers.clear()
    trust = pki.load(server.identities.of(SERVER.path)).trust_pem
    request = JoinRequest(name=f"/site/{SITE}/node/{SLOT}")
    async with grpc.aio.secure_channel(
        f"127.0.0.1:{server.link.join_port}",
        tls.anonymous_credentials(trust),
        options=tls.channel_options(SERVER, TRUST_DOMAIN),
    ) as stranger:
        join = NodeLinkStub(stranger).Join
        held = [join(request, timeout=60) for _ in range(2)]
        await until(lambda: len(server.authority.asked) == 2)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await join(request, timeout=60)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with server.dial(f"/site/{SITE}/node/{SLOT}") as node:
            assert (await NodeLinkStub(node).Renew(RenewRequest(), timeout=60)).not_after_ms == 7
        server.authority.answers.set()
        assert [(await call).spiffe_id for call in held] == ["joined", "joined"]
    await server.link.stop()


async def test_a_node_asks_which_jobs_are_over_and_removes_their_checkpoints(
    server: Server, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_expiry, "EVERY_S", 0.05)
    monkeypatch.setattr(store_expiry, "ANSWER_S_MAX", 0.5)
    monkeypatch.setattr(limits, "STORED_JOBS_MAX", 2)
    store = rig.root / "kept"
    for job in ("job-a", "job-b", "job-c"):
        (store / job / "0").mkdir(parents=True)
        (store / job / "0" / "w").write_text("weights")
    expiry = StoreExpiry(BoundedStore(store, StoreLimits(keep_ms=1_000, bytes_max=1 << 30)))
    async with node_agent(server, rig, expiry):
        assert server.link is not None
        link = server.link
        while (lost := link.next_question()) is None:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)
        assert list(lost.job_ids) == ["job-a", "job-b"]  # No more than are passed on.
        while link.next_question() is None:  # noqa: ASYNC110 (it asks again)
            await asyncio.sleep(0.01)
        told = {"job-a": 1_000, "job-b": 999}
        link.answer(JobsOver(jobs=[JobOver(job_id=j, ended_ago_ms=a) for j, a in told.items()]))
        await until(lambda: not (store / "job-a").exists())
    assert sorted(each.name for each in store.iterdir() if each.name[0] != ".") == [
        "job-b",
        "job-c",
    ]


async def test_a_rank_is_followed_from_its_start_to_its_archive(server: Server, rig: Rig) -> None:
    async with node_agent(server, rig):
        await until(lambda: server.count(ev.SpoolReported))
        assert isinstance(server.events[0], ev.NodeConnected)
        await asyncio.to_thread(rig.start, KEY, ["/bin/sh", "-c", "echo hello; exec sleep 600"])
        await until(lambda: server.phase() == jobs.RANK_PHASE_RUNNING)
        await until(lambda: rig.log(KEY) == "hello\n")
        assert server.link is not None
        server.link.order(StopRank(SLOT, KEY, 0, jobs.RANK_CAUSE_FENCE))
        await until(lambda: server.phase() == jobs.RANK_PHASE_OVER)
        assert server.ranks()[KEY].cause == jobs.RANK_CAUSE_FENCE
        server.link.order(Archive(SLOT, KEY))
        await until(lambda: KEY not in server.ranks())
        chunk = await server.link.read_log(SLOT, ReadLog(key=KEY, max_bytes=100))
        assert (chunk.chunk, chunk.over, chunk.unknown) == (b"hello\n", True, False)
        later = ReadLog(key=KEY, max_bytes=100, since_ms=wall_ms() + 60_000)
        chunk = await server.link.read_log(SLOT, later)
        assert (chunk.chunk, chunk.offset, chunk.over) == (b"", 6, True)


async def test_a_site_knows_what_its_connected_nodes_draw(server: Server, rig: Rig) -> None:
    link = server.link
    assert link is not None
    assert link.power() is None
    async with node_agent(server, rig) as agent:
        # It tells when it connects, and then every few seconds: once its GPUs were read.
        await until(lambda: server.count(ev.NodeConnected) > 0)
        while link.power() is None:
            await agent.welcomed(SiteWelcome(ping_interval_ms=1_000))
            await asyncio.sleep(0.05)
        power = link.power()
        assert power is not None
        assert power.nodes == 1
        assert power.gpu_watts == 2 * POWER_IDLE_MW // 1000
    await until(lambda: link.power() is None)


async def test_what_is_archived_is_told_again_when_it_is_to_be_stopped(
    server: Server, rig: Rig
) -> None:
    async with node_agent(server, rig):
        await asyncio.to_thread(rig.start, KEY, ["/bin/sh", "-c", "exit 7"])
        await until(lambda: server.phase() == jobs.RANK_PHASE_OVER)
        assert server.link is not None
        server.link.order(Archive(SLOT, KEY))
        await until(lambda: KEY not in server.ranks())
        server.link.order(StopRank(SLOT, KEY, 0, jobs.RANK_CAUSE_STOP))
        await until(lambda: server.phase() == jobs.RANK_PHASE_OVER)
        assert server.ranks()[KEY].exit_code == 7
        server.link.order(Archive(SLOT, KEY))
        await until(lambda: KEY not in server.ranks())


async def test_a_key_that_never_started_is_given_up_on_a_stop(server: Server, rig: Rig) -> None:
    async with node_agent(server, rig):
        await until(lambda: server.count(ev.SpoolReported))
        assert server.link is not None
        server.link.order(StopRank(SLOT, KEY, 0, jobs.RANK_CAUSE_STOP))
        await until(lambda: server.phase() == jobs.RANK_PHASE_OVER)
        assert server.ranks()[KEY].cause == jobs.RANK_CAUSE_NEVER_STARTED


async def test_a_new_node_agent_adopts_what_runs(server: Server, rig: Rig) -> None:
    async with node_agent(server, rig):
        await asyncio.to_thread(rig.start, KEY, ["/bin/sleep", "600"])
        await until(lambda: server.phase() == jobs.RANK_PHASE_RUNNING)
    await until(lambda: server.count(ev.NodeDisconnected))
    assert rig.spool.status(KEY).phase is Phase.RUNNING
    server.events.clear()
    async with node_agent(server, rig):
        await until(lambda: server.phase() == jobs.RANK_PHASE_RUNNING)


async def test_a_node_agent_dials_again_when_its_site_agent_comes_back(
    server: Server, rig: Rig
) -> None:
    async with node_agent(server, rig):
        await until(lambda: server.count(ev.SpoolReported))
        assert server.link is not None
        await server.link.stop()
        server.events.clear()
        await server.start(f"127.0.0.1:{server.port}")
        await until(lambda: server.count(ev.SpoolReported))


async def test_a_lease_is_renewed_for_as_long_as_the_site_answers(server: Server, rig: Rig) -> None:
    async with node_agent(server, rig) as agent:
        lease_ms = 1_500
        until_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 + 60_000
        await asyncio.to_thread(
            rig.start, KEY, ["/bin/sleep", "600"], lease_until_ms=until_ms, grace_ms=0
        )
        await until(lambda: server.phase() == jobs.RANK_PHASE_RUNNING)
        pings = [e for e in server.events if isinstance(e, ev.NodePinged)]
        assert server.link is not None
        server.link.order(ev.SendPong(SLOT, pings[-1].sequence, {"job-a.1": lease_ms * 1_000}))
        # An answer to a ping that was never sent renews nothing, and harms nothing.
        server.link.order(ev.SendPong(SLOT, 10_000, {"job-a.1": 1}))
        server.link.order(StopRank(SLOT, KEY, 0, jobs.RANK_CAUSE_STOP))
        await until(lambda: server.phase() == jobs.RANK_PHASE_OVER)
        assert server.ranks()[KEY].cause == jobs.RANK_CAUSE_STOP
        assert agent is not None


async def test_a_lease_that_nobody_renews_ends_the_rank(server: Server, rig: Rig) -> None:
    async with node_agent(server, rig):
        until_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000 + 5_000
        await asyncio.to_thread(
            rig.start, KEY, ["/bin/sleep", "600"], lease_until_ms=until_ms, grace_ms=0
        )
        await until(lambda: server.phase() == jobs.RANK_PHASE_OVER)
        assert server.ranks()[KEY].cause == jobs.RANK_CAUSE_LEASE


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("/site/exch-b/node/n01", "PERMISSION_DENIED", id="another site's node"),
        pytest.param("/site/exch-a/agent", "PERMISSION_DENIED", id="a site agent"),
        pytest.param("/tenant/trust-a/user/ada", "PERMISSION_DENIED", id="a tenant"),
        pytest.param("/site/exch-a/node/n02", "INVALID_ARGUMENT", id="another slot's certificate"),
    ],
)
async def test_only_a_node_of_this_site_may_speak_for_its_slot(
    server: Server, path: str, code: str
) -> None:
    async def hello() -> AsyncIterator[NodeMessage]:
        yield NodeMessage(hello=NodeHello(protocol_version=1, slot=SLOT, boot_id="b"))

    async with server.dial(path) as channel:
        stream = NodeLinkStub(channel).Session(hello())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert caught.value.code().name == code
    assert server.events == []


async def test_an_older_version_of_the_protocol_is_told_what_is_allowed(server: Server) -> None:
    async def hello() -> AsyncIterator[NodeMessage]:
        yield NodeMessage(hello=NodeHello(protocol_version=99, slot=SLOT, boot_id="b"))

    async with server.dial(f"/site/{SITE}/node/{SLOT}") as channel:
        stream = NodeLinkStub(channel).Session(hello())
        with pytest.raises(grpc.aio.AioRpcError, match="protocol_version: found 99, allowed 1"):
            await stream.read()


async def test_logs_of_a_node_that_is_away_are_refused(server: Server) -> None:
    assert server.link is not None
    with pytest.raises(NodeAway):
        await server.link.read_log(SLOT, ReadLog(key=KEY, max_bytes=10))


async def test_a_renewal_is_passed_on_and_a_foreign_join_is_not(server: Server) -> None:
    async with server.dial(f"/site/{SITE}/node/{SLOT}") as channel:
        stub = NodeLinkStub(channel)
        assert (await stub.Renew(RenewRequest(csr_der=b"x"))).not_after_ms == 7
        assert (await stub.Join(JoinRequest(name=f"/site/{SITE}/node/n09"))).spiffe_id == "joined"
        with pytest.raises(grpc.aio.AioRpcError, match="allowed nodes of site exch-a"):
            await stub.Join(JoinRequest(name="/site/exch-b/node/n01"))
    assert len(server.authority.asked) == 2
