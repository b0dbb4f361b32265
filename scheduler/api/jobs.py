"""JobService: what tenants ask for, and what became of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from scheduler.api import calls, pages
from scheduler.api.commands import Commands
from scheduler.api.desk import Desk
from scheduler.api.downloads import Downloads
from scheduler.api.forwards import Forwards
from scheduler.api.intake import TOGETHER_MAX, Intake, Outcome, Outcomes
from scheduler.api.job_logs import JobLogs
from scheduler.api.job_watch import JobWatch, with_reasons
from scheduler.api.operator_access import eyes, touch
from scheduler.api.server import Methods
from scheduler.api.tunnels import Tunnels
from scheduler.api.uploads import Uploads
from scheduler.control.admission import Asked, refusal_of, resolved_project
from scheduler.control.operator_access import holds
from scheduler.control.views import shown_explanation, shown_job
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import Job, JobSpec, JobState
from scheduler.model.operator_access import AccessAction
from scheduler.model.plan import Explanation
from scheduler.model.reasons import Denial, Reason, Refused, invalid, not_found
from scheduler.runtime.feed import Feed
from scheduler.runtime.loop import Waiting
from scheduler.runtime.planner_process import PlannerProcess
from scheduler.store.store import Snapshot, Txn
from scheduler.wire.enums import known
from scheduler.wire.jobs import denial_to_proto, explanation_to_proto, job_to_proto
from scheduler.wire.spec import spec_from_proto
from scheduler.wire.written import read
from sovapi.v1 import jobs_pb2

SUBMISSIONS_OF_MESSAGE_MAX = TOGETHER_MAX
SUBMISSIONS_MAX = 100_000
"""Submissions of one SubmitMany call."""
AHEAD_MAX = 4_000
"""Submissions of one call that are read before those ahead of them are committed."""
STATES_MAX = 16
PAGE_KIND = "jobs"


@dataclass(frozen=True, slots=True)
class Streams:
    """What carries bytes."""

    tunnels: Tunnels
    uploads: Uploads
    new_secret: Callable[[], str]
    """Names of sessions."""


_DRY = invalid(Denial(Reason.INVALID_ARGUMENT, "found true, allowed false among many", "dry_run"))


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A message of a stream that was read: which of it are dry runs, and the others' outcomes."""

    dry: list[bool]
    outcomes: asyncio.Future[Outcomes] | None

    async def done(self) -> None:
        """Until it is decided; its failure is for whoever collects it."""
        if self.outcomes is not None and not self.outcomes.done():
            await asyncio.wait({self.outcomes})

    def leave(self) -> None:
        """Nobody will collect it."""
        if self.outcomes is not None and not self.outcomes.cancel():
            self.outcomes.exception()


