"""Signed notes about a log, as C2SP has them: checkpoints, and the cosignatures of witnesses.

signed-note: a text, an empty line, and signature lines `— <key name> <base64(key id || signature)>`
over the text. tlog-checkpoint: the text is origin, size and root. tlog-cosignature (v1): a witness
signs the text with the time before it, and puts the time before its signature. Keys are written
`<name>+<key id>+<base64(kind || public key)>` (a vkey), and a name is part of a key's id.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256

from sovshared.signing import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Signer, is_signed

ED25519 = 0x01
"""Kind of a key that signs notes."""
COSIGNATURE = 0x04
"""Kind of a key that cosigns checkpoints."""
KEY_ID_BYTES = 4
TIME_BYTES = 8
ROOT_BYTES = 32
NOTE_BYTES_MAX = 64 * 1024
LINES_MAX = 100
_DASH = "\N{EM DASH} "
_NAME = re.compile(r"[^\s+]{1,255}")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.A)


class NoteInvalid(ValueError):
    """A note, key or line that is not of its form; the message says what was found."""


@dataclass(frozen=True, slots=True)
class VKey:
    """A public key with a name: who may sign notes (`ED25519`) or cosign them (`COSIGNATURE`)."""

    name: str
    kind: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that name the key in signature lines."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return sha256(named).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's head: the hash of all of its first `size` entries."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text and the lines that sign it, each without its newline."""

    text: str
    lines: tuple[str, ...]

    def encode(self) -> bytes:
        """The note as it travels."""
        return "".join([self.text, "\n", *(f"{line}\n" for line in self.lines)]).encode()


def vkey(name: str, kind: int, public_key: bytes) -> VKey:
    """A key by its parts; raises `NoteInvalid` for a name that a note cannot hold."""
    if not _NAME.fullmatch(name):
        raise NoteInvalid(f"key name: found {name[:100]!r}, allowed 1 to 255 without spaces or +")
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise NoteInvalid(f"public key: found {len(public_key)} bytes, allowed {PUBLIC_KEY_BYTES}")
    return VKey(name, kind, public_key)


def parse_vkey(text: str) -> VKey:
    """The key that `text` writes; raises `NoteInvalid` unless its id is that of its parts."""
    name, _, rest = text.partition("+")
    encoded = rest.partition("+")[2]
    try:
        key = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise NoteInvalid(f"vkey: found {text[:200]!r}, allowed NAME+ID+KEY") from error
    if len(key) != 1 + PUBLIC_KEY_BYTES or key[0] not in (ED25519, COSIGNATURE):
        raise NoteInvalid(f"vkey: found {text[:200]!r}, allowed an Ed25519 key")
    found = vkey(name, key[0], key[1:])
    if str(found) != text:
        raise NoteInvalid(f"vkey: found {text[:200]!r}, which is {found} when written out")
    return found


def parse(note: bytes) -> Note:
    """A note's parts; raises `NoteInvalid`. No signature is checked."""
    if len(note) > NOTE_BYTES_MAX:
        raise NoteInvalid(f"note: found {len(note)} bytes, allowed {NOTE_BYTES_MAX}")
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise NoteInvalid("note: found what is no UTF-8") from error
    text, gap, below = whole.rpartition("\n\n")
    lines = below.split("\n")
    if not gap or lines.pop() != "" or not lines:
        raise NoteInvalid("note: found no signature lines after an empty line")
    if len(lines) > LINES_MAX or not all(line.startswith(_DASH) for line in lines):
        raise NoteInvalid(f"note: found lines that sign nothing, allowed {LINES_MAX} signatures")
    return Note(f"{text}\n", tuple(lines))


def checkpoint_of(text: str) -> Checkpoint:
    """The head that a note's text states; raises `NoteInvalid`."""
    parts = text.split("\n")
    if len(parts) < 4 or parts[-1] != "" or not parts[0] or not _DECIMAL.fullmatch(parts[1]):
        raise NoteInvalid("checkpoint: found another text than origin, size and root")
    try:
        root = base64.b64decode(parts[2], validate=True)
    except ValueError as error:
        raise NoteInvalid("checkpoint: found a root that is no base64") from error
    if len(root) != ROOT_BYTES:
        raise NoteInvalid(f"checkpoint: found a root of {len(root)} bytes, allowed {ROOT_BYTES}")
    return Checkpoint(parts[0], int(parts[1]), root)


def signature_line(key: VKey, signer: Signer, text: str) -> str:
    """The line with which a log signs `text`."""
    assert key.kind == ED25519, "notes are signed with a key for notes"
    return _line(key, signer.sign(text.encode()))


def cosignature_line(key: VKey, signer: Signer, text: str, time_s: int) -> str:
    """The line with which a witness cosigns `text` at `time_s` (POSIX seconds)."""
    assert key.kind == COSIGNATURE, "checkpoints are cosigned with a key for that"
    stamp = time_s.to_bytes(TIME_BYTES, "big")
    return _line(key, stamp + signer.sign(_cosigned(text, time_s)))


def signs(key: VKey, text: str, line: str) -> bool:
    """Whether `line` is a signature, or a cosignature, of `text` by `key`."""
    head = f"{_DASH}{key.name} "
    if not line.startswith(head):
        return False
    try:
        blob = base64.b64decode(line.removeprefix(head), validate=True)
    except ValueError:
        return False
    if blob[:KEY_ID_BYTES] != key.key_id or _line(key, blob[KEY_ID_BYTES:]) != line:
        return False
    said = blob[KEY_ID_BYTES:]
    if key.kind == ED25519:
        return is_signed(key.public_key, said, text.encode())
    if len(said) != TIME_BYTES + SIGNATURE_BYTES:
        return False
    time_s = int.from_bytes(said[:TIME_BYTES], "big")
    return is_signed(key.public_key, said[TIME_BYTES:], _cosigned(text, time_s))


def _line(key: VKey, signature: bytes) -> str:
    return f"{_DASH}{key.name} {base64.b64encode(key.key_id + signature).decode()}"


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()
