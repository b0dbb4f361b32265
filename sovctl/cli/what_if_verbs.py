"""What another tenant tree or another fleet would do to the queue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sovapi.v1 import fleet_pb2, tenants_pb2
from sovctl.cli import what_if_tables as tables
from sovctl.cli.documents import message_document
from sovctl.cli.output import Output, safe
from sovctl.cli.session import read_file, session_of
from sovctl.errors import InvalidArgumentError
from sovctl.fleet_file import Fleet
from sovctl.tenants_file import Tenants


def quota_what_if(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A tenants file.")],
) -> None:
    """Say what the queue would do under the tenants of FILE; nothing is changed."""
    session = session_of(ctx)
    tree = read_file(Tenants, file)
    response = session.run(
        lambda client: client.quota_what_if(
            tree.to_proto(), allow_unknown_gpu_classes=tree.unknown_gpu_classes == "warn"
        )
    )
    if not session.output.is_human:
        session.output.result(message_document(response), "", "")
        return
    for warning in response.warnings:
        session.output.note(f"warning: {safe(warning)}")
    _show(session.output, response.now, response.then, ended="be reclaimed")


def fleet_what_if(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A fleet file.")] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE", help="Instead of FILE: the fleet but for this; may be repeated."
        ),
    ] = None,
) -> None:
    """Say what the queue would do with the fleet of FILE, or without a site.

    Nothing is changed. Nodes that are not there yet are taken to be healthy and as
    declared. What runs where it could not stay is shown by tenant, with how much of
    it has room elsewhere, at once and within the law it asked for.
    """
    if (file is None) == (not without):
        found = "neither" if file is None else "both"
        raise InvalidArgumentError(f"found {found}, allowed FILE or --without SITE")
    session = session_of(ctx)
    sites = read_file(Fleet, file).to_proto() if file is not None else ()
    response = session.run(lambda client: client.fleet_what_if(sites, without_sites=without or ()))
    output = session.output
    if not output.is_human:
        output.result(message_document(response), "", "")
        return
    if response.nodes_assumed:
        output.note(f"{response.nodes_assumed} node(s) are not there yet, and taken to be healthy")
    _show(output, response.now, response.then, ended="lose their place")
    _show_displaced(output, response)


def _show_displaced(output: Output, response: fleet_pb2.FleetWhatIfResponse) -> None:
    found = tables.displaced(response)
    if found.rows:
        output.print("what runs and could not stay, in GPUs")
    output.listing(found)


def _show(
    output: Output,
    now: tenants_pb2.WhatIfOutcome,
    then: tenants_pb2.WhatIfOutcome,
    *,
    ended: str,
) -> None:
    for title, count, before, listing in (
        ("would start", then.jobs_starting, now.jobs_starting, tables.starts(then, now)),
        (f"would {ended}", then.jobs_reclaimed, now.jobs_reclaimed, tables.ends(then)),
        ("would wait", then.jobs_waiting, now.jobs_waiting, tables.waits(then)),
    ):
        output.print(f"{count} job(s) {title}; as things are {before}")
        if listing.rows:
            output.listing(listing)
