"""A tenant's command inside a rank, as the node agent serves it: the program that enters the rank,
and the bytes between the command and the tenant's stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import socket
import struct
import subprocess
import termios
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from agent.node import visitor
from agent.node.entry import NoEntry
from agent.node.launcher import PACKAGE, PYTHON
from sovapi.v1.jobs_pb2 import ExecRequest, ExecResize, ExecResponse, ExecStart
from sovapi.v1.sitelink_pb2 import TunnelDown, TunnelUp
from sovshared.tunnels import Channel
from sovshared.visits import SIZE_MAX, command_faults

BEGIN_S_MAX = 15.0
READ_BYTES = 64 * 1024
WORD_BYTES_MAX = 4096
TERM_DEFAULT = "xterm"
END_OF_INPUT = b"\x04"
"""What a terminal takes for it, at the beginning of a line."""
KILLED = {"status": 137}
"""How a command ended whose end nobody could tell."""


class Command:
    """One that runs. Whoever `begin`s it must `close` it, which ends it."""

    def __init__(
        self, process: subprocess.Popen[bytes], line: socket.socket, ends: list[int], *, tty: bool
    ) -> None:
        """`ends`: ours of the command's input, output and errors, or of its terminal alone."""
        self._process = process
        self._line = line
        self._tty = tty
        self._input: int | None = ends[0]
        self._outputs = ends if tty else ends[1:]
        self._ends = ends
        self._over: asyncio.Task[dict[str, Any]] = asyncio.create_task(self._end())

    @classmethod
    async def begin(cls, home: Path, asked: ExecStart) -> Command:
        """Starts it in the rank of this spool directory. Raises NoEntry."""
        size = (asked.size.rows, asked.size.columns)
        if faults := command_faults(asked.command, rank=asked.rank, size=size, term=asked.term):
            raise NoEntry("INVALID_ARGUMENT", "; ".join(map(str, faults)))
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.setblocking(False)
        with theirs:
            process = _start(theirs)
        ends, streams = _terminal(asked.size) if asked.tty else _pipes()
        try:
            _hand_over(line, _plan(home, asked), streams)
            await _begun(line)
        except BaseException:
            line.close()
            for end in ends:
                os.close(end)
            await asyncio.to_thread(process.wait)
            raise
        return cls(process, line, ends, tty=asked.tty)

    async def said(self) -> AsyncGenerator[TunnelUp]:
        """What it writes, as it comes, and how it ended."""
        channel: Channel[ExecResponse] = Channel(2)
        makers = (_as_output, _as_errors)
        pumps = [
            asyncio.create_task(self._pump(fd, make, channel))
            for fd, make in zip(self._outputs, makers, strict=False)
        ]
        last = asyncio.create_task(self._last(pumps, channel))
        try:
            async for response in channel.items():
                yield TunnelUp(exec=response)
        finally:
            for task in (*pumps, last):
                task.cancel()
            await asyncio.gather(*pumps, last, return_exceptions=True)

    async def heard(self, down: TunnelDown) -> None:
        """What its caller says; what nobody reads any more is dropped."""
        request: ExecRequest = down.exec
        match request.WhichOneof("part"):
            case "stdin":
                await self._write(request.stdin)
            case "stdin_closed" if self._tty:
                await self._write(END_OF_INPUT)
            case "stdin_closed":
                self._close_input()
            case "resize" if self._tty and self._input is not None:
                _resize(self._input, request.resize)
            case _:
                pass  # Something that a newer caller knows and we do not.

    async def close(self) -> None:
        """Ends it, if it has not ended: it is told to hang up, and soon killed."""
        self._over.cancel()
        await asyncio.gather(self._over, return_exceptions=True)
        self._line.close()
        self._input = None
        for end in self._ends:
            os.close(end)
        self._ends = []
        await asyncio.to_thread(self._process.wait)

    # Inside.

    async def _end(self) -> dict[str, Any]:
        """How it ended, as soon as it has."""
        loop = asyncio.get_running_loop()
        try:
            said = await loop.sock_recv(self._line, WORD_BYTES_MAX)
        except OSError:
            said = b""
        return json.loads(said) if said else KILLED

    async def _last(self, pumps: list[asyncio.Task[None]], channel: Channel[ExecResponse]) -> None:
        """The exit code goes after everything that was written before the end."""
        ended = await asyncio.shield(self._over)
        await asyncio.gather(*pumps)
        rank_over = bool(ended.get("rank_over"))
        await channel.put(ExecResponse(exit_code=int(ended["status"]), rank_over=rank_over))
        channel.end()

    async def _pump(
        self, fd: int, make: Callable[[bytes], ExecResponse], channel: Channel[ExecResponse]
    ) -> None:
        while chunk := await self._read(fd):
            await channel.put(make(chunk))

    async def _read(self, fd: int) -> bytes:
        """What there is to read; nothing at the end, which is also when the command is over and has
        left nothing: others that it started may hold its output open for ever."""
        while True:
            try:
                return os.read(fd, READ_BYTES)
            except BlockingIOError:
                if self._over.done():
                    return b""
            except OSError:  # A terminal that nobody has open any more.
                return b""
            await self._ready(fd, writing=False)

    async def _write(self, data: bytes) -> None:
        while data and self._input is not None:
            try:
                data = data[os.write(self._input, data) :]
            except BlockingIOError:
                if self._over.done():
                    return
                await self._ready(self._input, writing=True)
            except OSError:  # It does not read any more.
                return

    async def _ready(self, fd: int, *, writing: bool) -> None:
        """Until something can be read or written there, or the command is over."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        if writing:
            loop.add_writer(fd, tell)
        else:
            loop.add_reader(fd, tell)
        try:
            await asyncio.wait({ready, self._over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_writer(fd) if writing else loop.remove_reader(fd)

    def _close_input(self) -> None:
        if self._input is not None:
            self._ends.remove(self._input)
            os.close(self._input)
            self._input = None


def _start(line: socket.socket) -> subprocess.Popen[bytes]:
    """The program that enters: it sees nothing of ours but its line."""
    return subprocess.Popen(
        [*PYTHON, visitor.COMMAND, PACKAGE, str(line.fileno())],
        env={},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(line.fileno(),),
        start_new_session=True,
    )


def _plan(home: Path, asked: ExecStart) -> bytes:
    plan = {
        "home": str(home),
        "argv": list(asked.command),
        "tty": asked.tty,
        "env": {"TERM": asked.term or TERM_DEFAULT} if asked.tty else {},
    }
    return json.dumps(plan, ensure_ascii=False).encode()


def _hand_over(line: socket.socket, plan: bytes, streams: list[int]) -> None:
    """The command's ends are its own from now on."""
    try:
        socket.send_fds(line, [plan], streams)
    finally:
        for stream in set(streams):
            os.close(stream)


