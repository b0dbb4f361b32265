"""Visits: what tenants do inside jobs that run, streamed through their sites and kept nowhere.

Who may see a job's log may visit it: its tenant's people, and operators by a grant for just that.
The begin of each visit is a leaf of the tenant's log before anything happens, its end another.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.job_logs import place_of
from scheduler.api.operator_access import touch
from scheduler.api.tunnels import Tunnels
from scheduler.control import evidence
from scheduler.control.operator_access import holds
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import SiteId, TenantPath, organisation_of
from scheduler.model.job import Job, JobState
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.store.store import StoreFailed, Txn
from sovapi.v1 import jobs_pb2, sitelink_pb2
from sovshared.limits import CHUNK_BYTES_MAX

WORDS_MAX = 1_000
COMMAND_BYTES_MAX = 64 * 1024
SIZE_MAX = 10_000
"""Rows or columns of a terminal."""
FIRST_S_MAX = 20
"""For the message that says what is wanted."""
IDLE_S_MAX = 1_800
"""Without a byte either way."""
LASTS_S_MAX = 12 * 3_600
"""A visit's longest: a person's certificate lasts no longer."""
LOOK_S = 5
"""How often the two are looked at."""
VISITABLE = (JobState.STARTING, JobState.RUNNING, JobState.PREEMPTING, JobState.CANCELLING)

_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_log = logging.getLogger(__name__)
ResponseT = TypeVar("ResponseT")


@dataclass(slots=True)
class _Passed:
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
class _Host:
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
    """Serves Exec."""

    def __init__(self, desk: Desk, tunnels: Tunnels) -> None:
        self._desk = desk
        self._tunnels = tunnels

    async def exec(
        self, requests: AsyncIterator[jobs_pb2.ExecRequest]
    ) -> AsyncGenerator[jobs_pb2.ExecResponse, None]:
        """A command inside one rank: what it writes, and at last how it ended."""
        start = await _first(requests)
        if faults := _faults(start):
            raise invalid(*faults)
        words = json.dumps(list(start.command)).encode()
        told: dict[str, object] = {
            "command_digest": f"sha256:{hashlib.sha256(words).hexdigest()}",
            "tty": start.tty,
        }
        host = await self._begin(start.id, start.rank, AccessAction.EXEC, "exec", told)
        wanted = jobs_pb2.ExecStart()
        wanted.CopyFrom(start)
        wanted.id = self._desk.codec.encode(host.job.id)
        opening = sitelink_pb2.OpenTunnel(job_id=wanted.id, attempt=host.attempt, exec=wanted)
        clock = asyncio.get_running_loop().time
        passed = _Passed(clock(), clock())
        exit_code: int | None = None

        async def said() -> AsyncGenerator[jobs_pb2.ExecRequest, None]:
            async for request in requests:
                if request.WhichOneof("part") == "start" or len(request.stdin) > CHUNK_BYTES_MAX:
                    found = "found another start, or too much at once"
                    raise invalid(Denial(Reason.INVALID_ARGUMENT, f"{found}, allowed input"))
                passed.sent(len(request.stdin), clock())
                yield request

        async def may_go_on() -> None:
            passed.refuse_too_long(clock())
            await self._refuse_without_grant(host, AccessAction.EXEC)

        responses = self._tunnels.command(host.site, opening, said(), owner=host.owner)
        try:
            async with aclosing(_within(responses, may_go_on)) as within:
                async for response in within:
                    passed.received(len(response.stdout) + len(response.stderr), clock())
                    if response.WhichOneof("part") == "exit_code":
                        exit_code = response.exit_code
                    yield response
        finally:
            await asyncio.shield(self._end(host, "exec", passed, exit_code=exit_code))

    async def _begin(
        self, name: str, rank: int, action: AccessAction, kind: str, told: dict[str, object]
    ) -> _Host:
        """Lets the caller in, and writes that down."""
        desk, caller = self._desk, calls.principal()
        now_ms = desk.now_ms()

        def begin(txn: Txn, seen: Principal) -> _Host:
            host = _host(desk.control.get(txn, seen, name), rank, caller.path)
            _refuse_sealed(host.job, caller)
            row = txn.jobs.row(host.job.id)
            assert row is not None, "it was read in this transaction"
            body = {**host.told(), "site": host.site, **told}
            evidence.visited(txn.audit, row, f"{kind}_began", body, now_ms)
            return host

        return await touch(desk, caller, name, action, begin)

    async def _refuse_without_grant(self, host: _Host, action: AccessAction) -> None:
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

    async def _end(self, host: _Host, kind: str, passed: _Passed, **told: object) -> None:
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


async def _first(requests: AsyncIterator[jobs_pb2.ExecRequest]) -> jobs_pb2.ExecStart:
    try:
        async with asyncio.timeout(FIRST_S_MAX):
            first = await anext(requests, None)
    except TimeoutError:
        first = None
    if first is None or first.WhichOneof("part") != "start":
        found = "found something else, allowed a start first"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "part"))
    return first.start


def _host(job: Job, rank: int, by: str) -> _Host:
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
    return _Host(job, site, attempt, rank, by)


def _refuse_sealed(job: Job, caller: Principal) -> None:
    """Whose tenant keeps its keys is open to that tenant alone, once they have opened it."""
    if caller.role is Role.OPERATOR and job.spec is not None and job.spec.key_ticket:
        detail = "the job's tenant keeps its keys: no grant lets anybody else into it"
        denial = Denial(Reason.ACCESS_NOT_ALLOWED, detail)
        raise Refused(Code.PERMISSION_DENIED, Reason.ACCESS_NOT_ALLOWED, detail, (denial,))


def _faults(start: jobs_pb2.ExecStart) -> list[Denial]:
    size_bytes = sum(len(word.encode()) for word in start.command)
    words, numbers = len(start.command), (start.size.rows, start.size.columns)
    empty = not start.command or not start.command[0]
    return [
        Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", field)
        for field, fault, found, allowed in (
            ("command", empty, "none", "a program and its arguments"),
            ("command", words > WORDS_MAX, f"{words} words", WORDS_MAX),
            ("command", size_bytes > COMMAND_BYTES_MAX, f"{size_bytes} bytes", COMMAND_BYTES_MAX),
            ("command", any("\0" in word for word in start.command), "a zero byte", "none"),
            ("rank", start.rank < 0, start.rank, "0 or more"),
            ("size", not all(0 <= n <= SIZE_MAX for n in numbers), numbers, f"0 to {SIZE_MAX}"),
            ("term", not _is_term(start.term), repr(start.term[:80]), "a terminal's name"),
        )
        if fault
    ]


def _is_term(name: str) -> bool:
    return not name or _TERM.fullmatch(name) is not None


async def _within(
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
