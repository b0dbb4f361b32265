"""What tenants do with jobs, as coroutines: the implementation behind both clients."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from sovapi.v1 import common_pb2, jobs_pb2
from sovctl import bundle
from sovctl.commands import AsyncCommandCalls, CommandResult
from sovctl.errors import Denial, JobFailedError, UnavailableError
from sovctl.faults import check
from sovctl.link import STREAM_TIMEOUT_MS, Repeat
from sovctl.logs import RECONNECTS_MAX, LogChunk, LogReader, LogsWanted
from sovctl.results import JobInfo, job_info
from sovctl.rpc_errors import sov_error
from sovctl.sealed import key_at, put_ticket, seal_bundle
from sovctl.spec import JobSpec
from sovctl.spec_proto import to_proto
from sovshared.sealing import Header

PAGE_SIZE = 500
SUBMIT_BATCH = 200
"""Submissions in one message of the stream."""

SUBMIT_BATCH_BYTES_MAX = 1024 * 1024
SUBMIT_MANY_MAX = 10_000
"""Submissions in one call; more are sent in several calls."""

Spec = JobSpec | Mapping[str, Any]
"""A specification, or the same as plain data, as a job file has it."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a submission would do now. Nothing was changed."""

    job: JobInfo
    explanation: jobs_pb2.ExplainJobResponse


@dataclass(frozen=True, slots=True)
class SubmitOutcome:
    """One of many submissions: a job's id, or why it was refused."""

    job_id: str | None
    denials: tuple[Denial, ...]


def denials_of(denials: Iterable[common_pb2.Denial]) -> tuple[Denial, ...]:
    """The wire's denials as plain values."""
    return tuple(Denial(d.reason, d.detail, d.subject) for d in denials)


def new_idempotency_key() -> str:
    """A key that nobody else makes."""
    return secrets.token_hex(16)


class AsyncJob:
    """A job that was submitted or looked up. `info` is what was last heard of it."""

    def __init__(self, calls: AsyncJobCalls, info: JobInfo) -> None:
        assert info.id is not None
        self._calls = calls
        self.id = info.id
        self.info = info

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id} {self.info.state}>"

    async def refresh(self) -> JobInfo:
        """The job as it is now."""
        self.info = (await self._calls.get(self.id)).info
        return self.info

    async def wait(self, timeout_s: float | None = None, *, check: bool = False) -> JobInfo:
        """Waits until the job is over.

        Raises:
            TimeoutError: It was not, in time. The job goes on.
            JobFailedError: With `check`, when it did not succeed.
        """
        async with asyncio.timeout(timeout_s):
            self.info = await self._calls.wait_for(self.id, lambda job: job.is_over)
        if check and self.info.state != "SUCCEEDED":
            raise JobFailedError(
                f"{self.id} {self.info.state.lower()}: {self.info.message or self.info.reason}",
                reason=self.info.reason or self.info.state,
            )
        return self.info

    def logs(
        self, *, rank: int | None = 0, follow: bool = False, since_ms: int = 0
    ) -> AsyncIterator[LogChunk]:
        """The job's output; `rank` None means all ranks."""
        return self._calls.logs(self.id, rank=rank, follow=follow, since_ms=since_ms)

    async def cancel(self, *, now: bool = False) -> JobInfo:
        """Asks the job to stop; `now` skips the grace."""
        self.info = await self._calls.cancel(self.id, now=now)
        return self.info

    async def exec(
        self, command: Sequence[str], *, rank: int = 0, stdin: bytes = b""
    ) -> CommandResult:
        """Runs a command inside a rank of the job, to its end; see `AsyncClient.exec`."""
        return await self._calls.exec(self.id, command, rank=rank, stdin=stdin)

    async def explain(self) -> jobs_pb2.ExplainJobResponse:
        """Why the job is where it is."""
        return await self._calls.explain(self.id)


@dataclass(frozen=True, slots=True)
class Sent:
    """A working directory that was stored: the digest that jobs name it by, and if it was sealed,
    the header of it."""

    digest: str
    header: Header | None


NOTHING = Sent("", None)


