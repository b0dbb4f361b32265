"""Operators' access to tenants' data: asked for, approved, used and revoked, each a leaf in the log
of the tenant whose data it is. Who may is decided in `core/operator_access.py`, at each use anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from scheduler.control import views
from scheduler.core import operator_access as rules
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.identity import Clearance, Principal, Role
from scheduler.model.ids import JobId, TenantPath, ancestry, organisation_of
from scheduler.model.operator_access import (
    AccessAction,
    AccessAsked,
    AccessGrant,
    AccessPerson,
    AccessPolicy,
    AccessReason,
    AccessState,
    OperatorUse,
)
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.store import operator_access as stored
from scheduler.store.store import Snapshot, Txn

TTL_MS_DEFAULT = 3_600_000
TTL_MS_MAX = 8 * 3_600_000
BREAK_GLASS_MS_MAX = 900_000
APPROVAL_MS_MAX = 24 * 3_600_000
"""How long a request waits for its approval."""
DETAIL_CHARS_MAX = 500
OPEN_OF_OPERATOR_MAX = 100
"""Requests and grants of one operator that may be open together."""
COUNTRIES_MAX = 50
ISSUERS_MAX = 16
"""Identity providers that one node of a tenant's tree may name."""
TOLD = frozenset({Reason.ACCESS_NOT_ALLOWED, Reason.ACCESS_NOT_GRANTED})
"""Refusals that the tenant is told of."""
_COUNTRY = re.compile(r"[A-Z]{2}")
_ISSUER = re.compile(r"https://[!-~]{1,2000}")


def request(txn: Txn, principal: Principal, asked: AccessAsked, now_ms: int) -> AccessGrant:
    """Asks for access; nothing is allowed by it until another operator approves, unless the glass
    is broken: then it is, for a short time and loudly."""
    _refuse_faults(_request_faults(txn, asked))
    _refuse_denied(txn, asked.tenant, principal, now_ms, break_glass=asked.break_glass)
    if len(stored.open_grants(txn, now_ms, principal.path)) >= OPEN_OF_OPERATOR_MAX:
        found = f"{OPEN_OF_OPERATOR_MAX} of your requests and grants are open, allowed no more"
        raise Refused(Code.RESOURCE_EXHAUSTED, Reason.RESOURCE_EXHAUSTED, found)
    ttl_ms = asked.ttl_ms or (BREAK_GLASS_MS_MAX if asked.break_glass else TTL_MS_DEFAULT)
    made = AccessGrant(
        id=stored.take_id(txn, asked.tenant),
        tenant=asked.tenant,
        job=asked.job,
        actions=tuple(sorted(set(asked.actions))),
        reason=asked.reason,
        detail=asked.detail,
        break_glass=asked.break_glass,
        requested_by=rules.person_of(principal),
        requested_at_ms=now_ms,
        ttl_ms=ttl_ms,
        ends_at_ms=now_ms + (ttl_ms if asked.break_glass else APPROVAL_MS_MAX),
    )
    stored.put_grant(txn, made)
    kind = "operator_access_glass_broken" if made.break_glass else "operator_access_requested"
    _leaf(txn, kind, made, rules.person_of(principal), now_ms)
    return made


def approve(txn: Txn, principal: Principal, name: str, now_ms: int) -> AccessGrant:
    """Another operator's word; from now on the one who asked has access, until it ends."""
    before = _known(txn, principal, name)
    denials = rules.approval_denials(before, principal, now_ms)
    if denials:
        raise _refusal(denials)
    _refuse_denied(txn, before.tenant, principal, now_ms, break_glass=False)
    after = replace(
        before,
        approved_by=rules.person_of(principal),
        approved_at_ms=now_ms,
        ends_at_ms=now_ms + before.ttl_ms,
    )
    stored.put_grant(txn, after)
    _leaf(txn, "operator_access_approved", after, rules.person_of(principal), now_ms)
    return after


