"""Ports of jobs that run, on this machine's loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TypeAlias

import grpc

from sovapi.v1 import jobs_pb2
from sovctl.errors import InvalidArgumentError, SovError, UnavailableError
from sovctl.link import Connected, Link
from sovctl.rpc_errors import sov_error
from sovshared.visits import port_faults

LOOPBACK = "127.0.0.1"
LASTS_MS_MAX = 13 * 3_600_000
"""Of a session; the control plane ends it earlier."""
READ_BYTES = 32 * 1024


Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[jobs_pb2.PortForwardRequest, jobs_pb2.PortForwardResponse]"
)


class PortForward:
    """A port of a rank, listened for on loopback here, for the length of an `async with`.

    `port` is the local one. Each connection is a stream of its own; what goes wrong with one is
    told to `failed`, and the others go on.
    """

    def __init__(
        self,
        link: Link,
        start: jobs_pb2.PortForwardStart,
        local_port: int,
        failed: Callable[[SovError], None],
    ) -> None:
        self._link = link
        self._start = start
        self._failed = failed
        self._call: Call | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = local_port

    async def __aenter__(self) -> PortForward:
        try:
            await self._open()
        except BaseException as error:
            await self._close()
            if isinstance(error, grpc.aio.AioRpcError):
                raise sov_error(error, self._link.endpoint) from None
            if isinstance(error, OSError):
                found = f"port {self.port} of this machine: {error.strerror}"
                raise InvalidArgumentError(found) from None
            raise
        return self

    async def _open(self) -> None:
        """Listens, and has a session before anybody is let in."""
        self._server = await asyncio.start_server(
            self._accepted, LOOPBACK, self.port, start_serving=False
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._call = self._link.jobs.PortForward(timeout=LASTS_MS_MAX / 1000)
        await self._call.write(jobs_pb2.PortForwardRequest(start=self._start))
        opened = await self._call.read()
        if not isinstance(opened, jobs_pb2.PortForwardResponse):
            raise UnavailableError("the session ended before it began")
        self._start.session = opened.session
        await self._server.start_serving()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._call is not None:
            self._call.cancel()
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def wait(self) -> None:
        """Until the rank is over. Raises SovError when it ended otherwise."""
        assert self._call is not None, "it is used in an `async with`"
        try:
            while isinstance(await self._call.read(), jobs_pb2.PortForwardResponse):
                pass
        except grpc.aio.AioRpcError as error:
            raise sov_error(error, self._link.endpoint) from None

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways."""
        call = self._link.jobs.PortForward(timeout=LASTS_MS_MAX / 1000)
        sending = asyncio.create_task(_send(reader, call, self._start))
        try:
            await _receive(call, writer)
            await sending
        except grpc.aio.AioRpcError as error:
            writer.transport.abort()
            self._failed(sov_error(error, self._link.endpoint))
        except OSError:
            writer.transport.abort()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            call.cancel()
            writer.close()


async def _send(reader: asyncio.StreamReader, call: Call, start: jobs_pb2.PortForwardStart) -> None:
    """What is said here. What cannot be sent is for the receiving side to explain."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, OSError):
        await call.write(jobs_pb2.PortForwardRequest(start=start))
        while data := await reader.read(READ_BYTES):
            await call.write(jobs_pb2.PortForwardRequest(data=data))
        await call.write(jobs_pb2.PortForwardRequest(closed=True))


async def _receive(call: Call, writer: asyncio.StreamWriter) -> None:
    """What is said there, to the end of the stream."""
    while isinstance(response := await call.read(), jobs_pb2.PortForwardResponse):
        if response.data:
            writer.write(response.data)
            await writer.drain()
        if response.closed:
            writer.write_eof()


class AsyncForwardCalls(Connected):
    """Calls about ports of jobs that run."""

    def port_forward(
        self,
        job: str,
        port: int,
        *,
        rank: int = 0,
        local_port: int = 0,
        failed: Callable[[SovError], None] = lambda _: None,
    ) -> PortForward:
        """A port of a rank of a job on this machine's loopback, to be used in an `async with`;
        `local_port` 0 takes one that is free."""
        faults = [
            *port_faults(port),
            *port_faults(local_port, field="local_port", least=0),
        ]
        if faults:
            raise InvalidArgumentError("; ".join(map(str, faults)))
        start = jobs_pb2.PortForwardStart(id=job, rank=rank, port=port)
        return PortForward(self.link, start, local_port, failed)
