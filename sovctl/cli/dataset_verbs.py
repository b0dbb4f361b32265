"""Tenants' verbs on the data catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from sovapi.v1 import common_pb2, datasets_pb2
from sovctl.async_client import AsyncClient
from sovctl.cli.documents import message_document
from sovctl.cli.job_verbs import moment
from sovctl.cli.operate_verbs import ApplyReason, DryRun, FileArgument, show_changes
from sovctl.cli.output import Column, Listing, safe
from sovctl.cli.session import read_file, session_of
from sovctl.datasets_file import Datasets

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A dataset, such as trust-a/scans-2026.")
]


def apply_datasets(
    ctx: typer.Context, file: FileArgument, dry_run: DryRun = False, reason: ApplyReason = ""
) -> None:
    """Declare the datasets of FILE, or change them; those not named stay.

    Work that waits or runs is judged again by what changed.
    """
    session = session_of(ctx)
    datasets = read_file(Datasets, file).to_proto()
    changes = session.run(
        lambda client: client.apply_datasets(datasets, dry_run=dry_run, reason=reason or file.name)
    )
    show_changes(session.output, changes, dry_run=dry_run)


def list_datasets(ctx: typer.Context) -> None:
    """List datasets, your own and those shared with you."""
    session = session_of(ctx)

    async def work(client: AsyncClient) -> list[datasets_pb2.Dataset]:
        return [dataset async for dataset in client.datasets()]

    session.output.listing(_listing(session.run(work)))


def show_dataset(ctx: typer.Context, name: NameArgument) -> None:
    """Show where a dataset lies, its label, and the job that wrote it."""
    session = session_of(ctx)
    found = session.run(lambda client: client.dataset(name))
    if not session.output.is_human:
        session.output.result(message_document(found), found.name, "")
        return
    for title, text in _page(found):
        session.output.print(Text(f"{title:<18}{safe(text)}"))


def remove_dataset(
    ctx: typer.Context,
    name: NameArgument,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; audited.")] = "",
) -> None:
    """Take a dataset out of the catalogue: no work may read it any more.

    Its files stay where they are.
    """
    session = session_of(ctx)
    session.run(lambda client: client.remove_dataset(name, reason=reason))
    session.output.result({"name": name, "removed": True}, name, f"{name} is out of the catalogue")


def _listing(found: list[datasets_pb2.Dataset]) -> Listing:
    return Listing(
        columns=[
            Column("NAME"),
            Column("SITES", whole=False),
            Column("ZONE"),
            Column("TIER"),
            Column("MARKINGS", whole=False),
            Column("KINDS", whole=False),
            Column("VERSION", whole=False, wide=True),
            Column("WRITTEN BY", wide=True),
        ],
        rows=[
            [
                each.name,
                " ".join(each.sites),
                " ".join(each.label.jurisdictions),
                _tier(each.label.tier),
                ", ".join(each.label.markings) or "-",
                ", ".join(each.label.data_kinds) or "-",
                each.version,
                each.job or "-",
            ]
            for each in found
        ],
        documents=[message_document(each) for each in found],
        names=[each.name for each in found],
        empty="the catalogue has nothing for you",
    )


def _page(found: datasets_pb2.Dataset) -> Iterator[tuple[str, str]]:
    label = found.label
    yield "name", found.name
    yield "sites", " ".join(found.sites)
    yield "zone", " ".join(label.jurisdictions)
    yield "tier", _tier(label.tier)
    yield "markings", ", ".join(label.markings) or "none"
    yield "data kinds", ", ".join(label.data_kinds) or "none"
    yield "bears the law of", " ".join(label.tolerate_foreign_compulsion) or "its zone alone"
    yield "transfer basis", found.transfer_basis
    yield "shared with", " ".join(found.shared_with) or "nobody"
    yield "version", found.version
    if found.job:
        yield "digest", found.digest
        yield "size", f"{found.size_bytes} bytes"
        yield "written by", f"job {found.job}"
        yield "from", " ".join(found.inputs) or "nothing of the catalogue"
    if found.changed_at_ms:
        yield "changed", f"{moment(found.changed_at_ms)} by {found.declared_by or 'its owner'}"


def _tier(tier: common_pb2.Tier) -> str:
    return common_pb2.Tier.Name(tier).removeprefix("TIER_")
