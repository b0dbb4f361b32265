"""Who calls: the principal behind a connection's certificate, unless it was revoked.

gRPC has verified the certificate against our CA when a call arrives. What is left to do is to read
the one SPIFFE id in it, strictly, and to ask whether that name still counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from cryptography import x509

from scheduler.api.ca import issued_at_ms
from scheduler.api.claims import claims_of
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import SiteId, TenantPath
from scheduler.model.reasons import Code, Reason, Refused
from sovshared import pki, spiffe

AuthContext = Mapping[str, Iterable[bytes]]
_CERTIFICATE = "x509_pem_cert"
CALLERS_MAX = 4_096
"""Certificates that are remembered with whom they name."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A principal and what its certificate says."""

    principal: Principal
    certificate: pki.CertificateFacts


class Revocations:
    """Names whose certificates no longer count, as committed. Owned by the event loop."""

    def __init__(self, revoked_at_ms: Mapping[str, int]) -> None:
        self._revoked_at_ms = dict(revoked_at_ms)

    def add(self, path: str, at_ms: int) -> None:
        """Certificates of `path` issued up to `at_ms` no longer count."""
        self._revoked_at_ms[path] = max(at_ms, self._revoked_at_ms.get(path, at_ms))

    def counts(self, path: str, facts: pki.CertificateFacts) -> bool:
        """Whether this certificate of `path` still counts."""
        revoked_at_ms = self._revoked_at_ms.get(path)
        return revoked_at_ms is None or issued_at_ms(facts) > revoked_at_ms

    def check(self, path: str, facts: pki.CertificateFacts) -> None:
        """Refuses a certificate that no longer counts."""
        if not self.counts(path, facts):
            raise Refused(Code.UNAUTHENTICATED, Reason.IDENTITY_REVOKED, f"{path} was revoked")


def principal_of(name: spiffe.Name) -> Principal:
    """`name` as the rest of the control plane sees it."""
    if name.role is spiffe.NameRole.CONTROL_PLANE:
        raise spiffe.NameInvalid("the control plane does not call itself")
    return Principal(
        path=name.path,
        role=Role(name.role.value),
        tenant=TenantPath(name.tenant) if name.tenant else None,
        site=SiteId(name.site) if name.site else None,
    )


def caller_of(context: AuthContext, trust_domain: str, revocations: Revocations) -> Caller | None:
    """Who is at the other end; None when it showed no certificate.

    Raises:
        Refused: UNAUTHENTICATED, for a certificate that names nobody of this trust domain or was
            revoked.
    """
    pem = b"".join(context.get(_CERTIFICATE, ()))
    if not pem:
        return None
    found = _named(pem, trust_domain)
    revocations.check(found.principal.path, found.certificate)
    return found


@lru_cache(maxsize=CALLERS_MAX)
def _named(pem: bytes, trust_domain: str) -> Caller:
    """Whom a certificate names. A connection shows the same one at every call."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        facts = pki.facts_of(certificate)
        principal = principal_of(spiffe.parse(facts.spiffe_id, trust_domain))
        principal = replace(principal, claims=claims_of(certificate))
    except ValueError as error:
        raise Refused(
            Code.UNAUTHENTICATED, Reason.UNAUTHENTICATED, f"client certificate: {error}"
        ) from error
    return Caller(principal, facts)
