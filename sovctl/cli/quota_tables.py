"""Rows and columns of quota, budgets and usage."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from sovapi.v1 import tenants_pb2
from sovctl.cli.documents import message_document
from sovctl.cli.output import Column, Listing
from sovctl.spec_values import format_milli

GPU_HOUR_MS = 3600 * 1000
JOULES_IN_KWH = 3_600_000
_FIRST_DAY = date(1970, 1, 1)
_NUMBER = "right"


def quota(lines: Iterable[tenants_pb2.QuotaLine]) -> Listing:
    """Guarantee, limit and use."""
    listed = list(lines)
    joint = any(line.shares or line.given_milli for line in listed)
    return Listing(
        columns=[
            Column("TENANT"),
            Column("GPU"),
            Column("GUARANTEE", justify=_NUMBER),
            Column("LIMIT", justify=_NUMBER),
            Column("USED", justify=_NUMBER),
            Column("BORROWED", justify=_NUMBER),
            Column("LENT", justify=_NUMBER),
            Column("QUEUED", justify=_NUMBER),
            Column("MAY BORROW", wide=True, justify=_NUMBER),
            Column("MAY LEND", wide=True, justify=_NUMBER),
            Column("WEIGHT", wide=True, justify=_NUMBER),
            *([Column("SHARES")] if joint else []),
        ],
        rows=[
            [
                line.tenant,
                gpu_name(line.gpu_class),
                format_milli(line.guarantee_milli) if line.HasField("guarantee_milli") else "-",
                format_milli(line.limit_milli) if line.HasField("limit_milli") else "none",
                format_milli(line.used_milli),
                format_milli(line.borrowed_milli),
                format_milli(line.lent_milli),
                format_milli(line.queued_milli),
                _optional(line, "borrow_limit_milli"),
                _optional(line, "lend_limit_milli"),
                str(line.weight) if line.weight else "-",
                *([_shares(line)] if joint else []),
            ]
            for line in listed
        ],
        documents=[message_document(line) for line in listed],
        names=[f"{line.tenant} {line.gpu_class}" for line in listed],
        empty="no quota",
    )


def budgets(lines: Iterable[tenants_pb2.BudgetLine]) -> Listing:
    """What is left of each budget in its present period, in GPU-hours."""
    listed = list(lines)
    return Listing(
        columns=[
            Column("TENANT"),
            Column("GPU"),
            Column("GPU-HOURS", justify=_NUMBER),
            Column("PERIOD"),
            Column("RESERVED", justify=_NUMBER),
            Column("USED", justify=_NUMBER),
            Column("LEFT", justify=_NUMBER),
        ],
        rows=[
            [
                line.tenant,
                gpu_name(line.budget.gpu_class),
                gpu_hours(line.budget.amount_gpu_ms),
                f"{day(line.first_day)} to {day(line.end_day)}",
                gpu_hours(line.reserved_gpu_ms),
                gpu_hours(line.charged_gpu_ms),
                gpu_hours(line.left_gpu_ms),
            ]
            for line in listed
        ],
        documents=[message_document(line) for line in listed],
        names=[f"{line.tenant} {line.budget.gpu_class}" for line in listed],
        empty="no budget",
    )


def usage(response: tenants_pb2.GetUsageResponse) -> Listing:
    """GPU-hours by project and class, and energy where it is measured."""
    listed = list(response.lines)
    return Listing(
        columns=[
            Column("TENANT"),
            Column("GPU"),
            Column("GPU-HOURS", justify=_NUMBER),
            Column("RUNNING", justify=_NUMBER),
            Column("REFUNDED", justify=_NUMBER),
            Column("KWH", justify=_NUMBER),
            Column("CO2E KG", justify=_NUMBER),
            Column("ATTEMPTS", wide=True, justify=_NUMBER),
        ],
        rows=[
            [
                line.tenant,
                line.gpu_class or "none",
                gpu_hours(line.charged_gpu_ms),
                gpu_hours(line.running_gpu_ms),
                gpu_hours(line.refunded_gpu_ms),
                *_energy(line),
                str(line.attempts),
            ]
            for line in listed
        ],
        documents=[message_document(line) for line in listed],
        names=[f"{line.tenant} {line.gpu_class}" for line in listed],
        empty=f"nothing was placed since {day(response.first_day)}",
    )


def gpu_name(gpu_class: str) -> str:
    """A GPU class as a table names it."""
    return "all" if gpu_class == "*" else gpu_class


def gpu_hours(amount_gpu_ms: int) -> str:
    """GPU-hours with at most two decimals, rounded down: "12", "0.25"."""
    whole, rest = divmod(amount_gpu_ms * 100 // GPU_HOUR_MS, 100)
    return str(whole) if not rest else f"{whole}.{rest:02}".rstrip("0")


def day(number: int) -> str:
    """A day counted from 1970-01-01, as a date."""
    return (_FIRST_DAY + timedelta(days=number)).isoformat()


def _energy(line: tenants_pb2.UsageLine) -> tuple[str, str]:
    if not line.energy_measured:
        return "not measured", "not measured"
    kwh_milli = line.energy_mj // JOULES_IN_KWH
    return format_milli(kwh_milli), format_milli(line.co2e_mg // 1000)


def _shares(line: tenants_pb2.QuotaLine) -> str:
    """What of a limit came from others, or went to them."""
    came = [
        f"{format_milli(share.limit_milli)} of {share.of}"
        + ("" if share.since_ms else f" (not in force: {share.agreement})")
        for share in line.shares
    ]
    gone = [f"gives {format_milli(line.given_milli)}"] if line.given_milli else []
    return ", ".join((*came, *gone)) or "-"


def _optional(line: tenants_pb2.QuotaLine, name: str) -> str:
    return format_milli(getattr(line, name)) if line.HasField(name) else "any"
