"""Port forwards: connections of tenants to ports of ranks that run.

A session is opened first, and is what is let in, written down and limited; it stays open while its
rank runs. Each connection is a call of its own that names its session, and costs no transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from scheduler.api import calls
from scheduler.api.desk import Desk
from scheduler.api.tunnels import Tunnels
from scheduler.api.visits import Host, Passed, Visits, first_of, within
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from sovapi.v1 import jobs_pb2, sitelink_pb2
from sovshared.limits import CHUNK_BYTES_MAX
from sovshared.visits import port_faults

CONNECTIONS_MAX = 32
"""Of one session, at once."""


@dataclass(slots=True, eq=False)
class _Session:
    """One that is open."""

    host: Host
    by: str
    port: int
    passed: Passed
    open: int = 0
    """Connections now."""
    connections: int = 0
    """In all."""


class Forwards:
    """Serves PortForward."""

    def __init__(self, desk: Desk, tunnels: Tunnels, new_id: Callable[[], str]) -> None:
        self._desk = desk
        self._visits = Visits(desk)
        self._tunnels = tunnels
        self._new_id = new_id
        self._sessions: dict[str, _Session] = {}

    async def port_forward(
        self, requests: AsyncIterator[jobs_pb2.PortForwardRequest]
    ) -> AsyncGenerator[jobs_pb2.PortForwardResponse, None]:
        """A session, or a connection of one."""
        start = (await first_of(requests)).start
        serve = self._connection if start.session else self._session
        async with aclosing(serve(start, requests)) as responses:
            async for response in responses:
                yield response

    async def _session(
        self,
        start: jobs_pb2.PortForwardStart,
        requests: AsyncIterator[jobs_pb2.PortForwardRequest],
    ) -> AsyncGenerator[jobs_pb2.PortForwardResponse, None]:
        """Its name, once the rank was found; then nothing until it is over."""
        for field, found, allowed in port_faults(start.port):
            detail = f"found {found}, allowed {allowed}"
            raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, field))
        action, kind = AccessAction.PORT_FORWARD, "port_forward"
        host = await self._visits.begin(start.id, start.rank, action, kind, {"port": start.port})
        clock = asyncio.get_running_loop().time
        session = _Session(host, calls.principal().path, start.port, Passed(clock(), clock()))
        name = self._new_id()

        async def may_go_on() -> None:
            session.passed.refuse_too_long(clock())
            await self._visits.refuse_without_grant(host, action)

        responses = self._tunnels.connection(
            host.site, self._opening(session), requests, owner=host.owner
        )
        try:
            async with aclosing(within(responses, may_go_on)) as watched:
                async for response in watched:
                    if name not in self._sessions and not response.closed:
                        self._sessions[name] = session
                        yield jobs_pb2.PortForwardResponse(session=name)
        finally:
            self._sessions.pop(name, None)
            told = {"port": session.port, "connections": session.connections}
            await asyncio.shield(self._visits.end(host, kind, session.passed, **told))

    async def _connection(
        self,
        start: jobs_pb2.PortForwardStart,
        requests: AsyncIterator[jobs_pb2.PortForwardRequest],
    ) -> AsyncGenerator[jobs_pb2.PortForwardResponse, None]:
        session = self._sessions.get(start.session)
        if session is None or session.by != calls.principal().path:
            raise not_found("session", start.session[:80])
        if session.open >= CONNECTIONS_MAX:
            found = f"found {session.open} connections of the session, allowed {CONNECTIONS_MAX}"
            raise Refused(Code.RESOURCE_EXHAUSTED, Reason.RESOURCE_EXHAUSTED, found)
        clock, passed = asyncio.get_running_loop().time, session.passed

        async def said() -> AsyncGenerator[jobs_pb2.PortForwardRequest, None]:
            async for request in requests:
                if request.WhichOneof("part") == "start" or len(request.data) > CHUNK_BYTES_MAX:
                    found = "found another start, or too much at once, allowed data"
                    raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "part"))
                passed.sent(len(request.data), clock())
                yield request

        async def may_go_on() -> None:
            if start.session not in self._sessions:
                raise Refused(Code.ABORTED, Reason.ILLEGAL_TRANSITION, "the session is over")

        opening = self._opening(session, start.session)
        owner = session.host.owner
        responses = self._tunnels.connection(session.host.site, opening, said(), owner=owner)
        session.open += 1
        session.connections += 1
        try:
            async with aclosing(within(responses, may_go_on)) as watched:
                async for response in watched:
                    passed.received(len(response.data), clock())
                    yield response
        finally:
            session.open -= 1

    def _opening(self, session: _Session, name: str = "") -> sitelink_pb2.OpenTunnel:
        host, job_id = session.host, self._desk.codec.encode(session.host.job.id)
        wanted = jobs_pb2.PortForwardStart(
            id=job_id, rank=host.rank, port=session.port, session=name
        )
        return sitelink_pb2.OpenTunnel(job_id=job_id, attempt=host.attempt, port_forward=wanted)
