"""Tenants, their quotas and budgets: what operators declare."""

from __future__ import annotations

from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.tenancy import Budget, BudgetPeriod, GpuQuota, QueueOrder, Share, Tenant
from scheduler.wire.enums import known, number
from sovapi.v1 import tenants_pb2


def tenant_to_proto(tenant: Tenant) -> tenants_pb2.Tenant:
    """One node of the tenant tree."""
    return tenants_pb2.Tenant(
        path=tenant.path,
        display_name=tenant.display_name,
        weight=tenant.weight,
        quotas=[
            tenants_pb2.GpuQuota(
                gpu_class=quota.gpu_class,
                guarantee_milli=quota.guarantee_milli or None,
                limit_milli=quota.limit_milli,
                weight=quota.weight,
                borrow_limit_milli=quota.borrow_limit_milli,
                lend_limit_milli=quota.lend_limit_milli,
            )
            for quota in tenant.quotas
        ],
        queue_order=number(tenants_pb2.QueueOrder, tenant.queue_order),
        max_queued_jobs=tenant.max_queued_jobs,
        budgets=[budget_to_proto(budget) for budget in tenant.budgets],
        shares=[share_to_proto(share) for share in tenant.shares],
    )


def tenant_from_proto(message: tenants_pb2.Tenant) -> Tenant:
    """One node of the tenant tree."""
    return Tenant(
        path=TenantPath(message.path),
        weight=message.weight,
        quotas=tuple(_quota_from_proto(quota) for quota in message.quotas),
        queue_order=known(QueueOrder, message.queue_order),
        max_queued_jobs=message.max_queued_jobs,
        display_name=message.display_name,
        budgets=tuple(budget_from_proto(budget) for budget in message.budgets),
        shares=tuple(_share_from_proto(share) for share in message.shares),
    )


def share_to_proto(share: Share) -> tenants_pb2.Share:
    """What a joint project is given."""
    return tenants_pb2.Share(
        of=share.of,
        agreement=share.agreement,
        gpu_class=share.gpu_class,
        guarantee_milli=share.guarantee_milli,
        limit_milli=share.limit_milli,
        since_ms=share.since_ms,
    )


def _share_from_proto(message: tenants_pb2.Share) -> Share:
    return Share(
        of=TenantPath(message.of),
        agreement=message.agreement,
        gpu_class=GpuClass(message.gpu_class),
        guarantee_milli=message.guarantee_milli,
        limit_milli=message.limit_milli,
        since_ms=message.since_ms,
    )


def _quota_from_proto(quota: tenants_pb2.GpuQuota) -> GpuQuota:
    has = quota.HasField
    return GpuQuota(
        gpu_class=GpuClass(quota.gpu_class),
        guarantee_milli=quota.guarantee_milli,
        limit_milli=quota.limit_milli if has("limit_milli") else None,
        weight=quota.weight,
        borrow_limit_milli=quota.borrow_limit_milli if has("borrow_limit_milli") else None,
        lend_limit_milli=quota.lend_limit_milli if has("lend_limit_milli") else None,
    )


def budget_to_proto(budget: Budget) -> tenants_pb2.Budget:
    """GPU time for each period."""
    return tenants_pb2.Budget(
        gpu_class=budget.gpu_class,
        amount_gpu_ms=budget.amount_gpu_ms,
        period=number(tenants_pb2.BudgetPeriod, budget.period),
        days=budget.days,
        from_day=budget.from_day,
        until_day=budget.until_day,
    )


def budget_from_proto(message: tenants_pb2.Budget) -> Budget:
    """GPU time for each period."""
    return Budget(
        gpu_class=GpuClass(message.gpu_class),
        amount_gpu_ms=message.amount_gpu_ms,
        period=known(BudgetPeriod, message.period),
        days=message.days,
        from_day=message.from_day,
        until_day=message.until_day if message.HasField("until_day") else None,
    )
