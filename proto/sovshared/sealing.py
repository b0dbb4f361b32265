"""What only a tenant's key opens: how secrets and bundles are sealed, and who is to have the key.

A sealed thing is a header and a body. The body is AES-256-GCM under a data key of its own, in
chunks; the data key lies in the header, wrapped by a key that the tenant's key service holds. The
header's digest is authenticated with every chunk, so neither can be put to the other. All of it:

    "sovseal1" | 2 bytes: length of the header | header, canonical JSON | chunks

A chunk is at most CHUNK_BYTES of text with 16 bytes of tag; its nonce is its number, its associated
data says whether it is the last: nothing can be cut off or turned round.

A **ticket** is the tenant's word that some work is its own: a MAC, by a key derived from the
wrapping key, over the digest of the work as grants have it and that of its bundle's header. A
placement grant says that the control plane placed this work; the ticket, that the tenant asked for
it. A key service wants both, so that neither a control plane nor another tenant can have the data
opened for work that the owner of the key never asked for.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sovshared import grants

MAGIC = b"sovseal1"
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
CHUNK_BYTES = 1 << 20
HEADER_BYTES_MAX = 4096
HEAD_BYTES = len(MAGIC) + 2
SECRET_BYTES_MAX = 64 * 1024
"""Of a secret's value, before it is sealed."""

SECRET = "secret"  # noqa: S105 - what is sealed, not a password
BUNDLE = "bundle"
CHECKPOINT = "checkpoint"
_FIELDS = ("key_id", "name", "nonce", "purpose", "wrapped")
ARRAY_NAMES = frozenset(
    {
        "SOV_ARRAY_COUNT",
        "SOV_ARRAY_INDEX",
        "SOV_ARRAY_JOB_ID",
        "SOV_REPLICA",
        "SOV_SERVICE_JOB_ID",
    }
)
"""Variables that the control plane adds to a task of an array, or to a replica: no ticket is about
them."""


class SealInvalid(Exception):
    """Not sealed, sealed with another key, or not what was sealed."""


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before a sealed body. `name` is opaque; `text` are the bytes that were read."""

    key_id: str
    purpose: str
    name: str
    wrapped: bytes
    nonce: bytes
    text: bytes

    def digest(self) -> bytes:
        """By which a ticket names it."""
        return sha256(b"sov sealed header 1\0" + self.text).digest()


class Wraps(Protocol):
    """A key that data keys are wrapped with."""

    def wrap(self, purpose: str, name: str, data_key: bytes, nonce: bytes) -> Header:
        """The header of something sealed with `data_key`."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class TenantKey:
    """A tenant's wrapping key and the name it goes by, which tells nothing."""

    key_id: str
    key: bytes

    def wrap(self, purpose: str, name: str, data_key: bytes, nonce: bytes) -> Header:
        """The header of something sealed with `data_key`."""
        about = about_key(self.key_id, purpose, name)
        wrapped = AESGCM(self.key).encrypt(nonce, data_key, about)
        return header_of(self.key_id, purpose, name, wrapped, nonce)

    def unwrap(self, header: Header) -> bytes:
        """The data key; SealInvalid when it was wrapped with another key, or for something else."""
        about = about_key(self.key_id, header.purpose, header.name)
        try:
            return AESGCM(self.key).decrypt(header.nonce, header.wrapped, about)
        except (InvalidTag, ValueError) as error:
            raise SealInvalid("the data key was not wrapped with this key") from error

    def checkpoint_secret(self, work: bytes, job_id: str) -> bytes:
        """What opens the checkpoints of one job that was asked for as this work, and no other's."""
        own = hmac.digest(self.key, b"sov checkpoint key 1\0", "sha256")
        return hmac.digest(own, b"sov checkpoint 1\0" + work + job_id.encode(), "sha256")

    def ticket(self, work: bytes, bundle: Header | None) -> bytes:
        """The tenant's word on the work with this digest, with this sealed bundle or none."""
        own = hmac.digest(self.key, b"sov ticket key 1\0", "sha256")
        about = b"sov ticket 1\0" + work + (bundle.digest() if bundle is not None else b"")
        return hmac.digest(own, about, "sha256")


