"""Jobs end to end over a real control plane, with a site agent of few words at the other end."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from sovapi.v1 import audit_pb2, audit_pb2_grpc, common_pb2, jobs_pb2, jobs_pb2_grpc, sitelink_pb2
from tests.api import world
from tests.api.control_plane import ControlPlane
from tests.api.world import ADA, LONDON, MAX, OLGA, RADIOLOGY, WAIT_S, FakeSite, spec, submit, until


@pytest.fixture
async def ada(control_plane: ControlPlane) -> AsyncIterator[grpc.aio.Channel]:
    """Ada's connection, in a world that is declared."""
    async with control_plane.channel_as(OLGA) as olga:
        await world.declare(olga)
    async with control_plane.channel_as(ADA) as connection:
        yield connection


@pytest.fixture
async def london(control_plane: ControlPlane, ada: grpc.aio.Channel) -> AsyncIterator[FakeSite]:
    """London's agent, connected, with two healthy nodes."""
    site = FakeSite(control_plane)
    await site.connect()
    site.report(nodes=2)
    yield site
    await site.close()


def stub(connection: grpc.aio.Channel) -> "jobs_pb2_grpc.JobServiceAsyncStub":
    return jobs_pb2_grpc.JobServiceStub(connection)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    raise AssertionError("no details")


def denials_of(error: grpc.aio.AioRpcError) -> list[tuple[str, str]]:
    for detail in status_of(error).details:
        found = error_details_pb2.PreconditionFailure()
        if detail.Unpack(found):
            return [(v.type, v.subject) for v in found.violations]
    return []


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


async def test_work_that_could_never_run_is_refused_with_every_reason(
    ada: grpc.aio.Channel,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(ada, spec(nodes=1, gpus_per_node=8))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    subjects = {subject for _, subject in denials_of(caught.value)}
    assert any(LONDON in s for s in subjects)
    assert any("narvik-1" in s for s in subjects)
    # The refusal has a leaf, though there is no job.
    audit = audit_pb2_grpc.AuditServiceStub(ada)
    leaves = await audit.ListLeaves(audit_pb2.ListLeavesRequest(), timeout=WAIT_S)
    assert "job_refused" in [leaf.kind for leaf in leaves.leaves]


async def test_every_fault_of_a_specification_is_reported_at_once(ada: grpc.aio.Channel) -> None:
    bad = spec("NOT A NAME", nodes=-1, gpus_per_node=1000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(ada, bad)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    fields = [subject for _, subject in denials_of(caught.value)]
    assert len(fields) >= 3
    assert any("nodes" in field for field in fields)


async def test_a_dry_run_changes_nothing(ada: grpc.aio.Channel, london: FakeSite) -> None:
    answer = await stub(ada).Submit(
        jobs_pb2.SubmitRequest(spec=spec("dry"), dry_run=True), timeout=WAIT_S
    )
    assert answer.job.id == ""
    assert answer.forecast.sites
    listed = await stub(ada).List(jobs_pb2.ListJobsRequest(), timeout=WAIT_S)
    assert "dry" not in [job.name for job in listed.jobs]


async def test_the_same_key_is_the_same_job(ada: grpc.aio.Channel) -> None:
    one = await submit(ada, spec("once", project=RADIOLOGY), idempotency_key="k1")
    assert (await submit(ada, spec("once"), idempotency_key="k1")).id == one.id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await submit(ada, spec("other"), idempotency_key="k1")
    assert caught.value.code() is grpc.StatusCode.ABORTED
    await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=one.id), timeout=WAIT_S)


async def test_many_are_answered_in_order_and_one_refusal_harms_none(
    ada: grpc.aio.Channel,
) -> None:
    def messages() -> list[jobs_pb2.SubmitManyRequest]:
        specs = [spec("m0"), spec("m1", gpus_per_node=64), spec("", nodes=0), spec("m3")]
        requests = [jobs_pb2.SubmitRequest(spec=s) for s in specs]
        return [
            jobs_pb2.SubmitManyRequest(requests=requests[:3]),
            jobs_pb2.SubmitManyRequest(requests=requests[3:]),
        ]

    answer = await stub(ada).SubmitMany(iter(messages()), timeout=WAIT_S)
    assert [bool(result.job_id) for result in answer.results] == [True, False, False, True]
    assert [bool(result.denials) for result in answer.results] == [False, True, True, False]
    for n, name in ((0, "m0"), (3, "m3")):
        got = await stub(ada).Get(
            jobs_pb2.GetJobRequest(id=answer.results[n].job_id), timeout=WAIT_S
        )
        assert got.name == name
        await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=got.id), timeout=WAIT_S)


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


