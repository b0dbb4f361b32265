"""AuditService, the part about leaves: every decision, to each as far as it is theirs.

Auditors read all of it, tenants their own, operators what is nobody's: of tenants' leaves they see
that there are any, of which kind and when, and with a grant to read what is in them.
"""

from __future__ import annotations

import heapq
from itertools import islice

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.operator_access import eyes
from scheduler.api.server import Methods
from scheduler.control import operator_access as access
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import not_found
from scheduler.store.records import AuditLeaf
from scheduler.store.store import Snapshot
from sovapi.v1 import audit_pb2

PAGE_KIND = "leaves"


class AuditService:
    """Serves the log."""

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
        shown = await self._may_open(principal, tenant, request.job_id)
        leaves = await self._desk.reader.read(
            lambda snapshot: _leaves(snapshot, principal, tenant, job, first, size)
        )
        more = len(leaves) == size
        token = pages.token_of(PAGE_KIND, str(leaves[-1].index + 1)) if more else ""
        return audit_pb2.ListLeavesResponse(
            leaves=[_to_proto(leaf, principal, shown) for leaf in leaves], next_page_token=token
        )

    async def _may_open(self, principal: Principal, tenant: TenantPath | None, job: str) -> bool:
        """Whether the caller is shown what is in tenants' leaves: an operator with a grant to read
        the tenant, or the job, that it asks about, which is then used."""
        desk = self._desk
        if principal.role is not Role.OPERATOR:
            return True
        if job:
            held = await desk.reader.read(
                lambda read: access.holds(read, desk.codec, principal, job, desk.now_ms())
            )
            if held:
                await eyes(desk, principal, job, AccessAction.READ)
            return held
        if tenant is None:
            return False
        now_ms, read = desk.now_ms(), AccessAction.READ
        used = await desk.writer.write(
            lambda txn: access.use_on(txn, principal, tenant, read, now_ms)
        )
        return used is not None

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


def _to_proto(leaf: AuditLeaf, principal: Principal, shown: bool) -> audit_pb2.AuditLeaf:
    """A tenant is not told where in the log a leaf stands: how fast that grows is others' work.
    Of tenants' leaves that are not to be `shown` there is the hash, without the salt that tells
    what was hashed."""
    told = leaf_to_proto(leaf)
    if leaf.tenant and not shown:
        told.ClearField("canonical_json")
        told.ClearField("salt")
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
