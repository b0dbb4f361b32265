"""The clients against a real gRPC server: retries, idempotency, errors, streams, pages."""

from __future__ import annotations

import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from sovctl import (
    AsyncClient,
    Client,
    Context,
    JobFailedError,
    JobSpec,
    NotFoundError,
    PermissionDeniedError,
    RefusedError,
    Resources,
    SovError,
    SpecError,
    UnavailableError,
)
from sovctl.link import TRIES_MAX, backoff_ms
from tests.sovctl.control_plane import Running, residency_refusal

WAIT_S = 60


def spec(name: str = "train") -> JobSpec:
    return JobSpec(name=name, command=["true"], resources=Resources(gpus_per_node=4))


async def test_a_job_is_submitted_watched_and_read(plane: Running, context: Context) -> None:
    async with AsyncClient(context) as client:
        job = await client.submit(spec())
        assert job.info.state == "QUEUED"
        assert job.info.tenant == "trust-a/radiology"  # From the context.
        info = await job.wait(check=True)
        assert (info.state, info.exit_code) == ("SUCCEEDED", 0)
        assert info.attempts[0].ranks[0].cause == "EXIT"
        read = b"".join([chunk.data async for chunk in job.logs(follow=True)])
        assert read == plane.plane.log[0]


def test_the_synchronous_client_does_the_same(plane: Running, context: Context) -> None:
    with Client(context) as client:
        job = client.submit(spec())
        assert job.wait().state == "SUCCEEDED"
        assert b"".join(chunk.data for chunk in job.logs()) == plane.plane.log[0]
        assert client.get(job.id).info.name == "train"
        assert [each.id for each in client.list()] == [job.id]


def test_clients_that_come_and_go_leave_others_their_answers(
    plane: Running, context: Context
) -> None:
    def come_and_go(_number: int) -> int:
        found = 0
        for _ in range(10):
            with Client(context) as client:
                found += client.submit(spec()).wait().exit_code == 0
        return found

    with Client(context, timeout_s=300) as stays, ThreadPoolExecutor(4) as threads:
        job = stays.submit(spec())
        others = [threads.submit(come_and_go, n) for n in range(4)]
        while not all(other.done() for other in others):
            assert stays.get(job.id).id == job.id
        assert [other.result() for other in others] == [10] * 4
        loops = [thread for thread in threading.enumerate() if thread.name == "sovctl"]
        assert len(loops) == 1


def test_a_client_that_was_closed_cuts_off_what_is_under_way_and_nobody_else(
    plane: Running, context: Context
) -> None:
    plane.plane.hold.clear()
    closed, other = Client(context), Client(context)
    job = closed.submit(spec())
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(job.wait)
        while not plane.plane.calls["Watch"]:
            other.get(job.id)
        closed.close()
        with pytest.raises((RuntimeError, SovError)):
            waiting.result(WAIT_S)
    assert other.get(job.id).id == job.id
    plane.plane.hold.set()
    other.close()


def test_a_submission_that_fails_on_the_way_is_repeated_under_one_key(
    plane: Running, context: Context
) -> None:
    plane.plane.fail_first["Submit"] = 2
    with Client(context) as client:
        client.submit(spec())
    assert plane.plane.calls["Submit"] == 3
    assert len(plane.plane.jobs) == 1


def test_an_idempotency_key_makes_one_job_of_two_submissions(
    plane: Running, context: Context
) -> None:
    with Client(context) as client:
        first = client.submit(spec(), idempotency_key="k")
        assert client.submit(spec(), idempotency_key="k").id == first.id
    assert len(plane.plane.jobs) == 1


def test_repeating_ends(plane: Running, context: Context) -> None:
    plane.plane.fail_first["Get"] = 100
    with Client(context) as client, pytest.raises(UnavailableError, match="cannot be reached"):
        client.get("job-1")
    assert plane.plane.calls["Get"] == TRIES_MAX


def test_what_may_not_happen_twice_is_sent_once(plane: Running, context: Context) -> None:
    plane.plane.fail_first["Fence"] = 1
    with Client(context) as client, pytest.raises(UnavailableError):
        client.fence("exch-london-1/n01", reason="powered off")
    assert plane.plane.calls["Fence"] == 1


@pytest.mark.parametrize("tries", range(1, 40))
def test_back_off_grows_and_stays_bounded(tries: int) -> None:
    assert 100 <= backoff_ms(tries, lambda n: 0) <= backoff_ms(tries, lambda n: n - 1) <= 5000


