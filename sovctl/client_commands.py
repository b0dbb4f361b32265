"""The part of the synchronous client about commands inside jobs that run, and their ports."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

from sovctl.async_client import AsyncClient
from sovctl.commands import CommandResult
from sovctl.event_loop import EventLoop
from sovctl.forwarding import PortForward


class CommandCalls:
    """Calls about commands, each until the command is over."""

    _loop: EventLoop
    _client: AsyncClient

    def exec(
        self, job: str, command: Sequence[str], *, rank: int = 0, stdin: bytes = b""
    ) -> CommandResult:
        """Runs a command inside a rank of a job; as `AsyncClient.exec`."""
        return self._loop.run(self._client.exec(job, command, rank=rank, stdin=stdin))

    @contextlib.contextmanager
    def port_forward(
        self, job: str, port: int, *, rank: int = 0, local_port: int = 0
    ) -> Generator[int]:
        """A port of a rank of a job on this machine's loopback, for the length of a `with`, which
        gets the local one; as `AsyncClient.port_forward`."""

        async def begun() -> PortForward:
            forward = self._client.port_forward(job, port, rank=rank, local_port=local_port)
            return await forward.__aenter__()

        forward = self._loop.run(begun())
        try:
            yield forward.port
        finally:
            self._loop.run(forward.__aexit__(None, None, None))
