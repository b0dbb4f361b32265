"""Commands inside jobs over a real control plane: who may, what is written down, what ends them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sovapi.v1 import audit_pb2, audit_pb2_grpc, jobs_pb2, sitelink_pb2
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.api.world import MAX, OLGA, WAIT_S, FakeSite, spec, stub, submit, until

Exec = grpc.aio.StreamStreamCall[jobs_pb2.ExecRequest, jobs_pb2.ExecResponse]


@pytest.fixture
async def job(ada: grpc.aio.Channel, london: FakeSite) -> AsyncIterator[jobs_pb2.Job]:
    """One that runs, on one node."""
    submitted = await submit(ada, spec("visited"))
    row = await london.desires(submitted.id, sitelink_pb2.DESIRED_ACTION_RUN)
    london.report(world.started(row))
    yield await until(ada, submitted.id, jobs_pb2.JOB_STATE_RUNNING)
    london.report(world.ended(row))
    await until(ada, submitted.id, jobs_pb2.JOB_STATE_SUCCEEDED)


async def begun(connection: grpc.aio.Channel, job: str, *words: str, **more: Any) -> Exec:
    call = stub(connection).Exec(timeout=WAIT_S)
    start = jobs_pb2.ExecStart(id=job, command=words, **more)
    await call.write(jobs_pb2.ExecRequest(start=start))
    return call


async def opened(london: FakeSite) -> sitelink_pb2.OpenTunnel:
    """The newest tunnel that the site was asked for."""

    def asked() -> list[sitelink_pb2.OpenTunnel]:
        return [m.open_tunnel for m in london.received if m.HasField("open_tunnel")]

    had = getattr(london, "tunnels_seen", 0)
    await london.wait(lambda _: len(asked()) > had)
    london.tunnels_seen = had + 1  # type: ignore[attr-defined]
    return asked()[had]


async def refusal(call: Exec) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    return refused.value.code(), refused.value.details() or ""


async def leaves(connection: grpc.aio.Channel, job: str) -> list[dict[str, Any]]:
    audit = audit_pb2_grpc.AuditServiceStub(connection)
    answer = await audit.ListLeaves(audit_pb2.ListLeavesRequest(job_id=job), timeout=WAIT_S)
    bodies = [json.loads(leaf.canonical_json) for leaf in answer.leaves]
    return [body for body in bodies if body["kind"].startswith("exec")]


async def test_a_command_is_carried_both_ways_and_written_down(
    ada: grpc.aio.Channel, london: FakeSite, job: jobs_pb2.Job
) -> None:
    call = await begun(ada, "visited", "cat", "-n", tty=True, term="vt100")
    opening = await opened(london)
    assert (opening.job_id, opening.attempt, opening.kind) == (
        job.id,
        1,
        sitelink_pb2.TUNNEL_KIND_EXEC,
    )
    assert (list(opening.exec.command), opening.exec.term) == (["cat", "-n"], "vt100")
    tunnel = london.stub.Tunnel(timeout=WAIT_S)
    await tunnel.write(sitelink_pb2.TunnelUp(tunnel_id=opening.tunnel_id))
    await call.write(jobs_pb2.ExecRequest(stdin=b"abc"))
    await call.done_writing()
    said, closed = await tunnel.read(), await tunnel.read()
    assert isinstance(said, sitelink_pb2.TunnelDown)
    assert said.exec.stdin == b"abc"
    assert isinstance(closed, sitelink_pb2.TunnelDown)
    assert closed.exec.stdin_closed, "who says no more has said all"
    await tunnel.write(sitelink_pb2.TunnelUp(exec=jobs_pb2.ExecResponse(stdout=b"1 abc")))
    await tunnel.write(sitelink_pb2.TunnelUp(exec=jobs_pb2.ExecResponse(exit_code=3)))
    await tunnel.done_writing()
    assert [(m.stdout, m.exit_code) async for m in call] == [(b"1 abc", 0), (b"", 3)]
    began, ended = await leaves(ada, job.id)
    told = {"attempt": 1, "rank": 0, "by": "/tenant/trust-a/user/ada"}
    assert began.items() >= {**told, "kind": "exec_began", "site": "exch-london-1"}.items()
    assert began["command_digest"].startswith("sha256:")
    assert "cat" not in json.dumps(began)
    numbers = {"exit_code": 3, "sent_bytes": 3, "received_bytes": 5}
    assert ended.items() >= {**told, **numbers, "kind": "exec_ended"}.items()


async def test_a_tenant_that_leaves_ends_the_sites_stream(
    ada: grpc.aio.Channel, london: FakeSite, job: jobs_pb2.Job
) -> None:
    call = await begun(ada, job.id, "sleep", "1000")
    opening = await opened(london)
    tunnel = london.stub.Tunnel(timeout=WAIT_S)
    await tunnel.write(sitelink_pb2.TunnelUp(tunnel_id=opening.tunnel_id))
    await call.write(jobs_pb2.ExecRequest(stdin=b"abc"))
    said = await tunnel.read()
    assert isinstance(said, sitelink_pb2.TunnelDown)
    assert said.exec.stdin == b"abc"
    call.cancel()
    while isinstance(down := await tunnel.read(), sitelink_pb2.TunnelDown):
        assert down.exec.stdin_closed, "it ends, and nothing else"


async def test_a_site_that_breaks_off_is_no_end_of_the_command(
    ada: grpc.aio.Channel, london: FakeSite, job: jobs_pb2.Job
) -> None:
    call = await begun(ada, job.id, "sleep", "1000")
    opening = await opened(london)
    tunnel = london.stub.Tunnel(timeout=WAIT_S)
    await tunnel.write(sitelink_pb2.TunnelUp(tunnel_id=opening.tunnel_id))
    await tunnel.done_writing()
    code, detail = await refusal(call)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "broke" in detail


async def test_what_the_site_refuses_is_told(
    ada: grpc.aio.Channel, london: FakeSite, job: jobs_pb2.Job
) -> None:
    call = await begun(ada, job.id, "id")
    opening = await opened(london)
    refused = sitelink_pb2.TunnelRefused(
        tunnel_id=opening.tunnel_id, reason="ISOLATION", detail="not entered"
    )
    london.say(tunnel_refused=refused)
    assert await refusal(call) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "exch-london-1: not entered",
    )


async def test_others_find_no_such_job_and_operators_need_a_grant(
    control_plane: ControlPlane, job: jobs_pb2.Job
) -> None:
    async with control_plane.channel_as(MAX) as theirs:
        code, _ = await refusal(await begun(theirs, job.id, "id"))
        assert code is grpc.StatusCode.NOT_FOUND
    async with control_plane.channel_as(OLGA) as operators:
        code, detail = await refusal(await begun(operators, job.id, "id"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "EXEC" in detail


async def test_what_cannot_be_is_refused_whole(ada: grpc.aio.Channel, job: jobs_pb2.Job) -> None:
    call = stub(ada).Exec(timeout=WAIT_S)
    await call.write(jobs_pb2.ExecRequest(stdin=b"first"))
    assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT
    call = await begun(ada, job.id, rank=-1, term="a b")
    code, detail = await refusal(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    for field in ("command", "rank", "term"):
        assert field in detail
    code, detail = await refusal(await begun(ada, job.id, "id", rank=1))
    assert (code, detail) == (grpc.StatusCode.NOT_FOUND, "rank: found 1, allowed 0 to 0")


async def test_a_job_that_does_not_run_is_not_visited(ada: grpc.aio.Channel) -> None:
    waiting = await submit(ada, spec("waiting", nodes=2, gpus_per_node=4))
    code, _ = await refusal(await begun(ada, waiting.id, "id"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=waiting.id), timeout=WAIT_S)
    code, _ = await refusal(await begun(ada, waiting.id, "id"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
