"""The quota tree: guarantee and limit of every tenant, per GPU class and over all classes.

Usage is never stored: it is summed from live placements, at the tenant and at everything above it.

* A limit is hard: a placement must fit under the limit of the tenant and of every ancestor, for
  its GPU class and for "*", which stands for all classes together.
* A guarantee orders, it does not wall off: tenants below theirs go first (`queueing`), and idle
  guarantee may be lent, so no GPU stands empty for a tenant that has nothing to run. A lender gets
  it back as borrowers end. Taking it back sooner is preemption's work.
* A tenant that is not in the tree has no quota at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from scheduler.model.ids import GpuClass, TenantPath, ancestry
from scheduler.model.reasons import Denial, Reason
from scheduler.model.tenancy import GpuQuota, Tenant

ALL_CLASSES = GpuClass("*")
LINEAGES_MAX = 65_536
"""Tenants whose ancestors are remembered."""

Usage = dict[TenantPath, dict[GpuClass, int]]
"""Milli-GPU in use, by tenant (descendants included) and GPU class, "*" for all together."""


class QuotaTree:
    """The tenants and what each may use. Immutable: a change of tenants is another tree."""

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self.tenants: Mapping[TenantPath, Tenant] = {
            tenant.path: tenant for tenant in sorted(tenants, key=lambda t: t.path)
        }
        self._limits: dict[
            tuple[TenantPath, GpuClass], tuple[tuple[TenantPath, GpuClass, int], ...]
        ] = {}

    def limits(
        self, tenant: TenantPath, gpu_class: GpuClass
    ) -> tuple[tuple[TenantPath, GpuClass, int], ...]:
        """Every limit over a placement of `tenant` on `gpu_class`: whose, of what, how much."""
        key = (tenant, gpu_class)
        if key not in self._limits:
            self._limits[key] = tuple(
                (path, quota.gpu_class, quota.limit_milli)
                for path in lineage(tenant)
                if path in self.tenants
                for quota in sorted(self.tenants[path].quotas)
                if quota.gpu_class in (gpu_class, ALL_CLASSES) and quota.limit_milli is not None
            )
        return self._limits[key]

    def guarantees(self, tenant: TenantPath) -> tuple[GpuQuota, ...]:
        """The quotas of `tenant` that guarantee something."""
        own = self.tenants.get(tenant)
        return tuple(q for q in sorted(own.quotas) if q.guarantee_milli > 0) if own else ()


@lru_cache(maxsize=LINEAGES_MAX)
def lineage(tenant: TenantPath) -> tuple[TenantPath, ...]:
    """`tenant` and everything above it, root first, remembered."""
    return ancestry(tenant)


def charge(usage: Usage, tenant: TenantPath, gpu_class: GpuClass, milli: int) -> None:
    """Adds `milli` to what `tenant` and everything above it use; negative gives back."""
    for path in lineage(tenant):
        line = usage.get(path)
        if line is None:
            line = usage[path] = {}
        line[gpu_class] = line.get(gpu_class, 0) + milli
        line[ALL_CLASSES] = line.get(ALL_CLASSES, 0) + milli


def within(
    tree: QuotaTree, usage: Usage, tenant: TenantPath, gpu_class: GpuClass, milli: int
) -> bool:
    """Whether `fits` has nothing to say; for the planner's inner loop."""
    if tenant not in tree.tenants:
        return False
    for path, name, limit in tree.limits(tenant, gpu_class):
        line = usage.get(path)
        if (line.get(name, 0) if line else 0) + milli > limit:
            return False
    return True


def fits(
    tree: QuotaTree, usage: Usage, tenant: TenantPath, gpu_class: GpuClass, milli: int
) -> tuple[Denial, ...]:
    """Every limit that `milli` more for `tenant` on `gpu_class` would break; empty: none."""
    if tenant not in tree.tenants:
        return (Denial(Reason.QUOTA_LIMIT, f"tenant {tenant!r} is not in the tree", tenant),)
    denials: list[Denial] = []
    for path, name, limit in tree.limits(tenant, gpu_class):
        used = usage.get(path, {}).get(name, 0)
        if used + milli > limit:
            what = "GPUs of all classes" if name == ALL_CLASSES else f"{name} GPUs"
            detail = f"{what}: limit {_gpus(limit)}, in use {_gpus(used)}, asked {_gpus(milli)}"
            denials.append(Denial(Reason.QUOTA_LIMIT, detail, path))
    return tuple(denials)


def _gpus(milli: int) -> str:
    """Milli-GPUs as people count: "8", "0.5"."""
    whole, rest = divmod(milli, 1000)
    return str(whole) if not rest else f"{whole}.{rest:03}".rstrip("0")


def tree_faults(tenants: Iterable[Tenant]) -> tuple[Denial, ...]:
    """Everything wrong with a tree as written: every fault, each naming its field."""
    faults: list[Denial] = []
    listed = list(tenants)
    paths = [tenant.path for tenant in listed]
    for at, tenant in enumerate(listed):
        where = f"tenants[{at}]"
        if paths.index(tenant.path) != at:
            faults.append(_fault(f"{where}.path", f"{tenant.path!r} is listed twice"))
        parent = tenant.path.rpartition("/")[0]
        if parent and parent not in paths:
            faults.append(_fault(f"{where}.path", f"parent {parent!r} is not in the tree"))
        if tenant.weight < 1:
            faults.append(_fault(f"{where}.weight", f"{tenant.weight}, allowed from 1"))
        names = [quota.gpu_class for quota in tenant.quotas]
        for n, quota in enumerate(tenant.quotas):
            field = f"{where}.quotas[{n}]"
            if names.index(quota.gpu_class) != n:
                faults.append(_fault(field, f"GPU class {quota.gpu_class!r} is listed twice"))
            if quota.guarantee_milli < 0:
                faults.append(_fault(field, f"guarantee {quota.guarantee_milli} is negative"))
            if quota.limit_milli is not None and quota.limit_milli < quota.guarantee_milli:
                detail = f"limit {quota.limit_milli} is below guarantee {quota.guarantee_milli}"
                faults.append(_fault(field, detail))
    return tuple(faults)


def _fault(field: str, detail: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, detail, field)
