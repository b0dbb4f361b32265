"""GPU time that a tenant may spend in a period, and what of it is spent.

* At placement the whole time limit of an attempt is *reserved* (escrow): its GPUs times the bucket
  that its time limit falls into (`classes`), which is the limit itself for limits in common use and
  at most a thirtieth more.
* When the attempt is over it is *settled*: charged what it used, at most what was reserved.
* What a fault of the hardware destroyed is *refunded*: an attempt that ended for a reason in
  `lifecycle.HARDWARE_REASONS` is charged nothing.

All of it counts in the period in which the attempt was placed, however long it runs, at the tenant
and at everything above it that has a budget. Reservations are derived from live attempts; what is
settled is stored for each day. As nothing is charged beyond what was reserved, and nothing is
reserved beyond what is left, what is charged never passes a budget, unless it is lowered.

Amounts are GPU-milliseconds: milli-GPU times milliseconds, over 1000, rounded down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from scheduler.core.quota import ALL_CLASSES, QuotaTree, lineage
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.plan import LiveAttempt
from scheduler.model.reasons import Denial, Reason
from scheduler.model.tenancy import Budget, BudgetPeriod, SettledUse

DAY_MS = 24 * 3600 * 1000
GPU_HOUR_MS = 3600 * 1000
MONTHS_IN_QUARTER = 3
BUDGET_DAYS = {BudgetPeriod.MONTH: 31, BudgetPeriod.QUARTER: 92}
"""The longest that a period of the calendar lasts."""
WINDOWS_MAX = 65_536
"""Periods that are remembered."""
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The days of one period: from `first` up to, and without, `end`."""

    first: int
    end: int

    def has(self, day: int) -> bool:
        """Whether `day` is one of them."""
        return self.first <= day < self.end


def day_of(at_ms: int) -> int:
    """The day, UTC, counted from 1970-01-01."""
    return at_ms // DAY_MS


def day_named(day: int) -> str:
    """A day as people write it."""
    return (_EPOCH + timedelta(days=day)).isoformat()


@lru_cache(maxsize=WINDOWS_MAX)
def window(budget: Budget, day: int) -> Window | None:
    """The period that `day` falls into; None where the budget is not in force."""
    if day < budget.from_day or (budget.until_day is not None and day >= budget.until_day):
        return None
    if budget.period is BudgetPeriod.DAYS:
        first = day - (day - budget.from_day) % budget.days
        whole = Window(first, first + budget.days)
    else:
        whole = _calendar(day, 1 if budget.period is BudgetPeriod.MONTH else MONTHS_IN_QUARTER)
    end = whole.end if budget.until_day is None else min(whole.end, budget.until_day)
    return Window(max(whole.first, budget.from_day), end)


