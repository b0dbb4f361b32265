"""Logging in: a certificate for whom an identity provider vouches.

Anybody may ask, so a token is checked before there is a transaction, and what is written of those
that do not serve is bounded. Who logged in has a certificate like everybody's, but a short one that
is not renewed: whom the provider no longer vouches for is out when it ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from scheduler.api import enrolment, id_tokens
from scheduler.api.ca import Ca, Issued
from scheduler.api.enrolment import Grounds, Request
from scheduler.api.id_tokens import login_refused
from scheduler.api.provider_keys import ProviderKeys
from scheduler.api.server import Methods
from scheduler.model.identity import Claims
from scheduler.model.ids import TenantPath, organisation_of
from scheduler.model.login import LoggedIn, Providers
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime.writer import Writer
from scheduler.store import operator_access
from scheduler.store.identity import JoinToken
from scheduler.store.store import Snapshot, Txn
from sovapi.v1 import identity_pb2
from sovshared import pki
from sovshared.spiffe import Name, NameRole

LEAVES_MAX = 60
LEAVES_MS = 60_000
"""In any minute no more leaves than that tell of logins that were refused: anybody can try."""
TOLD_CHARS_MAX = 300
_TOLD = frozenset({Reason.LOGIN_REFUSED, Reason.IDENTITY_REVOKED})


@dataclass(frozen=True, slots=True)
class _Tried:
    """What is known of a login that was refused: empty where nobody could tell."""

    issuer: str = ""
    name: Name | None = None


class Logins:
    """Serves Login."""

    def __init__(
        self,
        *,
        ca: Ca,
        writer: Writer,
        now_ms: Callable[[], int],
        declared: Callable[[], Providers],
        keys: ProviderKeys,
    ) -> None:
        self._ca = ca
        self._writer = writer
        self._now_ms = now_ms
        self._declared = declared
        self._keys = keys
        self._leaves = RefusalLeaves()

    def methods(self) -> Methods:
        """What this serves."""
        return {"IdentityService/Login": self.login}

    async def login(self, request: identity_pb2.LoginRequest) -> identity_pb2.LoginResponse:
        """A certificate for an ID token."""
        if request.api_key:
            detail = "api_key is not available in this version: log in by a provider, or join"
            raise Refused(Code.UNIMPLEMENTED, Reason.FEATURE_NOT_AVAILABLE, detail)
        asked = enrolment.request_of(request.csr_der, (), ())
        now_ms, tried = self._now_ms(), _Tried()
        try:
            heading = id_tokens.heading(request.oidc_token)
            tried = _Tried(heading.issuer)
            person = await self._vouched(request.oidc_token, heading, asked, now_ms)
            name = chosen(person, request.name)
            tried = _Tried(person.issuer, name)
            issued = await self._writer.write(
                lambda txn: login(txn, self._ca, person, name, asked, now_ms)
            )
        except Refused as why:
            refused = why
        else:
            return identity_pb2.LoginResponse(
                certificate_pem=issued.chain_pem,
                trust_bundle_pem=issued.trust_pem,
                spiffe_id=issued.spiffe_id,
                expires_at_ms=issued.not_after_ms,
            )
        if refused.reason in _TOLD and (left_out := self._leaves.take(now_ms)) is not None:
            await self._writer.write(lambda txn: _tell(txn, tried, refused, left_out, now_ms))
        raise refused

    async def _vouched(
        self, token: str, heading: id_tokens.Heading, asked: Request, now_ms: int
    ) -> LoggedIn:
        provider = self._declared().get(heading.issuer)
        if provider is None:
            raise login_refused(f"iss: found {heading.issuer[:200]!r}, which vouches for nobody")
        id_tokens.check_algorithm(heading, provider)
        key = await self._keys.key(provider, heading.key_id)
        nonce = pki.public_key_digest(asked.public_key)
        return id_tokens.checked(token, provider, key, now_ms, nonce)


class RefusalLeaves:
    """How many leaves tell of refused logins. Owned by the event loop."""

    def __init__(self) -> None:
        self._at_ms: deque[int] = deque()
        self._left_out = 0

    def take(self, now_ms: int) -> int | None:
        """How many were left out before this one; None: this one is, too."""
        while self._at_ms and not 0 <= now_ms - self._at_ms[0] < LEAVES_MS:
            self._at_ms.popleft()
        if len(self._at_ms) >= LEAVES_MAX:
            self._left_out += 1
            return None
        self._at_ms.append(now_ms)
        left_out, self._left_out = self._left_out, 0
        return left_out


def chosen(person: LoggedIn, path: str) -> Name:
    """The name that somebody logs in by: the one asked for, or the only one they have."""
    wanted = (path,) if path else person.names
    if len(wanted) != 1 or wanted[0] not in person.names:
        allowed = " or ".join(person.names)
        raise login_refused(f"name: found {path[:200]!r}, allowed {allowed}")
    return enrolment.name_from(wanted[0])


def login(txn: Txn, ca: Ca, person: LoggedIn, name: Name, asked: Request, now_ms: int) -> Issued:
    """A certificate of `name`, once for each token. Refuses whom an operator has revoked, and a
    tenant's name where the tenant does not let this provider vouch for its people."""
    if txn.identity.revocation(name.path) is not None:
        raise Refused(
            Code.UNAUTHENTICATED,
            Reason.IDENTITY_REVOKED,
            f"{name.path} was revoked: it may join with a token, and log in no more",
        )
    _check_consent(txn, person.issuer, name)
    txn.identity.trim_join_tokens(now_ms)
    if txn.identity.join_token(person.token_id) is not None:
        raise login_refused("token: it was used before")
    used = JoinToken(person.token_id, name.path, person.issuer, person.expires_at_ms, now_ms)
    txn.identity.add_join_token(used)
    until_ms = now_ms + person.session_ms
    grounds = Grounds(
        how="login",
        claims=Claims(vouched_by=person.issuer, until_ms=until_ms),
        life_ms_max=person.session_ms,
        told={
            "issuer": person.issuer,
            "issuer_country": person.country,
            "subject": person.subject,
            "algorithm": person.algorithm,
            "key_id": person.key_id[:TOLD_CHARS_MAX],
        },
    )
    return enrolment.issue(txn, ca, name, asked, grounds, now_ms)


def _check_consent(read: Snapshot, issuer: str, name: Name) -> None:
    """As with join tokens: of the first person of an organisation nobody is asked, and then it is
    the organisation that says, and each node of its tree down to the person's, who vouches."""
    if name.role is not NameRole.TENANT:
        return
    tenant = TenantPath(name.tenant)
    if not read.identity.has_joined(organisation_of(tenant)):
        return
    for policy in operator_access.policies_of(read, tenant):
        if issuer not in policy.login_issuers:
            raise login_refused(
                f"{policy.tenant} does not let {issuer} vouch for its people: "
                "one of them may, with `sovctl access set-policy --issuer`"
            )


def _tell(txn: Txn, tried: _Tried, why: Refused, left_out: int, now_ms: int) -> None:
    body = {
        "issuer": tried.issuer[:TOLD_CHARS_MAX],
        "name": tried.name.path if tried.name is not None else "",
        "reason": str(why.reason),
        "detail": why.message[:TOLD_CHARS_MAX],
        "left_out": left_out,
    }
    tenant = tried.name.tenant if tried.name is not None else ""
    txn.audit.append("login_refused", now_ms, body, tenant=TenantPath(tenant) if tenant else None)
