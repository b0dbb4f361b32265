"""A control plane of few words: real gRPC, TLS and errors, and a script instead of a planner.

It keeps jobs in a dictionary and lets a test say what happens: how often a call fails first, which
states a job goes through, where a stream breaks.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from google.protobuf.message_factory import GetMessageClass

from scheduler.api.errors import status_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, not_found
from sovapi.v1 import (
    common_pb2,
    fleet_pb2,
    identity_pb2,
    jobs_pb2,
    tenants_pb2,
)
from sovshared import tls

START_S = 30

CODES = {code.value[0]: code for code in grpc.StatusCode}
SERVED: dict[str, Any] = {
    **{
        f"JobService/{method}": jobs_pb2
        for method in (
            *("Submit", "SubmitMany", "Get", "List", "Watch", "Cancel", "Explain"),
            *("Logs", "Upload", "Download"),
        )
    },
    "FleetService/ListSites": fleet_pb2,
    "FleetService/Fence": fleet_pb2,
    "TenantService/GetQuota": tenants_pb2,
    "IdentityService/Whoami": identity_pb2,
}
_KINDS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
}

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ControlPlane:
    """What a test sets, and what it may look at afterwards."""

    def __init__(self) -> None:
        self.jobs: dict[str, jobs_pb2.Job] = {}
        self.keys: dict[str, str] = {}
        self.bundles: dict[str, bytes] = {}
        self.calls: Counter[str] = Counter()
        self.fail_first: Counter[str] = Counter()
        """How many calls of a method fail with UNAVAILABLE before one is taken."""
        self.refusal: Refused | None = None
        self.states: list[str] = ["RUNNING", "SUCCEEDED"]
        """What a watch shows after the job's present state."""
        self.exit_code = 0
        self.hold = threading.Event()
        """A watch shows the last state only when this is set."""
        self.hold.set()
        self.log: dict[int, bytes] = {0: b"first\nsecond\n"}
        self.since_ms = 0
        self.break_log_at = 0
        self.break_watch_after = 0
        self.left: dict[str, bytes] = {}
        """What every job left, by path."""
        self.break_download_at = 0
        """Of a file's bytes."""
        self.spoil = False
        """Whether what is sent is not what it should be."""
        self.sites: list[fleet_pb2.Site] = []

    async def _enter(self, method: str, context: Context) -> None:
        self.calls[method] += 1
        if self.fail_first[method] > 0:
            self.fail_first[method] -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away for a moment")

    async def _refuse(self, refused: Refused, context: Context) -> None:
        details = status_of(refused).SerializeToString()
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        await context.abort(CODES[refused.code], refused.message)

    async def _job(self, name: str, context: Context) -> jobs_pb2.Job:
        if name not in self.jobs:
            await self._refuse(not_found("job", name), context)
        return self.jobs[name]

    def add(self, spec: jobs_pb2.JobSpec) -> jobs_pb2.Job:
        job = jobs_pb2.Job(
            id=f"job-{len(self.jobs):013d}",
            name=spec.name,
            tenant=spec.project or "trust-a/radiology",
            state="JOB_STATE_QUEUED",
            spec=spec,
            submitted_at_ms=1_700_000_000_000,
        )
        self.jobs[job.id] = job
        return job

    async def Submit(
        self, request: jobs_pb2.SubmitRequest, context: Context
    ) -> jobs_pb2.SubmitResponse:
        await self._enter("Submit", context)
        if self.refusal is not None:
            await self._refuse(self.refusal, context)
        if request.dry_run:
            job = jobs_pb2.Job(name=request.spec.name, state="JOB_STATE_QUEUED", spec=request.spec)
            forecast = jobs_pb2.ExplainJobResponse(
                state="JOB_STATE_QUEUED", would_run_at="exch-london-1", summary="It fits now."
            )
            return jobs_pb2.SubmitResponse(job=job, forecast=forecast)
        key = request.idempotency_key
        if key not in self.keys:
            self.keys[key] = self.add(request.spec).id
        return jobs_pb2.SubmitResponse(job=self.jobs[self.keys[key]])

    async def SubmitMany(
        self,
        request_iterator: AsyncIterator[jobs_pb2.SubmitManyRequest],
        context: Context,
    ) -> jobs_pb2.SubmitManyResponse:
        await self._enter("SubmitMany", context)
        results: list[jobs_pb2.SubmitResult] = []
        async for message in request_iterator:
            self.calls["SubmitMany.message"] += 1
            for request in message.requests:
                if request.spec.name == "refused":
                    denial = common_pb2.Denial(reason="QUOTA_LIMIT", subject="trust-a")
                    results.append(jobs_pb2.SubmitResult(denials=[denial]))
                else:
                    results.append(jobs_pb2.SubmitResult(job_id=self.add(request.spec).id))
        return jobs_pb2.SubmitManyResponse(results=results)

    async def Get(self, request: jobs_pb2.GetJobRequest, context: Context) -> jobs_pb2.Job:
        await self._enter("Get", context)
        return await self._job(request.id, context)

    async def List(
        self, request: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        await self._enter("List", context)
        start = int(request.page.page_token or 0)
        ids = sorted(self.jobs)
        size = min(request.page.page_size, 10)
        page = [self.jobs[each] for each in ids[start : start + size]]
        token = str(start + size) if start + size < len(ids) else ""
        return jobs_pb2.ListJobsResponse(jobs=page, next_page_token=token)

    def advance(self, job: jobs_pb2.Job, state: str) -> None:
        """The job in its next state, with one rank at one site."""
        job.state = getattr(jobs_pb2, f"JOB_STATE_{state}")
        if not job.attempts:
            job.attempts.add(
                number=1, site="exch-london-1", country="GB", nodes=["exch-london-1/n01"]
            )
        attempt = job.attempts[0]
        attempt.state = job.state
        attempt.started_at_ms = 1_700_000_001_000
        if not attempt.ranks:
            for rank in sorted(self.log):
                attempt.ranks.add(rank=rank, node="exch-london-1/n01", phase="RANK_PHASE_RUNNING")
        if state in ("SUCCEEDED", "FAILED"):
            job.exit_code = self.exit_code
            for rank in attempt.ranks:
                rank.phase = jobs_pb2.RANK_PHASE_OVER
                rank.cause = jobs_pb2.RANK_CAUSE_EXIT
                rank.exit_code = self.exit_code

    async def Watch(
        self, request: jobs_pb2.WatchJobsRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.WatchJobsResponse]:
        await self._enter("Watch", context)
        job = await self._job(request.ids[0], context)
        yield jobs_pb2.WatchJobsResponse(job=job, replayed=True)
        for count, state in enumerate(self.states, start=1):
            if count == len(self.states):
                await asyncio.to_thread(self.hold.wait)
            if job.state < jobs_pb2.JobState.Value(f"JOB_STATE_{state}"):
                self.advance(job, state)
                yield jobs_pb2.WatchJobsResponse(job=job)
            if self.break_watch_after == count:
                self.break_watch_after = 0
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")

    async def Cancel(
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.CancelJobResponse:
        await self._enter("Cancel", context)
        job = await self._job(request.id, context)
        job.state = jobs_pb2.JOB_STATE_CANCELLED
        return jobs_pb2.CancelJobResponse(job=job)

    async def Explain(
        self, request: jobs_pb2.ExplainJobRequest, context: Context
    ) -> jobs_pb2.ExplainJobResponse:
        job = await self._job(request.id, context)
        denial = common_pb2.Denial(
            reason="FOREIGN_COMPULSION",
            subject="hall-slough-1",
            detail="the ultimate parent Hyperscale Halls Inc. (100 %) is in US",
        )
        return jobs_pb2.ExplainJobResponse(
            job_id=job.id,
            state=job.state,
            reason="NODES_BUSY",
            summary="Waits for exch-london-1.",
            queue_position=1,
            sites=[
                jobs_pb2.SiteExplanation(site="hall-slough-1", denials=[denial]),
                jobs_pb2.SiteExplanation(site="exch-london-1", permitted=True),
            ],
        )

    async def Logs(
        self, request: jobs_pb2.LogsRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.LogsResponse]:
        await self._enter("Logs", context)
        await self._job(request.id, context)
        self.since_ms = request.since_ms
        for rank in sorted(self.log) if request.all_ranks else [request.rank]:
            content = self.log[rank]
            for at in range(request.offset, len(content), 4):
                if self.break_log_at and at >= self.break_log_at:
                    self.break_log_at = 0
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")
                yield jobs_pb2.LogsResponse(
                    rank=rank, attempt=1, offset=at, chunk=content[at : at + 4]
                )

    async def Download(
        self, request: jobs_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.DownloadResponse]:
        await self._enter("Download", context)
        await self._job(request.id, context)
        for path, content in sorted(self.left.items()):
            if path < request.begin_at or not path.startswith(request.path):
                continue
            file = jobs_pb2.DownloadFile(path=path, size_bytes=len(content), modified_ms=7_000)
            yield jobs_pb2.DownloadResponse(file=file)
            if request.listing:
                continue
            begin = request.offset if path == request.begin_at else 0
            for at in range(begin, len(content), 4):
                if self.break_download_at and at >= self.break_download_at:
                    self.break_download_at = 0
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream broke")
                chunk = content[at : at + 4]
                yield jobs_pb2.DownloadResponse(chunk=chunk.upper() if self.spoil else chunk)
            yield jobs_pb2.DownloadResponse(digest=hashlib.sha256(content).hexdigest())
        end = jobs_pb2.DownloadEnd(files=len(self.left))
        yield jobs_pb2.DownloadResponse(end=end)

    async def Upload(
        self,
        request_iterator: AsyncIterator[jobs_pb2.UploadRequest],
        context: Context,
    ) -> jobs_pb2.UploadResponse:
        await self._enter("Upload", context)
        start = (await anext(request_iterator)).start
        if start.digest in self.bundles:
            return jobs_pb2.UploadResponse(digest=start.digest, existed=True)
        content = b"".join([part.chunk async for part in request_iterator])
        assert start.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert start.size_bytes == len(content)
        self.bundles[start.digest] = content
        return jobs_pb2.UploadResponse(digest=start.digest)

    async def ListSites(
        self, request: fleet_pb2.ListSitesRequest, context: Context
    ) -> fleet_pb2.ListSitesResponse:
        await self._enter("ListSites", context)
        return fleet_pb2.ListSitesResponse(sites=self.sites)

    async def Fence(
        self, request: fleet_pb2.FenceRequest, context: Context
    ) -> fleet_pb2.FenceResponse:
        await self._enter("Fence", context)
        return fleet_pb2.FenceResponse(attempts_fenced=1)

    async def GetQuota(
        self, request: tenants_pb2.GetQuotaRequest, context: Context
    ) -> tenants_pb2.GetQuotaResponse:
        line = tenants_pb2.QuotaLine(
            tenant="trust-a/radiology", gpu_class="H100", limit_milli=8000, used_milli=1500
        )
        return tenants_pb2.GetQuotaResponse(lines=[line])

    async def Whoami(
        self, request: identity_pb2.WhoamiRequest, context: Context
    ) -> identity_pb2.WhoamiResponse:
        denied = Refused(Code.PERMISSION_DENIED, Reason.PERMISSION_DENIED, "not for you")
        await self._refuse(denied, context)
        raise AssertionError("unreachable")


def _handlers(plane: ControlPlane) -> tuple[grpc.GenericRpcHandler, ...]:
    """Handlers of the RPCs that the plane has a method for; the others are unimplemented."""
    services: dict[str, dict[str, Any]] = {}
    for name in SERVED:
        service, method = name.split("/")
        file = SERVED[name]
        rpc = file.DESCRIPTOR.services_by_name[service].methods_by_name[method]
        many = (bool(rpc.client_streaming), bool(rpc.server_streaming))
        services.setdefault(f"sovapi.v1.{service}", {})[method] = _KINDS[many](
            getattr(plane, method),
            request_deserializer=GetMessageClass(rpc.input_type).FromString,
            response_serializer=GetMessageClass(rpc.output_type).SerializeToString,
        )
    return tuple(
        grpc.method_handlers_generic_handler(service, handlers)
        for service, handlers in services.items()
    )


def residency_refusal() -> Refused:
    """A refusal with a reason for each site."""
    return Refused(
        Code.FAILED_PRECONDITION,
        Reason.JURISDICTION,
        "no site may ever run this",
        (
            Denial(Reason.NODE_SHAPE, "its largest node has 4 GPUs, asked 8", "exch-london-1"),
            Denial(Reason.FOREIGN_COMPULSION, "its parent is in US", "hall-slough-1"),
            Denial(Reason.JURISDICTION, "it is in NO, asked GB", "narvik-1"),
        ),
    )


class Running:
    """The control plane on a thread of its own, so that blocking clients can be tested as well."""

    def __init__(self, plane: ControlPlane, credentials: Path) -> None:
        self.plane = plane
        self.port = 0
        self._credentials = credentials
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(START_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        # All of a process's loops are woken through one pipe: who comes late finds it empty.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = grpc.aio.server(options=tls.server_options())
        server.add_generic_rpc_handlers(_handlers(self.plane))
        credentials = tls.server_credentials(self._credentials, tls.ClientCertificates.REQUIRED)
        self.port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        self._ready.set()
        await self._stop.wait()
        await server.stop(0)
