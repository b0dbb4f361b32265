"""What a tenant tree must be to make sense: every fault at once, each naming its field.

Values by themselves (names, sizes) are judged where they are declared; here is what contradicts
something else: a child that is guaranteed more than its parent, a limit below a guarantee, two
budgets for the same days.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from scheduler.core.joint import all_in_force, given, gpus, share_faults
from scheduler.core.quota import lineage
from scheduler.model.ids import ALL_CLASSES, GpuClass, TenantPath
from scheduler.model.reasons import Denial, Reason
from scheduler.model.tenancy import Budget, BudgetPeriod, GpuQuota, Tenant

WEIGHT_MAX = 1_000_000
MILLI_MAX = 1_000_000_000_000
"""A billion GPUs: sums of quotas stay far from the end of 64 bits."""
BUDGET_GPU_MS_MAX = 1 << 53
BUDGET_DAYS_MAX = 3_660
DAY_MAX = 100_000
"""Days are counted from 1970: this one is in the year 2243."""


def tree_faults(tenants: Iterable[Tenant]) -> tuple[Denial, ...]:
    """Everything wrong with a tree as written."""
    listed = list(tenants)
    by_path: dict[TenantPath, Tenant] = {}
    faults: list[Denial] = []
    for at, tenant in enumerate(listed):
        where = f"tenants[{at}]"
        if tenant.path in by_path:
            faults.append(_fault(f"{where}.path", f"{tenant.path!r} is listed twice"))
        by_path.setdefault(tenant.path, tenant)
    for at, tenant in enumerate(listed):
        where = f"tenants[{at}]"
        parent = tenant.path.rpartition("/")[0]
        if parent and parent not in by_path:
            faults.append(_fault(f"{where}.path", f"parent {parent!r} is not in the tree"))
        if tenant.weight < 1:
            faults.append(_fault(f"{where}.weight", f"{tenant.weight}, allowed from 1"))
        faults += _quotas(where, tenant)
        faults += _budgets(where, tenant.budgets)
    faults += _consistent(listed, by_path)
    if any(tenant.shares for tenant in listed):
        faults += share_faults(listed)
        if not faults:
            moved = given(all_in_force(listed))
            faults += _consistent(moved, {tenant.path: tenant for tenant in moved})
    return tuple(faults)


def _consistent(listed: Sequence[Tenant], by_path: Mapping[TenantPath, Tenant]) -> Iterator[Denial]:
    """What contradicts a quota above it."""
    yield from _shares_of_children(listed, by_path)
    yield from _above_ancestors(listed, by_path)


def unknown_classes(tenants: Sequence[Tenant], declared: frozenset[GpuClass]) -> tuple[Denial, ...]:
    """GPU classes of quotas and budgets that no node of the declared fleet has."""
    known = declared | {ALL_CLASSES}
    has = ", ".join(sorted(declared)) or "none"
    return tuple(
        _fault(
            f"tenants[{at}].{kind}[{n}].gpu_class",
            f"found {name!r}, which no declared node has; the fleet has {has}",
        )
        for at, tenant in enumerate(tenants)
        for kind, names in (
            ("quotas", [quota.gpu_class for quota in tenant.quotas]),
            ("budgets", [budget.gpu_class for budget in tenant.budgets]),
            ("shares", [share.gpu_class for share in tenant.shares]),
        )
        for n, name in enumerate(names)
        if name not in known
    )


def overcommitted(
    tenants: Iterable[Tenant], capacity_milli: Mapping[GpuClass, int]
) -> tuple[str, ...]:
    """Classes of which organisations are guaranteed more, together, than the fleet has."""
    promised: dict[GpuClass, int] = {}
    for tenant in tenants:
        if "/" not in tenant.path:
            for quota in tenant.quotas:
                name = quota.gpu_class
                promised[name] = promised.get(name, 0) + quota.guarantee_milli
    had = {**capacity_milli, ALL_CLASSES: sum(capacity_milli.values())}
    return tuple(
        f"{gpus(promised[name])} GPUs of {name} are guaranteed,"
        f" the active sites have {gpus(had.get(name, 0))}"
        for name in sorted(promised)
        if promised[name] > had.get(name, 0)
    )


def _quotas(where: str, tenant: Tenant) -> Iterator[Denial]:
    names = [quota.gpu_class for quota in tenant.quotas]
    for n, quota in enumerate(tenant.quotas):
        field = f"{where}.quotas[{n}]"
        if names.index(quota.gpu_class) != n:
            yield _fault(field, f"GPU class {quota.gpu_class!r} is listed twice")
        amounts = (
            ("guarantee", quota.guarantee_milli),
            ("limit", quota.limit_milli),
            ("borrow limit", quota.borrow_limit_milli),
            ("lend limit", quota.lend_limit_milli),
        )
        for name, milli in amounts:
            if milli is not None and milli < 0:
                yield _fault(field, f"{name} {milli} is negative")
            if milli is not None and milli > MILLI_MAX:
                yield _fault(field, f"{name} {milli} is above {MILLI_MAX}")
        if not 0 <= quota.weight <= WEIGHT_MAX:
            yield _fault(field, f"weight {quota.weight}, allowed 0 to {WEIGHT_MAX}")
        if quota.limit_milli is not None and quota.limit_milli < quota.guarantee_milli:
            detail = f"limit {quota.limit_milli} is below guarantee {quota.guarantee_milli}"
            yield _fault(field, detail)
        if quota.lend_limit_milli is not None and quota.lend_limit_milli > quota.guarantee_milli:
            detail = (
                f"lend limit {quota.lend_limit_milli} is above guarantee {quota.guarantee_milli}"
            )
            yield _fault(field, detail)


def _shares_of_children(
    listed: Sequence[Tenant], by_path: Mapping[TenantPath, Tenant]
) -> Iterator[Denial]:
    """Children together are guaranteed no more than their parent: by class, and in all.

    What a parent is guaranteed of all classes together covers a class that it does not name.
    """
    children: dict[TenantPath, list[Tenant]] = {}
    for tenant in by_path.values():
        children.setdefault(TenantPath(tenant.path.rpartition("/")[0]), []).append(tenant)
    for at, parent in enumerate(listed):
        below = children.get(parent.path, [])
        if not below or by_path[parent.path] is not parent:
            continue
        own = _by_class(parent.quotas)
        sums: dict[GpuClass, int] = {}
        for child in below:
            for quota in _by_class(child.quotas).values():
                sums[quota.gpu_class] = sums.get(quota.gpu_class, 0) + quota.guarantee_milli
        for name in sorted(set(sums) & set(own) - {ALL_CLASSES}):
            if sums[name] > own[name].guarantee_milli:
                yield _too_much(at, name, sums[name], own[name].guarantee_milli)
        unnamed = {name for name in sums if name not in own or name == ALL_CLASSES}
        together = sum(sums[name] for name in unnamed)
        covered = own[ALL_CLASSES].guarantee_milli if ALL_CLASSES in own else 0
        if together > covered:
            yield _too_much(at, ALL_CLASSES, together, covered, sorted(unnamed))


def _too_much(
    at: int, name: GpuClass, sum_milli: int, own_milli: int, of: Sequence[GpuClass] = ()
) -> Denial:
    listed = ", ".join(of or (name,))
    detail = (
        f"children are guaranteed {gpus(sum_milli)} GPUs of {listed} together,"
        f" above the {gpus(own_milli)} of {name} that it is guaranteed itself"
    )
    return _fault(f"tenants[{at}].quotas", detail)


def _above_ancestors(
    listed: Sequence[Tenant], by_path: Mapping[TenantPath, Tenant]
) -> Iterator[Denial]:
    """A guarantee above the limit of a node higher up could never be met."""
    for at, tenant in enumerate(listed):
        for n, quota in enumerate(tenant.quotas):
            for above in lineage(tenant.path)[:-1]:
                if above not in by_path:
                    continue
                over = _by_class(by_path[above].quotas)
                for name in sorted({quota.gpu_class, ALL_CLASSES} & set(over)):
                    ceiling = over[name].ceiling_milli()
                    if ceiling is not None and quota.guarantee_milli > ceiling:
                        detail = (
                            f"guarantee {quota.guarantee_milli} is above what {above!r}"
                            f" may use of {name}, {ceiling}"
                        )
                        yield _fault(f"tenants[{at}].quotas[{n}]", detail)


def _by_class(quotas: Iterable[GpuQuota]) -> dict[GpuClass, GpuQuota]:
    found: dict[GpuClass, GpuQuota] = {}
    for quota in quotas:
        found.setdefault(quota.gpu_class, quota)
    return found


def _budgets(where: str, budgets: Sequence[Budget]) -> Iterator[Denial]:
    for n, budget in enumerate(budgets):
        field = f"{where}.budgets[{n}]"
        if not 0 <= budget.amount_gpu_ms <= BUDGET_GPU_MS_MAX:
            detail = f"found {budget.amount_gpu_ms}, allowed 0 to {BUDGET_GPU_MS_MAX}"
            yield _fault(f"{field}.amount_gpu_ms", detail)
        if budget.period is BudgetPeriod.UNSPECIFIED:
            yield _fault(f"{field}.period", "found none, allowed month, quarter or days")
        most = BUDGET_DAYS_MAX if budget.period is BudgetPeriod.DAYS else 0
        least = 1 if budget.period is BudgetPeriod.DAYS else 0
        if not least <= budget.days <= most:
            yield _fault(f"{field}.days", f"found {budget.days}, allowed {least} to {most}")
        last = DAY_MAX if budget.until_day is None else budget.until_day
        if not 0 <= budget.from_day < last <= DAY_MAX:
            detail = f"found {budget.from_day} to {last}, allowed a first day before the last"
            yield _fault(f"{field}.from_day", detail)
        for m, other in enumerate(budgets[:n]):
            if other.gpu_class == budget.gpu_class and _overlap(budget, other):
                detail = f"is in force on the same days as budgets[{m}], of the same GPU class"
                yield _fault(field, detail)


def _overlap(one: Budget, other: Budget) -> bool:
    one_until = DAY_MAX if one.until_day is None else one.until_day
    other_until = DAY_MAX if other.until_day is None else other.until_day
    return one.from_day < other_until and other.from_day < one_until


def _fault(field: str, detail: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, detail, field)
