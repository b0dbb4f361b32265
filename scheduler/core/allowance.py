"""What a tenant may still take, by quota, by budget and under an agreement, as the planner's state
stands."""

from __future__ import annotations

from collections.abc import Sequence
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
    fleet: FleetState, job_class: JobClass, agreements: Sequence[str], milli: int, now_ms: int
) -> tuple[Denial, ...]:
    """Every cap that `milli` more for a job of the class would break, where each of `agreements`
    has one; nothing where any of them has room, or none is needed."""
    if not agreements:
        return ()
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    return fleet.agreements.over(agreements, milli, cost_gpu_ms, now_ms)


def within_caps(
    fleet: FleetState, job_class: JobClass, answer: Answer, milli: int, now_ms: int
) -> Answer:
    """`answer` without the sites none of whose agreements has so much left."""
    full = [
        number
        for number, names in answer.agreed.items()
        if over_caps(fleet, job_class, names, milli, now_ms)
    ]
    if not full:
        return answer
    return replace(answer, classes=tuple(where.without(full) for where in answer.classes))


def hold(
    fleet: FleetState, job_class: JobClass, agreements: Sequence[str], milli: int, now_ms: int
) -> str:
    """A placement holds so much of the caps of the first of `agreements` that has room; which."""
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    name = fleet.agreements.admitting(agreements, milli, cost_gpu_ms, now_ms)
    fleet.agreements.hold(name, milli, cost_gpu_ms, now_ms)
    return name


def give_back(
    fleet: FleetState, job_class: JobClass, agreement: str, milli: int, now_ms: int
) -> None:
    """What a placement held under an agreement, as `hold` said, is free again."""
    cost_gpu_ms = gpu_ms(milli, job_class.time_limit_bucket_ms)
    fleet.agreements.hold(agreement, -milli, -cost_gpu_ms, now_ms)
