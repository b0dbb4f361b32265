"""Checks residency certificates offline. One file that stands alone: `python verify.py --help`.

Needs Python 3.11, the package `cryptography`, a certificate and a trust file; nothing of the rest
of this project, no network and no clock. It shares no code with what makes certificates.

A certificate is one line of JSON: a DSSE envelope around an in-toto statement, and beside its
signature the proof (C2SP tlog-proof) that the log holds the statement's salted digest. The trust
file is a C2SP tlog-policy: logs, witnesses and a quorum; keys of certificates stand in lines
`# certificates VKEY`, which other programs take for comments.

Everything has one spelling: what could be written in another way is refused, so no byte of a
certificate can change unnoticed. Therefore signatures by keys that the trust file does not name are
refused too, where C2SP would pass over them. What a certificate can not prove is in its `limits`.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://sovereign-compute.example/residency/v1"
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
LEAF_KIND = "certificate_issued"
SALT_BYTES = 16
HASH_BYTES = 32
FILE_BYTES_MAX = 16 << 20
TRUST_BYTES_MAX = 1 << 20
PATH_MAX = 63
SIGNS, COSIGNS = 0x01, 0x04
CERTIFICATES_LINE = "# certificates "
EXIT_NOT_VERIFIED, EXIT_USAGE = 1, 2
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.A)


class NotVerified(Exception):
    """A certificate, note or trust file that does not hold; the message says where."""


@dataclass(frozen=True, slots=True)
class Key:
    """A named public key; `kind` says whether it signs notes and envelopes, or cosigns notes."""

    name: str
    kind: int
    public: bytes
    id: bytes


@dataclass(slots=True)
class Trust:
    """Whom to believe: logs by origin, keys of certificates by id, witnesses, and the quorum."""

    logs: dict[str, list[Key]] = field(default_factory=lambda: {})
    certificates: dict[str, Key] = field(default_factory=lambda: {})
    witnesses: dict[str, Key] = field(default_factory=lambda: {})
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=lambda: {})
    quorum: str = ""

    def is_met(self, name: str, seen: set[str]) -> bool:
        """Whether witness or group `name` has witnessed, when the witnesses `seen` have."""
        if name == "none" or name in seen:
            return True
        if name not in self.groups:
            return False
        threshold, members = self.groups[name]
        return sum(self.is_met(member, seen) for member in members) >= threshold


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint that holds: the log's first `size` leaves have this root, say its signers."""

    origin: str
    size: int
    root: bytes
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """A certificate that holds. `payload` is the statement's bytes, `statement` what they say."""

    statement: dict[str, Any]
    payload: bytes
    index: int
    head: Head

    @property
    def predicate(self) -> dict[str, Any]:
        """What is said about the job."""
        return cast(dict[str, Any], self.statement["predicate"])

    @property
    def digest(self) -> str:
        """What the next certificate of the same tenant calls `prev`."""
        return "sha256:" + sha256(self.payload).hexdigest()


def verify(certificate: bytes, trust: Trust) -> Verified:
    """What `certificate` says, if every byte of it holds; raises `NotVerified`."""
    _must(len(certificate) <= FILE_BYTES_MAX, f"the file is larger than {FILE_BYTES_MAX} bytes")
    parts = _canonical_object(certificate, "file", end="\n")
    _exactly(parts, ("payload", "payloadType", "signatures", "tlogProof"), "file")
    payload = _unbase64(parts["payload"], "payload")
    _must(parts["payloadType"] == PAYLOAD_TYPE, f"payloadType: allowed {PAYLOAD_TYPE}")
    _check_envelope(payload, parts["signatures"], trust)
    statement = _statement(payload)
    proof = parts["tlogProof"]
    _must(isinstance(proof, str), "tlogProof: it is not text")
    salt, index, path, note = parse_proof(cast(str, proof))
    head = open_checkpoint(note, trust)
    _must(trust.is_met(trust.quorum, set(head.witnesses)), f"quorum: {trust.quorum} is not met")
    leaf = sha256(b"\x00" + salt + _leaf_body(statement["predicate"], payload)).digest()
    found = root_of(leaf, index, head.size, path)
    _must(found == head.root, "tlogProof: the log that was signed does not hold this certificate")
    return Verified(statement, payload, index, head)