async def test_the_log_tells_a_tenant_nothing_of_how_much_others_do(ada: grpc.aio.Channel) -> None:
    job = await submit(ada, spec("leaves"))
    audit = audit_pb2_grpc.AuditServiceStub(ada)
    of_job = audit_pb2.ListLeavesRequest(job_id=job.id)
    leaves = (await audit.ListLeaves(of_job, timeout=WAIT_S)).leaves
    assert leaves
    assert {leaf.index for leaf in leaves} == {0}
    assert {json.loads(leaf.canonical_json)["job"] for leaf in leaves} == {job.id}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await audit.GetCheckpoint(audit_pb2.GetCheckpointRequest(), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
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
    logs = stub(ada).Logs(jobs_pb2.LogsRequest(id=job.id, follow=True), timeout=WAIT_S)
    await london.wait(lambda s: any(m.HasField("open_tunnel") for m in s.received))
    opening = next(m.open_tunnel for m in london.received if m.HasField("open_tunnel"))
    assert (opening.job_id, opening.attempt, opening.logs.follow) == (job.id, 1, True)

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


Submits: TypeAlias = "grpc.aio.StreamUnaryMultiCallable[bytes, jobs_pb2.SubmitManyResponse]"


async def many(message: jobs_pb2.SubmitManyRequest, count: int) -> AsyncIterator[bytes]:
    """The same message again and again."""
    sent = message.SerializeToString()
    for _ in range(count):
        yield sent


@pytest.mark.parametrize("turn", range(5))
async def test_a_stream_that_is_refused_early_is_told_why_whatever_it_still_sends(
    ada: grpc.aio.Channel, turn: int
) -> None:
    crowd = jobs_pb2.SubmitManyRequest(
        requests=[jobs_pb2.SubmitRequest(idempotency_key=f"{turn}-{n}" * 20) for n in range(1_001)]
    )
    call: Submits = ada.stream_unary(
        "/sovapi.v1.JobService/SubmitMany",
        response_deserializer=jobs_pb2.SubmitManyResponse.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(many(crowd, 100), timeout=WAIT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert ("TOO_LARGE", "requests") in denials_of(caught.value)


async def test_messages_of_a_stream_are_answered_in_order_each_job_for_itself(
    ada: grpc.aio.Channel,
) -> None:
    async def messages() -> AsyncIterator[jobs_pb2.SubmitManyRequest]:
        for n in range(60):
            yield jobs_pb2.SubmitManyRequest(
                requests=[
                    jobs_pb2.SubmitRequest(spec=spec(f"n{n}"), idempotency_key=f"order-{n}"),
                    jobs_pb2.SubmitRequest(spec=spec(f"n{n}", nodes=3)),
                    jobs_pb2.SubmitRequest(spec=spec(f"n{n}"), dry_run=True),
                    jobs_pb2.SubmitRequest(spec=spec("-")),
                ]
            )
        yield jobs_pb2.SubmitManyRequest()

    response = await stub(ada).SubmitMany(messages(), timeout=WAIT_S)
    assert len(response.results) == 240
    for n in range(60):
        queued, never, dry, bad = response.results[4 * n : 4 * n + 4]
        job = await stub(ada).Get(jobs_pb2.GetJobRequest(id=queued.job_id), timeout=WAIT_S)
        assert job.name == f"n{n}"
        assert not queued.denials
        assert {d.reason for d in never.denials} >= {"NODES_TOO_FEW"}
        assert [d.subject for d in dry.denials] == ["dry_run"]
        assert [d.subject for d in bad.denials] == ["name"]
        await stub(ada).Cancel(jobs_pb2.CancelJobRequest(id=queued.job_id), timeout=WAIT_S)