class AsyncJobCalls(AsyncCommandCalls):
    """Calls of JobService."""

    async def submit(self, spec: Spec, *, idempotency_key: str = "") -> AsyncJob:
        """Queues a job; its working directory is bundled and sent first, where it is not known.

        Without a key one is made, so a repeated send never makes a second job.

        Raises:
            RefusedError: Policy, quota or admission says no; `details` has every reason.
        """
        request = jobs_pb2.SubmitRequest(
            spec=await self._wire_spec(spec),
            idempotency_key=idempotency_key or new_idempotency_key(),
        )
        response = await self.link.call(self.link.jobs.Submit, request)
        return AsyncJob(self, job_info(response.job))

    async def forecast(self, spec: Spec) -> Forecast:
        """What `submit` would do now, by the same admission and planner; changes nothing."""
        checked = checked_spec(spec)
        digest = ""
        if checked.working_dir is not None:
            with await asyncio.to_thread(bundle.build, Path(checked.working_dir)) as made:
                digest = made.digest
        message = to_proto(checked, bundle_digest=digest, project=self.project)
        request = jobs_pb2.SubmitRequest(spec=message, dry_run=True)
        response = await self.link.call(self.link.jobs.Submit, request)
        return Forecast(job_info(response.job), response.forecast)

    async def submit_many(self, specs: Iterable[Spec]) -> list[SubmitOutcome]:
        """Queues many jobs in one stream; an outcome for each, in order; a refusal is one too.

        A directory that several of them name is bundled once.
        """
        requests: list[jobs_pb2.SubmitRequest] = []
        sent: dict[tuple[str, str], Sent] = {}
        for spec in specs:
            checked = checked_spec(spec)
            place = (checked.working_dir or "", checked.project or "")
            if place not in sent:
                sent[place] = await self._send(*place) if place[0] else NOTHING
            message = self._ready(checked, sent[place])
            requests.append(
                jobs_pb2.SubmitRequest(spec=message, idempotency_key=new_idempotency_key())
            )
        outcomes: list[SubmitOutcome] = []
        for start in range(0, len(requests), SUBMIT_MANY_MAX):
            batch = requests[start : start + SUBMIT_MANY_MAX]
            response = await self.link.send_all(
                self.link.jobs.SubmitMany, lambda batch=batch: _in_batches(batch)
            )
            if len(response.results) != len(batch):
                raise UnavailableError(
                    f"found {len(response.results)} results for {len(batch)} submissions"
                )
            outcomes += [
                SubmitOutcome(result.job_id or None, denials_of(result.denials))
                for result in response.results
            ]
        return outcomes

    async def upload(self, working_dir: str | Path, *, project: str = "") -> str:
        """Bundles a directory and stores it; the digest by which a job names it."""
        return (await self._send(working_dir, project)).digest

    async def _send(self, working_dir: str | Path, project: str) -> Sent:
        """Bundles a directory, seals it where we have a key, and stores it."""
        with ExitStack() as files:
            made = files.enter_context(await asyncio.to_thread(bundle.build, Path(working_dir)))
            header = None
            if self.key_service:
                key = key_at(self.key_service)
                made, header = await asyncio.to_thread(seal_bundle, made, key)
                files.enter_context(made)
            start = jobs_pb2.UploadStart(
                digest=made.digest, size_bytes=made.size_bytes, project=project or self.project
            )

            async def parts() -> AsyncIterator[jobs_pb2.UploadRequest]:
                yield jobs_pb2.UploadRequest(start=start)
                for chunk in made.chunks():
                    yield jobs_pb2.UploadRequest(chunk=chunk)

            response = await self.link.send_all(self.link.jobs.Upload, parts)
        return Sent(response.digest or made.digest, header)

    def _ready(self, spec: JobSpec, sent: Sent) -> jobs_pb2.JobSpec:
        """The specification as it is sent; with our ticket on it where we have a key."""
        message = to_proto(spec, bundle_digest=sent.digest, project=self.project)
        if self.key_service and (sent.header is not None or message.secrets):
            put_ticket(message, key_at(self.key_service), sent.header)
        return message

    async def get(self, job: str) -> AsyncJob:
        """The job of an id, or of a name that only one live job has."""
        request = jobs_pb2.GetJobRequest(id=job)
        return AsyncJob(self, job_info(await self.link.call(self.link.jobs.Get, request)))

    async def list(
        self,
        *,
        states: Sequence[str] = (),
        project: str = "",
        array: str = "",
        page_size: int = PAGE_SIZE,
    ) -> AsyncIterator[JobInfo]:
        """All jobs the caller may see, newest pages as needed; or the tasks of `array`.

        An array is one of them, unless states are asked for: those are its tasks'.
        """
        token = ""
        wanted = [f"JOB_STATE_{state.upper()}" for state in states]
        while True:
            request = jobs_pb2.ListJobsRequest(
                page=common_pb2.PageRequest(page_size=page_size, page_token=token),
                states=wanted,
                project=project,
                with_spec=True,
                array=array,
            )
            response = await self.link.call(self.link.jobs.List, request)
            for job in response.jobs:
                yield job_info(job)
            token = response.next_page_token
            if not token:
                return

    async def watch(self, jobs: Sequence[str] = ()) -> AsyncIterator[JobInfo]:
        """Each job's state, then each change of it, until all named are over.

        Without names: all jobs the caller may see. Broken streams are opened again.
        """
        last: dict[str, JobInfo] = {}
        failures = 0
        while True:
            request = jobs_pb2.WatchJobsRequest(ids=jobs)
            call = self.link.jobs.Watch(request, timeout=STREAM_TIMEOUT_MS / 1000)
            try:
                async for message in call:
                    failures = 0
                    info = job_info(message.job)
                    if jobs and last.get(message.job.id) == info:
                        continue  # Told again because the stream was opened again.
                    if jobs:
                        last[message.job.id] = info
                    yield info
                return
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code is grpc.StatusCode.UNAVAILABLE:
                    failures += 1
                elif code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise sov_error(error, self.link.endpoint) from None
                if failures > RECONNECTS_MAX:
                    raise sov_error(error, self.link.endpoint) from None
            finally:
                call.cancel()
            await self.link.pause(max(failures, 1))

    async def wait_for(self, job: str, holds: Callable[[JobInfo], bool]) -> JobInfo:
        """The job as soon as `holds` says so of it, or when it is over."""
        watching = self.watch([job])
        try:
            async for info in watching:
                if holds(info) or info.is_over:
                    return info
        finally:
            await aclose(watching)
        return (await self.get(job)).info

    async def cancel(self, job: str, *, now: bool = False) -> JobInfo:
        """Asks a job to stop; `now` skips the grace. Cancelling twice is harmless."""
        request = jobs_pb2.CancelJobRequest(id=job, now=now, idempotency_key=new_idempotency_key())
        return job_info((await self.link.call(self.link.jobs.Cancel, request)).job)

    async def scale(self, job: str, replicas: int) -> JobInfo:
        """Sets how many replicas a service has; 0 keeps it and runs nothing of it."""
        request = jobs_pb2.ScaleJobRequest(id=job, replicas=replicas)
        return job_info((await self.link.call(self.link.jobs.Scale, request)).job)

    async def explain(self, job: str) -> jobs_pb2.ExplainJobResponse:
        """Every constraint that binds, and the smallest changes that would unblock."""
        request = jobs_pb2.ExplainJobRequest(id=job)
        return await self.link.call(self.link.jobs.Explain, request, Repeat.HARMLESS)

    def logs(
        self,
        job: str,
        *,
        rank: int | None = 0,
        follow: bool = False,
        since_ms: int = 0,
        attempt: int = 0,
    ) -> AsyncIterator[LogChunk]:
        """A job's output, streamed from its site; with `follow` until it is over."""
        wanted = LogsWanted(job, rank, follow, since_ms, attempt)
        reader = LogReader(self.link, wanted, lambda holds: self.wait_for(job, holds))
        return reader.chunks()

    async def _wire_spec(self, spec: Spec) -> jobs_pb2.JobSpec:
        checked = checked_spec(spec)
        sent = NOTHING
        if checked.working_dir is not None:
            sent = await self._send(checked.working_dir, checked.project or "")
        return self._ready(checked, sent)


def checked_spec(spec: Spec) -> JobSpec:
    """A specification, or SpecError with every fault of the plain data."""
    return spec if isinstance(spec, JobSpec) else check(JobSpec, dict(spec), "job")


async def aclose(iterator: AsyncIterator[object]) -> None:
    """Ends an asynchronous generator now, not when somebody collects it."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


async def _in_batches(
    requests: Sequence[jobs_pb2.SubmitRequest],
) -> AsyncIterator[jobs_pb2.SubmitManyRequest]:
    """Messages of bounded count and size."""
    batch: list[jobs_pb2.SubmitRequest] = []
    size_bytes = 0
    for request in requests:
        request_bytes = request.ByteSize()
        full = len(batch) >= SUBMIT_BATCH or size_bytes + request_bytes > SUBMIT_BATCH_BYTES_MAX
        if batch and full:
            yield jobs_pb2.SubmitManyRequest(requests=batch)
            batch, size_bytes = [], 0
        batch.append(request)
        size_bytes += request_bytes
    if batch:
        yield jobs_pb2.SubmitManyRequest(requests=batch)
