"""Quota, budgets and usage."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from sovctl.cli import quota_tables
from sovctl.cli.session import session_of
from sovctl.cli.since import since_ms

SHOW = "show"
TenantArgument = Annotated[
    str, typer.Argument(metavar="TENANT", help="A tenant's path; default: your own.")
]


class QuotaGroup(typer.core.TyperGroup):
    """`sovctl quota [TENANT]` shows; only the names of its verbs are verbs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the verb in where it was left out."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


def show_quota(ctx: typer.Context, tenant: TenantArgument = "") -> None:
    """Show guarantee, limit and use of GPUs, and what is borrowed and lent."""
    session = session_of(ctx)
    session.output.listing(quota_tables.quota(session.run(lambda client: client.quota(tenant))))


def show_budgets(ctx: typer.Context, tenant: TenantArgument = "") -> None:
    """Show GPU-hours budgets: reserved, used and left in the present period."""
    session = session_of(ctx)
    session.output.listing(quota_tables.budgets(session.run(lambda client: client.budgets(tenant))))


def show_usage(
    ctx: typer.Context,
    tenant: TenantArgument = "",
    since: Annotated[
        str,
        typer.Option(metavar="WHEN", help="A date, or a length of time such as 7d; default 30d."),
    ] = "",
) -> None:
    """Show GPU-hours, energy and refunds by project and GPU.

    Of what was placed since a day: whole days, UTC. An attempt counts on the day on
    which it was placed, however long it runs.
    """
    session = session_of(ctx)
    placed_ms = since_ms(since)
    response = session.run(lambda client: client.usage(tenant, since_ms=placed_ms))
    session.output.listing(quota_tables.usage(response))
