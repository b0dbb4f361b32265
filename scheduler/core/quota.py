"""The quota tree: what every tenant may use, per GPU class and over all classes ("*").

Usage is never stored: it is summed from live placements, at the tenant and at everything above it.

* A *limit* is hard: a placement must fit under the limit of the tenant and of every ancestor, for
  its GPU class and for "*". A *borrow limit* is one too: guarantee and what may be borrowed.
* A *guarantee* orders: tenants below theirs go first (`queueing`), and idle guarantee is lent, so
  that no GPU stands empty for a tenant that has nothing to run. A lender gets it back as borrowers
  end, or by reclaim (`reclaimable`).
* A *lend limit* walls off: what may not be lent stays free for its owner, who can start at once.
  What is free is the capacity of the class over all active sites, less what is in use. Nodes that
  are unfit count as capacity, and where by law the owner may go is not looked at: the figure is
  that of the fleet as declared.
* What a joint project is given by others is moved first, and the tree is one like any (`joint`).
* A tenant that is not in the tree has no quota at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from scheduler.core.joint import given, gpus, told
from scheduler.model.ids import ALL_CLASSES, GpuClass, TenantPath, ancestry
from scheduler.model.reasons import Denial, Reason
from scheduler.model.tenancy import GpuQuota, Tenant

LINEAGES_MAX = 65_536
"""Tenants whose ancestors are remembered."""
SHARE_SCALE = 1_000_000_000_000
"""Shares are integers: this many parts make the fleet."""
ROOT = TenantPath("")
"""Above all organisations: its ceiling is the fleet."""

Usage = dict[TenantPath, dict[GpuClass, int]]
"""Milli-GPU in use, by tenant (descendants included) and GPU class, "*" for all together."""

Keeper: TypeAlias = tuple[TenantPath, int, TenantPath]
"""A node of the tree, what of its guarantee is never lent, and its parent."""


class QuotaTree:
    """The tenants and what each may use. Immutable: a change of tenants is another tree.

    `capacity_milli` is what the fleet has of each GPU class; without it, what is kept for owners is
    not judged, and limits are all there is.
    """

    def __init__(
        self,
        tenants: Iterable[Tenant] = (),
        capacity_milli: Mapping[GpuClass, int] | None = None,
    ) -> None:
        self._declared = sorted(tenants, key=lambda t: t.path)
        self.tenants: Mapping[TenantPath, Tenant] = {
            tenant.path: tenant for tenant in given(self._declared)
        }
        self.capacity_milli = capacity_milli
        self.organisations = tuple(path for path in self.tenants if "/" not in path)
        self.has_budgets = any(tenant.budgets for tenant in self.tenants.values())
        # Of tenants that are in the tree, as `limits` was asked for them.
        self.limits_known: dict[
            tuple[TenantPath, GpuClass], tuple[tuple[TenantPath, GpuClass, int], ...]
        ] = {}
        self._keepers = _keepers(self.tenants) if capacity_milli is not None else {}
        self.keeps = bool(self._keepers)
        self._quotas = {
            (path, quota.gpu_class): quota
            for path, tenant in self.tenants.items()
            for quota in tenant.quotas
        }

    def rated(self, capacity_milli: Mapping[GpuClass, int]) -> QuotaTree:
        """The same tenants over a fleet of this capacity."""
        return QuotaTree(self._declared, dict(capacity_milli))

    def quota(self, tenant: TenantPath, gpu_class: GpuClass) -> GpuQuota | None:
        """What the tree says of one class at one node."""
        return self._quotas.get((tenant, gpu_class))

    def limits(
        self, tenant: TenantPath, gpu_class: GpuClass
    ) -> tuple[tuple[TenantPath, GpuClass, int], ...]:
        """Every ceiling over a placement of `tenant` on `gpu_class`: whose, of what, how much."""
        known = self.limits_known.get((tenant, gpu_class))
        if known is None:
            known = tuple(
                (path, name, ceiling)
                for path in lineage(tenant)
                for name in sorted({gpu_class, ALL_CLASSES})
                if (quota := self.quota(path, name)) is not None
                and (ceiling := quota.ceiling_milli()) is not None
            )
            if tenant in self.tenants:
                self.limits_known[tenant, gpu_class] = known
        return known

    def guarantees(self, tenant: TenantPath) -> tuple[GpuQuota, ...]:
        """The quotas of `tenant` that guarantee something."""
        own = self.tenants.get(tenant)
        return tuple(q for q in sorted(own.quotas) if q.guarantee_milli > 0) if own else ()

    def guarantee_milli(self, tenant: TenantPath, gpu_class: GpuClass) -> int:
        """What is guaranteed there, 0 where nothing is."""
        quota = self.quota(tenant, gpu_class)
        return quota.guarantee_milli if quota is not None else 0

    def keepers(self, gpu_class: GpuClass) -> tuple[Keeper, ...]:
        """Who keeps some of a class free, and everything above them; children before parents."""
        return self._keepers.get(gpu_class, ())

    def capacity_of(self, gpu_class: GpuClass) -> int:
        """What the fleet has of a class."""
        capacity = self.capacity_milli or {}
        return sum(capacity.values()) if gpu_class == ALL_CLASSES else capacity.get(gpu_class, 0)


def _keepers(tenants: Mapping[TenantPath, Tenant]) -> dict[GpuClass, tuple[Keeper, ...]]:
    kept: dict[GpuClass, dict[TenantPath, int]] = {}
    for path, tenant in tenants.items():
        for quota in tenant.quotas:
            if milli := quota.kept_milli():
                line = kept.setdefault(quota.gpu_class, {})
                line[path] = milli
                for above in lineage(path)[:-1]:
                    line.setdefault(above, 0)
    # A child's path is longer than its parent's: the reverse order has children first.
    return {
        name: tuple(
            (path, line[path], TenantPath(path.rpartition("/")[0]))
            for path in sorted(line, reverse=True)
        )
        for name, line in kept.items()
    }


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


def used_milli(usage: Usage, tenant: TenantPath, gpu_class: GpuClass) -> int:
    """What `tenant` and everything below it hold of a class."""
    line = usage.get(tenant)
    return line.get(gpu_class, 0) if line else 0


def within(
    tree: QuotaTree, usage: Usage, tenant: TenantPath, gpu_class: GpuClass, milli: int
) -> bool:
    """Whether `fits` has nothing to say; for the planner's inner loop."""
    limits = tree.limits_known.get((tenant, gpu_class))
    if limits is None:
        if tenant not in tree.tenants:
            return False
        limits = tree.limits(tenant, gpu_class)
    for path, name, limit in limits:
        line = usage.get(path)
        if (line.get(name, 0) if line else 0) + milli > limit:
            return False
    return not tree.keeps or not _kept_from(tree, usage, tenant, gpu_class, milli)