def _check_envelope(payload: bytes, signatures: object, trust: Trust) -> None:
    """That one trusted key signed the DSSE pre-authentication encoding."""
    _must(isinstance(signatures, list), "signatures: it is not a list")
    listed = cast(list[dict[str, Any]], signatures)
    _must(len(listed) == 1, "signatures: allowed exactly one")
    _exactly(listed[0], ("keyid", "sig"), "signature")
    key = trust.certificates.get(str(listed[0]["keyid"]))
    if key is None:
        raise NotVerified(f"keyid: the trust file names no key {str(listed[0]['keyid'])[:100]!r}")
    signature = _unbase64(listed[0]["sig"], "sig")
    encoded = b"DSSEv1 %d %s %d %s" % (
        len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload,
    )  # fmt: skip
    _must(_is_signed(key, signature, encoded), "sig: the signature is not over this payload")


def _statement(payload: bytes) -> dict[str, Any]:
    statement = _canonical_object(payload, "payload")
    _exactly(statement, ("_type", "predicate", "predicateType", "subject"), "statement")
    _must(statement["_type"] == STATEMENT_TYPE, f"_type: allowed {STATEMENT_TYPE}")
    _must(statement["predicateType"] == PREDICATE_TYPE, f"predicateType: allowed {PREDICATE_TYPE}")
    predicate = statement["predicate"]
    _must(isinstance(predicate, dict), "predicate: it is not an object")
    for name, kind in (("job", str), ("tenant", str), ("issued_at_ms", int), ("tenant_seq", int)):
        _must(type(predicate.get(name)) is kind, f"predicate: {name} is not there")
    return statement


def _leaf_body(predicate: dict[str, Any], payload: bytes) -> bytes:
    """What the log holds about a certificate, after the salt."""
    entry = {
        "at_ms": predicate["issued_at_ms"],
        "digest": "sha256:" + sha256(payload).hexdigest(),
        "job": predicate["job"],
        "kind": LEAF_KIND,
        "tenant": predicate["tenant"],
        "tenant_seq": predicate["tenant_seq"],
    }
    return canonical(entry).encode()


def parse_proof(text: str) -> tuple[bytes, int, list[bytes], bytes]:
    """Salt, index, inclusion path and checkpoint of a C2SP tlog-proof."""
    head, gap, note = text.partition("\n\n")
    header, *lines = head.split("\n")
    _must(gap != "" and header == PROOF_HEADER, f"tlogProof: it does not begin {PROOF_HEADER}")
    _must(2 <= len(lines) <= 2 + PATH_MAX, "tlogProof: allowed extra, index and hashes")
    extra, index = lines[0], lines[1]
    _must(extra.startswith("extra "), "tlogProof: it has no line `extra` with the leaf's salt")
    salt = _unbase64(extra[6:], "extra")
    _must(len(salt) == SALT_BYTES, f"extra: allowed {SALT_BYTES} bytes")
    _must(
        index.startswith("index ") and _DECIMAL.fullmatch(index[6:]) is not None,
        "index: it is no number",
    )
    path = [_unbase64(line, "tlogProof") for line in lines[2:]]
    _must(all(len(each) == HASH_BYTES for each in path), "tlogProof: a hash has 32 bytes")
    return salt, int(index[6:]), path, note.encode()


