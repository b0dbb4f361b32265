"""The embedded certificate authority: its root key, and what it signs.

The root lives in the state directory (0600) and is made once. It signs leaves only, each with one
SPIFFE id. It decides how long a certificate lives and what else may stand in it; who gets one is
decided in `enrolment.py`.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scheduler.api.claims import extension_of
from scheduler.model.identity import NO_CLAIMS, Claims
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid
from sovshared import pki, spiffe
from sovshared.spiffe import NameRole

ROOT_DIRECTORY = "ca"
ROOT_LIFE_MS = 10 * 365 * 24 * 3600 * 1000
PERSON_LIFE_MS = 12 * 3600 * 1000
AGENT_LIFE_MS = 7 * 24 * 3600 * 1000
LAPSED_RENEWAL_MS = 30 * 24 * 3600 * 1000
"""How long after its end an agent's certificate still proves whose it was."""
BACKDATE_MS = 300_000
"""Certificates begin this much before now: clocks of sites differ."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DNS = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*"
)
PEOPLE = frozenset({NameRole.TENANT, NameRole.OPERATOR, NameRole.AUDITOR})
_SERVERS = frozenset({NameRole.CONTROL_PLANE, NameRole.SITE, NameRole.NODE})
_SCRAPED = frozenset({NameRole.SITE, NameRole.NODE})


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and what its owner must know."""

    chain_pem: bytes
    trust_pem: bytes
    spiffe_id: str
    not_after_ms: int
    serial: str


@dataclass(frozen=True, slots=True)
class AltNames:
    """Names a server is dialled by, beside the one that its SPIFFE name gives it."""

    dns: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Ca:
    """The root key and certificate of one trust domain."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    trust_domain: str

    @property
    def trust_pem(self) -> bytes:
        """What everybody who deals with us must believe."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: spiffe.Name,
        key: ec.EllipticCurvePublicKey,
        names: AltNames,
        now_ms: int,
        claims: Claims = NO_CLAIMS,
        life_ms_max: int = AGENT_LIFE_MS,
    ) -> Issued:
        """A certificate of `name` for the holder of `key`, as long as its role's are, or less."""
        life_ms = min(life_ms_max, PERSON_LIFE_MS if name.role in PEOPLE else AGENT_LIFE_MS)
        uri = name.uri(self.trust_domain)
        builder = (
            _builder(self.certificate.subject, key, now_ms - BACKDATE_MS, now_ms + life_ms)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name.path[-64:])]))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_alt_names(name, names, self.trust_domain), critical=False)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_purposes(name.role)), critical=False)
            .add_extension(_authority(self.key), critical=False)
        )
        if claims != NO_CLAIMS:
            builder = builder.add_extension(extension_of(claims), critical=False)
        leaf = builder.sign(self.key, hashes.SHA256())
        facts = pki.facts_of(leaf)
        pem = leaf.public_bytes(serialization.Encoding.PEM)
        return Issued(pem, self.trust_pem, uri, facts.not_after_ms, facts.serial)

    def name_of(self, certificate: x509.Certificate) -> spiffe.Name | None:
        """Whose certificate this is; None when we never signed it. Says nothing about time."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
            return spiffe.parse(pki.facts_of(certificate).spiffe_id, self.trust_domain)
        except (ValueError, TypeError, InvalidSignature):
            return None


def issued_at_ms(facts: pki.CertificateFacts) -> int:
    """When a certificate of ours was signed, down to the second."""
    return facts.not_before_ms + BACKDATE_MS


def create(state_directory: Path, trust_domain: str, now_ms: int) -> Ca:
    """Makes the root of `trust_domain` and keeps it; there must be none yet."""
    directory = state_directory / ROOT_DIRECTORY
    spiffe.check_trust_domain(trust_domain)
    if (directory / pki.IDENTITY_FILE).exists():
        raise pki.PkiInvalid(f"{directory}: there is a certificate authority already")
    key = pki.new_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, "Sovereign Compute root"),
        ]
    )
    root = (
        _builder(subject, key.public_key(), now_ms - BACKDATE_MS, now_ms + ROOT_LIFE_MS)
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = root.public_bytes(serialization.Encoding.PEM)
    pki.save(directory, pki.Identity(pki.key_to_pem(key), pem, pem))
    return Ca(key, root, trust_domain)


def load(state_directory: Path, trust_domain: str) -> Ca:
    """The root that `create` kept. Another trust domain's is refused."""
    directory = state_directory / ROOT_DIRECTORY
    identity = pki.load(directory)
    root = x509.load_pem_x509_certificates(identity.chain_pem)[0]
    found = pki.facts_of(root).spiffe_id
    if found != f"spiffe://{trust_domain}":
        raise pki.PkiInvalid(f"{directory}: found the root of {found}, allowed {trust_domain}")
    return Ca(pki.key_from_pem(identity.key_pem), root, trust_domain)


