"""Jobs end to end over a real control plane, with a site agent of few words at the other end."""

import asyncio
import json
import os
import signal

import grpc
import pytest

from sovapi.v1 import audit_pb2, audit_pb2_grpc, common_pb2, jobs_pb2, sitelink_pb2
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.api.world import ADA, LONDON, MAX, RADIOLOGY, WAIT_S, FakeSite, spec, stub, submit, until


async def test_a_job_from_submission_to_success(ada: grpc.aio.Channel, london: FakeSite) -> None:
    job = await submit(ada, spec())
    assert (job.state, job.tenant, job.owner) == (
        jobs_pb2.JOB_STATE_QUEUED,
        RADIOLOGY,
        ADA.path,
    )
    row = await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    assert list(row.launch.command) == ["true"]
    london.report(world.started(row))
    running = await until(ada, job.id, jobs_pb2.JOB_STATE_RUNNING)
    assert running.attempts[0].site == LONDON
    london.report(world.ended(row))
    over = await until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)
    assert (over.exit_code, over.attempts[0].country) == (0, "GB")
    await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_FORGET)
    london.report()


async def test_what_a_site_did_not_hear_is_said_again(
    control_plane: ControlPlane, ada: grpc.aio.Channel, london: FakeSite
) -> None:
    job = await submit(ada, spec())
    await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    # As if the message had been lost: it still reports the generation before.
    london.generation -= 1
    held = len(london.received)
    london.report()
    await london.wait(lambda s: any(m.HasField("desired") for m in s.received[held:]))
    # An agent without a journal is told everything.
    await london.close()
    again = FakeSite(control_plane)
    await again.connect(incarnation="i2")
    row = await again.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    again.report(world.ended(row), nodes=2)
    await until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)
    await again.close()


async def test_a_site_learns_what_is_desired_before_it_gets_a_lease(
    control_plane: ControlPlane, ada: grpc.aio.Channel, london: FakeSite
) -> None:
    """Else it could start, under that lease, an attempt that had ended while it was away."""
    job = await submit(ada, spec())
    await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    await london.close()
    again = FakeSite(control_plane)
    await again.connect(incarnation="i2")
    again.say(heartbeat=sitelink_pb2.Heartbeat(sequence=1))
    await again.wait(lambda s: any(m.HasField("heartbeat_ack") for m in s.received))
    assert again.received[0].HasField("desired")
    row = await again.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    again.report(world.ended(row), nodes=2)  # Other tests want the nodes.
    await until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)
    await again.close()


async def test_heartbeats_are_acknowledged(london: FakeSite) -> None:
    for n in (7, 8):
        london.say(heartbeat=sitelink_pb2.Heartbeat(sequence=n))
    await london.wait(
        lambda s: (
            [m.heartbeat_ack.sequence for m in s.received if m.HasField("heartbeat_ack")] == [7, 8]
        )
    )


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        pytest.param({"site": "narvik-1"}, grpc.StatusCode.PERMISSION_DENIED, id="another site"),
        pytest.param(
            {"protocol_version": 99}, grpc.StatusCode.INVALID_ARGUMENT, id="another protocol"
        ),
        pytest.param({"epoch": 1 << 40}, grpc.StatusCode.UNAVAILABLE, id="a newer leader's word"),
    ],
)
async def test_a_session_that_cannot_be_is_refused(
    control_plane: ControlPlane,
    ada: grpc.aio.Channel,
    hello: dict[str, object],
    code: grpc.StatusCode,
) -> None:
    site = FakeSite(control_plane)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await site.connect(**hello)
    assert caught.value.code() is code
    await site.close()


async def test_a_newer_session_replaces_an_older_one(
    control_plane: ControlPlane, ada: grpc.aio.Channel
) -> None:
    older, newer = FakeSite(control_plane), FakeSite(control_plane)
    await older.connect()
    await newer.connect(incarnation="i2")
    newer.report(nodes=2)
    job = await submit(ada, spec())
    row = await newer.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    newer.report(world.ended(row))
    await until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)
    assert (job.id, 1) not in older.desired
    await older.close()
    await newer.close()


