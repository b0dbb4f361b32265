"""The log's signed heads: made by itself while the log grows, and at once where one is needed.

The origin of the log is its key's name, `TRUST_DOMAIN/log`; a log that is begun anew elsewhere has
another key. Witnesses are those of a file that an operator writes, in the words of C2SP's
tlog-policy (`witness`, `group`, `quorum`); it is read each time, so that one may be added.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scheduler.model.reasons import Denial, Reason, Refused, invalid
from scheduler.runtime.writer import Writer
from scheduler.store.checkpoints import StoredCheckpoint
from scheduler.store.store import Txn
from sovshared import notes
from sovshared.notes import COSIGNATURE, ED25519, Checkpoint, Note, NoteInvalid, VKey
from sovshared.pki import PkiInvalid
from sovshared.signing import Signer

EVERY_MS = 5_000
"""While the log grows its head is signed this often."""
WITNESSES_BYTES_MAX = 64 * 1024
NO_QUORUM = "quorum none\n"


@dataclass(frozen=True, slots=True)
class LogKey:
    """Who signs heads, under which name."""

    key: VKey
    signer: Signer

    def note(self, size: int, root: bytes) -> bytes:
        """The signed head of a log."""
        text = Checkpoint(self.key.name, size, root).text()
        return Note(text, (notes.signature_line(self.key, self.signer, text),)).encode()


def log_key(trust_domain: str, signer: Signer) -> LogKey:
    """The key of a control plane's log."""
    return LogKey(notes.vkey(f"{trust_domain}/log", ED25519, signer.public_key), signer)


def newest(txn: Txn, log: LogKey, now_ms: int) -> StoredCheckpoint:
    """The head of the log as it is committed, signed now unless it was before."""
    peaks = txn.audit.peaks()
    found = txn.checkpoints.newest()
    if found is not None and found.size == peaks.size:
        return found
    note = log.note(peaks.size, peaks.root())
    txn.checkpoints.add(peaks.size, note, now_ms)
    return StoredCheckpoint(peaks.size, note, now_ms)


async def sign_forever(
    writer: Writer, log: LogKey, now_ms: Callable[[], int], remember: Callable[[bytes], None]
) -> None:
    """Signs the head of a log that grows, and has each remembered."""
    while True:
        try:
            signed = await writer.write_own(lambda txn: newest(txn, log, now_ms()))
            await asyncio.to_thread(remember, signed.note)
        except Refused as refused:
            if refused.reason is not Reason.UNAVAILABLE:
                raise
        await asyncio.sleep(EVERY_MS / 1000)


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who may cosign: `policy` is the file's text, `keys` are by the names it gives them."""

    policy: str
    keys: dict[str, VKey]


def read_witnesses(path: Path) -> Witnesses:
    """The witnesses of a file, none if it is not there; raises `PkiInvalid`, naming the line."""
    if not path.exists():
        return Witnesses(NO_QUORUM, {})
    content = path.read_bytes()
    if len(content) > WITNESSES_BYTES_MAX:
        raise PkiInvalid(f"{path}: larger than {WITNESSES_BYTES_MAX} bytes")
    keys: dict[str, VKey] = {}
    quorums = 0
    text = content.decode(errors="replace").rstrip("\n") + "\n"
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if words[:1] == ["quorum"]:
            quorums += 1
        if words[:1] != ["witness"]:
            continue
        try:
            key = notes.parse_vkey(words[2] if len(words) > 2 else "")
        except NoteInvalid as error:
            raise PkiInvalid(f"{path}, line {number}: {error}") from error
        if key.kind != COSIGNATURE:
            raise PkiInvalid(f"{path}, line {number}: {words[1]}: found a key that cosigns nothing")
        keys[words[1]] = key
    if quorums != 1:
        raise PkiInvalid(f"{path}: found {quorums} lines `quorum`, allowed one")
    return Witnesses(text, keys)


def cosign(txn: Txn, log: LogKey, witnesses: Witnesses, signed: Note) -> None:
    """Keeps the cosignatures of `signed`; refuses what is no head of this log, and strangers."""
    try:
        head = notes.checkpoint_of(signed.text)
    except NoteInvalid as error:
        raise _fault(str(error)) from error
    stored = txn.checkpoints.at(head.size)
    if stored is None or notes.parse(stored.note).text != signed.text:
        raise _fault(f"found size {head.size} of {head.origin}, allowed a checkpoint of this log")
    taken = 0
    for line in signed.lines:
        if notes.signs(log.key, signed.text, line):
            continue
        name = next((n for n, k in witnesses.keys.items() if notes.signs(k, signed.text, line)), "")
        if not name:
            raise _fault(f"found {line[:100]!r}, allowed valid lines of {_known(witnesses)}")
        txn.checkpoints.cosign(head.size, name, line.encode())
        taken += 1
    if not taken:
        raise _fault(f"found no cosignature, allowed those of {_known(witnesses)}")


def _known(witnesses: Witnesses) -> str:
    return ", ".join(sorted(witnesses.keys)) or "witnesses, of which none is configured"


def _fault(detail: str) -> Refused:
    return invalid(Denial(Reason.INVALID_ARGUMENT, detail, "signed_note"))
