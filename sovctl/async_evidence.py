"""The audit log and what is proved from it, as coroutines."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sovapi.v1 import audit_pb2, common_pb2
from sovctl import clock, witness
from sovctl.certificates import join
from sovctl.link import Connected
from sovctl.witness import Witness

PAGE_SIZE = 500


class AsyncEvidenceCalls(Connected):
    """Calls of AuditService."""

    async def audit_leaves(
        self, *, tenant: str = "", job: str = ""
    ) -> AsyncIterator[audit_pb2.AuditLeaf]:
        """The audit log, as far as the caller may read it, oldest first."""
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            request = audit_pb2.ListLeavesRequest(page=page, tenant=tenant, job_id=job)
            response = await self.link.call(self.link.audit.ListLeaves, request)
            for leaf in response.leaves:
                yield leaf
            token = response.next_page_token
            if not token:
                return

    async def checkpoint(self) -> audit_pb2.Checkpoint:
        """The audit log's size and root hash, signed (C2SP tlog-checkpoint)."""
        return await self.link.call(self.link.audit.GetCheckpoint, audit_pb2.GetCheckpointRequest())

    async def inclusion_proof(self, index: int, tree_size: int = 0) -> tuple[int, list[bytes]]:
        """The size of a tree (default: the present one) and the path of a leaf in it."""
        request = audit_pb2.ProveInclusionRequest(index=index, tree_size=tree_size)
        response = await self.link.call(self.link.audit.ProveInclusion, request)
        return response.tree_size, list(response.path)

    async def consistency_proof(self, from_size: int, to_size: int) -> list[bytes]:
        """The path that shows that the log only grew from one size to the other."""
        request = audit_pb2.ProveConsistencyRequest(from_size=from_size, to_size=to_size)
        return list((await self.link.call(self.link.audit.ProveConsistency, request)).path)

    async def trust(self) -> bytes:
        """Whom a verifier is to believe: a C2SP tlog-policy. Compare it by another way first."""
        request = audit_pb2.GetTrustRequest()
        return (await self.link.call(self.link.audit.GetTrust, request)).trust

    async def certificate(self, job: str) -> bytes:
        """The residency certificate of a job that is over or was refused: a file for `verify`."""
        request = audit_pb2.GetCertificateRequest(job_id=job)
        return join(await self.link.call(self.link.audit.GetCertificate, request))

    async def certificates(self, tenant: str = "") -> AsyncIterator[audit_pb2.CertificateLine]:
        """What was certified of a tenant and all below it, by tenant and number: see `gaps`."""
        token = ""
        while True:
            page = common_pb2.PageRequest(page_size=PAGE_SIZE, page_token=token)
            request = audit_pb2.ListCertificatesRequest(page=page, tenant=tenant)
            response = await self.link.call(self.link.audit.ListCertificates, request)
            for line in response.certificates:
                yield line
            token = response.next_page_token
            if not token:
                return

    async def witness(self, keeper: Witness) -> audit_pb2.Checkpoint:
        """Looks at the log once and cosigns its head, if that continues what was seen before.

        The first look decides which log is watched. Raises `LogForked`: the control plane has
        shown two histories, and the directory of the witness holds both heads.
        """
        if keeper.log() is None:
            keeper.watch(witness.log_of(await self.trust()))
        found = await self.checkpoint()
        seen, last = keeper.open(found.signed_note), keeper.last()
        grew = last is not None and 0 < last.size < seen.head.size
        path = await self.consistency_proof(last.size, seen.head.size) if last and grew else []
        cosigned = keeper.cosign(seen, path, clock.now_ms() // 1000)
        request = audit_pb2.AddCosignatureRequest(signed_note=cosigned)
        await self.link.call(self.link.audit.AddCosignature, request)
        return found
