"""TenantService: the tenant tree, its quotas and budgets, and what was used of them."""

from __future__ import annotations

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.control.declare import UnknownClasses
from scheduler.control.spending import BudgetLine, UsageLine
from scheduler.control.views import QuotaLine
from scheduler.core.budgets import day_of
from scheduler.model.ids import TenantPath
from scheduler.store.store import Txn
from scheduler.wire.tenants import budget_to_proto, tenant_from_proto, tenant_to_proto
from sovapi.v1 import tenants_pb2

PAGE_KIND = "tenants"
DAYS_DEFAULT = 30
"""Usage is told of so many days back where nothing is said."""


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
            "TenantService/GetUsage": self.get_usage,
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


def _unknown_classes(allowed: bool) -> UnknownClasses:
    return UnknownClasses.WARN if allowed else UnknownClasses.REFUSE


def quota_line_to_proto(line: QuotaLine) -> tenants_pb2.QuotaLine:
    """Quota and use of one node of the tree, on one GPU class."""
    return tenants_pb2.QuotaLine(
        tenant=line.tenant,
        gpu_class=line.gpu_class,
        guarantee_milli=line.guarantee_milli or None,
        limit_milli=line.limit_milli,
        used_milli=line.used_milli,
        borrowed_milli=line.borrowed_milli,
        queued_milli=line.queued_milli,
        weight=line.weight,
        borrow_limit_milli=line.borrow_limit_milli,
        lend_limit_milli=line.lend_limit_milli,
        lent_milli=line.lent_milli,
    )


def budget_line_to_proto(line: BudgetLine) -> tenants_pb2.BudgetLine:
    """A budget in its present period."""
    return tenants_pb2.BudgetLine(
        tenant=line.tenant,
        budget=budget_to_proto(line.budget),
        first_day=line.first_day,
        end_day=line.end_day,
        reserved_gpu_ms=line.reserved_gpu_ms,
        charged_gpu_ms=line.charged_gpu_ms,
        left_gpu_ms=line.left_gpu_ms(),
    )


def usage_line_to_proto(line: UsageLine) -> tenants_pb2.UsageLine:
    """What was used. Nothing measures the energy of one job yet, and the line says so."""
    whole_gpu_ms = line.charged_gpu_ms + line.refunded_gpu_ms + line.running_gpu_ms
    return tenants_pb2.UsageLine(
        tenant=line.tenant,
        gpu_class=line.gpu_class,
        gpu_milli_ms=whole_gpu_ms * 1000,
        charged_gpu_ms=line.charged_gpu_ms,
        refunded_gpu_ms=line.refunded_gpu_ms,
        running_gpu_ms=line.running_gpu_ms,
        attempts=line.attempts,
        energy_measured=False,
    )
