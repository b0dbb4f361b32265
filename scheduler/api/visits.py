"""Visits: what tenants do inside jobs that run, streamed through their sites and kept nowhere.

Who may see a job's log may visit it: its tenant's people, and operators by a grant for just that.
The begin of each visit is a leaf of the tenant's log before anything happens, its end another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.job_logs import place_of
from scheduler.api.operator_access import touch
from scheduler.control import evidence
from scheduler.control.operator_access import holds
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import SiteId, TenantPath, organisation_of
from scheduler.model.job import Job, JobState
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.store.store import StoreFailed, Txn
from sovapi.v1 import jobs_pb2

FIRST_S_MAX = 20
"""For the message that says what is wanted."""
IDLE_S_MAX = 1_800
"""Without a byte either way."""
LASTS_S_MAX = 12 * 3_600
"""A visit's longest: a person's certificate lasts no longer."""
LOOK_S = 5
"""How often the two are looked at."""
VISITABLE = (JobState.STARTING, JobState.RUNNING, JobState.PREEMPTING, JobState.CANCELLING)

_log = logging.getLogger(__name__)
RequestT = TypeVar("RequestT", jobs_pb2.ExecRequest, jobs_pb2.PortForwardRequest)
ResponseT = TypeVar("ResponseT")


@dataclass(slots=True)
class Passed:
    """What went through a visit, and when last. `now_s` is the loop's time."""

    began_s: float
    last_s: float
    sent_bytes: int = 0
    received_bytes: int = 0

    def sent(self, size_bytes: int, now_s: float) -> None:
        """The visitor said something."""
        self.sent_bytes, self.last_s = self.sent_bytes + size_bytes, now_s

    def received(self, size_bytes: int, now_s: float) -> None:
        """The visitor was told something."""
        self.received_bytes, self.last_s = self.received_bytes + size_bytes, now_s

    def refuse_too_long(self, now_s: float) -> None:
        """Raises when it was idle, or lasted, for too long."""
        for since_s, most_s, what in (
            (self.last_s, IDLE_S_MAX, "nothing was said"),
            (self.began_s, LASTS_S_MAX, "it lasted"),
        ):
            if now_s - since_s >= most_s:
                why = f"the visit was ended: {what} for {most_s} s, allowed no longer"
                raise Refused(Code.ABORTED, Reason.RESOURCE_EXHAUSTED, why)


@dataclass(frozen=True, slots=True)
class Host:
    """The job that is visited."""

    job: Job
    site: SiteId
    attempt: int
    rank: int
    by: str
    """Who visits."""

    @property
    def owner(self) -> TenantPath:
        """The organisation whose tunnels these are."""
        return organisation_of(self.job.tenant)

    def told(self) -> dict[str, object]:
        """What every leaf of the visit says."""
        return {"attempt": self.attempt, "rank": self.rank, "by": self.by}


class Visits:
    """Lets visitors in, and writes down that they came and went."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def begin(
        self, name: str, rank: int, action: AccessAction, kind: str, told: dict[str, object]
    ) -> Host:
        """Lets the caller in, and writes that down."""
        desk, caller = self._desk, calls.principal()
        now_ms = desk.now_ms()

        def begin(txn: Txn, seen: Principal) -> Host:
            host = _host(desk.control.get(txn, seen, name), rank, caller.path)
            _refuse_sealed(host.job, caller)
            row = txn.jobs.row(host.job.id)
            assert row is not None, "it was read in this transaction"
            body = {**host.told(), "site": host.site, **told}
            evidence.visited(txn.audit, row, f"{kind}_began", body, now_ms)
            return host

        return await touch(desk, caller, name, action, begin)

    async def refuse_without_grant(self, host: Host, action: AccessAction) -> None:
        """An operator whose grant has ended, or was taken back, goes."""
        desk, caller = self._desk, calls.principal()
        if caller.role is not Role.OPERATOR:
            return
        name, now_ms = desk.codec.encode(host.job.id), desk.now_ms()
        if not await desk.reader.read(
            lambda read: holds(read, desk.codec, caller, name, now_ms, action)
        ):
            detail = "the visit was ended: the grant for it is over"
            raise Refused(Code.PERMISSION_DENIED, Reason.ACCESS_NOT_GRANTED, detail)

    async def end(self, host: Host, kind: str, passed: Passed, **told: object) -> None:
        """Writes down what went through; a store that fails now costs no more than that."""
        desk = self._desk
        lasted_s = asyncio.get_running_loop().time() - passed.began_s
        body: dict[str, object] = {
            **host.told(),
            "sent_bytes": passed.sent_bytes,
            "received_bytes": passed.received_bytes,
            "lasted_ms": int(lasted_s * 1000),
            **told,
        }

        def end(txn: Txn) -> None:
            if (row := txn.jobs.row(host.job.id)) is not None:
                evidence.visited(txn.audit, row, f"{kind}_ended", body, desk.now_ms())

        try:
            await desk.writer.write(end)
        except (Refused, StoreFailed) as error:
            _log.warning("the end of a visit was not written down: %s", error)


async def first_of(requests: AsyncIterator[RequestT]) -> RequestT:
    """The message that says what is wanted."""
    try:
        async with asyncio.timeout(FIRST_S_MAX):
            first = await anext(requests, None)
    except TimeoutError:
        first = None
    if first is None or first.WhichOneof("part") != "start":
        found = "found something else, allowed a start first"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "part"))
    return first


def _host(job: Job, rank: int, by: str) -> Host:
    """Where a rank of a job runs, or why it cannot be visited."""
    site, attempt = place_of(job, rank, 0, "there is nothing to visit yet")
    if job.state not in VISITABLE:
        detail = f"the job is {job.state.name}: one that runs can be visited"
        raise Refused(Code.FAILED_PRECONDITION, Reason.ILLEGAL_TRANSITION, detail)
    assert job.spec is not None, "a job that runs has its specification"
    asked = job.spec.resources
    tasks = asked.gpus_per_node if asked.tasks_per_gpu else asked.tasks_per_node
    if rank >= (ranks := len(job.attempts[-1].placement.nodes) * tasks):
        detail = f"rank: found {rank}, allowed 0 to {ranks - 1}"
        raise Refused(Code.NOT_FOUND, Reason.NOT_FOUND, detail)
    return Host(job, site, attempt, rank, by)


def _refuse_sealed(job: Job, caller: Principal) -> None:
    """Whose tenant keeps its keys is open to that tenant alone, once they have opened it."""
    if caller.role is Role.OPERATOR and job.spec is not None and job.spec.key_ticket:
        detail = "the job's tenant keeps its keys: no grant lets anybody else into it"
        denial = Denial(Reason.ACCESS_NOT_ALLOWED, detail)
        raise Refused(Code.PERMISSION_DENIED, Reason.ACCESS_NOT_ALLOWED, detail, (denial,))


async def within(
    responses: AsyncGenerator[ResponseT, None], check: Callable[[], Awaitable[None]]
) -> AsyncGenerator[ResponseT, None]:
    """The same, with a look now and then at whether it may go on; `check` raises when not."""
    clock = asyncio.get_running_loop().time
    look_at_s = clock() + LOOK_S
    coming: asyncio.Task[ResponseT | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(_next(responses))
            await asyncio.wait({coming}, timeout=LOOK_S)
            if clock() >= look_at_s:
                await check()
                look_at_s = clock() + LOOK_S
            if coming.done():
                response, coming = coming.result(), None
                if response is None:
                    return
                yield response
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await responses.aclose()


async def _next(responses: AsyncGenerator[ResponseT, None]) -> ResponseT | None:
    return await anext(responses, None)
