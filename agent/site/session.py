"""The site's one stream to the control plane, dialled by us and dialled again whenever it is lost.

Carries and does not judge: what arrives becomes events for the machine, what the machine wants said
is sent in order. Tunnels and bundles ride on the same channel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc

from agent.site import events as ev
from agent.site.bundles import BundleFailed
from agent.site.goods import GoodsStream
from agent.site.logs import LogStream
from agent.site.nodelink import Power
from agent.site.tunnels import NodeAway, NotServed, Place, Spools, TenantStream, Visited
from agent.site.visits import VisitStream
from sovapi.v1 import sitelink_pb2 as pb
from sovapi.v1.sitelink_pb2 import ControlMessage, SiteMessage, TunnelRefused
from sovapi.v1.sitelink_pb2_grpc import SiteLinkStub
from sovshared.limits import SITE_PROTOCOL_VERSION

if TYPE_CHECKING:  # Only the stubs know the asynchronous face.
    from sovapi.v1.sitelink_pb2_grpc import SiteLinkAsyncStub

MESSAGES_HELD_MAX = 256  # Past this the session is given up: the next one begins with everything.
TUNNELS_MAX = 200
BACKOFF_S_FIRST, BACKOFF_S_MAX = 0.5, 30.0
HELLO_S_MAX = 20.0
SILENCE_S_MAX = 30.0  # Our heartbeats are answered more often than this.

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Presence:
    """How this agent introduces itself. `incarnation` is new at each start."""

    site: str
    version: str
    incarnation: str
    metrics_address: str = ""
    """Where monitors scrape it."""


class Stores(Protocol):
    """The nodes, which look after the site's store of checkpoints: `nodelink.NodeLinkServer`."""

    def next_question(self) -> pb.StoredJobs | None:
        """Jobs of which a node wants to know whether they are over."""
        ...

    def answer(self, over: pb.JobsOver) -> None:
        """Those of them that are."""
        ...