async def test_cancelling_stops_what_runs(ada: grpc.aio.Channel, london: FakeSite) -> None:
    job = await submit(ada, spec())
    row = await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    london.report(world.started(row))
    await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=job.id), timeout=WAIT_S)
    stop = await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_STOP)
    assert stop.stop_grace_ms == 1000
    london.report(world.ended(row, exit_code=143))
    await until(ada, job.id, jobs_pb2.JOB_STATE_CANCELLED)


async def test_two_tenants_do_not_know_of_each_other(
    control_plane: ControlPlane, ada: grpc.aio.Channel
) -> None:
    job = await submit(ada, spec("hidden"))
    async with control_plane.channel_as(MAX) as other:
        theirs = stub(other)
        for refused in (
            theirs.Get(jobs_pb2.GetJobRequest(id=job.id), timeout=WAIT_S),
            theirs.Cancel(jobs_pb2.CancelJobRequest(id=job.id), timeout=WAIT_S),
            theirs.Explain(jobs_pb2.ExplainJobRequest(id=job.id), timeout=WAIT_S),
            theirs.Logs(jobs_pb2.LogsRequest(id=job.id), timeout=WAIT_S).read(),
            theirs.Watch(jobs_pb2.WatchJobsRequest(ids=[job.id]), timeout=WAIT_S).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await theirs.List(jobs_pb2.ListJobsRequest(), timeout=WAIT_S)
        assert job.id not in [found.id for found in listed.jobs]
        leaves = await audit_pb2_grpc.AuditServiceStub(other).ListLeaves(
            audit_pb2.ListLeavesRequest(), timeout=WAIT_S
        )
        tenants = {json.loads(leaf.canonical_json).get("tenant") for leaf in leaves.leaves}
        assert RADIOLOGY not in tenants
    await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=job.id), timeout=WAIT_S)


async def test_a_tenants_leaves_do_not_say_where_in_the_log_they_are(ada: grpc.aio.Channel) -> None:
    job = await submit(ada, spec("leaves"))
    audit = audit_pb2_grpc.AuditServiceStub(ada)
    of_job = audit_pb2.ListLeavesRequest(job_id=job.id)
    leaves = (await audit.ListLeaves(of_job, timeout=WAIT_S)).leaves
    assert leaves
    assert {leaf.index for leaf in leaves} == {0}
    assert {json.loads(leaf.canonical_json)["job"] for leaf in leaves} == {job.id}
    await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=job.id), timeout=WAIT_S)


async def test_lists_are_paged_newest_first(ada: grpc.aio.Channel) -> None:
    ids = [(await submit(ada, spec(f"page-{n}"))).id for n in range(5)]
    queued = [jobs_pb2.JOB_STATE_QUEUED, jobs_pb2.JOB_STATE_PLACED]
    found: list[str] = []
    token = ""
    while True:
        page = common_pb2.PageRequest(page_size=2, page_token=token)
        request = jobs_pb2.ListJobsRequest(page=page, states=queued, project=RADIOLOGY)
        answer = await stub(ada).List(request, timeout=WAIT_S)
        found += [job.id for job in answer.jobs if job.name.startswith("page-")]
        token = answer.next_page_token
        if not token:
            break
    assert found == ids[::-1]
    for job_id in ids:
        await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=job_id), timeout=WAIT_S)


async def test_a_watch_of_everything_tells_what_is_new(ada: grpc.aio.Channel) -> None:
    watch = stub(ada).Watch(jobs_pb2.WatchJobsRequest(), timeout=WAIT_S)
    kept = await submit(ada, spec("before"))
    seen: dict[str, int] = {}
    await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=kept.id), timeout=WAIT_S)
    async for told in watch:
        seen[told.job.id] = told.job.state
        if seen.get(kept.id) == jobs_pb2.JOB_STATE_CANCELLED:
            break
    watch.cancel()