def check_alt_names(name: spiffe.Name, names: AltNames, trust_domain: str) -> None:
    """Refuses names that `name` may not be dialled by, every fault at once.

    Names under the trust domain say who somebody is (`spiffe.server_dns_name`); nobody gets one by
    asking.
    """
    faults: list[Denial] = []
    if (names.dns or names.ip) and name.role not in _SERVERS:
        faults.append(_fault("dns_names", f"{name.path} serves nothing, allowed none"))
    for field, values in (("dns_names", names.dns), ("ip_addresses", names.ip)):
        if len(values) > pki.ALT_NAMES_MAX:
            found = f"found {len(values)}, allowed {pki.ALT_NAMES_MAX}"
            faults.append(_fault(field, found))
    for n, dns in enumerate(names.dns[: pki.ALT_NAMES_MAX]):
        if not _DNS.fullmatch(dns) or dns == trust_domain or dns.endswith(f".{trust_domain}"):
            found = f"found {dns[:64]!r}, allowed DNS names outside {trust_domain}"
            faults.append(_fault(f"dns_names[{n}]", found))
    for n, ip in enumerate(names.ip[: pki.ALT_NAMES_MAX]):
        try:
            pki.check_ip(ip, "")
        except pki.PkiInvalid:
            found = f"found {ip[:64]!r}, allowed IP addresses"
            faults.append(_fault(f"ip_addresses[{n}]", found))
    if faults:
        raise invalid(*faults)


def join_refused(message: str) -> Refused:
    """Join proves nothing; why is for the log, not for who asks."""
    return Refused(Code.UNAUTHENTICATED, Reason.JOIN_TOKEN_INVALID, message)


def _fault(field: str, detail: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, detail, field)


def _builder(
    issuer: x509.Name, key: ec.EllipticCurvePublicKey, from_ms: int, until_ms: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_EPOCH + datetime.timedelta(seconds=from_ms // 1000))
        .not_valid_after(_EPOCH + datetime.timedelta(seconds=until_ms // 1000))
    )


def _alt_names(
    name: spiffe.Name, names: AltNames, trust_domain: str
) -> x509.SubjectAlternativeName:
    entries: list[x509.GeneralName] = [x509.UniformResourceIdentifier(name.uri(trust_domain))]
    own = spiffe.server_dns_name(name, trust_domain)
    dns_names = {own, *names.dns} if own else set(names.dns)
    if name.role in _SCRAPED:
        dns_names.add(spiffe.metrics_dns_name(trust_domain))
    entries.extend(x509.DNSName(dns) for dns in sorted(dns_names))
    entries.extend(x509.IPAddress(pki.check_ip(ip, "ip_addresses")) for ip in sorted({*names.ip}))
    return x509.SubjectAlternativeName(entries)


def _purposes(role: NameRole) -> list[x509.ObjectIdentifier]:
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    return [client, server] if role in _SERVERS else [client]


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
