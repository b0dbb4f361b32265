"""The gRPC server that node agents dial: their streams, their logs, and their way to the CA.

Whoever calls must show a certificate of a node of this very site; the slot is the certificate's.
Join and Renew are passed on to the control plane, which decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc

from agent.site import events as ev
from agent.site.node_calls import Authority, Context, hello_of, name_of, passed_on
from agent.site.state import Archive, StopRank
from agent.site.tunnels import NodeAway, NodeTunnel, NotServed
from sovapi.v1 import nodelink_pb2 as pb
from sovapi.v1.identity_pb2 import JoinRequest, JoinResponse, RenewRequest, RenewResponse
from sovapi.v1.nodelink_pb2 import (
    GoodsChunk,
    GoodsPage,
    ListGoods,
    LogChunk,
    NodeMessage,
    ReadGoods,
    SiteOrder,
)
from sovapi.v1.nodelink_pb2_grpc import NodeLinkServicer, add_NodeLinkServicer_to_server
from sovapi.v1.sitelink_pb2 import JobsOver, OpenTunnel, StoredJobs, TunnelDown, TunnelUp
from sovshared import limits, pki, spiffe, tls
from sovshared.tunnels import NobodyAsked, NotOpened, Tunnels

ORDERS_HELD_MAX = 4096  # For one node; past this its stream is ended, and begins anew.
READS_MAX = 256  # Under way at one node.
READ_S_MAX = 20.0
PING_INTERVAL_MS = 5_000
STREAMS_MAX = 1024
JOINS_MAX = 32  # Under way at the port that asks nobody for a certificate.
NODE_WATTS_MAX = 1_000_000  # No node draws more, whatever it says.

_log = logging.getLogger(__name__)
Answer: TypeAlias = LogChunk | GoodsPage | GoodsChunk


@dataclass(frozen=True, slots=True)
class Power:
    """What the GPUs of so many nodes draw."""

    gpu_watts: int
    nodes: int


@dataclass(slots=True)
class _Line:
    """One node's stream."""

    slot: str
    orders: asyncio.Queue[SiteOrder | None] = field(
        default_factory=lambda: asyncio.Queue[SiteOrder | None](ORDERS_HELD_MAX)
    )
    reads: dict[int, asyncio.Future[Answer]] = field(
        default_factory=dict[int, asyncio.Future[Answer]]
    )
    gpu_watts: int | None = None


