"""What is asked when jobs are submitted, and every reason that a refusal gives."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from sovapi.v1 import audit_pb2, audit_pb2_grpc, jobs_pb2
from tests.api.world import LONDON, RADIOLOGY, WAIT_S, FakeSite, spec, stub, submit

Submits: TypeAlias = "grpc.aio.StreamUnaryMultiCallable[bytes, jobs_pb2.SubmitManyResponse]"


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


async def many(message: jobs_pb2.SubmitManyRequest, count: int) -> AsyncIterator[bytes]:
    """The same message again and again."""
    sent = message.SerializeToString()
    for _ in range(count):
        yield sent


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
