"""Logs of jobs: streamed through a tunnel from the site that has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.operator_access import eyes
from scheduler.api.tunnels import Tunnels
from scheduler.model.ids import SiteId, organisation_of
from scheduler.model.job import Job
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from sovapi.v1 import jobs_pb2


class JobLogs:
    """Serves Logs."""

    def __init__(self, desk: Desk, tunnels: Tunnels) -> None:
        self._desk = desk
        self._tunnels = tunnels

    async def logs(
        self, request: jobs_pb2.LogsRequest
    ) -> AsyncGenerator[jobs_pb2.LogsResponse, None]:
        """A rank's log, streamed from the site that has it."""
        seen = await eyes(self._desk, calls.principal(), request.id, AccessAction.LOGS)
        control = self._desk.control
        job = await self._desk.reader.read(lambda view: control.get(view, seen, request.id))
        public = self._desk.codec.encode(job.id)
        faults = [
            Denial(Reason.INVALID_ARGUMENT, f"found {value}, allowed 0 or more", name)
            for name, value in (("offset", request.offset), ("since_ms", request.since_ms))
            if value < 0
        ]
        if faults:
            raise invalid(*faults)
        site, number = place_of(job, request.rank, request.attempt, "there is no log yet")
        wanted = jobs_pb2.LogsRequest()
        wanted.CopyFrom(request)
        wanted.id, wanted.attempt = public, number
        owner = organisation_of(job.tenant)
        logs = self._tunnels.logs(site, public, number, wanted, owner=owner)
        async for response in logs:
            yield response


def place_of(job: Job, rank: int, attempt: int, not_yet: str) -> tuple[SiteId, int]:
    """Where what an attempt wrote is: the site, and the attempt's number (0 asks for the latest).

    `not_yet` is said of a job that has not started.
    """
    if rank < 0 or attempt < 0:
        found = f"found {rank}, {attempt}, allowed 0 or more"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "rank, attempt"))
    if job.tasks is not None:
        detail = "found an array, allowed one of its tasks, as JOB[0]"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "id"))
    if not job.attempts:
        raise Refused(
            Code.FAILED_PRECONDITION,
            job.reason or Reason.NOT_FOUND,
            f"the job has not started, so {not_yet} (it is {job.state.name})",
        )
    wanted = attempt or job.attempts[-1].key.attempt
    for each in job.attempts:
        if each.key.attempt == wanted:
            return each.site, wanted
    raise not_found("attempt", str(wanted))
