"""One run of the program: who asks, what for, and in which form the answer is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import typer

from sovctl import clock, config
from sovctl.async_client import AsyncClient
from sovctl.cli.output import Output
from sovctl.errors import SpecError, UnavailableError
from sovctl.faults import ModelT, check
from sovshared import yamlio

ResultT = TypeVar("ResultT")


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

        return asyncio.run(connected())


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
