"""One run of the program: who asks, what for, and in which form the answer is wanted."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import typer

from sovctl import clock, config
from sovctl.async_client import AsyncClient
from sovctl.cli.output import Output
from sovctl.errors import SpecError, UnavailableError
from sovctl.faults import ModelT, check
from sovshared import yamlio

ResultT = TypeVar("ResultT")

_abandoned: list[asyncio.Runner] = []
"""Kept, for a loop that is collected complains of every task it had."""


class Interrupted(Exception):
    """Ctrl-C; the message says what goes on regardless."""


@dataclass(slots=True)
class Session:
    """What the verbs share."""

    command: tuple[str, ...] | None = None
    context_name: str = ""
    output: Output = field(default_factory=Output)

    def context(self) -> config.Context:
        """The context that was chosen."""
        return config.load().context(self.context_name)

    def run(self, work: Callable[[AsyncClient], Awaitable[ResultT]]) -> ResultT:
        """Does `work` with a connected client."""
        context = self.context()

        async def connected() -> ResultT:
            async with AsyncClient(context) as client:
                # Still valid if nobody is there to renew it; the call itself will say who is away.
                with suppress(UnavailableError):
                    await client.renew_if_due(clock.now_ms())
                return await work(client)

        return finished(connected())


def finished(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """What `work` comes to, on an event loop of its own; KeyboardInterrupt after Ctrl-C.

    Ctrl-C cancels it, and nothing else is waited for then: the program is about to end, and what is
    still under way in a thread, such as reading a directory, may take for ever.
    """
    runner = asyncio.Runner()
    try:
        result = runner.run(_interruptible(work))
    except KeyboardInterrupt:
        _abandoned.append(runner)
        raise
    except BaseException:
        runner.close()
        raise
    runner.close()
    return result


async def _interruptible(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """`work`, cancelled by the first Ctrl-C and abandoned at the second.

    asyncio's own way does not wake a loop that is just falling asleep, or whose process took the
    signal on one of gRPC's threads: that one would sleep on. A handler of the loop's does.
    """
    loop, task, told = asyncio.get_running_loop(), asyncio.current_task(), False
    assert task is not None

    def interrupt() -> None:
        nonlocal told
        if told:
            raise KeyboardInterrupt
        told = True
        task.cancel()

    own = threading.current_thread() is threading.main_thread()
    if own:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await work
    except asyncio.CancelledError:
        if told:
            raise KeyboardInterrupt from None
        raise
    finally:
        if own:
            loop.remove_signal_handler(signal.SIGINT)


def session_of(ctx: typer.Context) -> Session:
    """The session that `main` put there."""
    found = ctx.find_object(Session)
    assert found is not None
    return found


def read_file(model: type[ModelT], path: Path) -> ModelT:
    """A YAML file as a checked model, or SpecError with every fault at once."""
    try:
        document = yamlio.load(path)
    except yamlio.YamlInvalid as error:
        raise SpecError(str(error)) from None
    return check(model, document.value, str(path), document.lines)


def exit_with(code: int) -> None:
    """Ends the program with `code`, unless that is 0."""
    if code:
        raise typer.Exit(code)