class ControlSession:
    """Keeps one session open. `dial` makes a channel with the identity that is valid now;
    `position` is the journal's (epoch, generation); `jitter` draws from [0, 1); `power` is what the
    site's nodes draw; `stores` are the nodes, where they want to know which jobs are over, and
    `visited` where their ranks can be entered.
    """

    def __init__(
        self,
        *,
        presence: Presence,
        dial: Callable[[], grpc.aio.Channel],
        position: Callable[[], tuple[int, int]],
        emit: Callable[[ev.Event], None],
        jitter: Callable[[], float],
        spools: Spools,
        place: Place,
        power: Callable[[], Power | None] = lambda: None,
        stores: Stores | None = None,
        visited: Visited | None = None,
    ) -> None:
        self._presence = presence
        self._dial = dial
        self._position = position
        self._emit = emit
        self._jitter = jitter
        self._spools = spools
        self._place = place
        self._power = power
        self._stores = stores
        self._visited = visited
        self._out: asyncio.Queue[SiteMessage] | None = None
        self._stub: SiteLinkAsyncStub | None = None
        self._broken = asyncio.Event()
        self._welcomed = False
        self._tunnels: set[asyncio.Task[None]] = set()

    def say(self, instruction: ev.SendReport | ev.SendHeartbeat) -> None:
        """Send, soon and in order; dropped when there is no session."""
        match instruction:
            case ev.SendReport():
                self._put(SiteMessage(report=instruction.report))
            case ev.SendHeartbeat():
                beat = pb.Heartbeat(sequence=instruction.sequence)
                if (power := self._power()) is not None:
                    drawn = pb.SitePower(gpu_watts=power.gpu_watts, nodes=power.nodes)
                    beat.power.CopyFrom(drawn)
                self._put(SiteMessage(heartbeat=beat))
                # With a heartbeat and one at a time: however many nodes ask, it is soon enough.
                asked = None if self._stores is None else self._stores.next_question()
                if asked is not None:
                    self._put(SiteMessage(stored_jobs=asked))

    def drop(self) -> None:
        """End this session and dial again, with whatever identity is valid then."""
        self._broken.set()

    async def run(self) -> None:
        """Dial for ever."""
        pause_s = BACKOFF_S_FIRST
        while True:
            self._welcomed = False
            try:
                async with self._dial() as channel:
                    await self._talk(channel)
            except (grpc.aio.AioRpcError, TimeoutError, ConnectionError) as error:
                _log.info("no session with the control plane: %s", why(error))
            finally:
                await self._over()
            pause_s = BACKOFF_S_FIRST if self._welcomed else pause_s
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s = min(2 * pause_s, BACKOFF_S_MAX)

    async def fetch_bundle(self, digest: str, job_id: str, attempt: int) -> AsyncIterator[bytes]:
        """The chunks of a bundle, or BundleFailed."""
        stub = self._stub
        if stub is None:
            raise BundleFailed("bundle: the control plane is out of reach", retryable=True)
        request = pb.FetchBundleRequest(digest=digest, job_id=job_id, attempt=attempt)
        try:
            async for part in stub.FetchBundle(request):
                yield part.chunk
        except grpc.aio.AioRpcError as error:
            gone = error.code() is grpc.StatusCode.NOT_FOUND
            raise BundleFailed(f"bundle: {why(error)}", retryable=not gone) from error

    # Inside.

    def _put(self, message: SiteMessage) -> None:
        if self._out is None:
            return
        try:
            self._out.put_nowait(message)
        except asyncio.QueueFull:
            _log.warning("the control plane takes too long to read: starting the session anew")
            self._broken.set()

    async def _talk(self, channel: grpc.aio.Channel) -> None:
        """One session, until it is broken; marks when the control plane answered our hello."""
        self._broken.clear()
        queue: asyncio.Queue[SiteMessage] = asyncio.Queue(MESSAGES_HELD_MAX)
        queue.put_nowait(SiteMessage(hello=self._hello()))
        stub = SiteLinkStub(channel)
        stream = stub.Session(_drain(queue))
        try:
            hello = await _welcome(stream)
            self._stub, self._out = stub, queue
            self._emit(ev.Connected(hello.heartbeat_interval_ms, hello.lease_ms))
            _log.info("connected to the control plane, version %s", hello.server_version)
            self._welcomed = True
            await self._until_broken(stream)
        finally:
            stream.cancel()

    async def _until_broken(
        self, stream: grpc.aio.StreamStreamCall[SiteMessage, ControlMessage]
    ) -> None:
        broken = asyncio.create_task(self._broken.wait())
        listening = asyncio.create_task(self._listen(stream))
        try:
            await asyncio.wait({broken, listening}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            for task in (broken, listening):
                task.cancel()
            await asyncio.gather(broken, listening, return_exceptions=True)

    def _hello(self) -> pb.SiteHello:
        epoch, generation = self._position()
        return pb.SiteHello(
            protocol_version=SITE_PROTOCOL_VERSION,
            site=self._presence.site,
            agent_version=self._presence.version,
            incarnation=self._presence.incarnation,
            epoch=epoch,
            generation=generation,
            metrics_address=self._presence.metrics_address,
        )

    async def _listen(self, stream: grpc.aio.StreamStreamCall[SiteMessage, ControlMessage]) -> None:
        while True:
            async with asyncio.timeout(SILENCE_S_MAX):
                message = await stream.read()
            if not isinstance(message, ControlMessage):
                raise ConnectionError("the control plane ended the session")
            match message.WhichOneof("message"):
                case "desired":
                    self._emit(ev.DesiredReceived(message.desired))
                case "desired_part":
                    self._emit(ev.DesiredReceived(message.desired_part))
                case "heartbeat_ack":
                    ack = message.heartbeat_ack
                    self._emit(ev.HeartbeatAcked(ack.sequence, ack.generation))
                case "jobs_over" if self._stores is not None:
                    self._stores.answer(message.jobs_over)
                case "open_tunnel":
                    self._open_tunnel(message.open_tunnel)
                case _:
                    pass  # Something that a newer control plane knows and we do not.

    async def _over(self) -> None:
        if self._out is not None:
            self._emit(ev.Disconnected())
        self._out = self._stub = None
        for task in self._tunnels:
            task.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)

    def _open_tunnel(self, opening: pb.OpenTunnel) -> None:
        kind = opening.WhichOneof("request")
        if len(self._tunnels) >= TUNNELS_MAX:
            self._refuse(opening, "RESOURCE_EXHAUSTED", f"{TUNNELS_MAX} tunnels are open")
        elif kind == "logs":
            self._begin(opening, LogStream(self._spools, self._place, opening))
        elif kind == "download":
            self._begin(opening, GoodsStream(self._spools, self._place, opening))
        elif kind in ("exec", "port_forward") and self._visited is not None:
            rank = opening.exec.rank if kind == "exec" else opening.port_forward.rank
            self._begin(opening, VisitStream(self._visited, self._place, opening, rank))
        else:
            self._refuse(opening, "FEATURE_NOT_AVAILABLE", f"this agent does not serve {kind}")

    def _begin(self, opening: pb.OpenTunnel, stream: TenantStream) -> None:
        task = asyncio.create_task(self._serve(opening, stream))
        self._tunnels.add(task)
        task.add_done_callback(self._tunnels.discard)

    async def _serve(self, opening: pb.OpenTunnel, stream: TenantStream) -> None:
        stub = self._stub
        if stub is None:
            return
        try:
            async with aclosing(await stream.open()) as messages:
                call = stub.Tunnel(messages)
                try:
                    async for down in call:
                        await stream.heard(down)
                finally:
                    call.cancel()
        except NotServed as none:
            self._refuse(opening, none.reason, none.detail)
        except (grpc.aio.AioRpcError, NodeAway) as error:
            _log.info("a tunnel ended: %s", why(error))
        finally:
            stream.close()

    def _refuse(self, opening: pb.OpenTunnel, reason: str, detail: str) -> None:
        refused = TunnelRefused(tunnel_id=opening.tunnel_id, reason=reason, detail=detail)
        self._put(SiteMessage(tunnel_refused=refused))


async def _welcome(
    stream: grpc.aio.StreamStreamCall[SiteMessage, ControlMessage],
) -> pb.ControlHello:
    async with asyncio.timeout(HELLO_S_MAX):
        first = await stream.read()
    if not isinstance(first, ControlMessage) or first.WhichOneof("message") != "hello":
        raise ConnectionError("the control plane did not begin with a hello")
    if first.hello.protocol_version != SITE_PROTOCOL_VERSION:
        found = first.hello.protocol_version
        raise ConnectionError(f"protocol_version: found {found}, allowed {SITE_PROTOCOL_VERSION}")
    return first.hello


async def _drain(queue: asyncio.Queue[SiteMessage]) -> AsyncGenerator[SiteMessage, None]:
    while True:
        yield await queue.get()


def why(error: BaseException) -> str:
    """What to log of an error: no traceback, for the other side being away is ordinary."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
