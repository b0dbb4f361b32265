"""Placement grants: how they are signed, opened, and tied to what they grant.

A grant (`sovapi/v1/grants.proto`) is signed with an Ed25519 key that signs nothing else, and the
key is vouched for by the CA of the trust domain: whoever joined has all that it takes to check one,
offline. What a grant is for it holds as three digests, so that it is as small for a job with a long
environment as for any other:

* the work: what runs (command, environment, bundle, image, secrets) and what it may reach. A node
  can check it.
* the requirement: where the work may be, and what it demands of a place.
* the terms: how long, how many processes, how it is stopped.

Each is SHA-256 over a line that names it, then JSON: UTF-8, keys sorted, no spaces.

`GrantTrust.open` says that a grant is real. Whether it is for this site, node, attempt and moment
is for each to judge who opens one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from sovapi.v1.grants_pb2 import GrantKey, PlacementGrant, SignedGrant
from sovshared.pki import PEM_BYTES_MAX, PkiInvalid
from sovshared.signing import Signer, is_signed

FORMAT = 1
GRANT_BYTES_MAX = 1024 * 1024
"""Of one grant: a gang of 10,000 nodes has one of less than half."""
KEYS_KNOWN_MAX = 64
"""Vouched keys that are remembered: a day has one."""
OPENED_KNOWN_MAX = 16
"""Grants that are remembered as signed well: one is shown again within moments, or not at all."""
SKEW_MS = 120_000
"""By so much may the clock of whoever checks a grant be wrong."""

MISSING = "GRANT_MISSING"
FORGED = "GRANT_FORGED"
STALE = "GRANT_STALE"
MISPLACED = "GRANT_MISPLACED"
MISMATCHED = "GRANT_MISMATCHED"
REPLAYED = "GRANT_REPLAYED"
KINDS = (FORGED, MISMATCHED, MISPLACED, MISSING, REPLAYED, STALE)
"""What can be wrong with a grant. All of them are reported as GRANT_REFUSED, the kind first."""

_GRANT_CONTEXT = b"sov placement grant 1\0"
_KEY_CONTEXT = b"sov grant key 1\0"


class GrantInvalid(Exception):
    """A grant that starts nothing; `kind` is one of KINDS."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Vouched:
    """A key that grants may be signed with: who signs, and the CA's word on the key."""

    signer: Signer
    key: bytes
    key_signature: bytes


def vouch(
    signer: Signer,
    ca_key: ec.EllipticCurvePrivateKey,
    *,
    number: int,
    oldest: int,
    not_before_ms: int,
    not_after_ms: int,
) -> Vouched:
    """Has the CA vouch for a key from `not_before_ms` to `not_after_ms` (UTC)."""
    statement = GrantKey(
        public_key=signer.public_key,
        number=number,
        oldest=oldest,
        not_before_ms=not_before_ms,
        not_after_ms=not_after_ms,
    )
    key = statement.SerializeToString(deterministic=True)
    return Vouched(signer, key, ca_key.sign(_KEY_CONTEXT + key, ec.ECDSA(hashes.SHA256())))


def sign(grant: PlacementGrant, vouched: Vouched) -> bytes:
    """The grant as it travels."""
    body = grant.SerializeToString(deterministic=True)
    signed = SignedGrant(
        grant=body,
        signature=vouched.signer.sign(_GRANT_CONTEXT + body),
        key=vouched.key,
        key_signature=vouched.key_signature,
    )
    return signed.SerializeToString(deterministic=True)


@dataclass(frozen=True, slots=True)
class Opened:
    """A grant that somebody whom the CA vouches for signed, and the key it was signed with."""

    grant: PlacementGrant
    key: GrantKey


