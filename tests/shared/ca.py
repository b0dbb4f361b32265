"""A throw-away certificate authority for tests of what only uses certificates."""

import datetime
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sovshared import pki, spiffe

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
FROM_MS = 1_577_836_800_000  # 2020
UNTIL_MS = 4_102_444_800_000  # 2100


def _at(ms: int) -> datetime.datetime:
    return EPOCH + datetime.timedelta(milliseconds=ms)


@dataclass
class TestCa:
    """Signs whatever a test asks for."""

    __test__ = False
    trust_domain: str = spiffe.DEFAULT_TRUST_DOMAIN
    key: ec.EllipticCurvePrivateKey = field(default_factory=pki.new_key)
    issuer: x509.Certificate | None = None
    """An existing root that `key` belongs to."""

    def __post_init__(self) -> None:
        self.certificate = self.issuer or (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string("CN=test root"))
            .issuer_name(x509.Name.from_rfc4514_string("CN=test root"))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_at(FROM_MS))
            .not_valid_after(_at(UNTIL_MS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def trust_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        uri: str,
        *,
        dns: tuple[str, ...] = (),
        key: ec.EllipticCurvePrivateKey | None = None,
        from_ms: int = FROM_MS,
        until_ms: int = UNTIL_MS,
    ) -> pki.Identity:
        """An identity of SPIFFE id `uri`."""
        key = key or pki.new_key()
        pem = self.sign(key.public_key(), uri, dns=dns, from_ms=from_ms, until_ms=until_ms)
        return pki.Identity(pki.key_to_pem(key), pem, self.trust_pem)

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        uri: str,
        *,
        dns: tuple[str, ...] = (),
        from_ms: int = FROM_MS,
        until_ms: int = UNTIL_MS,
    ) -> bytes:
        """A certificate of SPIFFE id `uri` for somebody else's key."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
        names.extend(x509.DNSName(d) for d in dns)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_at(from_ms))
            .not_valid_after(_at(until_ms))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        return leaf.public_bytes(serialization.Encoding.PEM)

    def control_plane(self) -> pki.Identity:
        """The control plane's identity."""
        name = spiffe.control_plane()
        dns = spiffe.server_dns_name(name, self.trust_domain)
        assert dns is not None
        return self.issue(name.uri(self.trust_domain), dns=(dns,))
