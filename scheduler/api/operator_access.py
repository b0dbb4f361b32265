"""AccessService: operators ask for access to a tenant's data, others approve, tenants watch.

And the door through which every call of an operator passes that touches such data: `touch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.control import operator_access as control
from scheduler.model.identity import Principal
from scheduler.model.ids import TenantPath
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Refused
from scheduler.store.store import Txn
from scheduler.wire.operator_access import (
    asked_from_proto,
    grant_to_proto,
    policy_from_proto,
    policy_to_proto,
)
from sovapi.v1 import access_pb2

GRANTS_KIND = "access"
T = TypeVar("T")


async def touch(
    desk: Desk,
    principal: Principal,
    name: str,
    action: AccessAction,
    work: Callable[[Txn, Principal], T],
) -> T:
    """Does `work`, in one transaction with the leaf of the access, as who may see the job `name`.

    For a tenant that is the tenant, and nothing else happens. An operator without access is
    refused, and that is written into the tenant's log before the operator hears of it.
    """
    codec, now_ms = desk.codec, desk.now_ms()

    def granted(txn: Txn) -> T:
        return work(txn, control.eyes(txn, codec, principal, name, action, now_ms))

    try:
        return await desk.writer.write(granted)
    except Refused as why:
        if why.reason not in control.TOLD:
            raise
        refusal = why
    await desk.writer.write(
        lambda txn: control.refused(txn, codec, principal, name, action, refusal, now_ms)
    )
    raise refusal


async def eyes(desk: Desk, principal: Principal, name: str, action: AccessAction) -> Principal:
    """As whom a caller may read what belongs to the job `name`; see `touch`."""
    if principal.tenant is not None:
        return principal
    return await touch(desk, principal, name, action, lambda _, seen: seen)


class AccessService:
    """Serves operators, tenants and auditors."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "AccessService/Request": self.request,
            "AccessService/Approve": self.approve,
            "AccessService/Revoke": self.revoke,
            "AccessService/List": self.list,
            "AccessService/SetPolicy": self.set_policy,
            "AccessService/GetPolicy": self.get_policy,
        }

    async def request(
        self, request: access_pb2.RequestAccessRequest
    ) -> access_pb2.RequestAccessResponse:
        """Asks for access."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        asked = asked_from_proto(request, desk.codec)
        made = await desk.writer.write(lambda txn: control.request(txn, principal, asked, now_ms))
        return access_pb2.RequestAccessResponse(grant=grant_to_proto(made, desk.codec, now_ms))

    async def approve(
        self, request: access_pb2.ApproveAccessRequest
    ) -> access_pb2.ApproveAccessResponse:
        """Approves what another asked for."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        grant = await desk.writer.write(
            lambda txn: control.approve(txn, principal, request.id, now_ms)
        )
        return access_pb2.ApproveAccessResponse(grant=grant_to_proto(grant, desk.codec, now_ms))

    async def revoke(
        self, request: access_pb2.RevokeAccessRequest
    ) -> access_pb2.RevokeAccessResponse:
        """Ends access, or a request for it."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        grant = await desk.writer.write(
            lambda txn: control.revoke(txn, principal, request.id, request.reason, now_ms)
        )
        return access_pb2.RevokeAccessResponse(grant=grant_to_proto(grant, desk.codec, now_ms))

    async def list(self, request: access_pb2.ListAccessRequest) -> access_pb2.ListAccessResponse:
        """Every request and grant that the caller may see, by id."""
        desk, principal = self._desk, calls.principal()
        tenant = TenantPath(request.tenant) if request.tenant else None
        found = await desk.reader.read(lambda snapshot: control.listed(snapshot, principal, tenant))
        grants = sorted(found, key=lambda grant: grant.id)
        names = [grant.id for grant in grants]
        page, token = pages.page_by_name(grants, names, GRANTS_KIND, request.page)
        now_ms = desk.now_ms()
        return access_pb2.ListAccessResponse(
            grants=[grant_to_proto(grant, desk.codec, now_ms) for grant in page],
            next_page_token=token,
        )

    async def set_policy(
        self, request: access_pb2.SetAccessPolicyRequest
    ) -> access_pb2.SetAccessPolicyResponse:
        """Says whom a tenant lets operators be."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        assert principal.tenant is not None, "the access table lets only tenants through"
        asked = policy_from_proto(request.policy, principal.tenant)
        policy = await desk.writer.write(
            lambda txn: control.set_policy(txn, principal, asked, now_ms)
        )
        return access_pb2.SetAccessPolicyResponse(policy=policy_to_proto(policy))

    async def get_policy(
        self, request: access_pb2.GetAccessPolicyRequest
    ) -> access_pb2.GetAccessPolicyResponse:
        """What holds at a node of the tree."""
        principal = calls.principal()
        tenant = TenantPath(request.tenant) if request.tenant else None
        found = await self._desk.reader.read(
            lambda snapshot: control.policies(snapshot, principal, tenant)
        )
        return access_pb2.GetAccessPolicyResponse(
            policies=[policy_to_proto(policy) for policy in found]
        )