class NodeLinkServer(NodeLinkServicer):
    """Serves the node agents of one site. What they say becomes events, in their order."""

    def __init__(
        self,
        *,
        site: str,
        trust_domain: str,
        emit: Callable[[ev.Event], None],
        authority: Authority,
    ) -> None:
        self._site = site
        self._trust_domain = trust_domain
        self._emit = emit
        self._authority = authority
        self._lines: dict[str, _Line] = {}
        self._questions: dict[str, StoredJobs] = {}
        self._asked_by = ""
        self._request = 0
        numbers = itertools.count(1)
        self._tunnels: Tunnels[TunnelUp, TunnelDown] = Tunnels(
            new_id=lambda: str(next(numbers)), broken=_broken
        )
        self._servers: list[grpc.aio.Server] = []
        self.join_port = 0

    async def start(self, credentials: Path, listen: str, join_listen: str | None) -> int:
        """Serve; the port in use. `join_listen` asks for no certificate and serves only Join.

        It has a server of its own: who needs no certificate must not take the nodes' streams.
        """
        required = tls.server_credentials(credentials, tls.ClientCertificates.REQUIRED)
        port = self._add_server(listen, required, STREAMS_MAX)
        if join_listen is not None:
            none = tls.server_credentials(credentials, tls.ClientCertificates.NONE)
            self.join_port = self._add_server(join_listen, none, JOINS_MAX)
        for server in self._servers:
            await server.start()
        return port

    def _add_server(self, listen: str, credentials: grpc.ServerCredentials, calls_max: int) -> int:
        server = grpc.aio.server(options=tls.server_options(), maximum_concurrent_rpcs=calls_max)
        add_NodeLinkServicer_to_server(self, server)
        self._servers.append(server)
        return server.add_secure_port(listen, credentials)

    async def stop(self) -> None:
        """End every stream."""
        await asyncio.gather(*(server.stop(1.0) for server in self._servers))

    def slots(self) -> tuple[str, ...]:
        """Nodes whose agents are connected."""
        return tuple(sorted(self._lines))

    def power(self) -> Power | None:
        """What the nodes that are connected draw, of those that say so; None when none does."""
        drawn = [one.gpu_watts for one in self._lines.values() if one.gpu_watts is not None]
        return Power(sum(drawn), len(drawn)) if drawn else None

    def next_question(self) -> StoredJobs | None:
        """Jobs of which a node wants to know whether they are over: of the nodes that ask, the one
        that has waited for longest."""
        if not self._questions:
            return None
        self._asked_by = next(iter(self._questions))
        return self._questions.pop(self._asked_by)

    def answer(self, over: JobsOver) -> None:
        """Which of them are; for the node that asked last, which may have some of its own."""
        if (line := self._lines.get(self._asked_by)) is not None:
            self._put(line, SiteOrder(jobs_over=over))

    def order(self, instruction: StopRank | Archive | ev.SendPong) -> None:
        """Send one order; dropped when its node is away, for the machine repeats it."""
        match instruction:
            case StopRank():
                stop = pb.StopRank(
                    key=instruction.key, grace_ms=instruction.grace_ms, cause=instruction.cause
                )
                message = SiteOrder(stop=stop)
            case Archive():
                message = SiteOrder(archive=pb.ArchiveRank(key=instruction.key))
            case ev.SendPong():
                pong = pb.NodePong(sequence=instruction.sequence, lease_ms=instruction.lease_ms)
                message = SiteOrder(pong=pong)
        if (line := self._lines.get(instruction.slot)) is not None:
            self._put(line, message)

    async def read_log(self, slot: str, wanted: pb.ReadLog) -> LogChunk:
        """A stretch of a rank's log, or NodeAway."""
        answer = await self._ask(slot, SiteOrder(read_log=wanted))
        if not isinstance(answer, LogChunk):
            raise NodeAway(f"the agent of node {slot} answered something else")
        return answer

    async def list_goods(self, slot: str, asked: ListGoods) -> GoodsPage:
        """A page of what a job left on a node, or NodeAway."""
        answer = await self._ask(slot, SiteOrder(list_goods=asked))
        if not isinstance(answer, GoodsPage):
            raise NodeAway(f"the agent of node {slot} answered something else")
        return answer

    async def read_goods(self, slot: str, asked: ReadGoods) -> GoodsChunk:
        """A stretch of a file that a job left on a node, or NodeAway."""
        answer = await self._ask(slot, SiteOrder(read_goods=asked))
        if not isinstance(answer, GoodsChunk):
            raise NodeAway(f"the agent of node {slot} answered something else")
        return answer

    def ask_tunnel(self, slot: str, asked: OpenTunnel) -> NodeTunnel:
        """A stream that a node is asked to open for a tenant; NodeAway. `close_tunnel` it."""
        line = self._lines.get(slot)
        if line is None:
            raise NodeAway(f"the agent of node {slot} is not connected")
        tunnel = self._tunnels.add(slot)
        order = SiteOrder(open_tunnel=asked)
        order.open_tunnel.tunnel_id = tunnel.id
        self._put(line, order)
        return tunnel

    async def joined(self, tunnel: NodeTunnel) -> None:
        """Until the node has opened it; NodeAway, or its refusal as NotServed."""
        try:
            await self._tunnels.joined(tunnel)
        except NotOpened:
            raise NodeAway(f"the agent of node {tunnel.peer} does not answer") from None

    def close_tunnel(self, tunnel: NodeTunnel) -> None:
        """Nobody reads it any more."""
        self._tunnels.remove(tunnel)

    async def _ask(self, slot: str, order: SiteOrder) -> Answer:
        """What a node answers to an order that reads; its number is put in here."""
        line = self._lines.get(slot)
        if line is None or len(line.reads) >= READS_MAX:
            raise NodeAway(f"the agent of node {slot} is not connected, or busy")
        self._request += 1
        request = self._request
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        line.reads[request] = answer
        match order.WhichOneof("message"):
            case "read_log":
                order.read_log.request = request
            case "list_goods":
                order.list_goods.request = request
            case _:
                order.read_goods.request = request
        try:
            self._put(line, order)
            async with asyncio.timeout(READ_S_MAX):
                return await answer
        except TimeoutError as error:
            raise NodeAway(f"the agent of node {slot} does not answer") from error
        finally:
            line.reads.pop(request, None)

    # What node agents call.

    async def Session(
        self, request_iterator: AsyncIterator[NodeMessage], context: Context
    ) -> AsyncGenerator[SiteOrder, None]:
        """A node's stream, until either side ends it. A newer one takes an older one's place."""
        slot = await self._slot(context)
        hello = await hello_of(request_iterator, slot, context)
        line = _Line(slot)
        if (older := self._lines.get(slot)) is not None:
            _end(older)
        self._lines[slot] = line
        self._emit(ev.NodeConnected(slot, hello.boot_id, hello.agent_version))
        listening = asyncio.create_task(self._listen(line, request_iterator))
        try:
            yield SiteOrder(
                welcome=pb.SiteWelcome(
                    protocol_version=limits.SITE_PROTOCOL_VERSION,
                    site=self._site,
                    ping_interval_ms=PING_INTERVAL_MS,
                )
            )
            while (order := await line.orders.get()) is not None:
                yield order
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            self._close(line)

    async def Tunnel(
        self, request_iterator: AsyncIterator[TunnelUp], context: Context
    ) -> AsyncGenerator[TunnelDown, None]:
        """A node's end of a stream that it was asked for."""
        slot = await self._slot(context)
        try:
            async with aclosing(self._tunnels.attach(slot, request_iterator)) as downs:
                async for down in downs:
                    yield down
        except NobodyAsked:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nobody asked for this tunnel")

    async def Join(self, request: JoinRequest, context: Context) -> JoinResponse:
        """A new node's way to the CA, which checks the token."""
        name = name_of(request.name)
        if name is None or name.role is not spiffe.NameRole.NODE or name.site != self._site:
            found = f"name: found {request.name[:80]!r}, allowed nodes of site {self._site}"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, found)
        return await passed_on(self._authority.join(request), context)

    async def Renew(self, request: RenewRequest, context: Context) -> RenewResponse:
        """A node's way to a fresh certificate; its request proves whose it replaces."""
        await self._slot(context)
        return await passed_on(self._authority.renew(request), context)

    # Inside.

    async def _slot(self, context: Context) -> str:
        """Whose certificate the caller showed: a node's of this site, or the call is refused."""
        pem = b"".join(context.auth_context().get("x509_pem_cert", ()))
        try:
            uri = pki.certificate_facts(pem).spiffe_id if pem else ""
            name = spiffe.parse(uri, self._trust_domain)
        except ValueError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"client certificate: {error}")
        if name.role is not spiffe.NameRole.NODE or name.site != self._site:
            why = f"found {name.path}, allowed nodes of site {self._site}"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
        return name.slot

    async def _listen(self, line: _Line, messages: AsyncIterator[NodeMessage]) -> None:
        try:
            async for message in messages:
                self._heard(line, message)
        finally:
            _end(line)

    def _heard(self, line: _Line, message: NodeMessage) -> None:
        if self._lines.get(line.slot) is not line:
            return  # A newer stream of this node speaks for it now.
        match message.WhichOneof("message"):
            case "report":
                self._emit(ev.NodeReported(line.slot, message.report))
            case "spool":
                self._emit(ev.SpoolReported(line.slot, message.spool))
            case "ping":
                self._emit(ev.NodePinged(line.slot, message.ping.sequence))
            case "power":
                line.gpu_watts = min(max(message.power.gpu_watts, 0), NODE_WATTS_MAX)
            case "stored_jobs":
                del message.stored_jobs.job_ids[limits.STORED_JOBS_MAX :]
                self._questions[line.slot] = message.stored_jobs
            case "tunnel_refused":
                said = message.tunnel_refused
                refusal = NotServed(said.reason, said.detail)
                self._tunnels.refuse(said.tunnel_id, line.slot, refusal)
            case ("log_chunk" | "goods_page" | "goods_chunk") as kind:
                _answered(line, getattr(message, kind))
            case _:
                pass  # Something that a newer node agent knows and we do not.

    def _put(self, line: _Line, order: SiteOrder) -> None:
        try:
            line.orders.put_nowait(order)
        except asyncio.QueueFull:
            _log.warning("node %s does not read its orders: ending its stream", line.slot)
            _end(line)

    def _close(self, line: _Line) -> None:
        for answer in line.reads.values():
            if not answer.done():
                answer.set_exception(NodeAway(f"the agent of node {line.slot} went away"))
        if self._lines.get(line.slot) is line:
            del self._lines[line.slot]
            self._questions.pop(line.slot, None)
            self._emit(ev.NodeDisconnected(line.slot))


def _answered(line: _Line, answer: Answer) -> None:
    """Hands an answer to who waits for it, if anybody still does."""
    waiting = line.reads.pop(answer.request, None)
    if waiting is not None and not waiting.done():
        waiting.set_result(answer)


def _end(line: _Line) -> None:
    """Let the sending side come to its end, whatever it still holds."""
    with contextlib.suppress(asyncio.QueueEmpty):
        while line.orders.full():
            line.orders.get_nowait()
    line.orders.put_nowait(None)


def _broken(slot: str) -> NodeAway:
    return NodeAway(f"the stream from node {slot} broke")
