"""The part of the synchronous client about commands inside jobs that run."""

from __future__ import annotations

from collections.abc import Sequence

from sovctl.async_client import AsyncClient
from sovctl.commands import CommandResult
from sovctl.event_loop import EventLoop


class CommandCalls:
    """Calls about commands, each until the command is over."""

    _loop: EventLoop
    _client: AsyncClient

    def exec(
        self, job: str, command: Sequence[str], *, rank: int = 0, stdin: bytes = b""
    ) -> CommandResult:
        """Runs a command inside a rank of a job; as `AsyncClient.exec`."""
        return self._loop.run(self._client.exec(job, command, rank=rank, stdin=stdin))
