"""The tenant tree, its quotas and budgets.

What is held now is never stored: it is derived from live placements. What was used by attempts that
are over is kept for each day (`store/usage.py`), because the attempts themselves may be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scheduler.model.ids import GpuClass, TenantPath


class QueueOrder(IntEnum):
    """Order inside a project, after priority."""

    UNSPECIFIED = 0
    AGE = 1
    SHORTEST = 2


@dataclass(frozen=True, slots=True, order=True)
class GpuQuota:
    """Quota of one GPU class at one node of the tree; the class "*" stands for all together."""

    gpu_class: GpuClass
    guarantee_milli: int = 0
    limit_milli: int | None = None
    weight: int = 0
    """Of this class in fair order; 0: the tenant's."""
    borrow_limit_milli: int | None = None
    """The most above its guarantee; None: as much as the limit allows."""
    lend_limit_milli: int | None = None
    """The most of its idle guarantee that others may use; None: all of it."""

    def ceiling_milli(self) -> int | None:
        """The most that may be in use: limit, or guarantee and what may be borrowed, the lower."""
        if self.borrow_limit_milli is None:
            return self.limit_milli
        borrowed = self.guarantee_milli + self.borrow_limit_milli
        return borrowed if self.limit_milli is None else min(self.limit_milli, borrowed)

    def kept_milli(self) -> int:
        """How much of the guarantee is never lent: it stands free while its owner is idle."""
        if self.lend_limit_milli is None:
            return 0
        return max(0, self.guarantee_milli - self.lend_limit_milli)


class BudgetPeriod(IntEnum):
    """How long an amount lasts. All periods begin at midnight, UTC."""

    UNSPECIFIED = 0
    MONTH = 1
    QUARTER = 2
    DAYS = 3


@dataclass(frozen=True, slots=True, order=True)
class Budget:
    """GPU time that a node of the tree may spend in each period, on one GPU class or on all ("*").

    In GPU-milliseconds: one GPU for one millisecond. Days are counted from 1970-01-01, UTC.
    """

    gpu_class: GpuClass
    amount_gpu_ms: int
    period: BudgetPeriod
    days: int = 0
    """The length of a period of DAYS; the first begins at `from_day`."""
    from_day: int = 0
    until_day: int | None = None
    """The first day on which it is not in force any more; None: for good."""


@dataclass(frozen=True, slots=True, order=True)
class Share:
    """What another tenant gives a joint project of its own quota, under an agreement."""

    of: TenantPath
    """Who gives."""
    agreement: str
    gpu_class: GpuClass
    guarantee_milli: int = 0
    limit_milli: int = 0
    since_ms: int = 0
    """When it last came into force; 0: it is not, because its agreement is not."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One node of the tree. A child's path starts with its parent's."""

    path: TenantPath
    weight: int = 1
    quotas: tuple[GpuQuota, ...] = ()
    queue_order: QueueOrder = QueueOrder.AGE
    max_queued_jobs: int = 100_000
    display_name: str = ""
    budgets: tuple[Budget, ...] = ()
    shares: tuple[Share, ...] = ()
    """What others give it: with any, it is a joint project."""


@dataclass(frozen=True, slots=True)
class SettledUse:
    """What attempts of one tenant that are over have used of one GPU class.

    They count on the day on which they were placed, however long they ran. `refunded_gpu_ms` is
    what faults of the hardware destroyed: it was used and is not charged.
    """

    tenant: TenantPath
    gpu_class: GpuClass
    day: int
    charged_gpu_ms: int = 0
    refunded_gpu_ms: int = 0
    attempts: int = 0
