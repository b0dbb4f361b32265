"""Keys, signing requests and certificate facts, and the directory they are kept in.

Signs no certificate: that is the CA's. A credentials directory holds two files: `identity.pem`, the
private key followed by the certificate chain, in one file so that both change in one rename; and
`trust.pem`, the CA certificates believed.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AttributeOID, NameOID

IDENTITY_FILE = "identity.pem"
TRUST_FILE = "trust.pem"
PEM_BYTES_MAX = 64 * 1024
CSR_BYTES_MAX = 16 * 1024
ALT_NAMES_MAX = 16
_KEY_TYPES = (ec.EllipticCurvePrivateKey,)


class PkiInvalid(ValueError):
    """A key, certificate or request that cannot be used; the message names the file or field."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a leaf certificate says. Times are UTC milliseconds."""

    spiffe_id: str
    serial: str
    fingerprint: str
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    not_before_ms: int
    not_after_ms: int


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """A private key with its certificate chain (leaf first) and the CAs believed, as PEM."""

    key_pem: bytes
    chain_pem: bytes
    trust_pem: bytes

    def facts(self) -> CertificateFacts:
        """What the leaf certificate says."""
        return certificate_facts(self.chain_pem)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key: the curve that every TLS library takes."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Unencrypted PKCS #8; keep it in a 0600 file."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def key_from_pem(pem: bytes, what: str = "key") -> ec.EllipticCurvePrivateKey:
    """The private key in `pem`; certificates around it are ignored."""
    try:
        key = serialization.load_pem_private_key(_key_block(pem), password=None)
    except (ValueError, TypeError) as error:
        raise PkiInvalid(
            f"{what}: found no usable private key, allowed PEM, unencrypted"
        ) from error
    if not isinstance(key, _KEY_TYPES):
        raise PkiInvalid(f"{what}: found {type(key).__name__}, allowed an elliptic-curve key")
    return key


def make_csr(
    key: ec.EllipticCurvePrivateKey, path: str, *, replaces: Identity | None = None
) -> bytes:
    """A signing request (DER) for `key`.

    The CA takes the name from what it authenticated, never from here; `path` is only for people
    who read the request. `replaces` is the caller's own identity, whose certificate is enclosed
    with the old key's signature over the new key: proof of who asks where the connection gives
    none, because the certificate has expired or because somebody else passes the request on.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, path[-64:])])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if replaces is not None:
        leaf = x509.load_pem_x509_certificates(replaces.chain_pem)[0]
        old_key = key_from_pem(replaces.key_pem)
        signature = old_key.sign(_vouched(key.public_key()), ec.ECDSA(hashes.SHA256()))
        parts = (leaf.public_bytes(serialization.Encoding.DER), signature)
        enclosed = b".".join(base64.b64encode(part) for part in parts)
        builder = builder.add_attribute(AttributeOID.UNSTRUCTURED_NAME, enclosed)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def load_csr(der: bytes) -> x509.CertificateSigningRequest:
    """The request in `der`, its signature verified: who sends it holds the key."""
    if not der or len(der) > CSR_BYTES_MAX:
        raise PkiInvalid(f"csr_der: found {len(der)} bytes, allowed 1 to {CSR_BYTES_MAX}")
    try:
        csr = x509.load_der_x509_csr(der)
        valid = csr.is_signature_valid
        public_key = csr.public_key()
    except (ValueError, TypeError, InvalidSignature) as error:
        raise PkiInvalid("csr_der: found no PKCS #10 request, allowed DER") from error
    if not valid:
        raise PkiInvalid("csr_der: its signature does not match its key")
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise PkiInvalid("csr_der: found another kind of key, allowed elliptic-curve P-256")
    return csr


def replaced_certificate(csr: x509.CertificateSigningRequest) -> x509.Certificate | None:
    """The certificate that `make_csr` enclosed, if any, its owner's signature verified.

    Whoever made the request held that certificate's key. Who issued it is not checked here.
    """
    try:
        attribute = csr.attributes.get_attribute_for_oid(AttributeOID.UNSTRUCTURED_NAME)
    except x509.AttributeNotFound:
        return None
    try:
        der, signature = (base64.b64decode(p, validate=True) for p in attribute.value.split(b"."))
        certificate = x509.load_der_x509_certificate(der)
        old_key = certificate.public_key()
        if not isinstance(old_key, ec.EllipticCurvePublicKey):
            raise PkiInvalid("csr_der: the enclosed certificate has another kind of key")
        old_key.verify(signature, _vouched(_ec(csr.public_key())), ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature) as error:
        raise PkiInvalid("csr_der: the enclosed certificate proves nothing") from error
    return certificate


def _vouched(key: ec.EllipticCurvePublicKey) -> bytes:
    """What an old key signs to hand its name on to `key`."""
    return b"sovshared certificate renewal\0" + bytes.fromhex(public_key_digest(key))


def _ec(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise PkiInvalid("csr_der: found another kind of key, allowed elliptic-curve P-256")
    return key


def certificate_facts(pem: bytes) -> CertificateFacts:
    """What the first certificate in `pem` says."""
    try:
        leaf = x509.load_pem_x509_certificates(pem)[0]
        return facts_of(leaf)
    except (ValueError, IndexError) as error:
        raise PkiInvalid("certificate: found none that can be read, allowed PEM") from error


def facts_of(leaf: x509.Certificate) -> CertificateFacts:
    """What `leaf` says. A certificate with other than one URI has no SPIFFE id: it is empty."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return CertificateFacts(
        spiffe_id=uris[0] if len(uris) == 1 else "",
        serial=f"{leaf.serial_number:x}",
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        ip_addresses=tuple(str(ip) for ip in names.get_values_for_type(x509.IPAddress)),
        not_before_ms=int(leaf.not_valid_before_utc.timestamp()) * 1000,
        not_after_ms=int(leaf.not_valid_after_utc.timestamp()) * 1000,
    )


