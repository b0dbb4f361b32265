"""Operators' access to tenants' data, on the wire."""

from __future__ import annotations

from scheduler.core.job_ids import JobIdCodec
from scheduler.model.identity import Clearance
from scheduler.model.ids import TenantPath
from scheduler.model.operator_access import (
    AccessAction,
    AccessAsked,
    AccessGrant,
    AccessPerson,
    AccessPolicy,
    AccessReason,
)
from scheduler.model.reasons import not_found
from scheduler.wire.enums import known, number
from sovapi.v1 import access_pb2, common_pb2


def asked_from_proto(message: access_pb2.RequestAccessRequest, codec: JobIdCodec) -> AccessAsked:
    """What an operator asks for. An id that names no job is not found."""
    job = codec.decode(message.job_id) if message.job_id else None
    if message.job_id and job is None:
        raise not_found("job", message.job_id[:200])
    return AccessAsked(
        tenant=TenantPath(message.tenant),
        job=job,
        actions=tuple(known(AccessAction, action) for action in message.actions),
        reason=known(AccessReason, message.reason),
        detail=message.detail,
        ttl_ms=message.ttl_ms,
        break_glass=message.break_glass,
    )


def grant_to_proto(grant: AccessGrant, codec: JobIdCodec, now_ms: int) -> access_pb2.AccessGrant:
    """A grant as it stands at `now_ms`."""
    approved = grant.approved_by
    return access_pb2.AccessGrant(
        id=grant.id,
        tenant=grant.tenant,
        job_id=codec.encode(grant.job) if grant.job is not None else "",
        actions=[number(access_pb2.AccessAction, action) for action in grant.actions],
        reason=number(access_pb2.AccessReason, grant.reason),
        detail=grant.detail,
        state=number(access_pb2.AccessState, grant.state(now_ms)),
        break_glass=grant.break_glass,
        requested_by=_person_to_proto(grant.requested_by),
        requested_at_ms=grant.requested_at_ms,
        approved_by=_person_to_proto(approved) if approved is not None else None,
        approved_at_ms=grant.approved_at_ms,
        ends_at_ms=grant.ends_at_ms,
        revoked_by=grant.revoked_by,
        revoked_at_ms=grant.revoked_at_ms,
        ttl_ms=grant.ttl_ms,
    )


def _person_to_proto(person: AccessPerson) -> access_pb2.AccessPerson:
    clearance = number(common_pb2.Clearance, person.clearance)
    return access_pb2.AccessPerson(name=person.name, country=person.country, clearance=clearance)


def policy_from_proto(message: access_pb2.AccessPolicy, own: TenantPath) -> AccessPolicy:
    """A policy as it is asked for; of the caller's `own` node where it names none."""
    return AccessPolicy(
        tenant=TenantPath(message.tenant) or own,
        countries=tuple(message.countries),
        min_clearance=known(Clearance, message.min_clearance),
        break_glass=message.break_glass,
        set_by=message.set_by,
        set_at_ms=message.set_at_ms,
        login_issuers=tuple(message.login_issuers),
    )


def policy_to_proto(policy: AccessPolicy) -> access_pb2.AccessPolicy:
    """A policy as it is in force."""
    return access_pb2.AccessPolicy(
        tenant=policy.tenant,
        countries=policy.countries,
        min_clearance=number(common_pb2.Clearance, policy.min_clearance),
        break_glass=policy.break_glass,
        set_by=policy.set_by,
        set_at_ms=policy.set_at_ms,
        login_issuers=policy.login_issuers,
    )
