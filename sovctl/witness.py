"""A witness of the audit log: remembers the last head it saw, and signs only what continues it.

Whoever runs one, a tenant above all, makes it impossible for the control plane's operator to show
another history to somebody else and this one here. C2SP's tlog-cosignature says what its signature
means: of this log, this is the largest head that it has seen, and every earlier one was consistent.

A directory holds the witness's key (0600), its name, the log that it watches, and the head it saw
last. What contradicts that head is kept beside it, as proof, and nothing is signed from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sovctl import verify
from sovctl.errors import ConfigError, SovError
from sovctl.verify import NotVerified, Trust
from sovshared import notes, signing
from sovshared.notes import COSIGNATURE, Checkpoint, Note, NoteInvalid, VKey
from sovshared.pki import PkiInvalid, write_private
from sovshared.signing import Signer

KEY_FILE = "witness.pem"
NAME_FILE = "name"
LOG_FILE = "log"
HEAD_FILE = "head"
FORK_FILE = "FORKED"
SMALL_FILE_BYTES_MAX = notes.NOTE_BYTES_MAX


class LogForked(SovError):
    """The log shows a history that contradicts one it has signed before. Tell others."""

    default_reason = "LOG_FORKED"


@dataclass(frozen=True, slots=True)
class Seen:
    """A head that the log has signed: the note as it came, and what it says."""

    note: Note
    head: Checkpoint


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness with its directory."""

    directory: Path
    key: VKey
    signer: Signer

    def log(self) -> VKey | None:
        """The log that is watched; None before the first look."""
        text = _read(self.directory / LOG_FILE)
        return None if text is None else notes.parse_vkey(text.decode().strip())

    def watch(self, log: VKey) -> None:
        """From now on this log is watched, and no other."""
        write_private(self.directory / LOG_FILE, f"{log}\n".encode())

    def last(self) -> Checkpoint | None:
        """The newest head that was seen."""
        note = _read(self.directory / HEAD_FILE)
        return None if note is None else notes.checkpoint_of(notes.parse(note).text)

    def open(self, signed_note: bytes) -> Seen:
        """A head of the watched log; raises `LogForked` when the log has not signed it."""
        log = self.log()
        assert log is not None, "a witness watches a log"
        try:
            note = notes.parse(signed_note)
            head = notes.checkpoint_of(note.text)
        except NoteInvalid as error:
            raise LogForked(f"the log shows no checkpoint: {error}") from error
        signed = any(notes.signs(log, note.text, line) for line in note.lines)
        if head.origin != log.name or not signed:
            raise LogForked(f"the head of {head.origin!r} is not signed by {log.name}, {log}")
        return Seen(note, head)

    def cosign(self, seen: Seen, path: Sequence[bytes], now_s: int) -> bytes:
        """The note with our line, if it continues what was seen last; `path` is the log's proof.

        The head is remembered before anything is signed, so that a crash never lets two
        contradicting heads be signed. Raises `LogForked`, and does so ever after.
        """
        if (self.directory / FORK_FILE).exists():
            raise LogForked(f"this log has forked before: the proof is in {self.directory}")
        last, head = self.last(), seen.head
        if last is not None:
            held = (last.size, last.root, head.size, head.root)
            if not verify.is_consistent(*held, path):
                self._accuse(seen)
        write_private(self.directory / HEAD_FILE, seen.note.encode())
        line = notes.cosignature_line(self.key, self.signer, seen.note.text, now_s)
        own = tuple(each for each in seen.note.lines if not _is_by(self.key, each))
        return Note(seen.note.text, (*own, line)).encode()

    def _accuse(self, seen: Seen) -> None:
        write_private(self.directory / FORK_FILE, seen.note.encode())
        last = self.last()
        assert last is not None, "only what was seen can be contradicted"
        raise LogForked(
            f"FORK: {seen.head.origin} signed {last.size} leaves with root {last.root.hex()}, and"
            f" now signs {seen.head.size} with root {seen.head.root.hex()}, which do not continue"
            f" them; both notes are in {self.directory}"
        )


def keep(directory: Path, name: str = "") -> Witness:
    """The witness of a directory, made if there is none; `name` is needed then, and unique.

    Raises `ConfigError`.
    """
    try:
        stored = _read(directory / NAME_FILE)
        known = "" if stored is None else stored.decode().strip()
        if known and name not in ("", known):
            raise ConfigError(f"name: found {name!r}, but {directory} is the witness {known}")
        if not (known or name):
            raise ConfigError(f"name: found none, and there is no witness in {directory} yet")
        signer = signing.kept_in(directory / KEY_FILE)
        key = notes.vkey(known or name, COSIGNATURE, signer.public_key)
        if not known:
            write_private(directory / NAME_FILE, f"{name}\n".encode())
    except (NoteInvalid, PkiInvalid, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the witness cannot be used: {error}") from error
    return Witness(directory, key, signer)


def log_of(trust: bytes) -> VKey:
    """The one log of a trust file; raises `ConfigError`."""
    try:
        found: Trust = verify.parse_trust(trust)
    except NotVerified as error:
        raise ConfigError(str(error)) from error
    keys = [key for listed in found.logs.values() for key in listed]
    if len(keys) != 1:
        raise ConfigError(f"trust: found {len(keys)} logs, allowed one for a witness")
    return notes.vkey(keys[0].name, notes.ED25519, keys[0].public)


def _is_by(key: VKey, line: str) -> bool:
    return line.split(" ")[1:2] == [key.name]


def _read(path: Path) -> bytes | None:
    if not path.exists():
        return None
    with path.open("rb") as file:
        content = file.read(SMALL_FILE_BYTES_MAX + 1)
    if len(content) > SMALL_FILE_BYTES_MAX:
        raise ConfigError(f"{path}: larger than {SMALL_FILE_BYTES_MAX} bytes")
    return content
