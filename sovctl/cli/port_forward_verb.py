"""`port-forward`: a port of a job that runs, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from sovctl.async_client import AsyncClient
from sovctl.cli.job_verbs import JobArgument
from sovctl.cli.output import safe
from sovctl.cli.session import Interrupted, session_of
from sovctl.errors import InvalidArgumentError, SovError
from sovctl.forwarding import LOOPBACK


def forward_port(
    ctx: typer.Context,
    job: JobArgument,
    port: Annotated[
        str,
        typer.Argument(metavar="[LOCAL:]PORT", help="The rank's port; LOCAL is this machine's."),
    ],
    rank: Annotated[int, typer.Option(metavar="N", min=0, help="Whose port.")] = 0,
) -> None:
    """Listen here for a port of a job that runs, until it is over.

    On loopback of this machine alone, for loopback of the rank's own network alone.
    """
    session = session_of(ctx)
    local, remote = _ports(port)

    def failed(error: SovError) -> None:
        session.output.note(f"a connection failed: {error.message} [{error.reason}]")

    async def work(client: AsyncClient) -> None:
        found = await client.get(job)
        forward = client.port_forward(found.id, remote, rank=rank, local_port=local, failed=failed)
        async with forward:
            if session.output.is_human:
                text = f"{LOOPBACK}:{forward.port} leads to port {remote} of {found.id}"
                session.output.print(Text(safe(text)))
            else:
                document = {"address": LOOPBACK, "port": forward.port, "job": found.id}
                session.output.event(document, str(forward.port))
            await forward.wait()

    try:
        session.run(work)
    except KeyboardInterrupt:
        raise Interrupted(f"{job} is not affected") from None
    session.output.note("the rank is over")


def _ports(text: str) -> tuple[int, int]:
    """The local port and the rank's."""
    local, colon, remote = text.rpartition(":")
    if not remote.isdecimal() or (colon and not local.isdecimal()):
        raise InvalidArgumentError(f"port: found {text!r}, allowed PORT or LOCAL:PORT")
    return (int(local) if colon else int(remote)), int(remote)
