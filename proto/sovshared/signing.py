"""Ed25519 keys that sign statements: the log's, certificates', placement grants'.

Keys of identities are in `pki`; these sign no certificate and open no connection. Each purpose has
a key of its own, so that a signature made for one is none for another. Whoever signs holds a
`Signer`, and does not see where the key is: here that is a file, and a token (PKCS #11) or a key
service gives another function to sign with and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from sovshared.pki import PkiInvalid, write_private

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
KEY_FILE_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with one key. `public_key`: 32 raw bytes; `sign` answers 64 (RFC 8032, Ed25519)."""

    public_key: bytes
    sign: Callable[[bytes], bytes]

    @property
    def key_id(self) -> str:
        """Names the key: the first 16 hexadecimal digits of the SHA-256 of its public half."""
        return key_id_of(self.public_key)


def key_id_of(public_key: bytes) -> str:
    """The name of a public key, as `Signer.key_id`."""
    return sha256(public_key).hexdigest()[:16]


def kept_in(path: Path) -> Signer:
    """The signer whose key is in the file `path`, which is made (0600) if it is not there.

    Raises `PkiInvalid`, which names the file, when what is there is no Ed25519 key in PEM.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, _to_pem(Ed25519PrivateKey.generate()))
    return load(path)


def load(path: Path) -> Signer:
    """The signer whose key is in the file `path`; raises `PkiInvalid` as `kept_in` does."""
    try:
        with path.open("rb") as file:
            pem = file.read(KEY_FILE_BYTES_MAX + 1)
        mode = path.stat().st_mode
    except OSError as error:
        raise PkiInvalid(f"{path}: {error.strerror}") from error
    if mode & 0o077:
        raise PkiInvalid(f"{path}: found mode {mode & 0o777:o}, allowed 600: only its owner reads")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise PkiInvalid(
            f"{path}: found no usable private key, allowed an Ed25519 key in PEM, unencrypted"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PkiInvalid(f"{path}: found {type(key).__name__}, allowed an Ed25519 key")
    return signer_of(key)


def signer_of(key: Ed25519PrivateKey) -> Signer:
    """A signer with a key at hand."""
    public_key = key.public_key().public_bytes_raw()
    return Signer(public_key, key.sign)


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` over `message` is by the key with this public half (32 raw bytes)."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _to_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
