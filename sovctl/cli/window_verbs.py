"""`sovctl maintenance` and `sovctl reservation`: nodes taken out of the common pool for a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from sovapi.v1 import fleet_pb2
from sovctl import clock
from sovctl.async_client import AsyncClient
from sovctl.cli import tables
from sovctl.cli.documents import message_document
from sovctl.cli.job_verbs import moment
from sovctl.cli.output import Column, Listing
from sovctl.cli.session import session_of
from sovctl.errors import InvalidArgumentError
from sovctl.spec_values import duration_ms

MAINTENANCE = fleet_pb2.WINDOW_KIND_MAINTENANCE
RESERVED = fleet_pb2.WINDOW_KIND_RESERVED

Targets = Annotated[
    list[str],
    typer.Argument(metavar="SITE|NODE...", help="A site, or nodes of one site as SITE/SLOT."),
]
From = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="Such as 2026-03-01T09:00Z, or +2h; default now."),
]
To = Annotated[str, typer.Option("--to", metavar="TIME", help="When it ends, in the same forms.")]
For = Annotated[str, typer.Option("--for", metavar="DURATION", help="How long, instead of --to.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; audited.")]
Named = Annotated[str, typer.Option("--name", metavar="NAME", help="Its name; default: given.")]


def add_maintenance(
    ctx: typer.Context,
    targets: Targets,
    reason: Why,
    start: From = "",
    end: To = "",
    length: For = "",
    name: Named = "",
) -> None:
    """Let nothing run on a site or nodes for a time.

    Until it begins, they take only work whose time limit ends before it; when it
    begins, what still runs there is preempted with its grace and queued again.
    """
    _add(ctx, _window(MAINTENANCE, targets, start, end, length, reason, name))


def add_reservation(
    ctx: typer.Context,
    targets: Targets,
    tenant: Annotated[str, typer.Option(metavar="PATH", help="Whose work may run there.")],
    reason: Why,
    start: From = "",
    end: To = "",
    length: For = "",
    nodes: Annotated[
        int, typer.Option(metavar="N", min=0, help="So many nodes of the site, chosen for you.")
    ] = 0,
    gpu: Annotated[str, typer.Option(metavar="MODEL", help="With --nodes: of this model.")] = "",
    name: Named = "",
) -> None:
    """Keep a site or nodes for one tenant for a time.

    Others' work leaves when it begins, as for maintenance. Quotas hold as ever.
    """
    window = _window(RESERVED, targets, start, end, length, reason, name)
    window.tenant, window.count, window.gpu_class = tenant, nodes, gpu
    _add(ctx, window)


def list_maintenance(ctx: typer.Context) -> None:
    """List maintenance that is under way or to come."""
    _list(ctx, MAINTENANCE)


def list_reservations(ctx: typer.Context) -> None:
    """List reservations that are under way or to come."""
    _list(ctx, RESERVED)


def remove_window(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `list` shows it.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; audited.")] = "",
) -> None:
    """Call it off, or end it now."""
    session = session_of(ctx)
    session.run(lambda client: client.remove_window(name, reason=reason))
    session.output.result({"id": name, "removed": True}, name, f"{name} is called off")


def _window(
    kind: fleet_pb2.WindowKind,
    targets: Sequence[str],
    start: str,
    end: str,
    length: str,
    reason: str,
    name: str,
) -> fleet_pb2.MaintenanceWindow:
    if bool(end) == bool(length):
        raise InvalidArgumentError("--to, --for: found both or neither, allowed one of them")
    if len(targets) > 1 and not all("/" in target for target in targets):
        raise InvalidArgumentError(f"{' '.join(targets)}: allowed one site, or nodes of one site")
    now_ms = clock.now_ms()
    from_ms = _time("--from", start, now_ms) if start else now_ms
    to_ms = _time("--to", end, now_ms) if end else from_ms + _duration("--for", length)
    return fleet_pb2.MaintenanceWindow(
        id=name,
        target=targets[0],
        nodes=targets[1:],
        from_ms=from_ms,
        to_ms=to_ms,
        reason=reason,
        kind=kind,
    )


def _time(option: str, text: str, now_ms: int) -> int:
    """A moment as UTC milliseconds: one of the calendar, or so long from now."""
    if text.startswith("+"):
        return now_ms + _duration(option, text[1:])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        allowed = "a time such as 2026-03-01T09:00Z, or +2h from now"
        raise InvalidArgumentError(f"{option}: found {text!r}, allowed {allowed}") from None
    if found.tzinfo is None:
        raise InvalidArgumentError(
            f"{option}: found {text!r}, allowed with Z or an offset at its end"
        )
    return int(found.astimezone(UTC).timestamp() * 1000)


def _duration(option: str, text: str) -> int:
    try:
        return duration_ms(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{option}: {error}") from None


def _add(ctx: typer.Context, window: fleet_pb2.MaintenanceWindow) -> None:
    session = session_of(ctx)
    added = session.run(lambda client: client.add_window(window))
    what = f"{len(added.nodes)} node(s) of {added.target}" if len(added.nodes) > 1 else added.target
    sentence = f"{added.id}: {what}, {moment(added.from_ms)} to {moment(added.to_ms)}"
    session.output.result(message_document(added), added.id, sentence)


def _list(ctx: typer.Context, kind: fleet_pb2.WindowKind) -> None:
    session = session_of(ctx)

    async def work(client: AsyncClient) -> list[fleet_pb2.MaintenanceWindow]:
        return [window async for window in client.windows(kind)]

    found = sorted(session.run(work), key=lambda window: (window.from_ms, window.id))
    session.output.listing(_listing(found))


def _listing(found: Sequence[fleet_pb2.MaintenanceWindow]) -> Listing:
    return Listing(
        columns=[
            Column("NAME"),
            Column("FROM"),
            Column("TO"),
            Column("WHERE", whole=False),
            Column("FOR"),
            Column("BEGUN"),
            Column("REASON", whole=False),
            Column("ADDED BY", wide=True),
        ],
        rows=[
            [
                window.id,
                moment(window.from_ms),
                moment(window.to_ms),
                _where(window),
                window.tenant or "-",
                "yes" if window.begun else "no",
                window.reason,
                window.added_by,
            ]
            for window in found
        ],
        documents=[message_document(window) for window in found],
        names=[window.id for window in found],
        empty="none is under way or to come",
    )


def _where(window: fleet_pb2.MaintenanceWindow) -> str:
    if not window.nodes:
        return window.target
    return f"{window.nodes[0].partition('/')[0]}: {tables.short_nodes(window.nodes)}"
