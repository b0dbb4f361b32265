"""Operators' verbs: sites, nodes, applying files, cordons, fences, the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from sovapi.v1 import audit_pb2
from sovctl.async_client import AsyncClient
from sovctl.cli import tables
from sovctl.cli.documents import Document
from sovctl.cli.job_verbs import moment
from sovctl.cli.output import Output, safe
from sovctl.cli.session import read_file, session_of
from sovctl.errors import InvalidArgumentError
from sovctl.fleet_file import Fleet
from sovctl.spec_values import duration_ms
from sovctl.tenants_file import Tenants

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file, YAML.")]
ApplyReason = Annotated[
    str,
    typer.Option("--reason", metavar="TEXT", help="Why; audited. Default: the file's name."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; written to the audit log.")
]
Target = Annotated[str, typer.Argument(metavar="SITE|NODE", help="A site, or a node as SITE/SLOT.")]


def list_sites(ctx: typer.Context) -> None:
    """List sites."""
    session = session_of(ctx)

    async def work(client: AsyncClient) -> tables.Listing:
        return tables.sites([site async for site in client.sites()])

    session.output.listing(session.run(work))


def list_nodes(
    ctx: typer.Context,
    site: Annotated[str, typer.Option(metavar="SITE", help="Only this site's.")] = "",
) -> None:
    """List nodes."""
    session = session_of(ctx)

    async def work(client: AsyncClient) -> tables.Listing:
        return tables.nodes([node async for node in client.nodes(site)])

    session.output.listing(session.run(work))


def cordon(ctx: typer.Context, target: Target, reason: ReasonOption) -> None:
    """Let no new work onto a site or node; what runs there goes on."""
    session = session_of(ctx)
    session.run(lambda client: client.cordon(target, reason=reason))
    session.output.result({"target": target, "cordoned": True}, target, f"{target} is cordoned")


def uncordon(ctx: typer.Context, target: Target, reason: ReasonOption) -> None:
    """Let work onto a site or node again."""
    session = session_of(ctx)
    session.run(lambda client: client.uncordon(target, reason=reason))
    document = {"target": target, "cordoned": False}
    session.output.result(document, target, f"{target} takes work again")


def drain(
    ctx: typer.Context,
    target: Target,
    reason: ReasonOption,
    deadline: Annotated[
        str,
        typer.Option(metavar="DURATION", help="Stop what still runs after this, such as 30m."),
    ] = "",
) -> None:
    """Cordon a site or node, and move its work away."""
    session = session_of(ctx)
    try:
        deadline_ms = duration_ms(deadline) if deadline else 0
    except ValueError as error:
        raise InvalidArgumentError(f"--deadline: {error}") from None
    count = session.run(lambda client: client.drain(target, reason=reason, deadline_ms=deadline_ms))
    document = {"target": target, "attempts_affected": count}
    session.output.result(document, target, f"{target} is draining: {count} attempt(s) run there")


def fence(
    ctx: typer.Context,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node as SITE/SLOT.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="How you know; audited.")],
) -> None:
    """State that nothing of a lost node runs any more.

    Only after the node is known to be off: its jobs start again elsewhere.
    """
    session = session_of(ctx)
    count = session.run(lambda client: client.fence(node, reason=reason))
    document = {"node": node, "attempts_fenced": count}
    session.output.result(document, node, f"{node} is fenced: {count} attempt(s) ended")


def apply_fleet(
    ctx: typer.Context, file: FileArgument, dry_run: DryRun = False, reason: ApplyReason = ""
) -> None:
    """Make the declared fleet what FILE says; what is not in it goes."""
    session = session_of(ctx)
    sites = read_file(Fleet, file).to_proto()
    changes = session.run(
        lambda client: client.apply_fleet(sites, dry_run=dry_run, reason=reason or file.name)
    )
    show_changes(session.output, changes, dry_run=dry_run)


def apply_tenants(
    ctx: typer.Context, file: FileArgument, dry_run: DryRun = False, reason: ApplyReason = ""
) -> None:
    """Make the tenant tree what FILE says; what is not in it goes."""
    session = session_of(ctx)
    tree = read_file(Tenants, file)
    response = session.run(
        lambda client: client.apply_tree(
            tree.to_proto(),
            dry_run=dry_run,
            reason=reason or file.name,
            allow_unknown_gpu_classes=tree.unknown_gpu_classes == "warn",
        )
    )
    for warning in response.warnings:
        session.output.note(f"warning: {safe(warning)}")
    show_changes(session.output, response.changes, dry_run=dry_run)


def show_changes(
    output: Output, changes: Sequence[str], *, dry_run: bool, revision: int | None = None
) -> None:
    """What applying a file changed, or would."""
    if not output.is_human:
        document: Document = {"changes": list(changes), "applied": not dry_run}
        if revision is not None:
            document["revision"] = revision
        output.result(document, "applied" if not dry_run else "", "")
        return
    for change in changes:
        output.print(Text(safe(change)))
    count = f"{len(changes)} change(s)" if changes else "no change"
    output.note(f"{count}, not applied (dry run)" if dry_run else f"{count}, applied")


def audit_log(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Option(metavar="PATH", help="Only this tenant's.")] = "",
    job: Annotated[str, typer.Option(metavar="JOB", help="Only this job's.")] = "",
) -> None:
    """Print the audit log, oldest first."""
    session = session_of(ctx)

    async def work(client: AsyncClient) -> list[audit_pb2.AuditLeaf]:
        return [leaf async for leaf in client.audit_leaves(tenant=tenant, job=job)]

    found = session.run(work)
    session.output.listing(tables.leaves(found, [moment(leaf.at_ms) for leaf in found]))
