"""The one access table: every RPC of this server and who may call it. What is not here is denied.

A role in this table may make the call; which tenants', sites' and nodes' objects it then reaches is
decided where they are looked up, and what it may not reach is NOT_FOUND. What operators may do with
a tenant's data they may with a grant only: `operator_access.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.model.identity import Principal, Role
from scheduler.model.reasons import Code, Reason, Refused


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call: these roles, and with `anonymous` also who shows no certificate."""

    roles: frozenset[Role]
    anonymous: bool = False


_TENANT = Rule(frozenset({Role.TENANT}))
_OPERATOR = Rule(frozenset({Role.OPERATOR}))
_JOB_STATE = Rule(frozenset({Role.TENANT, Role.OPERATOR}))
_POLICY = Rule(frozenset({Role.TENANT, Role.OPERATOR, Role.AUDITOR}))
_REVIEW = Rule(frozenset({Role.OPERATOR, Role.AUDITOR}))
_AUDIT = Rule(frozenset({Role.TENANT, Role.OPERATOR, Role.AUDITOR}))
_WITNESS = Rule(frozenset({Role.TENANT, Role.AUDITOR}))
_LANDMARK = Rule(frozenset({Role.LANDMARK}))
_SITE = Rule(frozenset({Role.SITE}))
_ANYBODY = Rule(frozenset(Role))

_V1 = "/sovapi.v1."

RULES: Mapping[str, Rule] = {
    _V1 + "AccessService/Approve": _OPERATOR,
    _V1 + "AccessService/GetPolicy": _POLICY,
    _V1 + "AccessService/List": _AUDIT,
    _V1 + "AccessService/Request": _OPERATOR,
    _V1 + "AccessService/Revoke": _JOB_STATE,
    _V1 + "AccessService/SetPolicy": _TENANT,
    _V1 + "AuditService/AddCosignature": _WITNESS,
    _V1 + "AuditService/GetCertificate": _AUDIT,
    _V1 + "AuditService/GetCheckpoint": _AUDIT,
    _V1 + "AuditService/GetTrust": _AUDIT,
    _V1 + "AuditService/ListCertificates": _AUDIT,
    _V1 + "AuditService/ListLeaves": _AUDIT,
    _V1 + "AuditService/ProveConsistency": _AUDIT,
    _V1 + "AuditService/ProveInclusion": _AUDIT,
    _V1 + "DatasetService/Apply": _TENANT,
    _V1 + "DatasetService/Get": _TENANT,
    _V1 + "DatasetService/List": _TENANT,
    _V1 + "DatasetService/Remove": _TENANT,
    _V1 + "FleetService/AddMaintenance": _OPERATOR,
    _V1 + "FleetService/Apply": _OPERATOR,
    _V1 + "FleetService/Cordon": _OPERATOR,
    _V1 + "FleetService/Drain": _OPERATOR,
    _V1 + "FleetService/Fence": _OPERATOR,
    _V1 + "FleetService/ListDependencies": _REVIEW,
    _V1 + "FleetService/ListMaintenance": _REVIEW,
    _V1 + "FleetService/ListNodes": _REVIEW,
    _V1 + "FleetService/ListSites": _REVIEW,
    _V1 + "FleetService/Overview": _REVIEW,
    _V1 + "FleetService/RemoveMaintenance": _OPERATOR,
    _V1 + "FleetService/Uncordon": _OPERATOR,
    _V1 + "FleetService/Verdicts": _REVIEW,
    _V1 + "FleetService/WhatIf": _OPERATOR,
    _V1 + "IdentityService/CreateJoinToken": Rule(
        frozenset({Role.OPERATOR, Role.SITE, Role.TENANT})
    ),
    _V1 + "IdentityService/Join": Rule(frozenset(Role), anonymous=True),
    _V1 + "IdentityService/Login": Rule(frozenset(Role), anonymous=True),
    _V1 + "IdentityService/Renew": _ANYBODY,
    _V1 + "IdentityService/Revoke": _OPERATOR,
    _V1 + "IdentityService/Whoami": _ANYBODY,
    _V1 + "JobService/Cancel": _JOB_STATE,
    _V1 + "JobService/Download": _JOB_STATE,
    _V1 + "JobService/Exec": _JOB_STATE,
    _V1 + "JobService/Explain": _JOB_STATE,
    _V1 + "JobService/Get": _JOB_STATE,
    _V1 + "JobService/List": _JOB_STATE,
    _V1 + "JobService/Logs": _JOB_STATE,
    _V1 + "JobService/PortForward": _JOB_STATE,
    _V1 + "JobService/Scale": _TENANT,
    _V1 + "JobService/Submit": _TENANT,
    _V1 + "JobService/SubmitMany": _TENANT,
    _V1 + "JobService/Upload": _TENANT,
    _V1 + "JobService/Watch": _JOB_STATE,
    _V1 + "LocationService/Report": _LANDMARK,
    _V1 + "LocationService/Targets": _LANDMARK,
    _V1 + "PolicyService/AgreementLedger": _REVIEW,
    _V1 + "PolicyService/Apply": _OPERATOR,
    _V1 + "PolicyService/ApplyAgreement": _OPERATOR,
    _V1 + "PolicyService/Diff": _REVIEW,
    _V1 + "PolicyService/Get": _POLICY,
    _V1 + "PolicyService/ListAgreements": _REVIEW,
    _V1 + "PolicyService/Prove": _REVIEW,
    _V1 + "PolicyService/RevokeAgreement": _OPERATOR,
    _V1 + "SiteLink/FetchBundle": _SITE,
    _V1 + "SiteLink/Session": _SITE,
    _V1 + "SiteLink/Tunnel": _SITE,
    _V1 + "TenantService/Apply": _OPERATOR,
    _V1 + "TenantService/GetQuota": _JOB_STATE,
    _V1 + "TenantService/GetUsage": _JOB_STATE,
    _V1 + "TenantService/List": _JOB_STATE,
    _V1 + "TenantService/ListSecrets": _TENANT,
    _V1 + "TenantService/RemoveSecret": _TENANT,
    _V1 + "TenantService/SetSecret": _TENANT,
    _V1 + "TenantService/WhatIf": _OPERATOR,
    # Standard services, for those who hold a certificate.
    "/grpc.health.v1.Health/Check": _ANYBODY,
    "/grpc.health.v1.Health/Watch": _ANYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _ANYBODY,
}


def check(method: str, principal: Principal | None) -> None:
    """Refuses unless `principal` (None: no certificate) may call `method`."""
    rule = RULES.get(method)
    if rule is not None and rule.anonymous and principal is None:
        return
    if principal is None:
        raise Refused(
            Code.UNAUTHENTICATED,
            Reason.UNAUTHENTICATED,
            "this call needs a client certificate, on the port that asks for one",
        )
    if rule is None or principal.role not in rule.roles:
        allowed = "nobody" if rule is None else ", ".join(sorted(rule.roles))
        raise Refused(
            Code.PERMISSION_DENIED,
            Reason.PERMISSION_DENIED,
            f"{method}: found role {principal.role}, allowed {allowed}",
        )
