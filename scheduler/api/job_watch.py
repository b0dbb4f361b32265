"""Watching jobs: what each is now, then what each becomes; and why those that wait do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from dataclasses import replace

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.control.dependencies import waiting_text
from scheduler.control.views import shown, shown_job
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.identity import Principal
from scheduler.model.ids import JobId
from scheduler.model.job import TERMINAL, Job, JobState
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.runtime.feed import Feed
from scheduler.runtime.loop import Waiting
from scheduler.store.job_rows import Lines
from scheduler.store.jobs import PAGE_MAX
from scheduler.store.store import Snapshot
from scheduler.wire.jobs import job_to_proto
from sovapi.v1 import jobs_pb2

IDS_MAX = 1_000
"""Jobs that one watch may name."""
REPLAY_MAX = 10_000
"""Open jobs that a watch of everything tells at its start: the newest."""

OPEN = frozenset(JobState) - TERMINAL - {JobState.UNSPECIFIED}


def with_reasons(
    snapshot: Snapshot,
    principal: Principal,
    jobs: tuple[Job, ...],
    waiting: Waiting,
    codec: JobIdCodec,
) -> tuple[Job, ...]:
    """The same jobs; those that wait with the reason that the newest plan found for their class,
    as the caller is shown it, and what waits for other jobs with what it waits for."""
    queued = [job.id for job in jobs if job.state is JobState.QUEUED and not job.held]
    rows = snapshot.jobs.rows(queued)
    blocked = waiting.blocked
    result: list[Job] = []
    for job in (shown_job(principal, each) for each in jobs):
        if job.waits_for:
            text = waiting_text(codec, job.waits_for)
            result.append(replace(job, reason=Reason.DEPENDENCY, message=text))
            continue
        row = rows.get(job.id)
        found = blocked.get(snapshot.jobs.job_class(row.class_id)) if row is not None else None
        if job.state is JobState.QUEUED and found is not None and found.denials:
            (first,) = shown(principal, found.denials[:1])
            job = replace(job, reason=first.reason, message=first.detail)
        result.append(job)
    return tuple(result)


class JobWatch:
    """Serves Watch."""

    def __init__(self, desk: Desk, feed: Feed, waiting: Waiting) -> None:
        self._desk = desk
        self._feed = feed
        self._waiting = waiting

    async def watch(
        self, request: jobs_pb2.WatchJobsRequest
    ) -> AsyncGenerator[jobs_pb2.WatchJobsResponse, None]:
        """The jobs as they are, then each change. With ids it ends when all of them are over."""
        if len(request.ids) > IDS_MAX:
            found = f"found {len(request.ids)}, allowed {IDS_MAX}"
            raise invalid(Denial(Reason.TOO_LARGE, found, "ids"))
        principal = calls.principal()
        named = list(dict.fromkeys(request.ids))
        told: dict[JobId, Job] = {}
        with self._feed.subscribed() as subscription:
            for job in await self._start(principal, named):
                told[job.id] = job
                yield self._response(job, replayed=True)
            watched = frozenset(told) if named else None
            while not (named and all(job.state in TERMINAL for job in told.values())):
                changed = await subscription.changed()
                for job in await self._read(principal, watched, changed):
                    if told.get(job.id) != job:
                        told[job.id] = job
                        yield self._response(job, replayed=False)
                    if watched is None and job.state in TERMINAL:
                        del told[job.id]

    async def _start(self, principal: Principal, named: list[str]) -> tuple[Job, ...]:
        control = self._desk.control

        def read(snapshot: Snapshot) -> tuple[Job, ...]:
            if named:
                found = {job.id: job for n in named if (job := control.get(snapshot, principal, n))}
                jobs = tuple(replace(job, spec=None) for job in found.values())
            else:
                jobs = self._open_jobs(snapshot, principal)
            return with_reasons(snapshot, principal, jobs, self._waiting, self._desk.codec)

        return await self._desk.reader.read(read)

    def _open_jobs(self, snapshot: Snapshot, principal: Principal) -> tuple[Job, ...]:
        jobs: list[Job] = []
        before: JobId | None = None
        while len(jobs) < REPLAY_MAX:
            page = self._desk.control.list(
                snapshot,
                principal,
                states=OPEN,
                before=before,
                limit=PAGE_MAX,
                lines=Lines.EVERY,
            )
            jobs += page
            if len(page) < PAGE_MAX:
                break
            before = page[-1].id
        return tuple(jobs[:REPLAY_MAX])

    async def _read(
        self,
        principal: Principal,
        watched: frozenset[JobId] | None,
        changed: tuple[JobId, ...] | None,
    ) -> tuple[Job, ...]:
        """Those of the changed jobs that this watch is about, as they are now."""

        def read(snapshot: Snapshot) -> tuple[Job, ...]:
            wanted: Collection[JobId]
            if changed is not None:
                wanted = changed if watched is None else sorted(watched.intersection(changed))
            elif watched is not None:
                wanted = sorted(watched)
            else:
                jobs = self._open_jobs(snapshot, principal)
                return with_reasons(snapshot, principal, jobs, self._waiting, self._desk.codec)
            rows = [r for r in snapshot.jobs.rows(wanted).values() if principal.may_see(r.tenant)]
            jobs = snapshot.jobs.whole(rows, with_spec=False)
            return with_reasons(snapshot, principal, jobs, self._waiting, self._desk.codec)

        return await self._desk.reader.read(read)

    def _response(self, job: Job, *, replayed: bool) -> jobs_pb2.WatchJobsResponse:
        return jobs_pb2.WatchJobsResponse(
            job=job_to_proto(job, self._desk.codec, with_spec=False), replayed=replayed
        )