def _calendar(day: int, months: int) -> Window:
    at = datetime.fromtimestamp(day * DAY_MS // 1000, tz=UTC).date()
    first_month = (at.month - 1) // months * months
    following = first_month + months
    first = date(at.year, first_month + 1, 1)
    end = date(at.year + following // 12, following % 12 + 1, 1)
    return Window((first - _EPOCH).days, (end - _EPOCH).days)


def gpu_ms(gpu_milli: int, duration_ms: int) -> int:
    """GPU time, in GPU-milliseconds."""
    return gpu_milli * max(0, duration_ms) // 1000


def settled(gpu_milli: int, limit_ms: int, placed_at_ms: int, ended_at_ms: int) -> int:
    """What an attempt has used, and at most what was reserved for it."""
    return gpu_ms(gpu_milli, min(ended_at_ms - placed_at_ms, limit_ms))


def budgets_over(
    tree: QuotaTree, tenant: TenantPath, gpu_class: GpuClass
) -> Iterable[tuple[TenantPath, Budget]]:
    """Every budget that bears work of `tenant` on `gpu_class`: whose, and which."""
    for path in lineage(tenant):
        if (node := tree.tenants.get(path)) is not None:
            for budget in node.budgets:
                if budget.gpu_class in (gpu_class, ALL_CLASSES):
                    yield path, budget


def never_affordable(
    tree: QuotaTree, tenant: TenantPath, gpu_class: GpuClass, cost_gpu_ms: int, now_ms: int
) -> tuple[Denial, ...]:
    """The budgets that are too small for the work with nothing spent, and are there for good."""
    day = day_of(now_ms)
    return tuple(
        Denial(
            Reason.BUDGET_EXHAUSTED,
            f"{_named(budget)}: it would reserve {hours(cost_gpu_ms)} GPU-hours,"
            f" a whole period has {hours(budget.amount_gpu_ms)}",
            path,
        )
        for path, budget in budgets_over(tree, tenant, gpu_class)
        if cost_gpu_ms > budget.amount_gpu_ms
        and budget.until_day is None
        and window(budget, day) is not None
    )


class _Line:
    """One budget of one node, and what is spent of it in the period last asked about."""

    __slots__ = ("budget", "end", "first", "path", "spent_gpu_ms")

    def __init__(self, path: TenantPath, budget: Budget) -> None:
        self.path = path
        self.budget = budget
        self.first = self.end = 0
        self.spent_gpu_ms = 0


class Book:
    """What is reserved and settled, by tenant, GPU class and day, and the sums that budgets ask.

    Sums are kept for the period that was last asked about, and follow each change: a question
    costs a few look-ups, whatever was spent.
    """

    def __init__(self, tree: QuotaTree, entries: Iterable[SettledUse] = ()) -> None:
        self.tree = tree
        self._spent: dict[tuple[TenantPath, GpuClass], dict[int, int]] = {}
        self._settled: dict[tuple[TenantPath, GpuClass, int], int] = {}
        self._lines = {
            (path, budget): _Line(path, budget)
            for path, tenant in tree.tenants.items()
            for budget in tenant.budgets
        }
        self._over: dict[tuple[TenantPath, GpuClass], tuple[_Line, ...]] = {}
        for entry in entries:
            self.settle(entry)

    @classmethod
    def of_live(cls, tree: QuotaTree, live: Iterable[LiveAttempt]) -> Book:
        """What live attempts have reserved under `tree`; what is settled is told anew."""
        book = cls(tree)
        for attempt in live if tree.has_budgets else ():
            book.reserve(attempt)
        return book

    def settle(self, entry: SettledUse) -> None:
        """What is settled of one tenant, class and day is now this: absolute."""
        key = (entry.tenant, entry.gpu_class, entry.day)
        before = self._settled.pop(key, 0)
        if entry.charged_gpu_ms:
            self._settled[key] = entry.charged_gpu_ms
        self._add(entry.tenant, entry.gpu_class, entry.day, entry.charged_gpu_ms - before)

    def reserve(self, live: LiveAttempt) -> None:
        """A live attempt holds its escrow."""
        day = day_of(live.placed_at_ms)
        self._add(live.tenant, live.placement.gpu_class, day, escrow_of(live))

    def release(self, live: LiveAttempt) -> None:
        """It does not any more."""
        day = day_of(live.placed_at_ms)
        self._add(live.tenant, live.placement.gpu_class, day, -escrow_of(live))

    def hold(self, tenant: TenantPath, gpu_class: GpuClass, cost_gpu_ms: int, now_ms: int) -> None:
        """What a placement made now would reserve; a negative amount takes it back."""
        self._add(tenant, gpu_class, day_of(now_ms), cost_gpu_ms)

    def spent(self, path: TenantPath, budget: Budget, day: int) -> int:
        """What is reserved and settled of a budget in the period of `day`."""
        return self._sum(self._lines[path, budget], day) or 0

    def affords(
        self, tenant: TenantPath, gpu_class: GpuClass, cost_gpu_ms: int, now_ms: int
    ) -> bool:
        """Whether every budget over the tenant bears `cost_gpu_ms` more."""
        day = day_of(now_ms)
        for line in self._lines_over(tenant, gpu_class):
            spent = line.spent_gpu_ms if line.first <= day < line.end else self._sum(line, day)
            if spent is not None and spent + cost_gpu_ms > line.budget.amount_gpu_ms:
                return False
        return True

    def lacking(
        self, tenant: TenantPath, gpu_class: GpuClass, cost_gpu_ms: int, now_ms: int
    ) -> tuple[Denial, ...]:
        """Every budget that does not bear `cost_gpu_ms` more."""
        day = day_of(now_ms)
        denials: list[Denial] = []
        for line in self._lines_over(tenant, gpu_class):
            path, budget, spent = line.path, line.budget, self._sum(line, day)
            if spent is None:
                continue
            left = budget.amount_gpu_ms - spent
            if cost_gpu_ms > left:
                detail = (
                    f"{_named(budget)}: {hours(max(0, left))} of {hours(budget.amount_gpu_ms)}"
                    f" GPU-hours are left until {day_named(line.end)}, it would reserve"
                    f" {hours(cost_gpu_ms)}"
                )
                denials.append(Denial(Reason.BUDGET_EXHAUSTED, detail, path))
        return tuple(denials)

    def next_period_ms(self, tenant: TenantPath, now_ms: int) -> int | None:
        """When a budget over the tenant next begins or ends a period; None: never."""
        day, found = day_of(now_ms), list[int]()
        for path in lineage(tenant):
            for budget in self.tree.tenants[path].budgets if path in self.tree.tenants else ():
                period = window(budget, day)
                if period is not None:
                    found.append(period.end)
                elif day < budget.from_day:
                    found.append(budget.from_day)
        return min(found) * DAY_MS if found else None

    def _add(self, tenant: TenantPath, gpu_class: GpuClass, day: int, amount_gpu_ms: int) -> None:
        if not amount_gpu_ms:
            return
        days = self._spent.setdefault((tenant, gpu_class), {})
        days[day] = days.get(day, 0) + amount_gpu_ms
        if not days[day]:
            del days[day]
            if not days:
                del self._spent[tenant, gpu_class]
        for line in self._lines_over(tenant, gpu_class):
            if line.first <= day < line.end:
                line.spent_gpu_ms += amount_gpu_ms

    def _lines_over(self, tenant: TenantPath, gpu_class: GpuClass) -> tuple[_Line, ...]:
        """The budgets that bear work of `tenant` on `gpu_class`."""
        key = (tenant, gpu_class)
        known = self._over.get(key)
        if known is None:
            known = self._over[key] = tuple(
                self._lines[path, budget]
                for path, budget in budgets_over(self.tree, tenant, gpu_class)
            )
        return known

    def _sum(self, line: _Line, day: int) -> int | None:
        """What is spent of a line in the period of `day`; None: it is not in force then."""
        if not line.first <= day < line.end:
            period = window(line.budget, day)
            if period is None:
                return None
            line.first, line.end = period.first, period.end
            line.spent_gpu_ms = self._count(line.path, line.budget.gpu_class, period)
        return line.spent_gpu_ms

    def _count(self, path: TenantPath, name: GpuClass, period: Window) -> int:
        return sum(
            amount
            for (tenant, gpu_class), days in self._spent.items()
            if name in (gpu_class, ALL_CLASSES)
            and (tenant == path or tenant.startswith(f"{path}/"))
            for day, amount in days.items()
            if period.has(day)
        )

    def settlements(self) -> tuple[SettledUse, ...]:
        """What is settled, as it was told."""
        return tuple(
            SettledUse(tenant, gpu_class, day, self._settled[tenant, gpu_class, day])
            for tenant, gpu_class, day in sorted(self._settled)
        )

    def facts(self) -> Mapping[tuple[TenantPath, GpuClass], Mapping[int, int]]:
        """All that is spent, comparable."""
        return self._spent


def escrow_of(live: LiveAttempt) -> int:
    """What a live attempt has reserved."""
    return gpu_ms(live.placement.gpu_milli, live.job_class.time_limit_bucket_ms)


def hours(amount_gpu_ms: int) -> str:
    """GPU-milliseconds as GPU-hours with at most two decimals, rounded down."""
    hundredths = amount_gpu_ms * 100 // GPU_HOUR_MS
    whole, rest = divmod(hundredths, 100)
    return str(whole) if not rest else f"{whole}.{rest:02}".rstrip("0")


def _named(budget: Budget) -> str:
    what = "GPUs of all classes" if budget.gpu_class == ALL_CLASSES else f"{budget.gpu_class} GPUs"
    length = f"{budget.days} days" if budget.period is BudgetPeriod.DAYS else budget.period.name
    return f"budget of {what} per {length.lower()}"
