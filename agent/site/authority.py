"""Calls to the control plane's IdentityService: our own renewal, and what nodes have us pass on."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from sovapi.v1.identity_pb2 import JoinRequest, JoinResponse, RenewRequest, RenewResponse
from sovapi.v1.identity_pb2_grpc import IdentityServiceStub
from sovshared.renewal import Renewed

CALL_S_MAX = 20.0


class ControlAuthority:
    """Dials for each call: there are few, and each is made with the identity of then.

    `own_path` is this agent's SPIFFE path; `lapsed` says whether its certificate has run out.
    """

    def __init__(
        self,
        dial: Callable[[], grpc.aio.Channel],
        dial_join: Callable[[], grpc.aio.Channel],
        *,
        own_path: str,
        lapsed: Callable[[], bool],
    ) -> None:
        self._dial = dial
        self._dial_join = dial_join
        self._own_path = own_path
        self._lapsed = lapsed

    async def join(self, request: JoinRequest) -> JoinResponse:
        """Pass a Join on, over the port that asks nobody for a certificate."""
        async with self._dial_join() as channel:
            return await IdentityServiceStub(channel).Join(request, timeout=CALL_S_MAX)

    async def renew(self, request: RenewRequest) -> RenewResponse:
        """Pass a Renew on. The request proves whose certificate it replaces."""
        async with self._dial() as channel:
            return await IdentityServiceStub(channel).Renew(request, timeout=CALL_S_MAX)

    async def renew_own(self, csr_der: bytes) -> Renewed:
        """Renew our own certificate. One that has lapsed opens no channel any more: then the
        request itself, which the old key signed, has to do, at the port that asks for none.
        """
        if self._lapsed():
            joined = await self.join(JoinRequest(name=self._own_path, csr_der=csr_der))
            return Renewed(joined.certificate_pem, joined.trust_bundle_pem)
        answer = await self.renew(RenewRequest(csr_der=csr_der))
        return Renewed(answer.certificate_pem, answer.trust_bundle_pem)
