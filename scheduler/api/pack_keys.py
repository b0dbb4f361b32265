"""Who may sign policy packs: public keys that the operator has put into the state directory.

`policy-signers/NAME.pub` holds the 32 bytes of an Ed25519 public key in base64, as `sovctl policy
sign` prints it. With none there, packs need no signature; with any, nothing unsigned comes into
force.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.wire.policy import SIGNED_AS
from sovshared import signing
from sovshared.pki import PkiInvalid

DIRECTORY = "policy-signers"
KEYS_MAX = 100
FILE_BYTES_MAX = 1_024


@dataclass(frozen=True, slots=True)
class PackKeys:
    """The public keys that may sign packs, by their ids."""

    by_id: Mapping[str, bytes]

    def signer_of(self, pack: bytes, signature: bytes) -> str:
        """The id of the key that signed; refuses a signature of none of them, and a lack of one."""
        if not signature and not self.by_id:
            return ""
        known = ", ".join(sorted(self.by_id))
        if not signature:
            raise invalid(_fault("none", f"one by a key of {known}"))
        for name, key in sorted(self.by_id.items()):
            if signing.is_signed(key, signature, SIGNED_AS + pack):
                return name
        allowed = f"one by a key of {known}" if known else "none: no key is known here"
        raise invalid(_fault("a signature by no key that is known", allowed))


def load(state_directory: Path) -> PackKeys:
    """The keys in the state directory; raises `PkiInvalid`, which names the file that is none."""
    keys = keys_in(state_directory / DIRECTORY)
    return PackKeys({signing.key_id_of(key): key for key in keys.values()})


def keys_in(directory: Path) -> dict[str, bytes]:
    """The public keys in the files `*.pub` of a directory, by the files' names without that;
    raises as `load` does."""
    files = sorted(directory.glob("*.pub"))
    if len(files) > KEYS_MAX:
        raise PkiInvalid(f"{directory}: found {len(files)} keys, allowed {KEYS_MAX}")
    return {path.stem: _key(path) for path in files}


def _key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            key = base64.b64decode(file.read(FILE_BYTES_MAX).strip(), validate=True)
    except OSError as error:
        raise PkiInvalid(f"{path}: {error.strerror}") from error
    except binascii.Error as error:
        raise PkiInvalid(f"{path}: found no base64, allowed an Ed25519 public key in it") from error
    if len(key) != signing.PUBLIC_KEY_BYTES:
        raise PkiInvalid(f"{path}: found {len(key)} bytes, allowed {signing.PUBLIC_KEY_BYTES}")
    return key


def _fault(found: str, allowed: str) -> Denial:
    return Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", "signature")
