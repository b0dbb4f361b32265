"""Shares of joint projects: which are in force, and since when.

A share is in force while its agreement is, and the policy honours that. What `core/joint.py` makes
of a share depends on nothing else, so whether it is in force is a fact of the tenant tree: here it
is found out, when a tree is declared and at every turn, and told to the agreement's ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scheduler.core.policy.agreed import covers, in_force
from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Policy
from scheduler.model.tenancy import Share, Tenant
from scheduler.store.store import Snapshot, Txn

Held = Mapping[tuple[TenantPath, Share], int]
"""Shares by their projects, as they are written, and since when each is in force."""


def faults(tenants: Sequence[Tenant], policy: Policy) -> tuple[Denial, ...]:
    """The shares under an agreement that nobody knows, or that is about others."""
    known = {each.name: each for each in policy.agreements}
    found: list[Denial] = []
    for at, tenant in enumerate(tenants):
        for n, share in enumerate(tenant.shares):
            field = f"tenants[{at}].shares[{n}].agreement"
            agreement = known.get(share.agreement)
            if agreement is None:
                names = ", ".join(sorted(known)) or "none"
                detail = f"found {share.agreement[:80]!r}, allowed one that is applied: {names}"
                found.append(Denial(Reason.AGREEMENT_UNKNOWN, detail, field))
                continue
            # Its parties signed who is to be joined; one for every tenant joins nobody.
            for path in (tenant.path, share.of):
                if not (agreement.scope.tenants and covers(agreement, path)):
                    detail = f"{share.agreement!r} names no {path!r} in scope.tenants"
                    found.append(Denial(Reason.AGREEMENT_SCOPE, detail, field))
    return tuple(found)


def standing(
    tenants: Sequence[Tenant], held: Held, policy: Policy, now_ms: int
) -> tuple[Tenant, ...]:
    """`tenants` with each share in force or not, as of now; those of `held` since they were."""
    current = {
        each.name
        for each in policy.agreements
        if in_force(each, now_ms) and each.instrument in policy.instruments
    }
    if not any(tenant.shares for tenant in tenants):
        return tuple(tenants)

    def now(tenant: Tenant, share: Share) -> Share:
        written = replace(share, since_ms=0)
        if share.agreement not in current:
            return written
        return replace(share, since_ms=held.get((tenant.path, written)) or now_ms)

    return tuple(
        replace(each, shares=tuple(now(each, share) for share in each.shares)) for each in tenants
    )


def held_in(read: Snapshot) -> Held:
    """The shares as they are in force now."""
    return {
        (tenant.path, replace(share, since_ms=0)): share.since_ms
        for tenant in read.tenancy.tenants()
        for share in tenant.shares
        if share.since_ms
    }


def shares_of(read: Snapshot, project: TenantPath) -> tuple[Share, ...]:
    """What is given to a project now."""
    node = read.tenancy.tree().tenants.get(project)
    return () if node is None else tuple(share for share in node.shares if share.since_ms)


def turn(txn: Txn, now_ms: int) -> None:
    """Puts in force, and takes out of it, what time or an agreement's end has."""
    tenants = txn.tenancy.tenants()
    if not any(tenant.shares for tenant in tenants):
        return
    held = held_in(txn)
    after = standing(tenants, held, txn.tenancy.policy(), now_ms)
    if after != tenants:
        txn.tenancy.replace_tenants(after)
        tell(txn, held, now_ms)


def tell(txn: Txn, before: Held, now_ms: int) -> None:
    """Tells the ledgers which shares came into force, and which are so no longer."""
    after, ledgers = held_in(txn), txn.tenancy.agreements
    for (project, share), since_ms in sorted(before.items()):
        if (project, share) not in after:
            ledgers.take_back(txn.audit, project, replace(share, since_ms=since_ms), now_ms)
    for (project, share), since_ms in sorted(after.items()):
        if (project, share) not in before:
            ledgers.give(txn.audit, project, replace(share, since_ms=since_ms), now_ms)
