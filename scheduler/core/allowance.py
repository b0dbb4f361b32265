"""What a tenant may still take, by quota, by budget and under an agreement, as the planner's state
stands."""

from __future__ import annotations

from dataclasses import replace

from scheduler.core.answers import Answer
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


def over_caps(
    fleet: FleetState, job_class: JobClass, agreement: str, milli: int, now_ms: int
) -> tuple[Denial, ...]:
    """Every cap of `agreement` that `milli` more for a job of the class would break; "": none."""
    if not agreement:
        return ()
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    return fleet.agreements.denials(agreement, milli, cost_gpu_ms, now_ms)


def within_caps(
    fleet: FleetState, job_class: JobClass, answer: Answer, milli: int, now_ms: int
) -> Answer:
    """`answer` without the sites whose agreement has not so much left."""
    full = [
        number
        for number, name in answer.agreed.items()
        if over_caps(fleet, job_class, name, milli, now_ms)
    ]
    if not full:
        return answer
    return replace(answer, classes=tuple(where.without(full) for where in answer.classes))


def hold(fleet: FleetState, job_class: JobClass, agreement: str, milli: int, now_ms: int) -> None:
    """A placement under `agreement` holds so much of its caps; a negative amount gives it back."""
    cost_gpu_ms = gpu_ms(abs(milli), job_class.time_limit_bucket_ms)
    cost_gpu_ms = cost_gpu_ms if milli >= 0 else -cost_gpu_ms
    fleet.agreements.hold(agreement, milli, cost_gpu_ms, now_ms)
