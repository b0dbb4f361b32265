"""How a job's checkpoints are sealed: by anybody on its node, and for whoever has the secret alone.

The secret comes from the tenant's key service, for a grant, when a rank starts. It is the private
half of an X25519 key. The public half may lie about: with it a checkpoint is sealed while the job
runs (an ephemeral key agrees with it on the key that wraps the data key), and none is opened. To
open them takes the secret, and so another grant.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sovshared import sealing
from sovshared.sealing import Header, SealInvalid

PUBLIC_BYTES = 32
_INFO = b"sov checkpoint wrap 1\0"


class CheckpointSealer:
    """Seals for who holds the secret of this public key."""

    def __init__(self, public: bytes) -> None:
        self._public = public
        self._key = X25519PublicKey.from_public_bytes(public)

    def wrap(self, purpose: str, name: str, data_key: bytes, nonce: bytes) -> Header:
        """The header of something sealed with `data_key`."""
        ephemeral = X25519PrivateKey.generate()
        told = ephemeral.public_key().public_bytes_raw()
        wrapping = _wrapping(ephemeral.exchange(self._key), told, self._public)
        key_id = self._public.hex()
        about = sealing.about_key(key_id, purpose, name)
        wrapped = told + AESGCM(wrapping).encrypt(nonce, data_key, about)
        return sealing.header_of(key_id, purpose, name, wrapped, nonce)


class CheckpointOpener:
    """Opens what was sealed for this secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()

    def unwrap(self, header: Header) -> bytes:
        """The data key; SealInvalid when it was sealed for another, or as something else."""
        told, wrapped = header.wrapped[:PUBLIC_BYTES], header.wrapped[PUBLIC_BYTES:]
        key_id = self.public.hex()
        about = sealing.about_key(key_id, header.purpose, header.name)
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(told))
            wrapping = _wrapping(shared, told, self.public)
            return AESGCM(wrapping).decrypt(header.nonce, wrapped, about)
        except (InvalidTag, ValueError) as error:
            raise SealInvalid("the checkpoint was not sealed for this job") from error


def _wrapping(shared: bytes, told: bytes, public: bytes) -> bytes:
    kdf = HKDF(algorithm=SHA256(), length=sealing.KEY_BYTES, salt=None, info=_INFO + told + public)
    return kdf.derive(shared)
