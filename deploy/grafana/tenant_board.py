"""The board of one tenant's share: what it uses, what it may, and what it waits for."""

from __future__ import annotations

from deploy.grafana.model import Board, Panel, Query, Row, Variable

TENANT = 'tenant=~"$tenant"'
ALL = 'gpu_class="*"'
CLASS = 'gpu_class!="*"'
LARGEST = 4
"""Tenants that are shown as numbers: more would not be read."""


def _largest(metric: str) -> str:
    """The tenants of whom there is most."""
    return f"topk({LARGEST}, sum by (tenant) ({metric}))"


def _by_class(metric: str) -> str:
    """A tenant's GPUs by class; the class `*`, which is all of them, is not among them."""
    return f"sum by (tenant, gpu_class) ({metric}{{{TENANT}, {CLASS}}})"


def _borrowed() -> str:
    """What is in use beyond the guarantee; without a guarantee all of it is."""
    used, guaranteed = (
        _by_class(f"sov_tenant_gpus_{what}") for what in ("allocated", "guaranteed")
    )
    return f"clamp_min({used} - ({guaranteed} or 0 * {used}), 0)"


TENANTS = Board(
    uid="sov-tenant",
    title="Tenant",
    variables=(Variable("tenant", "Tenant", "label_values(sov_tenant_gpus_allocated, tenant)"),),
    rows=(
        Row(
            height=5,
            panels=(
                Panel(
                    "In use",
                    "GPUs of those who use most; a tenant's number holds those of its projects.",
                    (
                        Query(
                            _largest(f"sov_tenant_gpus_allocated{{{TENANT}, {ALL}}}"),
                            "{{tenant}}",
                        ),
                    ),
                    kind="stat",
                    unit="locale",
                ),
                Panel(
                    "Guaranteed",
                    "To whom most is guaranteed. Below it a tenant goes first.",
                    (
                        Query(
                            _largest(f"sov_tenant_gpus_guaranteed{{{TENANT}}}"),
                            "{{tenant}}",
                        ),
                    ),
                    kind="stat",
                    unit="locale",
                ),
                Panel(
                    "Asked for by queued jobs",
                    "GPUs of all classes, of those who ask for most.",
                    (
                        Query(
                            _largest(f"sov_tenant_pending_gpus{{{TENANT}, {ALL}}}"),
                            "{{tenant}}",
                        ),
                    ),
                    kind="stat",
                    unit="locale",
                ),
            ),
        ),
        Row(
            height=9,
            panels=(
                Panel(
                    "By class",
                    "GPUs in use, guaranteed, borrowed, at most, and asked for by queued"
                    " jobs that accept no other class.",
                    (
                        Query(_by_class("sov_tenant_gpus_allocated"), "in use"),
                        Query(_by_class("sov_tenant_gpus_guaranteed"), "guaranteed"),
                        Query(_borrowed(), "borrowed"),
                        Query(_by_class("sov_tenant_gpus_limit"), "limit"),
                        Query(_by_class("sov_tenant_pending_gpus"), "asked for, no other"),
                    ),
                    kind="table",
                    unit="locale",
                    labels=(("tenant", "tenant"), ("gpu_class", "class")),
                ),
            ),
        ),
        Row(
            (
                Panel(
                    "In use, by class",
                    "GPUs that live work holds.",
                    (
                        Query(
                            _by_class("sov_tenant_gpus_allocated"),
                            "{{tenant}} {{gpu_class}}",
                        ),
                    ),
                    unit="locale",
                ),
                Panel(
                    "Share of the limit in use",
                    "At 100 % nothing more starts, however much is free.",
                    (
                        Query(
                            f"{_by_class('sov_tenant_gpus_allocated')}"
                            f" / ({_by_class('sov_tenant_gpus_limit')} > 0)",
                            "{{tenant}} {{gpu_class}}",
                        ),
                    ),
                    unit="percentunit",
                ),
            )
        ),
        Row(
            (
                Panel(
                    "Borrowed",
                    "In use beyond the guarantee: it lasts until the lender wants it back.",
                    (Query(_borrowed(), "{{tenant}} {{gpu_class}}"),),
                    unit="locale",
                ),
                Panel(
                    "Waiting",
                    "GPUs that queued jobs ask for, of all classes.",
                    (
                        Query(
                            f"sum by (tenant) (sov_tenant_pending_gpus{{{TENANT}, {ALL}}})",
                            "{{tenant}}",
                        ),
                    ),
                    unit="locale",
                ),
                Panel(
                    "Share of the fleet",
                    "Of all GPUs that take work.",
                    (
                        Query(
                            f"sum by (tenant) (sov_tenant_gpus_allocated{{{TENANT}, {ALL}}})"
                            " / on () group_left () (sum(sov_site_gpus_schedulable) > 0)",
                            "{{tenant}}",
                        ),
                    ),
                    unit="percentunit",
                ),
            )
        ),
    ),
)
