"""Access grants and tenants' access policies: for the few calls that are about them.

Functions over a snapshot or transaction rather than a group of `Txn`: nothing of this is on the
way of jobs.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select

from scheduler.model.ids import JobId, TenantPath, ancestry, organisation_of
from scheduler.model.operator_access import AccessGrant, AccessPolicy, OperatorUse
from scheduler.store.bulk import IDS, Statement
from scheduler.store.codec import decode, encode
from scheduler.store.schema_access import ACCESS_GRANTS, ACCESS_POLICIES, OPERATOR_USES
from scheduler.store.store import Snapshot, Txn

_USES = Statement(
    OPERATOR_USES, f"SELECT job, body FROM operator_uses WHERE job IN {IDS} ORDER BY job, number"
)


def grant(read: Snapshot, name: str) -> AccessGrant | None:
    """The grant with this id."""
    query = select(ACCESS_GRANTS.c.body).where(ACCESS_GRANTS.c.id == name)
    body = read.connection.execute(query).scalar()
    return None if body is None else decode(AccessGrant, body)


def open_grants(
    read: Snapshot, now_ms: int, requested_by: str | None = None
) -> tuple[AccessGrant, ...]:
    """Those that are pending or active, by id; those that one operator asked for, if named."""
    query = select(ACCESS_GRANTS.c.body).where(ACCESS_GRANTS.c.ends_at_ms > now_ms)
    if requested_by is not None:
        query = query.where(ACCESS_GRANTS.c.requested_by == requested_by)
    return _decoded(read.connection.execute(query.order_by(ACCESS_GRANTS.c.id)).scalars())


def grants(read: Snapshot, organisation: TenantPath | None = None) -> tuple[AccessGrant, ...]:
    """All there ever were, or those about one organisation, by id."""
    query = select(ACCESS_GRANTS.c.body).order_by(ACCESS_GRANTS.c.id)
    if organisation is not None:
        query = query.where(ACCESS_GRANTS.c.organisation == organisation)
    return _decoded(read.connection.execute(query).scalars())


def take_id(read: Snapshot, tenant: TenantPath) -> str:
    """An id that no grant has. Organisations count apart: ids tell nothing of the others."""
    organisation = organisation_of(tenant)
    query = select(func.count()).where(ACCESS_GRANTS.c.organisation == organisation)
    return f"{organisation}-access-{(read.connection.execute(query).scalar() or 0) + 1}"


def put_grant(txn: Txn, made: AccessGrant) -> None:
    """Adds a grant, or changes it."""
    row = {
        "id": made.id,
        "organisation": organisation_of(made.tenant),
        "requested_by": made.requested_by.name,
        "ends_at_ms": made.revoked_at_ms or made.ends_at_ms,
        "body": encode(made),
    }
    txn.link.upsert(ACCESS_GRANTS, [row])


def put_use(txn: Txn, job: JobId, use: OperatorUse) -> None:
    """A grant was used on a job."""
    number = len(uses_of(txn, (job,)).get(job, ())) + 1
    row = {"job": job, "number": number, "body": encode(use)}
    txn.link.upsert(OPERATOR_USES, [row])


def uses_of(read: Snapshot, jobs: Iterable[JobId]) -> dict[JobId, tuple[OperatorUse, ...]]:
    """Each time that a grant was used on a job, the first first; of those that have any. Asked at
    the end of every job.
    """
    found: dict[JobId, tuple[OperatorUse, ...]] = {}
    for job, body in _USES.among(read.connection, sorted(set(jobs))):
        found[job] = (*found.get(job, ()), decode(OperatorUse, body))
    return found


def policies_of(read: Snapshot, tenant: TenantPath) -> tuple[AccessPolicy, ...]:
    """The policies that `tenant` is under, from the top down; the organisation always has one."""
    path = list(ancestry(tenant))
    query = select(ACCESS_POLICIES.c.body).where(ACCESS_POLICIES.c.tenant.in_(path))
    bodies = read.connection.execute(query.order_by(ACCESS_POLICIES.c.tenant)).scalars()
    found = tuple(decode(AccessPolicy, body) for body in bodies)
    top = organisation_of(tenant)
    return found if found and found[0].tenant == top else (AccessPolicy(top), *found)


def put_policy(txn: Txn, policy: AccessPolicy) -> None:
    """Sets a tenant's policy."""
    row = {"tenant": policy.tenant, "body": encode(policy)}
    txn.link.upsert(ACCESS_POLICIES, [row])


def _decoded(bodies: Iterable[str]) -> tuple[AccessGrant, ...]:
    return tuple(decode(AccessGrant, body) for body in bodies)
