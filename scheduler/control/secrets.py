"""Tenants' secrets: set, listed and removed by name.

What arrives is sealed with the tenant's own key, what is kept is what arrived, and only a node with
a placement grant has it opened.
"""

from __future__ import annotations

import io
from hashlib import sha256

from scheduler.model.identity import Principal
from scheduler.model.ids import NAME_PATTERN, TenantPath, ancestry
from scheduler.model.job import JobSpec
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.store import secrets as stored
from scheduler.store.store import Snapshot, Txn
from sovshared import sealing
from sovshared.sealing import SealInvalid

SECRETS_OF_TENANT_MAX = 1_000
SECRETS_OF_JOB_MAX = 32
SEALED_BYTES_MAX = sealing.SECRET_BYTES_MAX + sealing.HEADER_BYTES_MAX + 1024


def set_secret(txn: Txn, principal: Principal, name: str, value: bytes, now_ms: int) -> None:
    """Keeps a sealed value under a name; one that is there already is replaced."""
    tenant = _owner(txn, principal, name)
    faults = [*_value_faults(name, value)]
    if faults:
        raise invalid(*faults)
    if stored.count(txn, tenant) >= SECRETS_OF_TENANT_MAX:
        detail = f"{tenant} has {SECRETS_OF_TENANT_MAX} secrets, allowed no more"
        raise Refused(Code.RESOURCE_EXHAUSTED, Reason.RESOURCE_EXHAUSTED, detail)
    stored.put(txn, name, tenant, value)
    body = {"by": principal.path, "name": name, "sealed_digest": sha256(value).hexdigest()}
    txn.audit.append("secret_set", now_ms, body, tenant=tenant)


def remove_secret(txn: Txn, principal: Principal, name: str, now_ms: int) -> None:
    """There is no such secret any more; what runs has it already."""
    tenant = _owner(txn, principal, name)
    if not stored.remove(txn, name):
        raise not_found("secret", name[:200])
    txn.audit.append("secret_removed", now_ms, {"by": principal.path, "name": name}, tenant=tenant)


def listed(read: Snapshot, principal: Principal) -> tuple[str, ...]:
    """Names, never values."""
    assert principal.tenant is not None, "the access table lets only tenants through"
    return stored.names(read, principal.tenant)


def faults_of(read: Snapshot, spec: JobSpec) -> list[Denial]:
    """What is wrong with the secrets that a job names: they are its project's, or of what is above
    it, and there."""
    if len(spec.secrets) > SECRETS_OF_JOB_MAX:
        found = f"found {len(spec.secrets)}, allowed {SECRETS_OF_JOB_MAX}"
        return [Denial(Reason.TOO_LARGE, found, "secrets")]
    known = stored.sealed(read, (name for _, name in spec.secrets))
    above = ancestry(spec.project)
    return [
        Denial(
            Reason.NOT_FOUND, f"found {name[:200]!r}, which is no secret of yours", f"secrets.{v}"
        )
        for v, name in spec.secrets
        if name not in known or name.rpartition("/")[0] not in above
    ]


def _owner(read: Snapshot, principal: Principal, name: str) -> TenantPath:
    """The tenant whose secret it is, or would be: the caller's, or one below it."""
    path, _, own = name.rpartition("/")
    tenant = TenantPath(path)
    known = {node.path for node in read.tenancy.tenants()}
    if not NAME_PATTERN.fullmatch(own) or tenant not in known or not principal.may_see(tenant):
        allowed = f"allowed a name under the caller's tenant, such as {principal.tenant}/hf"
        detail = f"found {name[:200]!r}, {allowed}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "name"))
    return tenant


def _value_faults(name: str, value: bytes) -> list[Denial]:
    if len(value) > SEALED_BYTES_MAX:
        found = f"found {len(value)} bytes, allowed {SEALED_BYTES_MAX}"
        return [Denial(Reason.TOO_LARGE, found, "value")]
    try:
        header = sealing.read_header(io.BytesIO(value))
    except SealInvalid:
        detail = "found something else, allowed a value sealed with the tenant's own key"
        return [Denial(Reason.INVALID_ARGUMENT, detail, "value")]
    if (header.purpose, header.name) != (sealing.SECRET, sealing.opaque(name)):
        detail = "found a value sealed as something else, allowed one sealed as this secret"
        return [Denial(Reason.INVALID_ARGUMENT, detail, "value")]
    return []
