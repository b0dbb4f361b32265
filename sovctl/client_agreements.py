"""Agreements, for the synchronous client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sovapi.v1 import policy_pb2
from sovctl.async_client import AsyncClient
from sovctl.event_loop import EventLoop


class AgreementCalls:
    """Calls of PolicyService about agreements; each as `AsyncClient` has it."""

    _loop: EventLoop
    _client: AsyncClient

    def apply_agreement(
        self,
        document: bytes,
        signatures: Iterable[bytes],
        *,
        dry_run: bool = False,
        reason: str = "",
    ) -> policy_pb2.ApplyAgreementResponse:
        """Puts an agreement in force that all its parties have signed."""
        return self._loop.run(
            self._client.apply_agreement(document, signatures, dry_run=dry_run, reason=reason)
        )

    def revoke_agreement(
        self, name: str, *, reason: str, dry_run: bool = False
    ) -> policy_pb2.RevokeAgreementResponse:
        """Ends an agreement now."""
        return self._loop.run(self._client.revoke_agreement(name, reason=reason, dry_run=dry_run))

    def agreements(self, name: str = "") -> Sequence[policy_pb2.AgreementState]:
        """Every agreement that was ever applied, or the one of this name."""
        return self._loop.run(self._client.agreements(name))

    def agreement_ledger(self, name: str) -> Iterator[policy_pb2.AgreementLedgerResponse]:
        """The ledger of an agreement, a page of entries at a time."""
        return self._loop.iterate(lambda: self._client.agreement_ledger(name))
