"""What attempts that are over have used: by tenant, GPU class and the day they were placed on.

Written in the transaction that ends an attempt, with the leaf that says so (`leaves.moved`), and
never changed by anything else: `rebuild_usage` folds the leaves to the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import func, select

from scheduler.core.budgets import BUDGET_DAYS
from scheduler.core.quota import QuotaTree
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.tenancy import SettledUse
from scheduler.store.bulk import How, inserting
from scheduler.store.link import Link
from scheduler.store.schema import SETTLED
from scheduler.store.scratch import ChangeKind, Scratch

SEPARATOR = "|"
"""Between the parts of a change's key: no name has one."""
LINES_CACHED_MAX = 50_000
"""Lines that the writer remembers; past it they are all dropped and read again."""

_PUT = inserting(SETTLED, How.REPLACE)


class UsageReader:
    """Reads what was used."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def get(self, tenant: TenantPath, gpu_class: GpuClass, day: int) -> SettledUse:
        """One line; of nothing where nothing was used."""
        mine = (SETTLED.c.tenant == tenant, SETTLED.c.gpu_class == gpu_class, SETTLED.c.day == day)
        row = self._link.execute(select(SETTLED).where(*mine)).first()
        return SettledUse(tenant, gpu_class, day) if row is None else _use(row)

    def of_days(
        self, first_day: int, end_day: int, under: TenantPath | None = None
    ) -> Iterator[SettledUse]:
        """What was placed from `first_day` up to `end_day`, without it; in a fixed order."""
        query = select(SETTLED).where(SETTLED.c.day >= first_day, SETTLED.c.day < end_day)
        if under is not None:
            # The character after "/" is "0": every path below begins between the two.
            below = (SETTLED.c.tenant > f"{under}/") & (SETTLED.c.tenant < f"{under}0")
            query = query.where((SETTLED.c.tenant == under) | below)
        query = query.order_by(SETTLED.c.tenant, SETTLED.c.gpu_class, SETTLED.c.day)
        for row in self._link.execute(query):
            yield _use(row)

    def for_budgets(self, tree: QuotaTree) -> Iterator[SettledUse]:
        """All that a budget of `tree` may ask about: the longest period before the newest day."""
        lengths = [
            budget.days or BUDGET_DAYS[budget.period]
            for tenant in tree.tenants.values()
            for budget in tenant.budgets
        ]
        newest = self._link.execute(select(func.max(SETTLED.c.day))).scalar()
        if lengths and newest is not None:
            yield from self.of_days(newest - max(lengths), newest + 1)

    def changed(self, key: str) -> SettledUse:
        """What a change with this key is about, as it is now."""
        day, gpu_class, tenant = key.split(SEPARATOR)
        return self.get(TenantPath(tenant), GpuClass(gpu_class), int(day))


class UsageWriter(UsageReader):
    """Adds what an attempt has used."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def reserve(
        self, tenant: TenantPath, gpu_class: GpuClass, cost_gpu_ms: int, placed_at_ms: int
    ) -> None:
        """A live attempt holds `cost_gpu_ms` of every budget over it; negative gives it back.

        Derived: nothing is written. Until somebody asks for the book there is none to keep.
        """
        book = self._scratch.memo.book
        if book is not None:
            book.hold(tenant, gpu_class, cost_gpu_ms, placed_at_ms)
            self._scratch.undo.append(
                lambda: book.hold(tenant, gpu_class, -cost_gpu_ms, placed_at_ms)
            )

    def add(self, use: SettledUse, *, budgeted: bool) -> None:
        """`use` more. `budgeted`: a budget bears it, so the planner is told."""
        line = (use.tenant, use.gpu_class, use.day)
        before = self._scratch.memo.settled.get(line) or self.get(*line)
        after = SettledUse(
            *line,
            charged_gpu_ms=before.charged_gpu_ms + use.charged_gpu_ms,
            refunded_gpu_ms=before.refunded_gpu_ms + use.refunded_gpu_ms,
            attempts=before.attempts + use.attempts,
        )
        sums = (after.charged_gpu_ms, after.refunded_gpu_ms, after.attempts)
        self._link.do(_PUT, (*line, *sums))
        self._remember(line, after)
        book = self._scratch.memo.book
        if book is not None:
            book.settle(replace(before, charged_gpu_ms=after.charged_gpu_ms))
            self._scratch.undo.append(lambda: book.settle(before))
        if budgeted:
            key = SEPARATOR.join((str(use.day), use.gpu_class, use.tenant))
            self._scratch.changed(ChangeKind.BUDGET, key)

    def _remember(self, line: tuple[TenantPath, GpuClass, int], now: SettledUse) -> None:
        settled = self._scratch.memo.settled
        if len(settled) >= LINES_CACHED_MAX:
            settled.clear()
        settled[line] = now
        self._scratch.undo.append(lambda: settled.pop(line, None))


def _use(row: Any) -> SettledUse:
    return SettledUse(
        tenant=TenantPath(row.tenant),
        gpu_class=GpuClass(row.gpu_class),
        day=row.day,
        charged_gpu_ms=row.charged_gpu_ms,
        refunded_gpu_ms=row.refunded_gpu_ms,
        attempts=row.attempts,
    )