class GrantTrust:
    """Opens grants by the CAs in the file `trust`, as it is at the time."""

    def __init__(self, trust: Path) -> None:
        self._path = trust
        self._stamp: tuple[int, ...] | None = None
        self._roots: tuple[ec.EllipticCurvePublicKey, ...] = ()
        self._known: dict[bytes, GrantKey] = {}
        self._opened: dict[bytes, Opened] = {}

    def open(self, token: bytes) -> Opened:
        """What is granted, or GrantInvalid: absent, not canonical, or signed by somebody else."""
        if not token:
            raise GrantInvalid(MISSING, "the launch has no grant")
        if len(token) > GRANT_BYTES_MAX:
            found = f"found {len(token)} bytes, allowed {GRANT_BYTES_MAX}"
            raise GrantInvalid(FORGED, found)
        self._read()
        if (opened := self._opened.get(token)) is None:
            self._opened[token] = opened = self._open(token)
            for oldest in list(self._opened)[:-OPENED_KNOWN_MAX]:
                self._opened.pop(oldest, None)
        return opened

    def _open(self, token: bytes) -> Opened:
        signed = _canonical(SignedGrant, token)
        key = self._vouched(signed.key, signed.key_signature)
        if not is_signed(key.public_key, signed.signature, _GRANT_CONTEXT + signed.grant):
            raise GrantInvalid(FORGED, "its signature does not match")
        grant = _canonical(PlacementGrant, signed.grant)
        if grant.format != FORMAT:
            raise GrantInvalid(FORGED, f"format: found {grant.format}, allowed {FORMAT}")
        return Opened(grant, key)

    def _vouched(self, key: bytes, signature: bytes) -> GrantKey:
        """The key's statement, once a CA that we believe has signed it."""
        name = sha256(len(key).to_bytes(4, "big") + key + signature).digest()
        known = self._known.get(name)
        if known is not None:
            return known
        if not any(_signed_by(root, signature, _KEY_CONTEXT + key) for root in self._roots):
            raise GrantInvalid(FORGED, "no CA that is believed here vouches for its key")
        statement = _canonical(GrantKey, key)
        if len(self._known) >= KEYS_KNOWN_MAX:
            self._known.clear()
        self._known[name] = statement
        return statement

    def _read(self) -> None:
        """Reads the trust again if it changed: what was vouched for by who left counts no more."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if stamp != self._stamp:
                self._stamp, self._roots = None, ()
                self._forget()
                self._roots = roots_in(self._path.read_bytes()[: PEM_BYTES_MAX + 1])
                self._stamp = stamp
        except (OSError, PkiInvalid) as error:
            self._stamp, self._roots = None, ()
            self._forget()
            raise GrantInvalid(FORGED, f"{self._path} cannot be read: {error}") from error

    def _forget(self) -> None:
        self._known.clear()
        self._opened.clear()


def check_time(opened: Opened, now_ms: int) -> None:
    """Raises GrantInvalid unless grant and key are good at `now_ms` (UTC)."""
    for what, one in (("the grant", opened.grant), ("its key", opened.key)):
        if now_ms > one.not_after_ms + SKEW_MS:
            late_ms = now_ms - one.not_after_ms
            raise GrantInvalid(STALE, f"{what} ended {late_ms // 1000} s ago")
        if now_ms < one.not_before_ms - SKEW_MS:
            early_ms = one.not_before_ms - now_ms
            raise GrantInvalid(STALE, f"{what} begins in {early_ms // 1000} s")


def roots_in(pem: bytes) -> tuple[ec.EllipticCurvePublicKey, ...]:
    """The public keys of the CAs in `pem`; raises PkiInvalid."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise PkiInvalid("found no certificate that can be read, allowed PEM") from error
    keys = (certificate.public_key() for certificate in certificates)
    return tuple(key for key in keys if isinstance(key, ec.EllipticCurvePublicKey))


def work_digest(
    *,
    command: Sequence[str],
    env: Mapping[str, str],
    bundle_digest: str,
    image: str = "",
    secrets: Mapping[str, str] | None = None,
    egress: Sequence[str] = (),
    inputs: Sequence[Sequence[str]] = (),
    outputs: Sequence[Sequence[str]] = (),
) -> bytes:
    """Of what runs, and what it may reach. `bundle_digest` with or without its "sha256:"; empty: no
    bundle. `inputs`: dataset, version and mount of each; `outputs`: dataset and path.
    """
    bundle = bundle_digest.removeprefix("sha256:")
    work: list[object] = [list(command), dict(env), bundle, image, dict(secrets or {})]
    # Only where there is any: the grants of all other work are as they always were.
    if egress:
        work.append(list(egress))
    if inputs or outputs:
        work.append({"inputs": [*map(list, inputs)], "outputs": [*map(list, outputs)]})
    return _digest("work", work)


def requirement_digest(
    *,
    jurisdictions: Sequence[str],
    tier: int,
    markings: Sequence[str],
    tolerate_foreign_compulsion: Sequence[str],
    agreements: Sequence[str],
    node_sharing: int,
    min_assurance: int,
    min_isolation: int,
    controlling_stake_milli_percent: int,
    data_sites: Sequence[str] | None = None,
) -> bytes:
    """Of what must hold of a place. Lists count as sets; enums by their numbers on the wire.
    `data_sites` of work that reads datasets; None: it reads none."""
    lists = (jurisdictions, markings, tolerate_foreign_compulsion, agreements)
    numbers = (tier, node_sharing, min_assurance, min_isolation, controlling_stake_milli_percent)
    need: list[object] = [[sorted(set(one)) for one in lists], list(numbers)]
    if data_sites is not None:
        need.append(sorted(set(data_sites)))
    return _digest("requirement", need)


def terms_digest(
    *,
    tasks_per_node: int,
    gpus_per_node: int,
    gpu_share_milli: int,
    time_limit_ms: int,
    stop_grace_ms: int,
    signal: str,
    signal_before_ms: int,
    leased: bool,
    mig_profile: str = "",
    ray: bool = False,
) -> bytes:
    """Of how it runs and ends. `signal` before the time limit; empty: none. `ray`: in a Ray cluster
    of its own."""
    counts = (tasks_per_node, gpus_per_node, gpu_share_milli, time_limit_ms, stop_grace_ms)
    terms: list[object] = [list(counts), signal, signal_before_ms, leased]
    if mig_profile:  # As it was, where nobody asks for an instance: agents of before agree.
        terms.append(mig_profile)
    if ray:
        terms.append({"ray": True})
    return _digest("terms", terms)


def _digest(what: str, value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return sha256(f"sov grant {what} 1\n{text}".encode()).digest()


Statement = TypeVar("Statement", SignedGrant, PlacementGrant, GrantKey)


def _canonical(kind: type[Statement], content: bytes) -> Statement:
    """The statement in `content`, which must be its only encoding and all of it known."""
    try:
        found = kind.FromString(content)
    except DecodeError as error:
        raise GrantInvalid(FORGED, "it cannot be read") from error
    known = len(UnknownFieldSet(found)) == 0
    if isinstance(found, PlacementGrant):
        known = known and not any(len(UnknownFieldSet(node)) for node in found.nodes)
    if not known or found.SerializeToString(deterministic=True) != content:
        raise GrantInvalid(FORGED, "it is not in its canonical form")
    return found


def _signed_by(root: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        root.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