def revoke(txn: Txn, principal: Principal, name: str, why: str, now_ms: int) -> AccessGrant:
    """Ends access, or a request for it; what is over already stays as it is."""
    if not why or len(why) > DETAIL_CHARS_MAX:
        found = f"found {len(why)} characters, allowed 1 to {DETAIL_CHARS_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "reason"))
    before = _known(txn, principal, name)
    if before.state(now_ms) not in (AccessState.PENDING, AccessState.ACTIVE):
        return before
    after = replace(before, revoked_by=principal.path, revoked_at_ms=now_ms)
    stored.put_grant(txn, after)
    person = rules.person_of(principal)
    _leaf(txn, "operator_access_revoked", after, person, now_ms, why=why)
    return after


def listed(
    read: Snapshot, principal: Principal, tenant: TenantPath | None
) -> tuple[AccessGrant, ...]:
    """What concerns the data of `tenant` (None: the caller's own, or everybody's), by id."""
    if tenant is not None and not _may_review(principal, tenant):
        raise not_found("tenant", tenant[:200])
    about = tenant or principal.tenant
    found = stored.grants(read, organisation_of(about) if about is not None else None)
    return tuple(grant for grant in found if about is None or _concerns(grant, about))


def eyes(
    txn: Txn,
    codec: JobIdCodec,
    principal: Principal,
    name: str,
    action: AccessAction,
    now_ms: int,
) -> Principal:
    """Who sees the job `name`: the caller, or for an operator with a grant its tenant. The use of
    a grant is a leaf. Raises ACCESS_NOT_GRANTED and ACCESS_NOT_ALLOWED: tell `refused` of them."""
    if principal.role is not Role.OPERATOR:
        return principal
    row = views.find_job(txn, codec, principal, name)
    opened = stored.open_grants(txn, now_ms, principal.path)
    held = rules.usable(opened, principal.path, row.tenant, row.id, action, now_ms)
    if held is None:
        detail = f"no grant of {principal.path} lets it {action.name} this job now"
        raise _refusal((Denial(Reason.ACCESS_NOT_GRANTED, detail, name[:200]),))
    _refuse_denied(txn, row.tenant, principal, now_ms, break_glass=held.break_glass)
    body = {"grant": held.id, "action": action.name, "by": _told(rules.person_of(principal))}
    txn.audit.append("operator_access_used", now_ms, body, tenant=row.tenant, job=row.id)
    told = _told(rules.person_of(principal))
    use = OperatorUse(
        at_ms=now_ms,
        grant=held.id,
        action=action.name,
        reason=held.reason.name,
        break_glass=held.break_glass,
        country=told["country"],
        clearance=told["clearance"],
    )
    stored.put_use(txn, row.id, use)
    return replace(principal, role=Role.TENANT, tenant=row.tenant)


def consent(txn: Txn, principal: Principal, tenant: TenantPath, now_ms: int) -> str:
    """The grant under which an operator lets somebody join in the name of `tenant`; its use is a
    leaf. Raises as `eyes` does: tell `enrolment_refused` of that."""
    held = use_on(txn, principal, tenant, AccessAction.ENROL, now_ms)
    if held is None:
        detail = (
            f"people of {tenant} let others join; an operator needs a grant to ENROL, of its"
            " tenant and by two persons"
        )
        raise _refusal((Denial(Reason.ACCESS_NOT_GRANTED, detail, tenant),))
    return held


def use_on(
    txn: Txn, principal: Principal, tenant: TenantPath, action: AccessAction, now_ms: int
) -> str | None:
    """The grant by which an operator does this with all of a tenant, whose use is a leaf; None:
    there is none. Raises ACCESS_NOT_ALLOWED where there is one and a policy is against it."""
    opened = stored.open_grants(txn, now_ms, principal.path)
    held = rules.usable(opened, principal.path, tenant, None, action, now_ms)
    if held is None:
        return None
    _refuse_denied(txn, tenant, principal, now_ms, break_glass=held.break_glass)
    person = _told(rules.person_of(principal))
    body = {"grant": held.id, "action": action.name, "by": person}
    txn.audit.append("operator_access_used", now_ms, body, tenant=tenant)
    return held.id