def root_of(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion path leads to (RFC 9162, 2.1.3.2); raises `NotVerified`."""
    _must(0 <= index < size, f"index: {index} is not in a log of {size} leaves")
    at, last, found = index, size - 1, leaf
    for other in path:
        _must(last > 0, "tlogProof: the path is too long")
        if at % 2 or at == last:
            found = _node(other, found)
            while at % 2 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            found = _node(found, other)
        at, last = at >> 1, last >> 1
    _must(last == 0, "tlogProof: the path is too short")
    return found


def is_consistent(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether the older log is the beginning of the newer one (RFC 9162, 2.1.4.2)."""
    if old_size == 0:
        return not path and old_root == sha256(b"").digest()
    if old_size >= new_size:
        return old_size == new_size and not path and old_root == new_root
    rest = list(path) if old_size & (old_size - 1) else [old_root, *path]
    if not rest:
        return False
    at, last = old_size - 1, new_size - 1
    while at % 2:
        at, last = at >> 1, last >> 1
    old = new = rest[0]
    for other in rest[1:]:
        if last == 0:
            return False
        if at % 2 or at == last:
            old, new = _node(other, old), _node(other, new)
            while at % 2 == 0 and at:
                at, last = at >> 1, last >> 1
        else:
            new = _node(new, other)
        at, last = at >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def open_checkpoint(note: bytes, trust: Trust) -> Head:
    """The head of a signed checkpoint whose every line is signed by a key of the trust file."""
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise NotVerified("checkpoint: it is no UTF-8") from error
    text, gap, below = whole.rpartition("\n\n")
    text, lines = f"{text}\n", below.split("\n")
    _must(gap != "" and lines.pop() == "" and lines != [], "checkpoint: it is not signed")
    parts = text.split("\n")
    _must(len(parts) == 4, "checkpoint: allowed origin, size and root")
    _must(_DECIMAL.fullmatch(parts[1]) is not None, "checkpoint: its size is no number")
    root = _unbase64(parts[2], "checkpoint")
    _must(len(root) == HASH_BYTES, "checkpoint: a root has 32 bytes")
    logs = {key.id: key for key in trust.logs.get(parts[0], [])}
    _must(logs != {}, f"checkpoint: the trust file names no log {parts[0][:100]!r}")
    known = logs | {key.id: key for key in trust.witnesses.values()}
    signers: list[Key] = []
    for line in lines:
        signers.append(_signer_of(line, text, known))
    _must(len({key.id for key in signers}) == len(signers), "checkpoint: a key signs it twice")
    _must(any(key.kind == SIGNS for key in signers), "checkpoint: its log has not signed it")
    seen = tuple(sorted(n for n, key in trust.witnesses.items() if key in signers))
    return Head(parts[0], int(parts[1]), root, seen)


def _signer_of(line: str, text: str, known: dict[bytes, Key]) -> Key:
    """Whose valid signature a line is."""
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    _must(dash == "\N{EM DASH}", "checkpoint: a line below the text signs nothing")
    blob = _unbase64(encoded, "checkpoint")
    key = known.get(blob[:4])
    if key is None or key.name != name:
        raise NotVerified(f"checkpoint: the trust file does not name the signer {name[:100]!r}")
    signature, message = blob[4:], text.encode()
    if key.kind == COSIGNS:
        time_s, signature = int.from_bytes(signature[:8], "big"), signature[8:]
        message = f"cosignature/v1\ntime {time_s}\n".encode() + message
    _must(_is_signed(key, signature, message), f"checkpoint: {name[:100]} did not sign this")
    return key


def parse_trust(content: bytes) -> Trust:
    """A trust file; raises `NotVerified`, naming the line."""
    _must(len(content) <= TRUST_BYTES_MAX, f"trust: larger than {TRUST_BYTES_MAX} bytes")
    try:
        lines = content.decode().split("\n")
    except UnicodeDecodeError as error:
        raise NotVerified("trust: it is no UTF-8") from error
    trust = Trust()
    for number, line in enumerate(lines, 1):
        try:
            _read_trust_line(line, trust)
        except (NotVerified, IndexError, ValueError) as error:
            raise NotVerified(f"trust, line {number}: {error}") from error
    _must(trust.quorum != "", "trust: it has no line `quorum`")
    _must(
        trust.logs != {} and trust.certificates != {}, "trust: it names no log or no certificates"
    )
    return trust


def _read_trust_line(line: str, trust: Trust) -> None:
    if line.startswith(CERTIFICATES_LINE):
        key = parse_vkey(line.removeprefix(CERTIFICATES_LINE).strip(), SIGNS)
        trust.certificates[key.id.hex()] = key
        return
    words = line.split()
    if not words or words[0].startswith("#"):
        return
    match words[0]:
        case "log":
            key = parse_vkey(words[1], SIGNS)
            trust.logs.setdefault(key.name, []).append(key)
        case "witness":
            _is_new(words[1], trust)
            trust.witnesses[words[1]] = parse_vkey(words[2], COSIGNS)
        case "group":
            _is_new(words[1], trust)
            members = tuple(words[3:])
            threshold = {"all": len(members), "any": 1}.get(words[2]) or int(words[2])
            known = trust.witnesses.keys() | trust.groups.keys()
            _must(set(members) <= known, "a member of the group is not defined above")
            _must(1 <= threshold <= len(set(members)) == len(members), "its threshold cannot be")
            trust.groups[words[1]] = (threshold, members)
        case "quorum":
            known = trust.witnesses.keys() | trust.groups.keys() | {"none"}
            _must(not trust.quorum and words[1] in known, "allowed one quorum, of what is above")
            trust.quorum = words[1]
        case _:
            raise NotVerified(f"found {words[0][:100]!r}, allowed log, witness, group, quorum")


def _is_new(name: str, trust: Trust) -> None:
    taken = trust.witnesses.keys() | trust.groups.keys() | {"none"}
    _must(name not in taken, f"{name[:100]!r} is defined above")


def parse_vkey(text: str, kind: int) -> Key:
    """A public key written `NAME+ID+KEY`, of this kind; raises `NotVerified`."""
    name, _, rest = text.partition("+")
    stated, _, encoded = rest.partition("+")
    raw = _unbase64(encoded, "key")
    _must(len(raw) == 33 and raw[0] == kind, f"{text[:200]!r} is not a key for this purpose")
    identity = sha256(name.encode() + b"\n" + raw).digest()[:4]
    _must(stated == identity.hex(), f"{text[:200]!r} has another key id than its key")
    return Key(name, kind, raw[1:], identity)


def canonical(value: object) -> str:
    """The one spelling of a JSON value that is accepted: RFC 8785 for what certificates hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _canonical_object(content: bytes, what: str, end: str = "") -> dict[str, Any]:
    def refuse(number: str) -> object:
        raise NotVerified(f"{what}: {number[:20]} is not an integer")

    try:
        value = json.loads(content.decode(), parse_float=refuse, parse_constant=refuse)
        same = (canonical(value) + end).encode() == content
    except (ValueError, RecursionError) as error:
        raise NotVerified(f"{what}: it is not JSON") from error
    _must(isinstance(value, dict), f"{what}: it is not an object")
    _must(same, f"{what}: it is not spelt canonically")
    return value


def _exactly(value: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    fits = isinstance(value, dict) and sorted(value) == list(names)  # pyright: ignore[reportUnnecessaryIsInstance]
    _must(fits, f"{what}: allowed an object of exactly {', '.join(names)}")


def _unbase64(text: object, what: str) -> bytes:
    try:
        decoded = base64.b64decode(cast(str, text), validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise NotVerified(f"{what}: it is no base64") from error
    _must(base64.b64encode(decoded).decode() == text, f"{what}: its base64 has another spelling")
    return decoded


def _is_signed(key: Key, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotVerified(otherwise)


def main(arguments: Sequence[str] | None = None) -> None:
    """The program: exit status 0 when the certificate holds, 1 when not, 2 for wrong usage."""
    parser = argparse.ArgumentParser(description="Check a residency certificate offline.")
    parser.add_argument("file", type=Path, help="the certificate")
    parser.add_argument("--trust", type=Path, required=True, help="keys, witnesses and quorum")
    asked = parser.parse_args(arguments)
    try:
        trust = parse_trust(asked.trust.read_bytes())
        found = verify(asked.file.read_bytes(), trust)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except NotVerified as error:
        print(f"{asked.file}: NOT VERIFIED: {error}", file=sys.stderr)
        sys.exit(EXIT_NOT_VERIFIED)
    print(canonical(found.predicate))


if __name__ == "__main__":
    main()
