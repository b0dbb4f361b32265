"""Commands of tenants inside ranks that run; see `visits.py`."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from scheduler.api.desk import Desk
from scheduler.api.tunnels import Tunnels
from scheduler.api.visits import Passed, Visits, first_of, within
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Denial, Reason, invalid
from sovapi.v1 import jobs_pb2, sitelink_pb2
from sovshared.limits import CHUNK_BYTES_MAX
from sovshared.visits import command_faults


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
        size = (start.size.rows, start.size.columns)
        if faults := command_faults(start.command, rank=start.rank, size=size, term=start.term):
            raise invalid(
                *(
                    Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", field)
                    for field, found, allowed in faults
                )
            )
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
