"""Agreements, as coroutines. Answers are the wire's own messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from sovapi.v1 import policy_pb2
from sovctl.link import Connected

ENTRIES_PAGE = 500


class AsyncAgreementCalls(Connected):
    """Calls of PolicyService about agreements."""

    async def apply_agreement(
        self,
        document: bytes,
        signatures: Iterable[bytes],
        *,
        dry_run: bool = False,
        reason: str = "",
    ) -> policy_pb2.ApplyAgreementResponse:
        """Puts an agreement in force: the document, and a signature of each of its parties."""
        request = policy_pb2.ApplyAgreementRequest(
            agreement=document,
            dry_run=dry_run,
            reason=reason,
            signatures=[policy_pb2.AgreementSignature(signature=each) for each in signatures],
        )
        return await self.link.call(self.link.policy.ApplyAgreement, request)

    async def revoke_agreement(
        self, name: str, *, reason: str, dry_run: bool = False
    ) -> policy_pb2.RevokeAgreementResponse:
        """Ends an agreement now: nothing starts under it any more, what runs under it leaves."""
        request = policy_pb2.RevokeAgreementRequest(id=name, reason=reason, dry_run=dry_run)
        return await self.link.call(self.link.policy.RevokeAgreement, request)

    async def agreements(self, name: str = "") -> Sequence[policy_pb2.AgreementState]:
        """Every agreement that was ever applied, or the one of this name."""
        request = policy_pb2.ListAgreementsRequest(id=name)
        return tuple((await self.link.call(self.link.policy.ListAgreements, request)).agreements)

    async def agreement_ledger(
        self, name: str
    ) -> AsyncIterator[policy_pb2.AgreementLedgerResponse]:
        """The ledger of an agreement, a page of entries at a time."""
        after = 0
        while True:
            request = policy_pb2.AgreementLedgerRequest(id=name, after=after, limit=ENTRIES_PAGE)
            page = await self.link.call(self.link.policy.AgreementLedger, request)
            yield page
            if not page.entries or page.entries[-1].number >= page.last_number:
                return
            after = page.entries[-1].number
