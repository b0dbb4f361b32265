"""Operators' access to tenants' data, as coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sovapi.v1 import access_pb2, common_pb2
from sovctl.link import Connected, Repeat

PAGE_SIZE = 500


class AsyncAccessCalls(Connected):
    """Calls of AccessService."""

    async def request_access(
        self, asked: access_pb2.RequestAccessRequest
    ) -> access_pb2.AccessGrant:
        """Asks, as an operator, for access to a tenant's data; another operator approves."""
        return (await self.link.call(self.link.access.Request, asked, Repeat.NEVER)).grant

    async def approve_access(self, name: str) -> access_pb2.AccessGrant:
        """Approves what another operator asked for."""
        request = access_pb2.ApproveAccessRequest(id=name)
        return (await self.link.call(self.link.access.Approve, request, Repeat.NEVER)).grant

    async def revoke_access(self, name: str, *, reason: str) -> access_pb2.AccessGrant:
        """Ends access, or a request for it; tenants may, too, for their own data."""
        request = access_pb2.RevokeAccessRequest(id=name, reason=reason)
        return (await self.link.call(self.link.access.Revoke, request)).grant

    async def access_grants(self, tenant: str = "") -> AsyncIterator[access_pb2.AccessGrant]:
        """Every request and grant that the caller may see, by id."""
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            request = access_pb2.ListAccessRequest(page=page, tenant=tenant)
            response = await self.link.call(self.link.access.List, request)
            for grant in response.grants:
                yield grant
            token = response.next_page_token
            if not token:
                return

    async def set_access_policy(self, policy: access_pb2.AccessPolicy) -> access_pb2.AccessPolicy:
        """Says, as a tenant, whom operators with access to its data have to be."""
        request = access_pb2.SetAccessPolicyRequest(policy=policy)
        return (await self.link.call(self.link.access.SetPolicy, request)).policy

    async def access_policies(self, tenant: str = "") -> Sequence[access_pb2.AccessPolicy]:
        """What a tenant (default: the caller's) and all above it say of that; all must permit."""
        request = access_pb2.GetAccessPolicyRequest(tenant=tenant)
        return tuple((await self.link.call(self.link.access.GetPolicy, request)).policies)
