"""TenantService: the tenant tree and its quotas."""

from __future__ import annotations

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.model.ids import TenantPath
from scheduler.wire.fleet import tenant_from_proto, tenant_to_proto
from sovapi.v1 import tenants_pb2

PAGE_KIND = "tenants"


class TenantService:
    """Serves operators, and to tenants their own part of the tree."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "TenantService/Apply": self.apply,
            "TenantService/List": self.list,
            "TenantService/GetQuota": self.get_quota,
        }

    async def apply(
        self, request: tenants_pb2.ApplyTenantsRequest
    ) -> tenants_pb2.ApplyTenantsResponse:
        """Makes the tree what was said."""
        desk, principal = self._desk, calls.principal()
        tenants = tuple(tenant_from_proto(tenant) for tenant in request.tenants)
        now_ms = desk.now_ms()
        changes = await desk.writer.write(
            lambda txn: desk.control.apply_tenants(
                txn,
                principal,
                tenants,
                reason=request.reason,
                dry_run=request.dry_run,
                now_ms=now_ms,
            )
        )
        return tenants_pb2.ApplyTenantsResponse(changes=changes)

    async def list(
        self, request: tenants_pb2.ListTenantsRequest
    ) -> tenants_pb2.ListTenantsResponse:
        """The tree, by path, as far as the caller may see it."""
        principal = calls.principal()
        tree = await self._desk.reader.read(lambda snapshot: snapshot.tenancy.tenants())
        seen = sorted(
            (tenant for tenant in tree if principal.may_see(tenant.path)), key=lambda t: t.path
        )
        page, token = pages.page_by_name(seen, [t.path for t in seen], PAGE_KIND, request.page)
        return tenants_pb2.ListTenantsResponse(
            tenants=[tenant_to_proto(tenant) for tenant in page], next_page_token=token
        )

    async def get_quota(self, request: tenants_pb2.GetQuotaRequest) -> tenants_pb2.GetQuotaResponse:
        """Guarantee, limit and use."""
        desk, principal = self._desk, calls.principal()
        tenant = TenantPath(request.tenant) if request.tenant else None
        lines = await desk.reader.read(
            lambda snapshot: desk.control.quota(snapshot, principal, tenant)
        )
        return tenants_pb2.GetQuotaResponse(
            lines=[
                tenants_pb2.QuotaLine(
                    tenant=line.tenant,
                    gpu_class=line.gpu_class,
                    guarantee_milli=line.guarantee_milli or None,
                    limit_milli=line.limit_milli,
                    used_milli=line.used_milli,
                    borrowed_milli=line.borrowed_milli,
                    queued_milli=line.queued_milli,
                )
                for line in lines
            ]
        )