def enrolment_refused(
    txn: Txn, principal: Principal, tenant: TenantPath, why: Refused, now_ms: int
) -> None:
    """Writes down, for the tenant to see, that an operator tried to let somebody join."""
    _refusal_leaf(txn, principal, AccessAction.ENROL, why, now_ms, tenant, None)


def holds(
    read: Snapshot,
    codec: JobIdCodec,
    principal: Principal,
    name: str,
    now_ms: int,
    action: AccessAction = AccessAction.READ,
) -> bool:
    """Whether an operator has a grant to do this with a job now; says nothing of the tenant's
    policy."""
    opened = stored.open_grants(read, now_ms, principal.path)
    if not opened:
        return False
    row = views.find_job(read, codec, principal, name)
    held = rules.usable(opened, principal.path, row.tenant, row.id, action, now_ms)
    return held is not None


def refused(
    txn: Txn,
    codec: JobIdCodec,
    principal: Principal,
    name: str,
    action: AccessAction,
    why: Refused,
    now_ms: int,
) -> None:
    """Writes down, for the tenant to see, that an operator tried and was refused."""
    row = views.find_job(txn, codec, principal, name)
    _refusal_leaf(txn, principal, action, why, now_ms, row.tenant, row.id)


def set_policy(txn: Txn, principal: Principal, asked: AccessPolicy, now_ms: int) -> AccessPolicy:
    """Says whom a node of the caller's tree lets operators be; what is open already is judged by
    it at its next use."""
    _refuse_faults(_policy_faults(txn, principal, asked))
    policy = replace(
        asked,
        countries=tuple(sorted(set(asked.countries))),
        login_issuers=tuple(sorted(set(asked.login_issuers))),
        set_by=principal.path,
        set_at_ms=now_ms,
    )
    stored.put_policy(txn, policy)
    body = {
        "by": principal.path,
        "countries": list(policy.countries),
        "min_clearance": policy.min_clearance.name,
        "break_glass": policy.break_glass,
        "login_issuers": list(policy.login_issuers),
    }
    txn.audit.append("operator_access_policy_set", now_ms, body, tenant=policy.tenant)
    return policy


def policies(
    read: Snapshot, principal: Principal, tenant: TenantPath | None
) -> tuple[AccessPolicy, ...]:
    """What holds at a node of the tree: its own policy and all above it."""
    about = tenant or principal.tenant
    if about is None or not _may_review(principal, about):
        raise not_found("tenant", (about or "")[:200])
    return stored.policies_of(read, about)


def _known(read: Snapshot, principal: Principal, name: str) -> AccessGrant:
    found = stored.grant(read, name)
    own = principal.tenant
    if found is None or (own is not None and not _concerns(found, own)):
        raise not_found("access grant", name[:200])
    return found


def _concerns(grant: AccessGrant, tenant: TenantPath) -> bool:
    """Whether a grant reaches data of `tenant`, or of anything below it."""
    return tenant in ancestry(grant.tenant) or grant.tenant in ancestry(tenant)


def _may_review(principal: Principal, tenant: TenantPath) -> bool:
    return principal.role is Role.AUDITOR or principal.may_see(tenant)


def _refuse_denied(
    read: Snapshot, tenant: TenantPath, by: Principal, now_ms: int, *, break_glass: bool
) -> None:
    policies = stored.policies_of(read, tenant)
    denials = rules.policy_denials(policies, by.claims, now_ms, break_glass=break_glass)
    if denials:
        raise _refusal(denials)


def _refuse_faults(faults: Iterable[Denial]) -> None:
    found = tuple(faults)
    if found:
        raise invalid(*found)


def _refusal(denials: tuple[Denial, ...]) -> Refused:
    message = "; ".join(denial.detail for denial in denials)
    first = denials[0].reason
    illegal = first is Reason.ILLEGAL_TRANSITION
    code = Code.FAILED_PRECONDITION if illegal else Code.PERMISSION_DENIED
    return Refused(code, first, message, denials)


