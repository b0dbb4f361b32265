"""What was used and what budgets have left, as callers are shown it. Reads only.

What a project is shown of a node above it is that there is a budget, not what its siblings spent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scheduler.control.views import scope
from scheduler.core.budgets import Book, day_of, gpu_ms, window
from scheduler.model.identity import Principal
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.model.tenancy import Budget
from scheduler.store.records import LiveUse
from scheduler.store.store import Snapshot

DAYS_MAX = 3_660
"""The most days that one question about usage spans."""


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """A budget in its present period."""

    tenant: TenantPath
    budget: Budget
    first_day: int
    end_day: int
    reserved_gpu_ms: int
    charged_gpu_ms: int

    def left_gpu_ms(self) -> int:
        """What may still be reserved."""
        return max(0, self.budget.amount_gpu_ms - self.reserved_gpu_ms - self.charged_gpu_ms)


@dataclass(frozen=True, slots=True)
class UsageLine:
    """What one tenant's own work used of one GPU class, of what was placed in a span of days."""

    tenant: TenantPath
    gpu_class: GpuClass
    charged_gpu_ms: int = 0
    refunded_gpu_ms: int = 0
    running_gpu_ms: int = 0
    attempts: int = 0


def budget_lines(
    read: Snapshot, principal: Principal, tenant: TenantPath | None, now_ms: int
) -> tuple[BudgetLine, ...]:
    """The budgets in force at `tenant` and below it, and what is left of them."""
    under, tree, day = scope(principal, tenant), read.tenancy.tree(), day_of(now_ms)
    if not tree.has_budgets:
        return ()
    over, live = Book(tree, read.usage.for_budgets(tree)), Book(tree)
    for use in read.attempts.live_uses():
        cost = gpu_ms(use.gpu_milli, _limit_ms(read, use))
        live.hold(use.tenant, use.gpu_class, cost, use.placed_at_ms)
    lines: list[BudgetLine] = []
    for node in tree.tenants.values():
        if under is not None and node.path != under and not node.path.startswith(f"{under}/"):
            continue
        for budget in sorted(node.budgets):
            if (period := window(budget, day)) is not None:
                reserved = live.spent(node.path, budget, day)
                charged = over.spent(node.path, budget, day)
                line = BudgetLine(node.path, budget, period.first, period.end, reserved, charged)
                lines.append(line)
    return tuple(lines)


def usage_lines(
    read: Snapshot,
    principal: Principal,
    tenant: TenantPath | None,
    *,
    first_day: int,
    end_day: int,
    now_ms: int,
) -> tuple[UsageLine, ...]:
    """What was used of what was placed on the days from `first_day` up to `end_day`."""
    if not 0 <= first_day < end_day or end_day - first_day > DAYS_MAX:
        detail = f"found days {first_day} to {end_day}, allowed 1 to {DAYS_MAX} days"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "since_ms"))
    under = scope(principal, tenant)
    sums: dict[tuple[TenantPath, GpuClass], UsageLine] = {}
    for use in read.usage.of_days(first_day, end_day, under):
        key = (use.tenant, use.gpu_class)
        line = sums.get(key) or UsageLine(*key)
        sums[key] = replace(
            line,
            charged_gpu_ms=line.charged_gpu_ms + use.charged_gpu_ms,
            refunded_gpu_ms=line.refunded_gpu_ms + use.refunded_gpu_ms,
            attempts=line.attempts + use.attempts,
        )
    for held in read.attempts.live_uses(under):
        if first_day <= day_of(held.placed_at_ms) < end_day:
            key = (held.tenant, held.gpu_class)
            line = sums.get(key) or UsageLine(*key)
            used = gpu_ms(held.gpu_milli, now_ms - held.placed_at_ms)
            sums[key] = replace(line, running_gpu_ms=line.running_gpu_ms + used)
    return tuple(sums[key] for key in sorted(sums))


def _limit_ms(read: Snapshot, use: LiveUse) -> int:
    return read.jobs.job_class(use.class_id).time_limit_bucket_ms
