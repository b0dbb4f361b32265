"""PolicyService, the part about agreements: applied with the signatures of all their parties."""

from __future__ import annotations

from pathlib import Path

from scheduler.api import calls, pack_keys
from scheduler.api.audit import leaf_to_proto
from scheduler.api.desk import Desk
from scheduler.api.proofs import LogKeys
from scheduler.api.server import Methods
from scheduler.control import agreements
from scheduler.control.agreements import Standing
from scheduler.model.agreements import Signatory
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.runtime import checkpoints
from scheduler.store.store import Snapshot
from scheduler.wire.agreements import (
    SIGNED_AS,
    agreement_from_proto,
    agreement_to_proto,
    document_from_wire,
    signatories_to_proto,
)
from sovapi.v1 import policy_pb2
from sovshared import notes, signing
from sovshared.pki import PkiInvalid

DIRECTORY = "agreement-parties"
SIGNATURES_MAX = 20
ENTRIES_PAGE_MAX = 500


class AgreementService:
    """Serves operators; auditors may read what is agreed, and its ledger."""

    def __init__(self, desk: Desk, keys: LogKeys, state_directory: Path) -> None:
        self._desk = desk
        self._log = keys.log
        self._parties = state_directory / DIRECTORY

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "PolicyService/ApplyAgreement": self.apply,
            "PolicyService/RevokeAgreement": self.revoke,
            "PolicyService/ListAgreements": self.list,
            "PolicyService/AgreementLedger": self.ledger,
        }

    async def apply(
        self, request: policy_pb2.ApplyAgreementRequest
    ) -> policy_pb2.ApplyAgreementResponse:
        """Puts an agreement in force that all its parties have signed."""
        desk, principal, document = self._desk, calls.principal(), request.agreement
        message = document_from_wire(document)
        signed = [each.signature for each in request.signatures]
        signatories = self._signatories(message, document, signed)
        agreement = agreement_from_proto(message, document, signatories)
        now_ms = desk.now_ms()
        changes, revision = await desk.writer.write(
            lambda txn: agreements.apply(
                txn,
                principal,
                agreement,
                document,
                reason=request.reason,
                dry_run=request.dry_run,
                now_ms=now_ms,
            )
        )
        return policy_pb2.ApplyAgreementResponse(
            id=agreement.name, changes=changes, policy_revision=revision
        )

    async def revoke(
        self, request: policy_pb2.RevokeAgreementRequest
    ) -> policy_pb2.RevokeAgreementResponse:
        """Ends an agreement now."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        changes, revision = await desk.writer.write(
            lambda txn: agreements.revoke(
                txn,
                principal,
                request.id,
                reason=request.reason,
                dry_run=request.dry_run,
                now_ms=now_ms,
            )
        )
        return policy_pb2.RevokeAgreementResponse(changes=changes, policy_revision=revision)

    async def list(
        self, request: policy_pb2.ListAgreementsRequest
    ) -> policy_pb2.ListAgreementsResponse:
        """Every agreement that was ever applied, or the one that is named."""
        now_ms = self._desk.now_ms()
        found = await self._desk.reader.read(
            lambda snapshot: agreements.listed(snapshot, request.id, now_ms)
        )
        return policy_pb2.ListAgreementsResponse(agreements=[_state(each) for each in found])

    async def ledger(
        self, request: policy_pb2.AgreementLedgerRequest
    ) -> policy_pb2.AgreementLedgerResponse:
        """Entries of a ledger, and that the log holds them."""
        desk = self._desk
        head = await desk.writer.write(
            lambda txn: checkpoints.newest(txn, self._log, desk.now_ms())
        )
        note = head.whole()
        size = notes.checkpoint_of(notes.parse(note).text).size
        return await desk.reader.read(lambda snapshot: ledger_page(snapshot, request, size, note))

    def _signatories(
        self, message: policy_pb2.Agreement, document: bytes, signatures: list[bytes]
    ) -> tuple[Signatory, ...]:
        """Every party, with the key that signed for it; refuses where one has not."""
        if len(signatures) > SIGNATURES_MAX:
            raise invalid(_fault(f"{len(signatures)}", f"at most {SIGNATURES_MAX}"))
        try:
            keys = pack_keys.keys_in(self._parties)
        except PkiInvalid as error:
            raise Refused(Code.FAILED_PRECONDITION, Reason.UNAVAILABLE, str(error)) from error
        found: list[Signatory] = []
        missing: list[Denial] = []
        for party in message.parties:
            key = keys.get(party.name)
            if key is None:
                allowed = f"a party whose key is in {DIRECTORY}: {', '.join(keys) or 'none'}"
                missing.append(_fault(f"party {party.name[:80]!r}", allowed, "agreement.parties"))
            elif not any(signing.is_signed(key, each, SIGNED_AS + document) for each in signatures):
                lacking = f"none of {party.name[:80]!r}"
                missing.append(_fault(lacking, f"one by its key {signing.key_id_of(key)}"))
            else:
                found.append(Signatory(party.name, party.country, signing.key_id_of(key)))
        if missing:
            raise invalid(*missing)
        if len({each.key_id for each in found}) != len(found):
            raise invalid(_fault("one key for two parties", "a key of each party's own"))
        return tuple(found)


def ledger_page(
    snapshot: Snapshot, request: policy_pb2.AgreementLedgerRequest, size: int, note: bytes
) -> policy_pb2.AgreementLedgerResponse:
    """Entries of a ledger with their places in the log's first `size` leaves, whose signed head is
    `note`."""
    found, tree = snapshot.tenancy.agreements, snapshot.audit.tree()
    if found.get(request.id) is None:
        raise not_found("agreement", request.id[:100])
    limit = min(request.limit or ENTRIES_PAGE_MAX, ENTRIES_PAGE_MAX)
    entries: list[policy_pb2.AgreementEntry] = []
    for place in found.entries(request.id, request.after, limit):
        if place.leaf_index >= size:
            break  # It came after the head was signed.
        leaf = snapshot.audit.leaf(place.leaf_index)
        assert leaf is not None, "an entry's leaf is in the log"
        path = tree.inclusion(place.leaf_index, size)
        entry = policy_pb2.AgreementEntry(number=place.number, leaf=leaf_to_proto(leaf), path=path)
        entries.append(entry)
    last, _ = found.last(request.id)
    return policy_pb2.AgreementLedgerResponse(
        entries=entries, checkpoint=note.decode(), last_number=last
    )


def _state(standing: Standing) -> policy_pb2.AgreementState:
    row = standing.row
    return policy_pb2.AgreementState(
        agreement=agreement_to_proto(row.agreement),
        digest=row.agreement.digest,
        signatories=signatories_to_proto(row.agreement),
        applied_at_ms=row.applied_at_ms,
        revoked_at_ms=row.revoked_at_ms,
        revoked_because=row.revoked_because,
        in_force=standing.in_force,
        gpu_milli_used=standing.gpu_milli_used,
        reserved_gpu_ms=standing.reserved_gpu_ms,
        settled_gpu_ms=standing.settled_gpu_ms,
    )


def _fault(found: str, allowed: str, field: str = "signatures") -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", field)
