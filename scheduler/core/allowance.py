"""What a tenant may still take, by quota and by budget, as the planner's state stands."""

from __future__ import annotations

from scheduler.core.budgets import gpu_ms
from scheduler.core.fleet import FleetState
from scheduler.core.quota import fits, within
from scheduler.model.ids import GpuClass
from scheduler.model.plan import JobClass
from scheduler.model.reasons import Denial


def allows(
    fleet: FleetState, job_class: JobClass, gpu_class: GpuClass, milli: int, now_ms: int
) -> bool:
    """Whether `denials` has nothing to say; for the planner's inner loop."""
    tenant = job_class.tenant
    if not within(fleet.tree, fleet.usage, tenant, gpu_class, milli):
        return False
    if not fleet.tree.has_budgets:
        return True
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    return fleet.book.affords(tenant, gpu_class, cost_gpu_ms, now_ms)


def denials(
    fleet: FleetState, job_class: JobClass, gpu_class: GpuClass, milli: int, now_ms: int
) -> tuple[Denial, ...]:
    """Everything of quota and budgets that `milli` more for a job of the class would break."""
    tenant = job_class.tenant
    found = fits(fleet.tree, fleet.usage, tenant, gpu_class, milli)
    if not fleet.tree.has_budgets:
        return found
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    return found + fleet.book.lacking(tenant, gpu_class, cost_gpu_ms, now_ms)