async def test_a_watch_of_jobs_that_are_over_ends(ada: grpc.aio.Channel) -> None:
    job = await submit(ada, spec("over"))
    await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=job.id), timeout=WAIT_S)
    watch = stub(ada).Watch(jobs_pb2.WatchJobsRequest(ids=[job.id, job.id]), timeout=WAIT_S)
    told = [message async for message in watch]
    assert [(t.job.state, t.replayed) for t in told] == [(jobs_pb2.JOB_STATE_CANCELLED, True)]


async def test_what_waits_says_why(ada: grpc.aio.Channel, london: FakeSite) -> None:
    first = await submit(ada, spec("big", nodes=2, gpus_per_node=4))
    row = await london.desires(first.id, sitelink_pb2.DESIRED_ACTION_RUN)
    second = await submit(ada, spec("waits"))
    explained = await stub(ada).Explain(jobs_pb2.ExplainJobRequest(id=second.id), timeout=WAIT_S)
    assert explained.sites or explained.quota
    assert explained.queue_position == 1
    assert not explained.would_run_at
    async with asyncio.timeout(WAIT_S):
        while True:
            got = await stub(ada).Get(jobs_pb2.GetJobRequest(id=second.id), timeout=WAIT_S)
            if got.reason:
                break
            await asyncio.sleep(0.05)
    assert got.message
    london.report(world.ended(row))
    row = await london.desires(second.id, sitelink_pb2.DESIRED_ACTION_RUN)
    london.report(world.ended(row))
    await until(ada, second.id, jobs_pb2.JOB_STATE_SUCCEEDED)


async def test_logs_flow_from_the_site_to_the_tenant(
    ada: grpc.aio.Channel, london: FakeSite
) -> None:
    job = await submit(ada, spec("speaks"))
    row = await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    london.report(world.started(row))
    early = stub(ada).Logs(jobs_pb2.LogsRequest(id=job.id, since_ms=-1), timeout=WAIT_S)
    with pytest.raises(grpc.aio.AioRpcError, match="found -1, allowed 0 or more"):
        await early.read()
    logs = stub(ada).Logs(jobs_pb2.LogsRequest(id=job.id, follow=True, since_ms=7), timeout=WAIT_S)
    await london.wait(lambda s: any(m.HasField("open_tunnel") for m in s.received))
    opening = next(m.open_tunnel for m in london.received if m.HasField("open_tunnel"))
    assert (opening.job_id, opening.attempt) == (job.id, 1)
    assert (opening.logs.follow, opening.logs.since_ms) == (True, 7)

    def chunk(n: int) -> sitelink_pb2.TunnelUp:
        said = jobs_pb2.LogsResponse(chunk=b"line %d\n" % n, offset=7 * n, attempt=1)
        return sitelink_pb2.TunnelUp(tunnel_id=opening.tunnel_id, logs=said)

    tunnel = london.stub.Tunnel(iter([chunk(n) for n in range(3)]), timeout=WAIT_S)
    assert [m.chunk async for m in logs] == [b"line 0\n", b"line 1\n", b"line 2\n"]
    assert await tunnel.read() is grpc.aio.EOF
    london.report(world.ended(row))
    await until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)


async def test_a_killed_planner_is_replaced_and_work_goes_on(
    control_plane: ControlPlane, ada: grpc.aio.Channel, london: FakeSite
) -> None:
    children = _children(control_plane.process.pid)
    assert len(children) == 1
    os.kill(children[0], signal.SIGKILL)
    job = await submit(ada, spec("after"))
    row = await london.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
    london.report(world.ended(row))
    await until(ada, job.id, jobs_pb2.JOB_STATE_SUCCEEDED)
    assert _children(control_plane.process.pid) != children


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        main = [int(word) for word in file.read().split()]
    found = list(main)
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += [int(word) for word in file.read().split()]
    return sorted(set(found))