def test_a_refusal_carries_every_reason(plane: Running, context: Context) -> None:
    plane.plane.refusal = residency_refusal()
    with Client(context) as client, pytest.raises(RefusedError) as caught:
        client.submit(spec())
    error = caught.value
    assert error.reason == "JURISDICTION"
    assert error.message == "no site may ever run this"
    assert [(d.subject, d.reason) for d in error.details] == [
        ("exch-london-1", "NODE_SHAPE"),
        ("hall-slough-1", "FOREIGN_COMPULSION"),
        ("narvik-1", "JURISDICTION"),
    ]
    assert plane.plane.calls["Submit"] == 1  # A refusal is an answer, not a fault to repeat.


def test_errors_have_their_classes(plane: Running, context: Context) -> None:
    with Client(context) as client:
        with pytest.raises(NotFoundError) as caught:
            client.get("job-unknown")
        assert caught.value.reason == "NOT_FOUND"
        with pytest.raises(PermissionDeniedError):
            client.whoami()
        with pytest.raises(SpecError):
            client.submit({"name": "x", "command": []})
    assert plane.plane.calls["Submit"] == 0


def test_nobody_there_is_unavailable(context: Context, plane: Running) -> None:
    nowhere = context.model_copy(update={"endpoint": "127.0.0.1:1"})
    with Client(nowhere) as client, pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        client.get("job-1")


def test_waiting_with_check_raises_what_went_wrong(plane: Running, context: Context) -> None:
    plane.plane.states = ["RUNNING", "FAILED"]
    plane.plane.exit_code = 3
    with Client(context) as client:
        job = client.submit(spec())
        with pytest.raises(JobFailedError):
            job.wait(check=True)
        assert job.info.exit_code == 3


def test_waiting_has_its_own_deadline(plane: Running, context: Context) -> None:
    plane.plane.hold.clear()
    with Client(context) as client:
        job = client.submit(spec())
        with pytest.raises(TimeoutError):
            job.wait(timeout_s=0.3)
    plane.plane.hold.set()


async def test_a_watch_that_breaks_goes_on_and_tells_nothing_twice(
    plane: Running, context: Context
) -> None:
    plane.plane.break_watch_after = 1
    async with AsyncClient(context) as client:
        job = await client.submit(spec())
        states = [info.state async for info in client.watch([job.id])]
    assert states == ["QUEUED", "RUNNING", "SUCCEEDED"]
    assert plane.plane.calls["Watch"] == 2


@pytest.mark.parametrize("rank", [0, None])
async def test_a_log_that_breaks_is_read_once_to_its_end(
    plane: Running, context: Context, rank: int | None
) -> None:
    plane.plane.log = (
        {0: b"0123456789abcdef", 1: b"second rank"} if rank is None else {0: b"x" * 99}
    )
    plane.plane.break_log_at = 8
    async with AsyncClient(context) as client:
        job = await client.submit(spec())
        read: dict[int, bytes] = {}
        async for chunk in job.logs(rank=rank, follow=True):
            assert chunk.offset == len(read.get(chunk.rank, b""))
            read[chunk.rank] = read.get(chunk.rank, b"") + chunk.data
    assert read == plane.plane.log
    assert plane.plane.calls["Logs"] == 2


def test_pages_are_fetched_as_they_are_needed(plane: Running, context: Context) -> None:
    with Client(context) as client:
        ids = [client.submit(spec(f"job-{n}")).id for n in range(25)]
        first = client.list()
        assert next(first).id == sorted(ids)[0]
        assert plane.plane.calls["List"] == 1
        assert len(list(first)) == 24
    assert plane.plane.calls["List"] == 3


def test_many_are_submitted_in_one_stream_with_an_outcome_each(
    plane: Running, context: Context
) -> None:
    names = ["a", "refused", *(f"n{n}" for n in range(450))]
    with Client(context) as client:
        outcomes = client.submit_many(spec(name) for name in names)
    assert [outcome.job_id is None for outcome in outcomes] == [name == "refused" for name in names]
    assert outcomes[1].denials[0].reason == "QUOTA_LIMIT"
    assert plane.plane.calls["SubmitMany"] == 1
    assert plane.plane.calls["SubmitMany.message"] == 3


def test_a_working_directory_is_sent_once(plane: Running, context: Context, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('hello')\n")
    (tmp_path / "weights.bin").write_bytes(bytes(1_000_000))
    with Client(context) as client:
        sent = spec().model_copy(update={"working_dir": str(tmp_path)})
        job = client.submit(sent)
        assert client.submit(sent).id != job.id
    [(digest, content)] = plane.plane.bundles.items()
    assert plane.plane.jobs[job.id].spec.bundle_digest == digest
    with tarfile.open(fileobj=BytesIO(content)) as tar:
        assert tar.getnames() == ["train.py", "weights.bin"]
