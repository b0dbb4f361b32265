"""The node agent's stream to its site agent: dialled by us, dialled again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

import grpc

from sovapi.v1.nodelink_pb2 import NodeHello, NodeMessage, SiteOrder, SiteWelcome
from sovapi.v1.nodelink_pb2_grpc import NodeLinkStub
from sovapi.v1.sitelink_pb2 import TunnelDown, TunnelUp
from sovshared.limits import SITE_PROTOCOL_VERSION

if TYPE_CHECKING:  # Only the stubs know the asynchronous face.
    from sovapi.v1.nodelink_pb2_grpc import NodeLinkAsyncStub

MESSAGES_HELD_MAX = 1024  # Past this the stream is given up: the next one begins with everything.
BACKOFF_S_FIRST, BACKOFF_S_MAX = 0.2, 10.0
WELCOME_S_MAX = 20.0

_log = logging.getLogger(__name__)


class Keeper(Protocol):
    """Who answers to the site: the node agent."""

    def hello(self) -> NodeHello:
        """The first message of a stream."""
        ...

    async def welcomed(self, welcome: SiteWelcome) -> None:
        """The site knows us: tell it everything."""
        ...

    async def obey(self, order: SiteOrder) -> None:
        """One order."""
        ...


class NodeLink:
    """Keeps one stream open; what is said while there is none is dropped.

    `dial` makes a channel with the identity that is valid now. `jitter` draws from [0, 1).
    """

    def __init__(self, dial: Callable[[], grpc.aio.Channel], jitter: Callable[[], float]) -> None:
        self._dial = dial
        self._jitter = jitter
        self._out: asyncio.Queue[NodeMessage] | None = None
        self._stub: NodeLinkAsyncStub | None = None
        self._broken = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the site has welcomed us."""
        return self._out is not None

    def say(self, message: NodeMessage) -> None:
        """Send, soon and in order; dropped when there is no stream, which then begins anew."""
        if self._out is None:
            return
        try:
            self._out.put_nowait(message)
        except asyncio.QueueFull:
            _log.warning("the site takes too long to read: starting the stream anew")
            self._broken.set()

    @contextlib.asynccontextmanager
    async def tunnel(
        self, ups: AsyncGenerator[TunnelUp]
    ) -> AsyncGenerator[AsyncIterable[TunnelDown]]:
        """A stream of its own beside the session, which sends `ups`; what comes down it. It breaks
        with the session's connection. Raises ConnectionError when there is none."""
        async with aclosing(ups):
            if self._stub is None:
                raise ConnectionError("the site is out of reach")
            call = self._stub.Tunnel(ups)
            try:
                yield call
            finally:
                call.cancel()

    def drop(self) -> None:
        """End this stream and dial again, with whatever identity is valid then."""
        self._broken.set()

    async def run(self, keeper: Keeper) -> None:
        """Dial for ever."""
        pause_s = BACKOFF_S_FIRST
        while True:
            try:
                async with self._dial() as channel:
                    await self._talk(channel, keeper)
                pause_s = BACKOFF_S_FIRST
            except (grpc.aio.AioRpcError, TimeoutError, ConnectionError) as error:
                _log.info("no stream to the site: %s", _why(error))
            finally:
                if self._out is not None:
                    pause_s = BACKOFF_S_FIRST
                self._out = self._stub = None
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s = min(2 * pause_s, BACKOFF_S_MAX)

    async def _talk(self, channel: grpc.aio.Channel, keeper: Keeper) -> None:
        """One stream, from hello to end."""
        self._broken.clear()
        queue: asyncio.Queue[NodeMessage] = asyncio.Queue(MESSAGES_HELD_MAX)
        queue.put_nowait(NodeMessage(hello=keeper.hello()))
        stub = NodeLinkStub(channel)
        stream = stub.Session(_drain(queue))
        async with asyncio.timeout(WELCOME_S_MAX):
            first = await stream.read()
        if not isinstance(first, SiteOrder) or first.WhichOneof("message") != "welcome":
            raise ConnectionError("the site did not begin with a welcome")
        if first.welcome.protocol_version != SITE_PROTOCOL_VERSION:
            found, allowed = first.welcome.protocol_version, SITE_PROTOCOL_VERSION
            raise ConnectionError(f"protocol_version: found {found}, allowed {allowed}")
        self._out, self._stub = queue, stub
        await keeper.welcomed(first.welcome)
        broken = asyncio.create_task(self._broken.wait())
        listening = asyncio.create_task(_listen(stream, keeper))
        try:
            await asyncio.wait({broken, listening}, return_when=asyncio.FIRST_COMPLETED)
            if listening.done():
                listening.result()
        finally:
            for task in (broken, listening):
                task.cancel()
            await asyncio.gather(broken, listening, return_exceptions=True)
            stream.cancel()


async def _listen(
    stream: grpc.aio.StreamStreamCall[NodeMessage, SiteOrder], keeper: Keeper
) -> None:
    # The welcome was read with `read`: grpc does not let a stream be read in two ways.
    while isinstance(order := await stream.read(), SiteOrder):
        await keeper.obey(order)


async def _drain(queue: asyncio.Queue[NodeMessage]) -> AsyncGenerator[NodeMessage, None]:
    while True:
        yield await queue.get()


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