def check_ip(text: str, field: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """`text` as an address, or PkiInvalid naming `field`."""
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise PkiInvalid(f"{field}: found {text[:64]!r}, allowed an IP address") from error


def public_key_digest(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's SubjectPublicKeyInfo, hexadecimal."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def load(directory: Path) -> Identity:
    """The identity kept in `directory`; key and certificate must belong together."""
    pem = _read(directory / IDENTITY_FILE)
    return _checked(pem, pem, _read(directory / TRUST_FILE), str(directory / IDENTITY_FILE))


def load_files(*, key: Path, certificate: Path, trust: Path) -> Identity:
    """As `load`, from files named one by one; `key` and `certificate` may be the same file."""
    return _checked(_read(key), _read(certificate), _read(trust), str(certificate))


def save(directory: Path, identity: Identity) -> None:
    """Keeps `identity` in `directory` (made 0700), the trust first, each file atomically."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(directory / TRUST_FILE, identity.trust_pem)
    write_private(directory / IDENTITY_FILE, identity.key_pem + identity.chain_pem)


def write_private(path: Path, content: bytes) -> None:
    """Replaces `path` durably and atomically by a file that only its owner may read."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(PEM_BYTES_MAX + 1)
    except OSError as error:
        raise PkiInvalid(f"{path}: {error.strerror}") from error
    if len(content) > PEM_BYTES_MAX:
        raise PkiInvalid(f"{path}: larger than {PEM_BYTES_MAX} bytes")
    return content


def _checked(key_pem: bytes, chain_pem: bytes, trust_pem: bytes, what: str) -> Identity:
    key = key_from_pem(key_pem, what)
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
        x509.load_pem_x509_certificates(trust_pem)
    except ValueError as error:
        raise PkiInvalid(f"{what}: found no certificate that can be read, allowed PEM") from error
    if chain[0].public_key() != key.public_key():
        raise PkiInvalid(f"{what}: the certificate is for another key")
    encoded = b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain)
    return Identity(key_to_pem(key), encoded, trust_pem)


def _key_block(pem: bytes) -> bytes:
    """The first private key block in `pem`, which may hold certificates as well."""
    start = pem.find(b"-----BEGIN ")
    while start >= 0:
        header_end = pem.find(b"-----", start + 11)
        label = pem[start + 11 : header_end]
        footer = b"-----END " + label + b"-----"
        end = pem.find(footer, header_end)
        if header_end < 0 or end < 0:
            break
        if label.endswith(b"PRIVATE KEY"):
            return pem[start : end + len(footer)] + b"\n"
        start = pem.find(b"-----BEGIN ", end)
    raise ValueError("no private key block")
