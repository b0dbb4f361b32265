"""A control plane that says what a test wants, nodes with logs, and a session between them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from agent.site import events as ev
from agent.site.nodelink import Power
from agent.site.session import ControlSession
from agent.site.tunnels import NodeAway
from sovapi.v1 import sitelink_pb2 as pb
from sovapi.v1.nodelink_pb2 import (
    GoodsChunk,
    GoodsPage,
    ListGoods,
    LogChunk,
    ReadGoods,
    ReadLog,
)
from sovapi.v1.sitelink_pb2 import ControlMessage, SiteMessage
from sovapi.v1.sitelink_pb2_grpc import SiteLinkServicer, add_SiteLinkServicer_to_server

BUNDLE = b"a bundle" * 10_000
DIGEST = f"sha256:{hashlib.sha256(BUNDLE).hexdigest()}"
END = object()


class Control(SiteLinkServicer):
    """A control plane that says what a test wants and remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[SiteMessage] = []
        self.lines: list[asyncio.Queue[Any]] = []
        self.ups: list[pb.TunnelUp] = []
        self.tunnels_ended = 0
        self.bundle = BUNDLE
        self.version = 1

    async def Session(self, request_iterator: Any, context: Any) -> AsyncIterator[ControlMessage]:
        line: asyncio.Queue[Any] = asyncio.Queue()

        async def listen() -> None:
            async for message in request_iterator:
                self.heard.append(message)

        listening = asyncio.create_task(listen())
        hello = pb.ControlHello(
            protocol_version=self.version, heartbeat_interval_ms=50, lease_ms=9_000
        )
        yield ControlMessage(hello=hello)
        self.lines.append(line)
        while (message := await line.get()) is not END:
            yield message
        listening.cancel()

    async def Tunnel(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.TunnelDown]:
        async for up in request_iterator:
            self.ups.append(up)
        self.tunnels_ended += 1
        for down in ():
            yield down

    async def FetchBundle(
        self, request: Any, context: Any
    ) -> AsyncIterator[pb.FetchBundleResponse]:
        if request.digest != DIGEST:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
        for start in range(0, len(self.bundle), 1000):
            yield pb.FetchBundleResponse(chunk=self.bundle[start : start + 1000])

    def said(self, kind: str) -> list[SiteMessage]:
        return [message for message in self.heard if message.WhichOneof("message") == kind]

    def say(self, **message: Any) -> None:
        self.lines[-1].put_nowait(ControlMessage(**message))

    def hang_up(self) -> None:
        self.lines.pop().put_nowait(END)


class Spools:
    """Logs of two ranks; the second one's node may be away."""

    def __init__(self) -> None:
        self.logs = {"job-a.1.0": b"zero\n" * 40_000, "job-a.1.1": b"one\n"}
        self.over = True
        self.away = False
        self.young_at = 0  # Where any log begins to be younger than whatever time is asked for.

    def slots(self) -> tuple[str, ...]:
        return ("n01",)

    async def read_log(self, slot: str, wanted: ReadLog) -> LogChunk:
        if self.away:
            raise NodeAway(f"{slot} is away")
        if wanted.key not in self.logs:
            return LogChunk(unknown=True)
        log = self.logs[wanted.key]
        offset = max(wanted.offset, self.young_at if wanted.since_ms else 0)
        part = log[offset : offset + wanted.max_bytes]
        over = self.over and offset + len(part) >= len(log)
        return LogChunk(chunk=part, offset=offset, over=over)

    async def list_goods(self, slot: str, asked: ListGoods) -> GoodsPage:
        return GoodsPage(refused="nothing is here")

    async def read_goods(self, slot: str, asked: ReadGoods) -> GoodsChunk:
        return GoodsChunk(refused="nothing is here")


class World:
    """A session, its control plane, and a machine if the test wants one."""

    def __init__(self, control: Control, spools: Spools) -> None:
        self.control = control
        self.spools = spools
        self.events: list[ev.Event] = []
        self.places: dict[int, str] = {}
        self.position = (3, 41)
        self.power: Power | None = None
        self.questions: list[str] = []
        self.over: list[pb.JobsOver] = []
        self.session: ControlSession | None = None

    def next_question(self) -> pb.StoredJobs | None:
        return pb.StoredJobs(job_ids=[self.questions.pop(0)]) if self.questions else None

    def answer(self, over: pb.JobsOver) -> None:
        self.over.append(over)

    def talk(self) -> ControlSession:
        assert self.session is not None
        return self.session

    def got(self, kind: type[ev.Event]) -> list[ev.Event]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def serving(control: Control, port: int = 0) -> AsyncGenerator[int]:
    server = grpc.aio.server()
    add_SiteLinkServicer_to_server(control, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)