def fits(
    tree: QuotaTree, usage: Usage, tenant: TenantPath, gpu_class: GpuClass, milli: int
) -> tuple[Denial, ...]:
    """Everything that `milli` more for `tenant` on `gpu_class` would break; empty: nothing."""
    if tenant not in tree.tenants:
        return (Denial(Reason.QUOTA_LIMIT, f"tenant {tenant!r} is not in the tree", tenant),)
    denials: list[Denial] = []
    for path, name, ceiling in tree.limits(tenant, gpu_class):
        used = used_milli(usage, path, name)
        if used + milli > ceiling:
            denials.append(_over(tree, path, name, used, milli))
    if tree.keeps:
        denials += [
            Denial(
                Reason.QUOTA_KEPT,
                f"{_named(name)}: what is free is kept for guarantees that may not be lent",
                path or tenant,
            )
            for path, name in _kept_from(tree, usage, tenant, gpu_class, milli)
        ]
    return tuple(denials)


def _over(
    tree: QuotaTree, path: TenantPath, name: GpuClass, used_there_milli: int, milli: int
) -> Denial:
    quota = tree.quota(path, name)
    assert quota is not None, "a ceiling is a quota's"
    found = f"in use {gpus(used_there_milli)}, asked {gpus(milli)}"
    if quota.limit_milli is not None and used_there_milli + milli > quota.limit_milli:
        detail = f"{_named(name)}: limit {gpus(quota.limit_milli)}, {found}"
        return Denial(Reason.QUOTA_LIMIT, detail + told(tree.tenants[path], name), path)
    most = f"guarantee {gpus(quota.guarantee_milli)} and {gpus(quota.borrow_limit_milli or 0)}"
    return Denial(Reason.QUOTA_BORROW, f"{_named(name)}: {most} to borrow, {found}", path)


