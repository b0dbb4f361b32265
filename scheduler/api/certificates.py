"""AuditService, the part about certificates: what was certified of jobs that are over, and proofs
that the log holds it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.operator_access import eyes
from scheduler.api.proofs import LogKeys
from scheduler.api.server import Methods
from scheduler.control import views
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.operator_access import AccessAction
from scheduler.model.reasons import Code, Reason, Refused, not_found
from scheduler.runtime import checkpoints
from scheduler.store.certificates import Certificate, CertificateLine
from scheduler.store.codec import canonical
from scheduler.store.store import Snapshot
from sovapi.v1 import audit_pb2

PAGE_KIND = "certificates"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True, slots=True)
class _Proved:
    """A certificate, and the tlog-proof that the log holds it; None: no head covers it yet."""

    certificate: Certificate
    proof: str | None


class CertificateService:
    """Serves tenants their own certificates, and who reviews the log all of them."""

    def __init__(self, desk: Desk, keys: LogKeys) -> None:
        self._desk = desk
        self._keys = keys

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "AuditService/GetCertificate": self.get_certificate,
            "AuditService/ListCertificates": self.list_certificates,
        }

    async def get_certificate(
        self, request: audit_pb2.GetCertificateRequest
    ) -> audit_pb2.GetCertificateResponse:
        """The certificate of a job that is over, or was refused."""
        desk, log = self._desk, self._keys.log
        name = request.job_id
        principal = calls.principal()
        if principal.role is Role.OPERATOR:
            principal = await eyes(desk, principal, name, AccessAction.READ)
        found = await desk.reader.read(lambda snapshot: self._proved(snapshot, principal, name))
        if found.proof is None:
            await desk.writer.write(lambda txn: checkpoints.newest(txn, log, desk.now_ms()))
            found = await desk.reader.read(lambda snapshot: self._proved(snapshot, principal, name))
        assert found.proof is not None, "a head that was just signed covers what was committed"
        return audit_pb2.GetCertificateResponse(
            dsse_envelope_json=envelope_of(found.certificate.statement, self._keys),
            tlog_proof=found.proof.encode(),
        )

    async def list_certificates(
        self, request: audit_pb2.ListCertificatesRequest
    ) -> audit_pb2.ListCertificatesResponse:
        """A page of certificates, by tenant and number."""
        principal = calls.principal()
        size = pages.size_of(request.page)
        cursor = pages.cursor_of(PAGE_KIND, request.page)
        after = None if cursor is None else _after(cursor)
        under = TenantPath(request.tenant) if request.tenant else principal.tenant
        if under is not None and not _may_read(principal, under):
            raise not_found("tenant", request.tenant[:200])
        lines = await self._desk.reader.read(
            lambda snapshot: snapshot.certificates.page(under, after, size)
        )
        last = f"{lines[-1].seq} {lines[-1].tenant}" if len(lines) == size else ""
        return audit_pb2.ListCertificatesResponse(
            certificates=[self._line(line) for line in lines],
            next_page_token=pages.token_of(PAGE_KIND, last) if last else "",
        )

    def _proved(self, snapshot: Snapshot, principal: Principal, name: str) -> _Proved:
        certificate = snapshot.certificates.of_job(self._job(snapshot, principal, name))
        if certificate is None or not _may_read(principal, certificate.line.tenant):
            # A job that is there and the caller's is not over; any other is not found.
            row = views.find_job(snapshot, self._desk.codec, principal, name)
            raise Refused(
                Code.NOT_FOUND,
                Reason.NOT_FOUND,
                f"job {name[:200]} is {row.state.name} and has no certificate:"
                " one is made when a job is over",
            )
        index = certificate.line.leaf_index
        checkpoint = snapshot.checkpoints.covering(index)
        leaf = snapshot.audit.leaf(index)
        if checkpoint is None or leaf is None:
            return _Proved(certificate, None)
        path = snapshot.audit.tree().inclusion(index, checkpoint.size)
        return _Proved(certificate, proof_of(leaf.salt, index, path, checkpoint.whole()))

    def _job(self, snapshot: Snapshot, principal: Principal, name: str) -> JobId:
        """A job by its id, which a refused submission has too; or as `get` knows it."""
        job = self._desk.codec.decode(name)
        if job is not None and snapshot.certificates.of_job(job) is not None:
            return job
        return views.find_job(snapshot, self._desk.codec, principal, name).id

    def _line(self, line: CertificateLine) -> audit_pb2.CertificateLine:
        return audit_pb2.CertificateLine(
            tenant=line.tenant,
            tenant_seq=line.seq,
            job_id=self._desk.codec.encode(line.job),
            verdict=line.verdict,
            outcome=line.outcome,
            digest=line.digest,
            prev=line.prev,
            issued_at_ms=line.issued_at_ms,
        )


def envelope_of(statement: bytes, keys: LogKeys) -> bytes:
    """The statement in a DSSE envelope; the same bytes whenever it is asked for."""
    kind = PAYLOAD_TYPE.encode()
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(statement), statement)
    signature = keys.certifier.sign(encoded)
    key_id = keys.certificates.key_id.hex()
    envelope = {
        "payload": base64.b64encode(statement).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return canonical(envelope).encode()


def proof_of(salt: bytes, index: int, path: Sequence[bytes], checkpoint: bytes) -> str:
    """A C2SP tlog-proof; its extra data is the leaf's salt."""
    lines = [
        "c2sp.org/tlog-proof@v1",
        f"extra {base64.b64encode(salt).decode()}",
        f"index {index}",
        *(base64.b64encode(each).decode() for each in path),
        "",
        checkpoint.decode(),
    ]
    return "\n".join(lines)


def _may_read(principal: Principal, tenant: TenantPath) -> bool:
    return principal.role is Role.AUDITOR or principal.may_see(tenant)


def _after(cursor: str) -> tuple[str, int]:
    seq, _, tenant = cursor.partition(" ")
    return tenant, int(seq) if seq.isdigit() else 0
