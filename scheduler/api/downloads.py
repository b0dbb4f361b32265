"""What jobs left at their sites, streamed to their tenants and kept nowhere on the way."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.job_logs import place_of
from scheduler.api.operator_access import touch
from scheduler.api.tunnels import Tunnels
from scheduler.control import evidence
from scheduler.model.identity import Principal
from scheduler.model.ids import SiteId, organisation_of
from scheduler.model.job import TERMINAL, Job, JobState
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.store.store import Txn
from sovapi.v1 import jobs_pb2, sitelink_pb2

PATH_CHARS_MAX = 4_096


class Downloads:
    """Serves Download."""

    def __init__(self, desk: Desk, tunnels: Tunnels) -> None:
        self._desk = desk
        self._tunnels = tunnels

    async def download(
        self, request: jobs_pb2.DownloadRequest
    ) -> AsyncGenerator[jobs_pb2.DownloadResponse, None]:
        """Files of a job that is over, from the site that has them. Each call is a leaf of its
        tenant's log before anything is sent."""
        faults = [
            Denial(Reason.INVALID_ARGUMENT, f"found {value[:200]!r}, allowed {allowed}", name)
            for name, value in (("path", request.path), ("begin_at", request.begin_at))
            if (allowed := _path_fault(value))
        ]
        if request.offset < 0:
            found = f"found {request.offset}, allowed 0 or more"
            faults.append(Denial(Reason.INVALID_ARGUMENT, found, "offset"))
        if faults:
            raise invalid(*faults)
        desk, caller = self._desk, calls.principal()
        now_ms = desk.now_ms()

        def begin(txn: Txn, seen: Principal) -> Job:
            job = desk.control.get(txn, seen, request.id)
            site, attempt = _kept_at(job, request)
            row = txn.jobs.row(job.id)
            assert row is not None, "it was read in this transaction"
            by = caller.path
            evidence.downloaded(txn.audit, row, attempt, site, by, now_ms, listing=request.listing)
            return job

        job = await touch(desk, caller, request.id, AccessAction.DOWNLOAD, begin)
        site, attempt = _kept_at(job, request)
        wanted = jobs_pb2.DownloadRequest()
        wanted.CopyFrom(request)
        wanted.id = desk.codec.encode(job.id)
        opening = sitelink_pb2.OpenTunnel(
            job_id=wanted.id, attempt=attempt, download=wanted, outputs=_outputs(job, attempt)
        )
        owner = organisation_of(job.tenant)
        async for response in self._tunnels.download(site, opening, owner=owner):
            yield response


def _kept_at(job: Job, request: jobs_pb2.DownloadRequest) -> tuple[SiteId, int]:
    """The site that keeps what an attempt left, and which attempt."""
    place = place_of(job, request.rank, request.attempt, "it left nothing yet")
    if job.state not in TERMINAL:
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.ILLEGAL_TRANSITION,
            f"the job is {job.state.name}: what it leaves is fetched when it is over",
        )
    return place


def _outputs(job: Job, number: int) -> list[jobs_pb2.WrittenOutput]:
    """What became datasets: only what a job left that succeeded did."""
    if job.state is not JobState.SUCCEEDED or number != job.attempts[-1].key.attempt:
        return []
    return [
        jobs_pb2.WrittenOutput(dataset=o.dataset, digest=o.digest, size_bytes=o.size_bytes)
        for rank in job.attempts[-1].ranks
        for o in rank.outputs
    ]


def _path_fault(path: str) -> str:
    """What is allowed where this is not; empty: it is a path, or none."""
    if len(path) > PATH_CHARS_MAX:
        return f"{PATH_CHARS_MAX} characters"
    plain = all(part not in ("", ".", "..") and "\0" not in part for part in path.split("/"))
    return "" if plain or not path else "a path without a leading or closing '/', and no '..'"