def _kept_from(
    tree: QuotaTree, usage: Usage, tenant: TenantPath, gpu_class: GpuClass, milli: int
) -> list[tuple[TenantPath, GpuClass]]:
    """Where, and of what, a placement would take what is kept for others; ROOT is the fleet.

    At the fleet, and at every ancestor with a ceiling, what is left above what is in use and kept
    must bear what the placement takes beyond its own tenant's kept share.
    """
    found: list[tuple[TenantPath, GpuClass]] = []
    own = lineage(tenant)
    for name in sorted({gpu_class, ALL_CLASSES}):
        keepers = tree.keepers(name)
        if not keepers:
            continue
        before = _reserved(keepers, usage, name, frozenset(), 0)
        after = _reserved(keepers, usage, name, frozenset(own), milli)
        rooms = [(ROOT, tree.capacity_of(name) - _used_by_all(tree, usage, name))]
        for path in own[:-1]:
            quota = tree.quota(path, name)
            ceiling = quota.ceiling_milli() if quota is not None else None
            if ceiling is not None and path in before:
                rooms.append((path, ceiling - used_milli(usage, path, name)))
        for path, left_milli in rooms:
            taken = milli - (before.get(path, 0) - after.get(path, 0))
            if taken > max(0, left_milli - before.get(path, 0)):
                found.append((path, name))
    return found


def _reserved(
    keepers: tuple[Keeper, ...],
    usage: Usage,
    name: GpuClass,
    charged: frozenset[TenantPath],
    milli: int,
) -> dict[TenantPath, int]:
    """What must stay free for the children of each node, were `charged` to use `milli` more."""
    sums: dict[TenantPath, int] = {ROOT: 0}
    for path, kept_milli, parent in keepers:
        used = used_milli(usage, path, name) + (milli if path in charged else 0)
        own = max(0, kept_milli - used, sums.get(path, 0))
        sums[parent] = sums.get(parent, 0) + own
    return sums


def _used_by_all(tree: QuotaTree, usage: Usage, name: GpuClass) -> int:
    return sum(used_milli(usage, path, name) for path in tree.organisations)


def weight_of(tenant: Tenant, gpu_class: GpuClass) -> int:
    """A tenant's weight in the order of one GPU class."""
    own = next((q.weight for q in tenant.quotas if q.gpu_class == gpu_class), 0)
    return max(1, own or tenant.weight)


def class_share(
    tenant: Tenant, line: Mapping[GpuClass, int], capacity: Mapping[GpuClass, int], name: GpuClass
) -> int:
    """The part of the fleet's GPUs of one class that a tenant uses, over its weight there."""
    milli = capacity.get(name, 0)
    return line.get(name, 0) * SHARE_SCALE // (milli * weight_of(tenant, name)) if milli else 0


def dominant_share(
    tenant: Tenant, line: Mapping[GpuClass, int], capacity: Mapping[GpuClass, int]
) -> int:
    """The largest weighted share of any one class: who has the smallest goes first."""
    return max((class_share(tenant, line, capacity, name) for name in line), default=0)


def reclaimable(
    tree: QuotaTree,
    usage: Usage,
    beneficiary: TenantPath,
    victim: TenantPath,
    gpu_class: GpuClass,
    milli: int,
    *,
    asked_milli: int = 1,
) -> bool:
    """Whether work of `victim` that holds `milli` may be ended so that `beneficiary` starts.

    The two tenants' branches part at some node. Just below it, the beneficiary's branch must be
    below its guarantee, and still not above it with `asked_milli` more: nobody is ended for what
    would be borrowed in turn. Every node of the victim's branch, down to the victim, must stay at
    or above its own guarantee after losing `milli`, for the class and for all classes together.

    Reclaim cannot cycle. Let U(k) be the guarantees that are not met, summed over the nodes at
    depth k. A reclaim between branches that part above depth k lowers U(k), because the gain fills
    a guarantee that was open; it raises no U(j) with j > k, because below the parting the losing
    branch breaks no guarantee and the winning one only gains. So (U(deepest), ..., U(1)) falls in
    lexicographic order with every reclaim, and it is bounded by zero. Shallower sums may rise: a
    victim can be larger than what takes its place.
    """
    winning, losing = lineage(beneficiary), lineage(victim)
    depth = 0
    while depth < min(len(winning), len(losing)) and winning[depth] == losing[depth]:
        depth += 1
    if milli <= 0 or depth == len(winning) or depth == len(losing):
        return False
    names = sorted({gpu_class, ALL_CLASSES})
    if not any(
        used_milli(usage, winning[depth], name) + asked_milli
        <= tree.guarantee_milli(winning[depth], name)
        for name in names
    ):
        return False
    return all(
        used_milli(usage, path, name) - milli >= tree.guarantee_milli(path, name)
        for path in losing[depth:]
        for name in names
    )


def _named(name: GpuClass) -> str:
    return "GPUs of all classes" if name == ALL_CLASSES else f"{name} GPUs"