def work_of(
    *,
    command: list[str],
    env: Mapping[str, str],
    bundle_digest: str,
    image: str,
    secrets: Mapping[str, str],
    egress: Sequence[str] = (),
) -> bytes:
    """The digest of work as its tenant asked for it; `secrets` by their opaque names."""
    asked = {name: value for name, value in env.items() if name not in ARRAY_NAMES}
    return grants.work_digest(
        command=command,
        env=asked,
        bundle_digest=bundle_digest,
        image=image,
        secrets=secrets,
        egress=egress,
    )


def opaque(name: str) -> str:
    """A secret's name as sites are told it: "trust-a/hf" would tell them whose the work is."""
    return sha256(f"sov secret name 1\n{name}".encode()).hexdigest()[:32]


def is_sealed(head: bytes) -> bool:
    """Whether something that begins so is sealed."""
    return head.startswith(MAGIC)


def read_header(source: IO[bytes]) -> Header:
    """The header at the beginning of something sealed; the body follows in `source`."""
    head = source.read(HEAD_BYTES)
    size = int.from_bytes(head[len(MAGIC) :], "big")
    if not is_sealed(head) or len(head) != HEAD_BYTES or size > HEADER_BYTES_MAX:
        raise SealInvalid("found no sealed header")
    text = source.read(size)
    try:
        read: dict[str, Any] = json.loads(text)
        header = Header(
            read["key_id"],
            read["purpose"],
            read["name"],
            base64.b64decode(read["wrapped"], validate=True),
            base64.b64decode(read["nonce"], validate=True),
            text,
        )
        known = _canonical(read) == text and len(read) == len(_FIELDS)
        known = known and all(type(read[field]) is str for field in _FIELDS)
    except (ValueError, KeyError, TypeError) as error:
        raise SealInvalid("the sealed header cannot be read") from error
    if not known or len(header.nonce) != NONCE_BYTES:
        raise SealInvalid("the sealed header is not in its canonical form")
    return header


def seal(
    source: IO[bytes],
    target: IO[bytes],
    key: Wraps,
    purpose: str,
    name: str,
    draw: Callable[[int], bytes] = os.urandom,
) -> Header:
    """Writes `source` sealed to `target`, under a new data key."""
    data_key = draw(KEY_BYTES)
    header = key.wrap(purpose, name, data_key, draw(NONCE_BYTES))
    target.write(MAGIC + len(header.text).to_bytes(2, "big") + header.text)
    cipher, about = AESGCM(data_key), header.digest()
    chunk, number, last = source.read(CHUNK_BYTES), 0, False
    while not last:
        following = source.read(CHUNK_BYTES)
        last = not following
        target.write(cipher.encrypt(_nonce(number), chunk, about + (b"L" if last else b"M")))
        chunk, number = following, number + 1
    return header


def unseal(source: IO[bytes], header: Header, data_key: bytes) -> Iterator[bytes]:
    """What was sealed, chunk by chunk; `source` stands behind the header. Raises SealInvalid at
    the first chunk that is not what was sealed, or when the end is missing."""
    cipher, about = AESGCM(data_key), header.digest()
    chunk, number, last = source.read(CHUNK_BYTES + TAG_BYTES), 0, False
    while not last:
        following = source.read(CHUNK_BYTES + TAG_BYTES)
        last = not following
        try:
            yield cipher.decrypt(_nonce(number), chunk, about + (b"L" if last else b"M"))
        except (InvalidTag, ValueError) as error:
            raise SealInvalid("it is not what was sealed") from error
        chunk, number = following, number + 1


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")


def header_of(key_id: str, purpose: str, name: str, wrapped: bytes, nonce: bytes) -> Header:
    """A header with the bytes that stand for it."""
    text = _canonical(
        {
            "key_id": key_id,
            "name": name,
            "nonce": base64.b64encode(nonce).decode(),
            "purpose": purpose,
            "wrapped": base64.b64encode(wrapped).decode(),
        }
    )
    return Header(key_id, purpose, name, wrapped, nonce, text)


def about_key(key_id: str, purpose: str, name: str) -> bytes:
    """What is authenticated with a wrapped data key."""
    return b"sov data key 1\0" + _canonical([key_id, purpose, name])


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
