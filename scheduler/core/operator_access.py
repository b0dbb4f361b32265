"""Who may be given access to a tenant's data, and who may use it: pure, at the time it is asked.

Two persons: one asks, another approves, neither vouched for the other when they joined. Both must
be whom the tenant's policies, its own and all above it, let operators be. What is not known of a
person denies.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.model.identity import Claims, Clearance, Principal
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.operator_access import (
    AccessAction,
    AccessGrant,
    AccessPerson,
    AccessPolicy,
    AccessState,
)
from scheduler.model.reasons import Denial, Reason


def person_of(principal: Principal) -> AccessPerson:
    """An operator as a grant remembers it."""
    claims = principal.claims
    return AccessPerson(principal.path, claims.country, claims.clearance, claims.vouched_by)


def policy_denials(
    policies: Iterable[AccessPolicy], claims: Claims, now_ms: int, *, break_glass: bool
) -> tuple[Denial, ...]:
    """What the tenant's policies have against a person with these claims, now."""
    denials: list[Denial] = []
    fresh = now_ms < claims.until_ms
    country = claims.country if fresh else ""
    clearance = claims.clearance if fresh else Clearance.UNSPECIFIED
    for policy in policies:
        if country not in policy.countries:
            found = country or "no country that is vouched for"
            allowed = ", ".join(policy.countries) or "nobody"
            denials.append(_not_allowed(f"country: found {found}, allowed {allowed}", policy))
        if clearance < policy.min_clearance:
            found = clearance.name if clearance else "none"
            allowed = f"{policy.min_clearance.name} or higher"
            denials.append(_not_allowed(f"clearance: found {found}, allowed {allowed}", policy))
        if break_glass and not policy.break_glass:
            detail = "break_glass: this tenant has every access approved by a second operator"
            denials.append(_not_allowed(detail, policy))
    return tuple(denials)


def _not_allowed(detail: str, policy: AccessPolicy) -> Denial:
    return Denial(Reason.ACCESS_NOT_ALLOWED, detail, policy.tenant)


def approval_denials(grant: AccessGrant, by: Principal, now_ms: int) -> tuple[Denial, ...]:
    """Why `by` may not approve this request, whatever the tenant's policy says of it."""
    asker = grant.requested_by
    if grant.state(now_ms) is not AccessState.PENDING:
        detail = f"found {grant.state(now_ms).name}, allowed PENDING"
        return (Denial(Reason.ILLEGAL_TRANSITION, detail, grant.id),)
    if by.path == asker.name:
        detail = f"{by.path} asked for it: another operator approves"
        return (Denial(Reason.ACCESS_SAME_PERSON, detail, grant.id),)
    if by.path == asker.vouched_by or asker.name == by.claims.vouched_by:
        detail = f"{by.path} and {asker.name}: one of them let the other join"
        return (Denial(Reason.ACCESS_SAME_PERSON, detail, grant.id),)
    return ()


def usable(
    grants: Iterable[AccessGrant],
    name: str,
    tenant: TenantPath,
    job: JobId | None,
    action: AccessAction,
    now_ms: int,
) -> AccessGrant | None:
    """The grant under which `name` may do this now; of several the one that lasts longest."""
    found = [
        grant
        for grant in grants
        if grant.requested_by.name == name
        and grant.state(now_ms) is AccessState.ACTIVE
        and action in grant.actions
        and grant.covers(tenant, job)
    ]
    return max(found, key=lambda grant: (grant.ends_at_ms, grant.id), default=None)
