"""Who gets a certificate: join tokens, renewals, revocations. Each is decided inside a transaction.

A name is only ever given to who proves a right to it: a token bound to it (once), a certificate of
it that still counts, or, for an agent whose certificate lapsed while we were away, the old key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from scheduler.api.ca import (
    AGENT_LIFE_MS,
    LAPSED_RENEWAL_MS,
    PEOPLE,
    AltNames,
    Ca,
    Issued,
    check_alt_names,
    join_refused,
)
from scheduler.api.claims import CLAIMS_LIFE_MS
from scheduler.api.identity import Caller, Revocations
from scheduler.control import operator_access
from scheduler.model.identity import NO_CLAIMS, Claims, Clearance, Principal, Role
from scheduler.model.ids import TenantPath, ancestry, organisation_of
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from scheduler.store.identity import (
    CERTIFICATE_ISSUED,
    TOKENS_OF_SITE_MAX,
    TOKENS_OPEN_MAX,
    JoinToken,
    Revocation,
)
from scheduler.store.store import Snapshot, Txn
from sovshared import pki, spiffe
from sovshared.spiffe import Name, NameInvalid, NameRole

TOKEN_BYTES = 32
TOKEN_CHARS_MAX = 128
TOKEN_LIFE_MS_DEFAULT = 24 * 3600 * 1000
TOKEN_LIFE_MS_MAX = 30 * 24 * 3600 * 1000
REASON_CHARS_MAX = 500

_COUNTRY = re.compile(r"[A-Z]{2}")
_AGENTS = frozenset({NameRole.SITE, NameRole.NODE, NameRole.MONITOR, NameRole.LANDMARK})


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the CA, its form checked: the key is the asker's."""

    public_key: ec.EllipticCurvePublicKey
    names: AltNames
    replaces: x509.Certificate | None


def request_of(csr_der: bytes, dns_names: tuple[str, ...], ips: tuple[str, ...]) -> Request:
    """A request from its parts on the wire."""
    try:
        csr = pki.load_csr(csr_der)
        public_key = csr.public_key()
        replaces = pki.replaced_certificate(csr)
    except pki.PkiInvalid as error:
        raise invalid(Denial(Reason.INVALID_ARGUMENT, str(error), "csr_der")) from error
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    return Request(public_key, AltNames(dns_names, ips), replaces)


def name_from(path: str, field: str = "name") -> Name:
    """A name that somebody may be given, by its SPIFFE path."""
    try:
        name = spiffe.parse_path(path)
    except NameInvalid as error:
        raise invalid(Denial(Reason.INVALID_ARGUMENT, str(error), field)) from error
    if name.role is NameRole.CONTROL_PLANE:
        found = f"found {path}, allowed {spiffe.ALLOWED_PATHS}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, field))
    return name


@dataclass(frozen=True, slots=True)
class TokenAsked:
    """A token that is asked for: whose, for how long (0: the default), and what its maker vouches
    for of the person."""

    name: Name
    ttl_ms: int = 0
    country: str = ""
    clearance: Clearance = Clearance.UNSPECIFIED


def create_token(
    txn: Txn, caller: Caller, asked: TokenAsked, secret: str, now_ms: int
) -> JoinToken:
    """A token that lets `name` join once. Sites may make them for their own nodes only, people of a
    tenant for other people of it, and operators for these the first, or with a grant."""
    name, ttl_ms = asked.name, asked.ttl_ms
    _check_claims(asked)
    principal = caller.principal
    if principal.role is Role.SITE and (
        name.role is not NameRole.NODE or name.site != principal.site
    ):
        raise Refused(
            Code.PERMISSION_DENIED,
            Reason.PERMISSION_DENIED,
            f"a site agent makes tokens for its own nodes, not for {name.path}",
        )
    if principal.tenant is not None:
        _check_own_people(asked, principal.tenant)
    if principal.claims.logged_in and name.role in PEOPLE:
        detail = "who logged in lets no people in: they could stay when their provider says no more"
        raise Refused(Code.PERMISSION_DENIED, Reason.PERMISSION_DENIED, detail)
    life_ms = ttl_ms or TOKEN_LIFE_MS_DEFAULT
    if not 0 < life_ms <= TOKEN_LIFE_MS_MAX:
        found = f"found {ttl_ms}, allowed 1 to {TOKEN_LIFE_MS_MAX}, or 0 for the default"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "ttl_ms"))
    _check_not_revoked(txn, spiffe.parse_path(principal.path), caller.certificate)
    txn.identity.trim_join_tokens(now_ms)
    _refuse_too_many(txn.identity.open_tokens(), TOKENS_OPEN_MAX)
    if principal.role is Role.SITE:
        _refuse_too_many(txn.identity.open_tokens(principal.path), TOKENS_OF_SITE_MAX)
    token = JoinToken(
        token_hash=_hash(secret),
        name=name.path,
        created_by=principal.path,
        expires_at_ms=now_ms + life_ms,
        country=asked.country,
        clearance=asked.clearance,
        consent=_consent_to(txn, principal, name, now_ms),
    )
    txn.identity.add_join_token(token)
    body: dict[str, object] = {
        "name": name.path,
        "actor": principal.path,
        "expires_at_ms": token.expires_at_ms,
        "country": token.country,
        "clearance": token.clearance.name if token.clearance else "",
        "consent": token.consent,
    }
    txn.audit.append("join_token_created", now_ms, body, tenant=_tenant_of(name))
    return token