def _pipes() -> tuple[list[int], list[int]]:
    """Our ends and the command's, of its input, output and errors."""
    pairs = [os.pipe() for _ in range(visitor.STREAMS)]
    (in_read, in_write), (out_read, out_write), (err_read, err_write) = pairs
    ours = [in_write, out_read, err_read]
    for end in ours:
        os.set_blocking(end, False)
    return ours, [in_read, out_write, err_write]


def _terminal(size: ExecResize) -> tuple[list[int], list[int]]:
    """Our end of a terminal, and the command's three times."""
    ours, theirs = pty.openpty()
    _resize(ours, size)
    os.set_blocking(ours, False)
    return [ours], [theirs] * visitor.STREAMS


def _resize(terminal: int, size: ExecResize) -> None:
    rows, columns = (min(max(number, 0), SIZE_MAX) for number in (size.rows, size.columns))
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def _begun(line: socket.socket) -> None:
    """Until the command begins; NoEntry if it does not."""
    try:
        async with asyncio.timeout(BEGIN_S_MAX):
            said = await asyncio.get_running_loop().sock_recv(line, WORD_BYTES_MAX)
    except (TimeoutError, OSError):
        said = b""
    word: dict[str, Any] = json.loads(said) if said else {}
    if not word.get("begun"):
        failed = str(word.get("failed", "it did not begin"))
        raise NoEntry(str(word.get("reason", "UNAVAILABLE")), failed)


def _as_output(chunk: bytes) -> ExecResponse:
    return ExecResponse(stdout=chunk)


def _as_errors(chunk: bytes) -> ExecResponse:
    return ExecResponse(stderr=chunk)
