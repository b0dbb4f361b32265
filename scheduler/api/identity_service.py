"""IdentityService: joining, renewing, revoking, and who the caller is."""

from __future__ import annotations

from collections.abc import Callable

from scheduler.api import calls, enrolment
from scheduler.api.ca import Ca
from scheduler.api.calls import Calls
from scheduler.api.identity import Revocations
from scheduler.api.server import Methods
from scheduler.control import operator_access
from scheduler.model.identity import Clearance
from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Refused
from scheduler.runtime.reader import Reader
from scheduler.runtime.writer import Writer
from scheduler.wire.enums import known, number
from sovapi.v1 import common_pb2, identity_pb2


class IdentityService:
    """Serves the embedded CA."""

    def __init__(
        self,
        *,
        ca: Ca,
        writer: Writer,
        reader: Reader,
        revocations: Revocations,
        now_ms: Callable[[], int],
        new_secret: Callable[[], str],
        version: str,
    ) -> None:
        self._ca = ca
        self._writer = writer
        self._reader = reader
        self._revocations = revocations
        self._now_ms = now_ms
        self._new_secret = new_secret
        self._version = version
        self._end_calls_of: Callable[[str], None] | None = None

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "IdentityService/Join": self.join,
            "IdentityService/Renew": self.renew,
            "IdentityService/Whoami": self.whoami,
            "IdentityService/CreateJoinToken": self.create_join_token,
            "IdentityService/Revoke": self.revoke,
        }

    def ends_calls_through(self, open_calls: Calls) -> None:
        """Revoking a name ends what it has open."""
        self._end_calls_of = open_calls.end_calls_of

    async def join(self, request: identity_pb2.JoinRequest) -> identity_pb2.JoinResponse:
        """A certificate for a token."""
        asked = enrolment.request_of(
            request.csr_der, tuple(request.dns_names), tuple(request.ip_addresses)
        )
        now_ms = self._now_ms()
        await self._reader.read(  # What does not serve never waits among what is to be written.
            lambda snapshot: enrolment.may_join(
                snapshot, self._ca, request.token, request.name, asked, now_ms
            )
        )
        issued = await self._writer.write(
            lambda txn: enrolment.join(txn, self._ca, request.token, request.name, asked, now_ms)
        )
        return identity_pb2.JoinResponse(
            certificate_pem=issued.chain_pem,
            trust_bundle_pem=issued.trust_pem,
            spiffe_id=issued.spiffe_id,
            not_after_ms=issued.not_after_ms,
        )

    async def renew(self, request: identity_pb2.RenewRequest) -> identity_pb2.RenewResponse:
        """A fresh certificate for the name the caller has."""
        asked = enrolment.request_of(
            request.csr_der, tuple(request.dns_names), tuple(request.ip_addresses)
        )
        caller = calls.caller()
        now_ms = self._now_ms()
        issued = await self._writer.write(
            lambda txn: enrolment.renew(txn, self._ca, caller, asked, now_ms)
        )
        return identity_pb2.RenewResponse(
            certificate_pem=issued.chain_pem,
            trust_bundle_pem=issued.trust_pem,
            not_after_ms=issued.not_after_ms,
        )

    async def whoami(self, _request: identity_pb2.WhoamiRequest) -> identity_pb2.WhoamiResponse:
        """The caller's own name."""
        caller = calls.caller()
        return identity_pb2.WhoamiResponse(
            spiffe_id=caller.certificate.spiffe_id,
            role=caller.principal.role,
            tenant=caller.principal.tenant or "",
            certificate_not_after_ms=caller.certificate.not_after_ms,
            server_version=self._version,
            country=caller.principal.claims.country,
            clearance=number(common_pb2.Clearance, caller.principal.claims.clearance),
            vouched_by=caller.principal.claims.vouched_by,
            claims_until_ms=caller.principal.claims.until_ms,
        )

    async def create_join_token(
        self, request: identity_pb2.CreateJoinTokenRequest
    ) -> identity_pb2.CreateJoinTokenResponse:
        """A token, whose secret is only ever in this answer."""
        asked = enrolment.TokenAsked(
            enrolment.name_from(request.name),
            request.ttl_ms,
            request.country,
            known(Clearance, request.clearance),
        )
        caller = calls.caller()
        secret = self._new_secret()
        now_ms = self._now_ms()
        try:
            token = await self._writer.write(
                lambda txn: enrolment.create_token(txn, caller, asked, secret, now_ms)
            )
        except Refused as why:
            if why.reason not in operator_access.TOLD:
                raise
            refusal = why
        else:
            return identity_pb2.CreateJoinTokenResponse(
                token=secret, expires_at_ms=token.expires_at_ms
            )
        tenant = TenantPath(asked.name.tenant)
        await self._writer.write(  # The tenant sees it before the operator hears of it.
            lambda txn: operator_access.enrolment_refused(
                txn, caller.principal, tenant, refusal, now_ms
            )
        )
        raise refusal

    async def revoke(self, request: identity_pb2.RevokeRequest) -> identity_pb2.RevokeResponse:
        """Certificates of a name no longer count, and what it has open ends."""
        name = enrolment.name_from(request.name)
        caller = calls.caller()
        now_ms = self._now_ms()
        revocation = await self._writer.write(
            lambda txn: enrolment.revoke(txn, caller, name, request.reason, now_ms)
        )
        self._revocations.add(revocation.name, revocation.at_ms)
        if self._end_calls_of is not None:
            self._end_calls_of(revocation.name)
        return identity_pb2.RevokeResponse()