def _check_own_people(asked: TokenAsked, tenant: TenantPath) -> None:
    """People of a tenant let in people of it, and vouch for nothing: operators do."""
    own = asked.name.role is NameRole.TENANT and tenant in ancestry(TenantPath(asked.name.tenant))
    if not own:
        detail = f"a person of {tenant} makes tokens for its own people, not for {asked.name.path}"
        raise Refused(Code.PERMISSION_DENIED, Reason.PERMISSION_DENIED, detail)
    if asked.country or asked.clearance:
        found = "found claims by a tenant, allowed of those whom operators vouch for"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "country"))


def _consent_to(txn: Txn, principal: Principal, name: Name, now_ms: int) -> str:
    """By whose consent `name` joins in a tenant's name: of whom is no person of a tenant, and of
    the first of an organisation, nobody is asked."""
    if name.role is not NameRole.TENANT:
        return ""
    if principal.tenant is not None:
        return principal.path
    tenant = TenantPath(name.tenant)
    if not txn.identity.has_joined(organisation_of(tenant)):
        return ""
    return operator_access.consent(txn, principal, tenant, now_ms)


def join(txn: Txn, ca: Ca, token: str, path: str, request: Request, now_ms: int) -> Issued:
    """A first certificate for the holder of a token, or a fresh one for a lapsed agent."""
    found = may_join(txn, ca, token, path, request, now_ms)
    if found is not None:
        txn.identity.use_join_token(found.token_hash, now_ms)
    how = "lapsed certificate" if found is None else "token"
    claims = NO_CLAIMS if found is None else _claims_of(found, now_ms)
    return issue(txn, ca, name_from(path), request, Grounds(how, claims), now_ms)


def may_join(
    read: Snapshot, ca: Ca, token: str, path: str, request: Request, now_ms: int
) -> JoinToken | None:
    """Refuses who may not join: anybody may ask, so it is asked before there is a transaction.

    The token that serves; None where the old key of a lapsed agent does.
    """
    name = name_from(path)
    check_alt_names(name, request.names, ca.trust_domain)
    if token:
        return _serving(read, token, name, now_ms)
    _check_lapsed(read, ca, name, request, now_ms)
    return None


def renew(txn: Txn, ca: Ca, caller: Caller, request: Request, now_ms: int) -> Issued:
    """A fresh certificate for the caller's own name, or for a node that its agent speaks for."""
    own = spiffe.parse_path(caller.principal.path)
    if caller.principal.claims.logged_in:
        detail = f"{own.path} logged in: log in again, a certificate of that is not renewed"
        raise Refused(Code.PERMISSION_DENIED, Reason.PERMISSION_DENIED, detail)
    # Asked when the call came in, too; a revocation may have been committed since.
    _check_not_revoked(txn, own, caller.certificate)
    replaced = ca.name_of(request.replaces) if request.replaces is not None else None
    name = own
    if replaced is not None and replaced != own:
        if replaced.role is not NameRole.NODE or own.role is not NameRole.SITE:
            raise _not_yours(replaced)
        if replaced.site != own.site:
            raise _not_yours(replaced)
        assert request.replaces is not None
        facts = pki.facts_of(request.replaces)
        _check_not_revoked(txn, replaced, facts)
        if facts.not_after_ms + LAPSED_RENEWAL_MS < now_ms:
            raise join_refused("the certificate lapsed too long ago: join with a new token")
        name = replaced
    check_alt_names(name, request.names, ca.trust_domain)
    claims = caller.principal.claims if name == own else NO_CLAIMS
    return issue(txn, ca, name, request, Grounds("renewal", claims), now_ms)


