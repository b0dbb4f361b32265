"""Operators' eyes: the fleet in sum, live, and which of its sites may hold which work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from sovctl.async_client import AsyncClient
from sovctl.cli import fleet_tables, tables
from sovctl.cli.documents import message_document
from sovctl.cli.output import Format
from sovctl.cli.session import Session, read_file, session_of
from sovctl.cli.top_view import TopView
from sovctl.errors import InvalidArgumentError, UnavailableError
from sovctl.faults import check
from sovctl.spec import Residency
from sovctl.spec_values import duration_ms

UNFIT_MAX = 50
"""Unfit nodes that are asked for; how many there are is known all the same."""

EVERY_MS_MIN = 500


def fleet_summary(ctx: typer.Context) -> None:
    """Show the fleet in sum; declare it, and ask who may be where."""
    if ctx.invoked_subcommand is not None:
        return
    session = session_of(ctx)
    found = session.run(lambda client: client.overview(unfit_max=0))
    output = session.output
    if output.format is Format.NAME:
        output.listing(fleet_tables.summary(found))
    elif not output.is_human:
        output.document(fleet_tables.summary_document(found))
    else:
        output.print(Text("\n".join([*fleet_tables.head(found), ""])))
        output.listing(fleet_tables.summary(found))


def top(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One picture, and end.")] = False,
    every: Annotated[
        str, typer.Option("--every", metavar="DURATION", help="Time between pictures.")
    ] = "3s",
) -> None:
    """Watch sites: what is used, what runs, which nodes are unfit.

    Live on a terminal, until Ctrl-C; one picture where there is none.
    """
    session = session_of(ctx)
    try:
        every_ms = duration_ms(every)
    except ValueError as error:
        raise InvalidArgumentError(f"--every: {error}") from None
    if every_ms < EVERY_MS_MIN:
        raise InvalidArgumentError(f"--every: found {every}, allowed at least {EVERY_MS_MIN}ms")
    view = TopView(session.output)
    if once or not view.can_live:
        found = session.run(lambda client: client.overview(unfit_max=UNFIT_MAX))
        if session.output.is_human:
            view.print(found)
        else:
            session.output.result(message_document(found), "", "")
        return
    # Ctrl-C is how one leaves, and no fault.
    with suppress(KeyboardInterrupt):
        _live(session, view, every_ms)


def _live(session: Session, view: TopView, every_ms: int) -> None:
    async def work(client: AsyncClient) -> None:
        now = asyncio.get_running_loop().time
        with view:
            while True:
                asked = now()
                try:
                    view.show(await client.overview(unfit_max=UNFIT_MAX))
                except UnavailableError as error:
                    # The last picture stays: who watches during an outage wants to see it end.
                    view.trouble(error.message)
                # A control plane that is slow to answer is not asked all the time.
                await asyncio.sleep(max(every_ms / 1000, now() - asked))

    session.run(work)


def fleet_verdicts(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...", help="Requirements, each as `residency` of a job file has it."
        ),
    ] = None,
    site: Annotated[str, typer.Option(metavar="SITE", help="Only this site.")] = "",
    jurisdiction: Annotated[
        list[str] | None, typer.Option(metavar="COUNTRY", help="May be repeated; default GB.")
    ] = None,
    tolerate: Annotated[
        list[str] | None,
        typer.Option(metavar="COUNTRY", help="Law that may reach the operator; may be repeated."),
    ] = None,
    tier: Annotated[str, typer.Option(metavar="TIER", help="Default OFFICIAL.")] = "",
    marking: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="May be repeated.")
    ] = None,
) -> None:
    """Say which sites may hold work of a residency, and why the others may not.

    The residency stands in FILEs, or in the options. With several FILEs the answer is a
    table of yes and no, and `-o wide` and `-o json` have every reason.
    """
    session = session_of(ctx)
    if files:
        if jurisdiction or tolerate or tier or marking:
            raise InvalidArgumentError("found FILE and options of a residency, allowed either")
        _verdicts_of_files(session, files, site)
        return
    requirement = check(
        Residency,
        {
            "jurisdictions": jurisdiction or ["GB"],
            "tolerate_foreign_compulsion": tolerate or [],
            "tier": tier or "OFFICIAL",
            "markings": marking or [],
        },
        "verdicts",
    )
    found = session.run(lambda client: client.verdicts([requirement], site=site))
    session.output.listing(tables.verdicts(found))


def _verdicts_of_files(session: Session, files: list[Path], site: str) -> None:
    requirements = [read_file(Residency, file) for file in files]
    names = [file.stem for file in files]
    found = session.run(lambda client: client.verdicts(requirements, site=site))
    output = session.output
    if output.format is Format.WIDE:
        output.listing(fleet_tables.verdict_reasons(names, found))
        return
    output.listing(fleet_tables.verdict_matrix(names, found))
    if output.format is Format.TABLE and any(not verdict.permitted for verdict in found):
        output.note("every reason: -o wide")


def fleet_dependencies(
    ctx: typer.Context,
    home: Annotated[
        list[str] | None,
        typer.Option(metavar="COUNTRY", help="The home zone; may be repeated; default GB."),
    ] = None,
) -> None:
    """List what outside the home zone the running system would contact.

    Each with who would and when, whether it is needed, and what keeps it from that.
    `-o wide` and `-o json` have every setting.
    """
    session = session_of(ctx)
    found = session.run(lambda client: client.external_dependencies(home or []))
    session.output.listing(
        fleet_tables.dependencies(found, wide=session.output.format is Format.WIDE)
    )