class JobService:
    """Serves tenants, and operators who look after jobs."""

    def __init__(
        self,
        desk: Desk,
        feed: Feed,
        waiting: Waiting,
        planner: PlannerProcess,
        streams: Streams,
    ) -> None:
        self._desk = desk
        self._waiting = waiting
        self._planner = planner
        self._streams = streams
        self._intake = Intake(desk.control, desk.writer, now_ms=desk.now_ms)
        self._watch = JobWatch(desk, feed, waiting)
        self._logs = JobLogs(desk, streams.tunnels)
        self._downloads = Downloads(desk, streams.tunnels)
        self._commands = Commands(desk, streams.tunnels)
        self._forwards = Forwards(desk, streams.tunnels, streams.new_secret)

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "JobService/Submit": self.submit,
            "JobService/SubmitMany": self.submit_many,
            "JobService/Get": self.get,
            "JobService/List": self.list,
            "JobService/Watch": self._watch.watch,
            "JobService/Cancel": self.cancel,
            "JobService/Scale": self.scale,
            "JobService/Explain": self.explain,
            "JobService/Logs": self._logs.logs,
            "JobService/Upload": self.upload,
            "JobService/Download": self._downloads.download,
            "JobService/Exec": self._commands.exec,
            "JobService/PortForward": self._forwards.port_forward,
        }

    async def submit(self, request: jobs_pb2.SubmitRequest) -> jobs_pb2.SubmitResponse:
        """Queues a job; on a dry run, says what would become of it."""
        principal = calls.principal()
        if request.dry_run:
            return await self._forecast(principal, spec_from_proto(request.spec))
        asked = _asked(principal, request)
        (outcome,) = await self._intake.post(principal, (asked,))
        if isinstance(outcome, Refused):
            raise outcome
        job = outcome.job_or_raise()
        message = job_to_proto(job, self._desk.codec, with_spec=False)
        if job.spec is not None:  # Erased, when the key is one of long ago.
            message.spec.MergeFromString(asked.written.body)
        return jobs_pb2.SubmitResponse(job=message)

    async def submit_many(
        self, requests: AsyncIterator[jobs_pb2.SubmitManyRequest]
    ) -> jobs_pb2.SubmitManyResponse:
        """Queues many. A refused one does not hold up the others; the answer follows the last
        commit, and what was committed stays when the call ends early."""
        principal = calls.principal()
        response = jobs_pb2.SubmitManyResponse()
        ahead: deque[_Ahead] = deque()
        total = left = 0
        try:
            async for message in requests:
                total += len(message.requests)
                if len(message.requests) > SUBMISSIONS_OF_MESSAGE_MAX or total > SUBMISSIONS_MAX:
                    raise _too_many(len(message.requests), total)
                while ahead and left + len(message.requests) > AHEAD_MAX:
                    left -= len(await self._collect(ahead, response))
                ahead.append(await self._posted(principal, message, ahead))
                left += len(message.requests)
            while ahead:
                await self._collect(ahead, response)
        finally:
            for unread in ahead:
                unread.leave()
        return response

    async def _posted(
        self, principal: Principal, message: jobs_pb2.SubmitManyRequest, ahead: deque[_Ahead]
    ) -> _Ahead:
        """Queues a message's submissions; where too much is waiting, when what is ahead is done."""
        asked = [_asked(principal, request) for request in message.requests if not request.dry_run]
        dry = [request.dry_run for request in message.requests]
        while True:
            try:
                return _Ahead(dry, self._intake.post(principal, asked) if asked else None)
            except Refused:
                if not ahead:
                    raise
            await ahead[0].done()

    async def _collect(
        self, ahead: deque[_Ahead], response: jobs_pb2.SubmitManyResponse
    ) -> list[bool]:
        """Adds the outcomes of the message that is furthest ahead to the answer."""
        await ahead[0].done()
        first = ahead.popleft()
        decided = iter(first.outcomes.result() if first.outcomes is not None else ())
        for dry in first.dry:
            response.results.append(self._result(_DRY if dry else next(decided)))
        return first.dry

    def _result(self, outcome: Outcome) -> jobs_pb2.SubmitResult:
        try:
            if isinstance(outcome, Refused):
                raise outcome
            return jobs_pb2.SubmitResult(job_id=self._desk.codec.encode(outcome.id_or_raise()))
        except Refused as refused:
            denials = refused.denials or (Denial(refused.reason, refused.message),)
        return jobs_pb2.SubmitResult(denials=[denial_to_proto(denial) for denial in denials])

    async def _forecast(self, principal: Principal, spec: JobSpec) -> jobs_pb2.SubmitResponse:
        """A dry run: admission's word, then the planner's, by the code that decides in earnest."""
        desk, now_ms = self._desk, self._desk.now_ms()
        found = await desk.reader.read(
            lambda snapshot: desk.control.judge(snapshot, principal, spec, now_ms)
        )
        if found.denials:
            raise refusal_of(found, f"would be refused: {found.message}")
        explanation = await self._planner.forecast(found.job_class, now_ms)
        job = Job(
            id=JobId(0),
            tenant=found.asked.project,
            owner=principal.path,
            name=found.asked.name,
            state=JobState.QUEUED,
            spec=found.asked.spec,
            spec_digest="",
            submitted_at_ms=now_ms,
            reason=Reason.DEPENDENCY if found.waits_for else forecast_reason(explanation),
            waits_for=found.waits_for,
        )
        return jobs_pb2.SubmitResponse(
            job=job_to_proto(job, desk.codec), forecast=self._explained(explanation, job)
        )

    async def get(self, request: jobs_pb2.GetJobRequest) -> jobs_pb2.Job:
        """One job."""
        job = await self._job(request.id, await self._seen_by(request.id))
        return job_to_proto(job, self._desk.codec)

    async def _seen_by(self, name: str) -> Principal:
        """As whom the caller is shown a job: an operator sees the work and not what it says, unless
        it has access."""
        desk, principal = self._desk, calls.principal()
        if principal.role is not Role.OPERATOR:
            return principal
        held = await desk.reader.read(
            lambda snapshot: holds(snapshot, desk.codec, principal, name, desk.now_ms())
        )
        return await eyes(desk, principal, name, AccessAction.READ) if held else principal

    async def _job(self, name: str, principal: Principal) -> Job:
        desk = self._desk

        def read(snapshot: Snapshot) -> Job:
            job = desk.control.get(snapshot, principal, name)
            job = with_reasons(snapshot, principal, (job,), self._waiting, desk.codec)[0]
            kept = snapshot.reservations.get(job.id) if job.state is JobState.QUEUED else None
            if kept is None:
                return job
            at_ms = max(kept.starts_at_ms, desk.now_ms())
            return replace(job, estimated_start_ms=at_ms, estimated_start_p90_ms=at_ms)

        return await desk.reader.read(read)

    async def list(self, request: jobs_pb2.ListJobsRequest) -> jobs_pb2.ListJobsResponse:
        """A page of jobs, newest first."""
        desk, principal = self._desk, calls.principal()
        states = _states(request)
        size = pages.size_of(request.page)
        cursor = pages.cursor_of(PAGE_KIND, request.page)
        before = desk.codec.decode(cursor) if cursor is not None else None

        def read(snapshot: Snapshot) -> tuple[Job, ...]:
            jobs = desk.control.list(
                snapshot,
                principal,
                project=TenantPath(request.project) if request.project else None,
                states=states,
                before=before,
                limit=size,
                with_spec=request.with_spec,
                array=request.array,
            )
            return with_reasons(snapshot, principal, jobs, self._waiting, desk.codec)

        jobs = await desk.reader.read(read)
        more = len(jobs) == size
        return jobs_pb2.ListJobsResponse(
            jobs=[job_to_proto(job, desk.codec, with_spec=request.with_spec) for job in jobs],
            next_page_token=pages.token_of(PAGE_KIND, desk.codec.encode(jobs[-1].id))
            if more
            else "",
        )

    async def cancel(self, request: jobs_pb2.CancelJobRequest) -> jobs_pb2.CancelJobResponse:
        """Ends a job. Doing it twice is doing it once, so its idempotency key is not needed."""
        desk, now_ms = self._desk, self._desk.now_ms()
        caller = calls.principal()

        def cancel(txn: Txn, principal: Principal) -> Job:
            return desk.control.cancel(txn, principal, request.id, now=request.now, now_ms=now_ms)

        job = await touch(desk, caller, request.id, AccessAction.CANCEL, cancel)
        job = shown_job(caller, job)
        return jobs_pb2.CancelJobResponse(job=job_to_proto(job, desk.codec))

    async def scale(self, request: jobs_pb2.ScaleJobRequest) -> jobs_pb2.ScaleJobResponse:
        """Sets how many replicas a service has. Doing it twice is doing it once."""
        desk, caller, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        job = await desk.writer.write(
            lambda txn: desk.control.scale(txn, caller, request.id, request.replicas, now_ms)
        )
        return jobs_pb2.ScaleJobResponse(job=job_to_proto(job, desk.codec))

    async def explain(self, request: jobs_pb2.ExplainJobRequest) -> jobs_pb2.ExplainJobResponse:
        """Why a job does not run."""
        job = await self._job(request.id, calls.principal())
        if job.held:
            explanation = Explanation(_held(job), (), (), (), queue_position=-1)
        elif job.state is JobState.QUEUED:
            explanation = await self._planner.explain(job.id, self._desk.now_ms())
        else:
            explanation = Explanation(_not_waiting(job), (), (), (), queue_position=-1)
        return self._explained(explanation, job)

    def _explained(self, explanation: Explanation, job: Job) -> jobs_pb2.ExplainJobResponse:
        """As it travels: the planner counts who goes before, people count from one."""
        shown = shown_explanation(calls.principal(), explanation)
        message = explanation_to_proto(shown, job, self._desk.codec)
        message.queue_position = explanation.queue_position + 1
        return message

    async def upload(
        self, requests: AsyncIterator[jobs_pb2.UploadRequest]
    ) -> jobs_pb2.UploadResponse:
        """Stores a bundle for the caller's organisation."""
        desk, principal = self._desk, calls.principal()
        first = await anext(requests, None)
        if first is None or first.WhichOneof("part") != "start":
            found = "found something else, allowed a start as the first message"
            raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "part"))
        tenant = await desk.reader.read(
            lambda snapshot: _uploader(snapshot, principal, first.start.project)
        )
        existed = await self._streams.uploads.receive(tenant, first.start, requests)
        return jobs_pb2.UploadResponse(digest=first.start.digest, existed=existed)


