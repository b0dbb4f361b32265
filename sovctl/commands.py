"""Commands inside jobs that run: one stream each, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import grpc

from sovapi.v1 import jobs_pb2
from sovctl.errors import InternalError, SovError
from sovctl.link import Connected, Link
from sovctl.rpc_errors import sov_error

LASTS_MS_MAX = 13 * 3_600_000
"""Of a command; the control plane ends it earlier."""
SEND_BYTES = 32 * 1024
OUTPUT_BYTES_MAX = 64 * 1024 * 1024
"""Of both streams, where they are collected."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """The caller's: its kind, as TERM has it, and its size."""

    kind: str
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """A piece of what a command wrote, to one of its streams."""

    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended and what it wrote. `exit_code` is as a shell has it: 128 and the number
    of the signal that ended it. `rank_over`: it ended because its rank did."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    rank_over: bool = False


class CommandStream:
    """A command that runs, for the length of an `async with`, which ends it.

    Read `output` to its end; then `result` says how it ended. Sending waits while the command does
    not read, so it is done beside the reading.
    """

    def __init__(self, link: Link, start: jobs_pb2.ExecStart) -> None:
        self._link = link
        self._start = start
        self._call = link.jobs.Exec(timeout=LASTS_MS_MAX / 1000)
        self._sending = asyncio.Lock()
        self.result: CommandResult | None = None

    async def __aenter__(self) -> CommandStream:
        await self._send(jobs_pb2.ExecRequest(start=self._start))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._call.cancel()

    async def send(self, data: bytes) -> None:
        """Input for the command; dropped once it is over."""
        for at in range(0, len(data), SEND_BYTES):
            await self._send(jobs_pb2.ExecRequest(stdin=data[at : at + SEND_BYTES]))

    async def end_input(self) -> None:
        """No more input comes."""
        await self._send(jobs_pb2.ExecRequest(stdin_closed=True))

    async def resize(self, rows: int, columns: int) -> None:
        """The caller's terminal has another size now."""
        size = jobs_pb2.ExecResize(rows=rows, columns=columns)
        await self._send(jobs_pb2.ExecRequest(resize=size))

    async def output(self) -> AsyncIterator[CommandOutput]:
        """What the command writes, as it comes, until it is over. Raises SovError."""
        try:
            while isinstance(response := await self._call.read(), jobs_pb2.ExecResponse):
                if response.WhichOneof("part") == "exit_code":
                    self.result = CommandResult(response.exit_code, rank_over=response.rank_over)
                elif response.stdout or response.stderr:
                    yield CommandOutput(response.stdout, response.stderr)
        except grpc.aio.AioRpcError as error:
            raise sov_error(error, self._link.endpoint) from None
        if self.result is None:
            raise InternalError("the stream ended, and nobody said how the command did")

    async def _send(self, request: jobs_pb2.ExecRequest) -> None:
        """What cannot be sent any more is for `output` to explain."""
        async with self._sending:  # gRPC takes one at a time.
            try:
                await self._call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return


class AsyncCommandCalls(Connected):
    """Calls about commands inside jobs that run."""

    def command(
        self,
        job: str,
        command: Sequence[str],
        *,
        rank: int = 0,
        terminal: Terminal | None = None,
    ) -> CommandStream:
        """A command inside a rank of a job, to be used in an `async with`; with `terminal`, on one
        like that, where both its streams are one."""
        start = jobs_pb2.ExecStart(id=job, rank=rank, command=command)
        if terminal is not None:
            start.tty, start.term = True, terminal.kind
            start.size.rows, start.size.columns = terminal.rows, terminal.columns
        return CommandStream(self.link, start)

    async def exec(
        self,
        job: str,
        command: Sequence[str],
        *,
        rank: int = 0,
        stdin: bytes = b"",
        output_bytes_max: int = OUTPUT_BYTES_MAX,
    ) -> CommandResult:
        """Runs a command inside a rank of a job, to its end.

        Raises:
            NotFoundError: There is no such job, or rank.
            RefusedError: It does not run now, or cannot be entered.
            SovError: Also when it wrote more than `output_bytes_max`.
        """
        output, errors = bytearray(), bytearray()
        async with self.command(job, command, rank=rank) as stream:
            sending = asyncio.create_task(_send_all(stream, stdin))
            try:
                async for piece in stream.output():
                    output += piece.stdout
                    errors += piece.stderr
                    if len(output) + len(errors) > output_bytes_max:
                        detail = f"output: found more than {output_bytes_max} bytes, allowed that"
                        raise SovError(detail, reason="TOO_LARGE")
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        ended = stream.result
        assert ended is not None, "the output ended, or raised"
        return CommandResult(ended.exit_code, bytes(output), bytes(errors), ended.rank_over)


async def _send_all(stream: CommandStream, data: bytes) -> None:
    await stream.send(data)
    await stream.end_input()
