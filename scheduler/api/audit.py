"""AuditService, the part about leaves: every decision, to each as far as it is theirs."""

from __future__ import annotations

import heapq
from itertools import islice

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.reasons import not_found
from scheduler.store.records import AuditLeaf
from scheduler.store.store import Snapshot
from sovapi.v1 import audit_pb2

PAGE_KIND = "leaves"


class AuditService:
    """Serves auditors and operators the whole log, tenants their own leaves."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def methods(self) -> Methods:
        """What this serves."""
        return {"AuditService/ListLeaves": self.list_leaves}

    async def list_leaves(
        self, request: audit_pb2.ListLeavesRequest
    ) -> audit_pb2.ListLeavesResponse:
        """A page of leaves, in the log's order."""
        principal = calls.principal()
        size = pages.size_of(request.page)
        cursor = pages.cursor_of(PAGE_KIND, request.page)
        first = int(cursor) if cursor is not None and cursor.isdigit() else 0
        job = self._job(request.job_id)
        tenant = TenantPath(request.tenant) if request.tenant else None
        if tenant is not None and not _may_read(principal, tenant):
            raise not_found("tenant", request.tenant[:200])
        leaves = await self._desk.reader.read(
            lambda snapshot: _leaves(snapshot, principal, tenant, job, first, size)
        )
        more = len(leaves) == size
        token = pages.token_of(PAGE_KIND, str(leaves[-1].index + 1)) if more else ""
        return audit_pb2.ListLeavesResponse(
            leaves=[_to_proto(leaf, principal) for leaf in leaves], next_page_token=token
        )

    def _job(self, public: str) -> JobId | None:
        if not public:
            return None
        job = self._desk.codec.decode(public)
        if job is None:
            raise not_found("job", public[:200])
        return job


def _may_read(principal: Principal, tenant: TenantPath) -> bool:
    return principal.role is Role.AUDITOR or principal.may_see(tenant)


def _leaves(
    snapshot: Snapshot,
    principal: Principal,
    tenant: TenantPath | None,
    job: JobId | None,
    first: int,
    size: int,
) -> tuple[AuditLeaf, ...]:
    """At most `size` leaves from `first` on. A refused submission has leaves and no job."""
    if job is not None:
        found = snapshot.audit.page(first=first, limit=size, job=job)
        if any(not _may_read(principal, TenantPath(leaf.tenant)) for leaf in found):
            raise not_found("job", "")
        return found
    under = tenant if tenant is not None else principal.tenant
    if under is None:
        return snapshot.audit.page(first=first, limit=size)
    nodes = {t.path for t in snapshot.tenancy.tenants() if t.path.startswith(f"{under}/")}
    walks = [
        snapshot.audit.page(first=first, limit=size, tenant=node)
        for node in sorted({under, *nodes})
    ]
    return tuple(islice(heapq.merge(*walks, key=lambda leaf: leaf.index), size))


def _to_proto(leaf: AuditLeaf, principal: Principal) -> audit_pb2.AuditLeaf:
    """A tenant is not told where in the log a leaf stands: how fast that grows is others' work."""
    told = leaf_to_proto(leaf)
    if principal.role is Role.TENANT:
        told.ClearField("index")
    return told


def leaf_to_proto(leaf: AuditLeaf) -> audit_pb2.AuditLeaf:
    """A leaf, and where in the log it stands."""
    return audit_pb2.AuditLeaf(
        index=leaf.index,
        kind=leaf.kind,
        tenant=leaf.tenant,
        canonical_json=leaf.body.encode(),
        salt=leaf.salt,
        leaf_hash=leaf.leaf_hash,
        at_ms=leaf.at_ms,
    )