def _asked(principal: Principal, request: jobs_pb2.SubmitRequest) -> Asked:
    """A submission as admission takes it."""
    project = resolved_project(principal, TenantPath(request.spec.project))
    return Asked(read(request.spec, project), request.idempotency_key)


def _too_many(of_message: int, total: int) -> Refused:
    allowed = f"allowed {SUBMISSIONS_OF_MESSAGE_MAX} a message, {SUBMISSIONS_MAX} in all"
    found = f"found {of_message} and {total}, {allowed}"
    return invalid(Denial(Reason.TOO_LARGE, found, "requests"))


def _states(request: jobs_pb2.ListJobsRequest) -> frozenset[JobState]:
    states = frozenset(known(JobState, state) for state in request.states[: STATES_MAX + 1])
    if JobState.UNSPECIFIED in states or len(request.states) > STATES_MAX:
        allowed = ", ".join(state.name for state in JobState if state)
        found = f"found {list(request.states)[: STATES_MAX + 1]}, allowed {allowed}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "states"))
    return states


def _held(job: Job) -> str:
    """Why a job that is not the planner's is where it is."""
    if job.tasks is None or job.waits_for:
        return job.message
    counts = job.tasks
    if counts.ready is not None:
        return (
            f"a service: {counts.ready} of {counts.total} replicas are ready, {counts.queued} are"
            f" queued, {counts.failed} failed for good; ask for one of them, as JOB[0]"
        )
    over = counts.succeeded + counts.failed + counts.cancelled
    return (
        f"an array of {counts.total} tasks: {counts.queued} queued, {counts.live} under way,"
        f" {over} over; ask for one of them, as JOB[0]"
    )


def _not_waiting(job: Job) -> str:
    where = f" at {job.attempts[-1].site}" if job.attempts else ""
    return f"the job is {job.state.name}{where}" + (f": {job.message}" if job.message else "")


def _uploader(snapshot: Snapshot, principal: Principal, project: str) -> TenantPath:
    """The node of the tree that an upload is for; like a job's, it may leave out the caller's."""
    assert principal.tenant is not None, "the access table lets only tenants through"
    path = TenantPath(project) if project else principal.tenant
    if not principal.may_see(path):
        path = TenantPath(f"{principal.tenant}/{project}")
    if path not in {tenant.path for tenant in snapshot.tenancy.tenants()}:
        raise not_found("project", project[:200])
    return path


def forecast_reason(explanation: Explanation) -> Reason | None:
    """What a job would wait for, in the planner's order: quota, then room, then its turn."""
    if explanation.would_run_at is not None:
        return None
    if explanation.quota:
        return explanation.quota[0].reason
    free = any(site.permitted and not site.denials for site in explanation.sites)
    return Reason.BEHIND_OTHERS if free else Reason.NODES_BUSY
