"""Commands of tenants inside ranks that run; see `visits.py`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from scheduler.api.desk import Desk
from scheduler.api.tunnels import Tunnels
from scheduler.api.visits import Passed, Visits, first_of, within
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Denial, Reason, invalid
from sovapi.v1 import jobs_pb2, sitelink_pb2
from sovshared.limits import CHUNK_BYTES_MAX

WORDS_MAX = 1_000
COMMAND_BYTES_MAX = 64 * 1024
SIZE_MAX = 10_000
"""Rows or columns of a terminal."""

_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")


class Commands:
    """Serves Exec."""

    def __init__(self, desk: Desk, tunnels: Tunnels) -> None:
        self._desk = desk
        self._visits = Visits(desk)
        self._tunnels = tunnels

    async def exec(
        self, requests: AsyncIterator[jobs_pb2.ExecRequest]
    ) -> AsyncGenerator[jobs_pb2.ExecResponse, None]:
        """A command inside one rank: what it writes, and at last how it ended."""
        start = (await first_of(requests)).start
        if faults := _faults(start):
            raise invalid(*faults)
        words = json.dumps(list(start.command)).encode()
        told: dict[str, object] = {
            "command_digest": f"sha256:{hashlib.sha256(words).hexdigest()}",
            "tty": start.tty,
        }
        host = await self._visits.begin(start.id, start.rank, AccessAction.EXEC, "exec", told)
        wanted = jobs_pb2.ExecStart()
        wanted.CopyFrom(start)
        wanted.id = self._desk.codec.encode(host.job.id)
        opening = sitelink_pb2.OpenTunnel(job_id=wanted.id, attempt=host.attempt, exec=wanted)
        clock = asyncio.get_running_loop().time
        passed = Passed(clock(), clock())
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
            await self._visits.refuse_without_grant(host, AccessAction.EXEC)

        responses = self._tunnels.command(host.site, opening, said(), owner=host.owner)
        try:
            async with aclosing(within(responses, may_go_on)) as watched:
                async for response in watched:
                    passed.received(len(response.stdout) + len(response.stderr), clock())
                    if response.WhichOneof("part") == "exit_code":
                        exit_code = response.exit_code
                    yield response
        finally:
            await asyncio.shield(self._visits.end(host, "exec", passed, exit_code=exit_code))


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
