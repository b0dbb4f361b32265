"""How long work waits before it counts as more than it was submitted as.

For every AGEING_MAX_MS that a job has waited it counts as one priority class higher. So after
STARVATION_BOUND_MS it stands before everything in its project that is younger, and nothing that was
submitted more than the bound after it ever goes before it. In a project with `queue_order:
shortest`, a job that has waited SHORTEST_WAIT_MAX_MS, and SHORTEST_PATIENCE times its time limit,
goes by age before those that have not.
"""

from __future__ import annotations

from scheduler.model.job import Priority
from scheduler.model.tenancy import QueueOrder

SHORTEST_WAIT_MAX_MS = 7 * 24 * 3600 * 1000
"""In a `shortest` project, a job that has waited this long goes by age, ..."""

SHORTEST_PATIENCE = 30
"""... if that is so many times its own time limit: where the queue is longer than a week, going by
age sooner would make every queue one by age. On two recorded workloads that are overloaded for
weeks, mean completion times were 1.5 to 4 times as long without it."""

AGEING_MAX_MS = SHORTEST_WAIT_MAX_MS // 2
"""A job waits this long in one priority class, and then counts as of the next higher one."""

STARVATION_BOUND_MS = max(SHORTEST_WAIT_MAX_MS, AGEING_MAX_MS * (Priority.HIGH - Priority.SPOT))
"""No job of a project is overtaken by one that was submitted more than this after it; in a
`shortest` project, than SHORTEST_PATIENCE times its time limit where that is longer."""

NEVER_MS = (1 << 63) - 1
"""Later than any moment."""


def ageing_ms(order: QueueOrder, time_limit_ms: int) -> int:
    """How long a job waits in one priority class before it counts as of the next higher one."""
    if order is not QueueOrder.SHORTEST:
        return AGEING_MAX_MS
    return max(AGEING_MAX_MS, time_limit_ms * SHORTEST_PATIENCE // 2)


def rank_of(priority: Priority, waited_ms: int, step_ms: int = AGEING_MAX_MS) -> int:
    """The priority class that a job counts as by now; `step_ms` is its `ageing_ms`."""
    return min(Priority.HIGH, priority + max(0, waited_ms) // step_ms)


def submitted_by_ms(priority: Priority, rank: int, now_ms: int) -> int:
    """When a job of `priority` that ranks so or higher now was submitted at the latest."""
    if rank <= priority:
        return NEVER_MS
    return -NEVER_MS if rank > Priority.HIGH else now_ms - (rank - priority) * AGEING_MAX_MS