def revoke(txn: Txn, caller: Caller, name: Name, reason: str, now_ms: int) -> Revocation:
    """Certificates of `name` up to now no longer count. It may join again with a new token.

    Tokens that are bound to it, or that it made for others, no longer serve either.
    """
    if not reason or len(reason) > REASON_CHARS_MAX:
        found = f"found {len(reason)} characters, allowed 1 to {REASON_CHARS_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "reason"))
    if name.path == caller.principal.path:
        raise Refused(
            Code.FAILED_PRECONDITION,
            Reason.INVALID_ARGUMENT,
            "nobody revokes the name they are using; ask another operator",
        )
    revocation = Revocation(name.path, now_ms, caller.principal.path, reason)
    txn.identity.revoke(revocation)
    dropped = txn.identity.drop_open_tokens(name.path)
    body = {
        "name": name.path,
        "actor": caller.principal.path,
        "reason": reason,
        "join_tokens_dropped": dropped,
    }
    txn.audit.append("identity_revoked", now_ms, body)
    return revocation


def _refuse_too_many(found: int, allowed: int) -> None:
    if found >= allowed:
        raise Refused(
            Code.RESOURCE_EXHAUSTED,
            Reason.RESOURCE_EXHAUSTED,
            f"found {found} join tokens that wait to be used, allowed {allowed}",
        )


def _serving(read: Snapshot, secret: str, name: Name, now_ms: int) -> JoinToken:
    """The token. What is wrong with one that does not serve is not told."""
    found = read.identity.join_token(_hash(secret)) if len(secret) <= TOKEN_CHARS_MAX else None
    usable = (
        found is not None
        and found.used_at_ms is None
        and found.name == name.path
        and now_ms < found.expires_at_ms
    )
    if found is None or not usable or _came_late(read, found, name):
        raise join_refused("token: unknown, used, expired, or bound to another name")
    return found


def _came_late(read: Snapshot, token: JoinToken, name: Name) -> bool:
    """Whether it was made for the first person of an organisation, and another one was first."""
    if name.role is not NameRole.TENANT or token.consent:
        return False
    return read.identity.has_joined(organisation_of(TenantPath(name.tenant)))


def _check_lapsed(read: Snapshot, ca: Ca, name: Name, request: Request, now_ms: int) -> None:
    replaces = request.replaces
    if replaces is None or ca.name_of(replaces) != name or name.role not in _AGENTS:
        raise join_refused(f"a token is needed to join as {name.path}")
    facts = pki.facts_of(replaces)
    _check_not_revoked(read, name, facts)
    if facts.not_after_ms + LAPSED_RENEWAL_MS < now_ms:
        raise join_refused("the certificate lapsed too long ago: join with a new token")


def _check_not_revoked(read: Snapshot, name: Name, facts: pki.CertificateFacts) -> None:
    found = read.identity.revocation(name.path)
    if found is not None:
        Revocations({found.name: found.at_ms}).check(name.path, facts)


def _claims_of(token: JoinToken, now_ms: int) -> Claims:
    """What stands in the certificates of who joins with a token; nothing for what is no person."""
    if name_from(token.name).role not in PEOPLE:
        return NO_CLAIMS
    return Claims(token.country, token.clearance, token.created_by, now_ms + CLAIMS_LIFE_MS)


def _check_claims(asked: TokenAsked) -> None:
    claimed = bool(asked.country or asked.clearance)
    if claimed and asked.name.role not in PEOPLE:
        found = f"found claims of {asked.name.path}, allowed of tenants' users, operators, auditors"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "country"))
    if asked.country and not _COUNTRY.fullmatch(asked.country):
        found = f"found {asked.country[:20]!r}, allowed a code such as GB, or nothing"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "country"))


def _tenant_of(name: Name) -> TenantPath | None:
    """The tenant in whose log it belongs that somebody may act in its name."""
    return TenantPath(name.tenant) if name.tenant else None


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why somebody is given a certificate, what it claims, how long it is good for at most, and
    what its leaf tells beside that."""

    how: str
    claims: Claims = NO_CLAIMS
    life_ms_max: int = AGENT_LIFE_MS
    told: Mapping[str, str] = field(default_factory=dict[str, str])


def issue(txn: Txn, ca: Ca, name: Name, request: Request, grounds: Grounds, now_ms: int) -> Issued:
    """A certificate of `name`, and the leaf that says so. Who may have it was asked before."""
    issued = ca.issue(
        name, request.public_key, request.names, now_ms, grounds.claims, grounds.life_ms_max
    )
    body = {
        "name": name.path,
        "how": grounds.how,
        **grounds.told,
        "serial": issued.serial,
        "not_after_ms": issued.not_after_ms,
        "dns_names": sorted(request.names.dns),
        "ip_addresses": sorted(request.names.ip),
    }
    txn.audit.append(CERTIFICATE_ISSUED, now_ms, body, tenant=_tenant_of(name))
    return issued


def _not_yours(name: Name) -> Refused:
    return Refused(
        Code.PERMISSION_DENIED,
        Reason.PERMISSION_DENIED,
        f"{name.path} is not the caller's own name, nor a node of its site",
    )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
