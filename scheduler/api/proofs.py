"""AuditService, the part about the log as a whole: signed heads, proofs, witnesses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scheduler.api.desk import Desk
from scheduler.api.server import Methods
from scheduler.api.state import State
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.runtime import checkpoints
from scheduler.runtime.checkpoints import LogKey, Witnesses
from scheduler.store.store import Snapshot
from sovapi.v1 import audit_pb2
from sovshared import notes
from sovshared.notes import NoteInvalid, VKey
from sovshared.pki import PkiInvalid
from sovshared.signing import Signer

CERTIFICATES_LINE = "# certificates "
CERTIFICATES_PURPOSE = "certificates"
LOG_PURPOSE = "log"
WITNESSES_FILE = "witnesses"


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Who signs heads of the log and certificates, and where witnesses are named."""

    log: LogKey
    certificates: VKey
    certifier: Signer
    witnesses_file: Path

    def witnesses(self) -> Witnesses:
        """The witnesses of this moment; refuses while their file cannot be read."""
        try:
            return checkpoints.read_witnesses(self.witnesses_file)
        except PkiInvalid as error:
            raise Refused(Code.FAILED_PRECONDITION, Reason.UNAVAILABLE, str(error)) from error

    def trust(self) -> str:
        """Whom a verifier is to believe: C2SP tlog-policy."""
        return (
            f"# Keys of certificates are in lines that a reader of tlog-policy skips.\n"
            f"{CERTIFICATES_LINE}{self.certificates}\n"
            f"log {self.log.key}\n{self.witnesses().policy}"
        )


def keys_of(state: State) -> LogKeys:
    """The keys of a founded control plane; one that has none yet gets them now."""
    domain = state.ca.trust_domain
    certifier = state.signer(CERTIFICATES_PURPOSE)
    keys = LogKeys(
        checkpoints.log_key(domain, state.signer(LOG_PURPOSE)),
        notes.vkey(f"{domain}/{CERTIFICATES_PURPOSE}", notes.ED25519, certifier.public_key),
        certifier,
        state.directory / WITNESSES_FILE,
    )
    checkpoints.read_witnesses(keys.witnesses_file)
    return keys


class ProofService:
    """Serves who reviews the log, and tenants, who may be its witnesses."""

    def __init__(self, desk: Desk, keys: LogKeys) -> None:
        self._desk = desk
        self._keys = keys

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "AuditService/GetCheckpoint": self.get_checkpoint,
            "AuditService/ProveInclusion": self.prove_inclusion,
            "AuditService/ProveConsistency": self.prove_consistency,
            "AuditService/AddCosignature": self.add_cosignature,
            "AuditService/GetTrust": self.get_trust,
        }

    async def get_checkpoint(
        self, _request: audit_pb2.GetCheckpointRequest
    ) -> audit_pb2.Checkpoint:
        """The log's head, signed."""
        desk, log = self._desk, self._keys.log
        found = await desk.writer.write(lambda txn: checkpoints.newest(txn, log, desk.now_ms()))
        head = notes.checkpoint_of(notes.parse(found.note).text)
        return audit_pb2.Checkpoint(
            tree_size=head.size, root_hash=head.root, signed_note=found.whole()
        )

    async def prove_inclusion(
        self, request: audit_pb2.ProveInclusionRequest
    ) -> audit_pb2.ProveInclusionResponse:
        """That a leaf is in the log."""

        def prove(snapshot: Snapshot) -> audit_pb2.ProveInclusionResponse:
            size = request.tree_size or snapshot.audit.peaks().size
            _check_size(snapshot, size, "tree_size")
            if request.index >= size:
                raise _fault("index", request.index, f"0 to {size - 1}")
            path = snapshot.audit.tree().inclusion(request.index, size)
            return audit_pb2.ProveInclusionResponse(tree_size=size, path=path)

        return await self._desk.reader.read(prove)

    async def prove_consistency(
        self, request: audit_pb2.ProveConsistencyRequest
    ) -> audit_pb2.ProveConsistencyResponse:
        """That the log only grew between two sizes."""

        def prove(snapshot: Snapshot) -> audit_pb2.ProveConsistencyResponse:
            _check_size(snapshot, request.to_size, "to_size")
            if request.from_size > request.to_size:
                raise _fault("from_size", request.from_size, f"0 to {request.to_size}")
            path = snapshot.audit.tree().consistency(request.from_size, request.to_size)
            return audit_pb2.ProveConsistencyResponse(path=path)

        return await self._desk.reader.read(prove)

    async def add_cosignature(
        self, request: audit_pb2.AddCosignatureRequest
    ) -> audit_pb2.AddCosignatureResponse:
        """Keeps what a witness has put under a head."""
        try:
            signed = notes.parse(request.signed_note)
        except NoteInvalid as error:
            raise invalid(Denial(Reason.INVALID_ARGUMENT, str(error), "signed_note")) from error
        log, witnesses = self._keys.log, self._keys.witnesses()
        await self._desk.writer.write(lambda txn: checkpoints.cosign(txn, log, witnesses, signed))
        return audit_pb2.AddCosignatureResponse()

    async def get_trust(self, _request: audit_pb2.GetTrustRequest) -> audit_pb2.GetTrustResponse:
        """Whom a verifier is to believe, as of now."""
        return audit_pb2.GetTrustResponse(trust=self._keys.trust().encode())


def _check_size(snapshot: Snapshot, size: int, field: str) -> None:
    there = snapshot.audit.peaks().size
    if size > there:
        raise _fault(field, size, f"0 to {there}")


def _fault(field: str, found: int, allowed: str) -> Exception:
    return invalid(Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", field))
