"""`download`: what a job left at its site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from sovctl.async_client import AsyncClient
from sovctl.cli.job_verbs import JobArgument, moment
from sovctl.cli.output import Column, Listing, safe
from sovctl.cli.session import Interrupted, session_of
from sovctl.downloads import Downloaded, Left, total_bytes


def download_files(
    ctx: typer.Context,
    job: JobArgument,
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="A file or folder of these; default: all of them."),
    ] = "",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to; default: ./JOB.")
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Say which files there are, and fetch none.")
    ] = False,
    rank: Annotated[
        int, typer.Option(metavar="N", min=0, help="The rank whose node's checkpoints are meant.")
    ] = 0,
    attempt: Annotated[
        int, typer.Option(metavar="N", min=0, help="An earlier attempt; default: the latest.")
    ] = 0,
) -> None:
    """Fetch what a job that is over left: outputs and checkpoints.

    What broke off is gone on with by the same command; what is there already is kept.
    """
    session = session_of(ctx)

    async def names(client: AsyncClient) -> Left:
        found = await client.get(job)
        return await client.left_files(found.id, path, rank=rank, attempt=attempt)

    async def fetch(client: AsyncClient) -> Downloaded:
        found = await client.get(job)
        target = to or Path(found.id)
        return await client.download(found.id, target, path, rank=rank, attempt=attempt)

    if listing:
        session.output.listing(_listed(session.run(names)))
        return
    try:
        done = session.run(fetch)
    except KeyboardInterrupt:
        raise Interrupted("the same command goes on from here") from None
    if session.output.is_human:
        session.output.print(Text(safe(_sentence(done))))
    else:
        session.output.result(_document(done), str(done.directory), "")


def _listed(left: Left) -> Listing:
    return Listing(
        columns=[Column("PATH", whole=False), Column("BYTES"), Column("MODIFIED")],
        rows=[[f.path, str(f.size_bytes), moment(f.modified_ms)] for f in left.files],
        documents=[
            {"path": f.path, "size_bytes": f.size_bytes, "modified_ms": f.modified_ms}
            for f in left.files
        ],
        names=[f.path for f in left.files],
        empty="it left no files",
    )


def _sentence(done: Downloaded) -> str:
    text = f"{len(done.fetched)} files ({total_bytes(done.fetched)} bytes) in {done.directory}"
    if done.kept:
        text += f"; {len(done.kept)} were there already"
    if done.left_out:
        text += f"; {done.left_out} entries that are no plain files were left out"
    if done.opened:
        text += f"; opened with our key: {', '.join(str(path) for path in done.opened)}"
    if done.verified:
        text += f"; as the job left them, by digest: {', '.join(done.verified)}"
    return text


def _document(done: Downloaded) -> dict[str, object]:
    return {
        "directory": str(done.directory),
        "fetched": [f.path for f in done.fetched],
        "kept": [f.path for f in done.kept],
        "fetched_bytes": total_bytes(done.fetched),
        "left_out": done.left_out,
        "verified": list(done.verified),
        "opened": [str(path) for path in done.opened],
    }
