"""`exec`: a command inside a job that runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Generator
from typing import Annotated

import typer

from sovctl.async_client import AsyncClient
from sovctl.cli.job_verbs import JobArgument
from sovctl.cli.output import Output
from sovctl.cli.progress import write_bytes
from sovctl.cli.session import Interrupted, exit_with, session_of
from sovctl.commands import SEND_BYTES, CommandResult, CommandStream, Terminal
from sovctl.errors import InvalidArgumentError

TERM_DEFAULT = "xterm"


def exec_command(
    ctx: typer.Context,
    job: JobArgument,
    rank: Annotated[int, typer.Option(metavar="N", min=0, help="Beside which rank.")] = 0,
    stdin: Annotated[
        bool, typer.Option("--stdin", "-i", help="Pass standard input to the command.")
    ] = False,
    terminal: Annotated[
        bool, typer.Option("--tty", "-t", help="Run it on a terminal, with this one's input.")
    ] = False,
) -> None:
    """Run a command inside a job that runs: `exec JOB -- CMD...`.

    It has the rank's files, network, user, variables and limits, and ends with the
    rank or with this program. The exit status is the command's.
    """
    session = session_of(ctx)
    command = session.command
    if not command:
        raise InvalidArgumentError("command: found none, allowed a program after --")
    if terminal and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgumentError("--tty: found no terminal here, allowed with one alone")

    async def work(client: AsyncClient) -> CommandResult:
        found = await client.get(job)
        ours = _terminal() if terminal else None
        async with client.command(found.id, command, rank=rank, terminal=ours) as stream:
            with _raw_terminal() if terminal else contextlib.nullcontext():
                await _talk(stream, session.output, listens=stdin or terminal, resizes=terminal)
        assert stream.result is not None, "the output ended, or raised"
        return stream.result

    try:
        result = session.run(work)
    except KeyboardInterrupt:
        raise Interrupted("the command was told to hang up") from None
    if result.rank_over:
        session.output.note("the rank is over, and the command with it")
    exit_with(result.exit_code)


async def _talk(stream: CommandStream, output: Output, *, listens: bool, resizes: bool) -> None:
    """Both ways, until the command is over."""
    loop = asyncio.get_running_loop()
    resized = asyncio.Event()
    if resizes:
        loop.add_signal_handler(signal.SIGWINCH, resized.set)
    tasks = [asyncio.create_task(_resize(stream, resized))] if resizes else []
    if listens:
        tasks.append(asyncio.create_task(_pass_input(stream)))
    else:
        await stream.end_input()
    try:
        async for piece in stream.output():
            for ours, data in ((output.stdout, piece.stdout), (output.stderr, piece.stderr)):
                if data:
                    write_bytes(ours, data)
    finally:
        if resizes:
            loop.remove_signal_handler(signal.SIGWINCH)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _resize(stream: CommandStream, resized: asyncio.Event) -> None:
    while True:
        await resized.wait()
        resized.clear()
        size = os.get_terminal_size(sys.stdin.fileno())
        await stream.resize(size.lines, size.columns)


async def _pass_input(stream: CommandStream) -> None:
    """What comes on standard input, a piece at a time: the next is read when one was sent.

    Read by a thread that nobody waits for: it may be in the middle of reading for ever.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[bytes] = asyncio.Queue(1)

    def read() -> None:
        data = b"-"
        while data:
            try:
                data = os.read(sys.stdin.fileno(), SEND_BYTES)
            except OSError:
                data = b""
            try:
                asyncio.run_coroutine_threadsafe(pieces.put(data), loop).result()
            except (RuntimeError, asyncio.CancelledError):
                return  # The command is over.

    threading.Thread(target=read, daemon=True, name="stdin").start()
    while data := await pieces.get():
        await stream.send(data)
    await stream.end_input()


def _terminal() -> Terminal:
    size = os.get_terminal_size(sys.stdin.fileno())
    return Terminal(os.environ.get("TERM", TERM_DEFAULT), size.lines, size.columns)


@contextlib.contextmanager
def _raw_terminal() -> Generator[None]:
    """Every key goes to the command, Ctrl-C too; afterwards the terminal is as it was."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
