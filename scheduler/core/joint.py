"""Joint projects: quota from several parties, under an agreement.

A project may be given *shares* by tenants elsewhere in the tree: so much of their guarantee and
limit of a GPU class. While a share is in force it has moved. The project, and what is above it, may
use as much more as the giver, and what is above that, may use less; where both are below one node,
nothing changes there. So a share is charged to its giver for as long as it is given, used or not,
and what the project uses counts in the host's branch, where it stands. Guarantees and limits sum up
to what they were, and what comes of it is a tree like any other: whatever reads quotas needs to
know nothing of shares, and the proof that reclaim does not cycle holds as it stands.

The simple alternative charges each placement to one party or another. Then a tenant has several
branches, in each sum, order and proof of the planner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from scheduler.model.ids import ALL_CLASSES, GpuClass, TenantPath, ancestry
from scheduler.model.reasons import Denial, Reason
from scheduler.model.tenancy import GpuQuota, Share, Tenant

SHARES_MAX = 100
"""Given to one project."""


@dataclass(slots=True)
class _Moved:
    """What comes to one node of the tree on one GPU class; negative: leaves it."""

    guarantee_milli: int = 0
    limit_milli: int = 0


Moves = dict[TenantPath, dict[GpuClass, _Moved]]


def given(tenants: Sequence[Tenant]) -> tuple[Tenant, ...]:
    """The tree in which the shares that are in force have moved; in the order of `tenants`."""
    moves = _moves(tenants)
    if not moves:
        return tuple(tenants)
    return tuple(_with(tenant, moves.get(tenant.path, {})) for tenant in tenants)


def all_in_force(tenants: Iterable[Tenant]) -> tuple[Tenant, ...]:
    """The tree as if every share were in force."""
    return tuple(
        replace(each, shares=tuple(replace(share, since_ms=1) for share in each.shares))
        for each in tenants
    )


def given_away_milli(tenants: Iterable[Tenant]) -> dict[tuple[TenantPath, GpuClass], int]:
    """What each tenant gives of its limit of each class, of shares that are in force."""
    found: dict[tuple[TenantPath, GpuClass], int] = {}
    for tenant in tenants:
        for share in tenant.shares:
            if share.since_ms:
                key = share.of, share.gpu_class
                found[key] = found.get(key, 0) + share.limit_milli
    return found


def told(tenant: Tenant, name: GpuClass) -> str:
    """What of a limit is whose, as the end of a sentence; nothing where nothing is given."""
    shares = [share for share in tenant.shares if name in (share.gpu_class, ALL_CLASSES)]
    parts = [
        f"{gpus(share.limit_milli)} of {share.of} under {share.agreement}"
        + ("" if share.since_ms else ", which is not in force and counts for nothing")
        for share in shares
    ]
    return f"; given to it: {'; '.join(parts)}" if parts else ""


def share_faults(tenants: Sequence[Tenant]) -> tuple[Denial, ...]:
    """Everything wrong with the shares of a tree as written."""
    by_path = {tenant.path: tenant for tenant in tenants}
    faults: list[Denial] = []
    for at, tenant in enumerate(tenants):
        if len(tenant.shares) > SHARES_MAX:
            found = f"found {len(tenant.shares)}, allowed at most {SHARES_MAX}"
            faults.append(_fault(f"tenants[{at}].shares", found))
            continue
        below = next((path for path in sorted(by_path) if path.startswith(f"{tenant.path}/")), "")
        if tenant.shares and below:
            detail = f"found shares of a tenant with {below!r} below it, allowed a project's"
            faults.append(_fault(f"tenants[{at}].shares", detail))
        for n, share in enumerate(tenant.shares):
            field = f"tenants[{at}].shares[{n}]"
            faults += (_fault(field, detail) for detail in _faults_of(tenant, n, by_path))
            faults += (_fault(f"{field}.{name}", detail) for name, detail in _amounts(share))
    return tuple(faults) or tuple(_too_generous(tenants))


def _faults_of(tenant: Tenant, n: int, by_path: dict[TenantPath, Tenant]) -> Iterator[str]:
    share = tenant.shares[n]
    if share.of not in by_path:
        yield f"found {share.of!r}, allowed a tenant of the tree"
    elif share.of in ancestry(tenant.path) or tenant.path in ancestry(share.of):
        yield f"found {share.of!r}, allowed a tenant of another branch than {tenant.path!r}"
    same = [(one.of, one.agreement, one.gpu_class) for one in tenant.shares]
    if same.index(same[n]) != n:
        yield f"{share.of!r} gives {share.gpu_class} under {share.agreement!r} twice"
    if share.gpu_class == ALL_CLASSES:
        yield "found all classes, allowed a GPU model"
    own = next((q for q in tenant.quotas if q.gpu_class == share.gpu_class), None)
    if own is None or own.limit_milli is None:
        detail = f"a limit of its own of {share.gpu_class}, 0 too, that the share adds to"
        yield f"found no limit, allowed {detail}"


def _amounts(share: Share) -> Iterator[tuple[str, str]]:
    if share.limit_milli < 1:
        yield "limit_milli", f"found {share.limit_milli}, allowed from 1"
    if not 0 <= share.guarantee_milli <= max(0, share.limit_milli):
        detail = f"found {share.guarantee_milli}, allowed 0 to the limit, {share.limit_milli}"
        yield "guarantee_milli", detail


def _too_generous(tenants: Sequence[Tenant]) -> Iterator[Denial]:
    """Who gives more than it has, were all shares in force."""
    moves = _moves(all_in_force(tenants))
    for at, tenant in enumerate(tenants):
        quotas = {quota.gpu_class: quota for quota in tenant.quotas}
        for name, moved in sorted(moves.get(tenant.path, {}).items()):
            own, wide = quotas.get(name), quotas.get(ALL_CLASSES)
            holds = own if own is not None else wide
            guarantee = 0 if holds is None else holds.guarantee_milli
            if guarantee + moved.guarantee_milli < 0:
                found = f"gives a guarantee of {gpus(-moved.guarantee_milli)}"
                detail = f"{found} {name} GPUs, allowed at most its own, {gpus(guarantee)}"
                yield _fault(f"tenants[{at}].quotas", detail)
            ceilings = [q.ceiling_milli() for q in (own, wide) if q is not None]
            ceiling = min((c for c in ceilings if c is not None), default=None)
            keeps = max(0, guarantee + moved.guarantee_milli)
            if (
                ceiling is not None
                and moved.limit_milli < 0
                and ceiling + moved.limit_milli < keeps
            ):
                found = f"gives {gpus(-moved.limit_milli)} {name} GPUs of its limit"
                detail = f"{found} {gpus(ceiling)}, and has to keep {gpus(keeps)}, its guarantee"
                yield _fault(f"tenants[{at}].quotas", detail)


def _moves(tenants: Iterable[Tenant]) -> Moves:
    moves: Moves = {}
    for tenant in tenants:
        for share in tenant.shares:
            if not share.since_ms:
                continue
            to, of = ancestry(tenant.path), ancestry(share.of)
            depth = sum(1 for one, other in zip(to, of, strict=False) if one == other)
            for sign, branch in ((1, to[depth:]), (-1, of[depth:])):
                for path in branch:
                    moved = moves.setdefault(path, {}).setdefault(share.gpu_class, _Moved())
                    moved.guarantee_milli += sign * share.guarantee_milli
                    moved.limit_milli += sign * share.limit_milli
    return moves


def _with(tenant: Tenant, moves: dict[GpuClass, _Moved]) -> Tenant:
    """`tenant` with what came to it, or left."""
    if not moves:
        return tenant
    quotas = {quota.gpu_class: quota for quota in tenant.quotas}
    for name, moved in sorted(moves.items()):
        own, wide = quotas.get(name), quotas.get(ALL_CLASSES)
        # What a node is guaranteed of all classes covers a class that it does not name.
        covered = own is None and wide is not None and wide.guarantee_milli > 0
        if own is not None or (moved.guarantee_milli > 0 and not covered):
            quotas[name] = _added(own or GpuQuota(name), moved.guarantee_milli, moved.limit_milli)
        if wide is not None:
            more = moved.guarantee_milli if covered else 0
            quotas[ALL_CLASSES] = _added(wide, more, moved.limit_milli)
    return replace(tenant, quotas=tuple(quotas[name] for name in sorted(quotas)))


def _added(quota: GpuQuota, guarantee_milli: int, limit_milli: int) -> GpuQuota:
    """`quota` and so much more; less where negative, and never less than nothing."""
    guarantee = max(0, quota.guarantee_milli + guarantee_milli)
    limit, borrow, lend = quota.limit_milli, quota.borrow_limit_milli, quota.lend_limit_milli
    if borrow is not None:  # The ceiling, guarantee and borrow, moves as the limit does.
        borrow = max(0, quota.guarantee_milli + borrow + limit_milli - guarantee)
    return replace(
        quota,
        guarantee_milli=guarantee,
        limit_milli=None if limit is None else max(guarantee, limit + limit_milli),
        borrow_limit_milli=borrow,
        lend_limit_milli=None if lend is None else min(lend, guarantee),
    )


def gpus(milli: int) -> str:
    """Milli-GPUs as people count: "8", "0.5"."""
    whole, rest = divmod(milli, 1000)
    return str(whole) if not rest else f"{whole}.{rest:03}".rstrip("0")


def _fault(field: str, detail: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, detail, field)
