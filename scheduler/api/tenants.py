"""TenantService: the tenant tree, its quotas and budgets, and what was used of them."""

from __future__ import annotations

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.api.tenant_answers import (
    budget_line_to_proto,
    outcome_to_proto,
    quota_line_to_proto,
    usage_line_to_proto,
)
from scheduler.control import declare, joint
from scheduler.control.declare import UnknownClasses
from scheduler.core.budgets import day_of
from scheduler.model.ids import TenantPath
from scheduler.model.tenancy import Tenant
from scheduler.model.whatif import OtherTenants
from scheduler.runtime.planner_process import PlannerProcess
from scheduler.store.store import Snapshot, Txn
from scheduler.wire.tenants import tenant_from_proto, tenant_to_proto
from sovapi.v1 import tenants_pb2

PAGE_KIND = "tenants"
DAYS_DEFAULT = 30
"""Usage is told of so many days back where nothing is said."""


class TenantService:
    """Serves operators, and to tenants their own part of the tree."""

    def __init__(self, desk: Desk, planner: PlannerProcess) -> None:
        self._desk = desk
        self._planner = planner

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "TenantService/Apply": self.apply,
            "TenantService/List": self.list,
            "TenantService/GetQuota": self.get_quota,
            "TenantService/GetUsage": self.get_usage,
            "TenantService/WhatIf": self.what_if,
        }

    async def apply(
        self, request: tenants_pb2.ApplyTenantsRequest
    ) -> tenants_pb2.ApplyTenantsResponse:
        """Makes the tree what was said."""
        desk, principal = self._desk, calls.principal()
        tenants = tuple(tenant_from_proto(tenant) for tenant in request.tenants)
        now_ms = desk.now_ms()

        def work(txn: Txn) -> tuple[tuple[str, ...], tuple[str, ...]]:
            changes = desk.control.apply_tenants(
                txn,
                principal,
                tenants,
                reason=request.reason,
                dry_run=request.dry_run,
                now_ms=now_ms,
                unknown_classes=_unknown_classes(request.allow_unknown_gpu_classes),
            )
            return changes, desk.control.tenant_warnings(txn, tenants)

        changes, warnings = await desk.writer.write(work)
        return tenants_pb2.ApplyTenantsResponse(changes=changes, warnings=warnings)

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
        """Guarantee, limit and use, and what budgets have left."""
        desk, principal = self._desk, calls.principal()
        tenant = TenantPath(request.tenant) if request.tenant else None
        now_ms = desk.now_ms()
        lines, budgets = await desk.reader.read(
            lambda snapshot: (
                desk.control.quota(snapshot, principal, tenant),
                desk.control.budgets(snapshot, principal, tenant, now_ms),
            )
        )
        return tenants_pb2.GetQuotaResponse(
            lines=[quota_line_to_proto(line) for line in lines],
            budgets=[budget_line_to_proto(line) for line in budgets],
        )

    async def get_usage(self, request: tenants_pb2.GetUsageRequest) -> tenants_pb2.GetUsageResponse:
        """GPU time by tenant and GPU class, of what was placed in a span of days."""
        desk, principal = self._desk, calls.principal()
        tenant = TenantPath(request.tenant) if request.tenant else None
        now_ms = desk.now_ms()
        first_day = day_of(request.since_ms) if request.since_ms else day_of(now_ms) - DAYS_DEFAULT
        end_day = day_of(request.until_ms or now_ms) + 1
        lines = await desk.reader.read(
            lambda snapshot: desk.control.usage(
                snapshot, principal, tenant, first_day=first_day, end_day=end_day, now_ms=now_ms
            )
        )
        return tenants_pb2.GetUsageResponse(
            lines=[usage_line_to_proto(line) for line in lines],
            first_day=first_day,
            end_day=end_day,
        )

    async def what_if(
        self, request: tenants_pb2.QuotaWhatIfRequest
    ) -> tenants_pb2.QuotaWhatIfResponse:
        """What the queue would do under another tree, beside what it does."""
        desk = self._desk
        written = tuple(tenant_from_proto(tenant) for tenant in request.tenants)
        unknown = _unknown_classes(request.allow_unknown_gpu_classes)

        now_ms = desk.now_ms()

        def look(
            snapshot: Snapshot,
        ) -> tuple[tuple[Tenant, ...], tuple[str, ...], tuple[str, ...]]:
            declare.check_tenants(snapshot, written, unknown)
            policy = snapshot.tenancy.policy()
            tenants = joint.standing(written, joint.held_in(snapshot), policy, now_ms)
            changes = declare.tenant_difference(snapshot, tenants)
            return tenants, changes, declare.tenant_warnings(snapshot, tenants)

        tenants, changes, warnings = await desk.reader.read(look)
        found = await self._planner.what_if(OtherTenants(tenants), now_ms)
        return tenants_pb2.QuotaWhatIfResponse(
            now=outcome_to_proto(found.now, desk.codec),
            then=outcome_to_proto(found.then, desk.codec),
            changes=changes,
            warnings=warnings,
        )


def _unknown_classes(allowed: bool) -> UnknownClasses:
    return UnknownClasses.WARN if allowed else UnknownClasses.REFUSE