def _request_faults(read: Snapshot, asked: AccessAsked) -> Iterable[Denial]:
    if asked.tenant not in {tenant.path for tenant in read.tenancy.tenants()}:
        yield _fault("tenant", f"found {asked.tenant[:200]!r}, allowed a declared tenant")
    if not asked.actions or AccessAction.UNSPECIFIED in asked.actions:
        allowed = ", ".join(action.name for action in AccessAction if action)
        yield _fault("actions", f"found none or an unknown one, allowed {allowed}")
    if asked.reason is AccessReason.UNSPECIFIED:
        allowed = ", ".join(reason.name for reason in AccessReason if reason)
        yield _fault("reason", f"found none or an unknown one, allowed {allowed}")
    if not 1 <= len(asked.detail) <= DETAIL_CHARS_MAX:
        allowed = f"allowed 1 to {DETAIL_CHARS_MAX}"
        yield _fault("detail", f"found {len(asked.detail)} characters, {allowed}")
    longest_ms = BREAK_GLASS_MS_MAX if asked.break_glass else TTL_MS_MAX
    if not 0 <= asked.ttl_ms <= longest_ms:
        yield _fault("ttl_ms", f"found {asked.ttl_ms}, allowed 1 to {longest_ms}, or 0")
    if asked.job is not None and AccessAction.ENROL in asked.actions:
        yield _fault("actions", "found ENROL for a single job, allowed for a tenant")
    if asked.job is not None:
        row = read.jobs.row(asked.job)
        if row is None or asked.tenant not in ancestry(row.tenant):
            yield _fault("job_id", f"found no job of {asked.tenant[:200]}, allowed one")


def _policy_faults(read: Snapshot, principal: Principal, asked: AccessPolicy) -> Iterable[Denial]:
    known = {tenant.path for tenant in read.tenancy.tenants()}
    if asked.tenant not in known or not principal.may_see(asked.tenant):
        yield _fault("tenant", f"found {asked.tenant[:200]!r}, allowed the caller's or one below")
    if len(asked.countries) > COUNTRIES_MAX:
        found = f"found {len(asked.countries)}, allowed {COUNTRIES_MAX}"
        yield _fault("countries", found)
    for country in asked.countries[:COUNTRIES_MAX]:
        if not _COUNTRY.fullmatch(country):
            yield _fault("countries", f"found {country[:20]!r}, allowed codes such as GB")
    if len(asked.login_issuers) > ISSUERS_MAX:
        found = f"found {len(asked.login_issuers)}, allowed {ISSUERS_MAX}"
        yield _fault("login_issuers", found)
    for issuer in asked.login_issuers[:ISSUERS_MAX]:
        if not _ISSUER.fullmatch(issuer):
            yield _fault("login_issuers", f"found {issuer[:200]!r}, allowed https://HOST/PATH")


def _fault(field: str, detail: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, detail, field)


def _leaf(
    txn: Txn, kind: str, grant: AccessGrant, by: AccessPerson, now_ms: int, why: str = ""
) -> None:
    body = {
        "grant": grant.id,
        "by": _told(by),
        "actions": [action.name for action in grant.actions],
        "reason": grant.reason.name,
        "detail": grant.detail,
        "ends_at_ms": grant.ends_at_ms,
        "ttl_ms": grant.ttl_ms,
        **({"why": why} if why else {}),
    }
    txn.audit.append(kind, now_ms, body, tenant=grant.tenant, job=grant.job)


def _refusal_leaf(
    txn: Txn,
    principal: Principal,
    action: AccessAction,
    why: Refused,
    now_ms: int,
    tenant: TenantPath,
    job: JobId | None,
) -> None:
    body = {
        "action": action.name,
        "by": _told(rules.person_of(principal)),
        "reason": str(why.reason),
        "detail": why.message,
    }
    txn.audit.append("operator_access_refused", now_ms, body, tenant=tenant, job=job)


def _told(person: AccessPerson) -> dict[str, str]:
    clearance = person.clearance.name if person.clearance is not Clearance.UNSPECIFIED else ""
    return {"name": person.name, "country": person.country, "clearance": clearance}
