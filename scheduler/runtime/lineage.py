"""That a store continues the log which this control plane has signed, and is no older one.

A backup that is put back ends before the log that was signed since. Whoever serves it gives out
numbers that are in the world already: of leaves, of certificates, and of jobs, whose logs may
still lie at sites under the same names. So the newest signed head is kept beside the store, with
the epoch of whoever led. A store that does not continue that head is served on an operator's word
alone; the word is in its log, jobs get numbers far above those that may be lost, and sites a later
epoch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from scheduler.store.store import Txn
from sovshared import notes, pki
from sovshared.notes import Checkpoint, NoteInvalid

HEAD_FILE = "log-head"
JOBS_SKIPPED = 1_000_000_000
"""Numbers that no job gets after a store was put back: more than were ever given out after it."""


class StoreIsOlder(Exception):
    """The store lacks what was signed, and nobody said why; or lacks nothing, and somebody did."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The newest head that was signed, and the epoch of whoever signed it."""

    epoch: int
    head: Checkpoint


class Lineage:
    """What the control plane with this state directory has signed."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / HEAD_FILE
        self._note = b""

    def kept(self) -> Kept | None:
        """What is remembered, None where nothing is yet. Raises `PkiInvalid`, naming the file."""
        if not self._file.exists():
            return None
        try:
            found = json.loads(self._file.read_bytes())
            text = notes.parse(found["checkpoint"].encode()).text
            return Kept(int(found["epoch"]), notes.checkpoint_of(text))
        except (AttributeError, KeyError, TypeError, ValueError, NoteInvalid) as error:
            raise pki.PkiInvalid(f"{self._file}: found no signed head of a log") from error

    def remember(self, epoch: int, note: bytes) -> None:
        """Keeps a head that was signed and committed. May be asked from any one thread."""
        if note != self._note:
            kept = {"checkpoint": note.decode(), "epoch": epoch}
            pki.write_private(self._file, (json.dumps(kept) + "\n").encode())
            self._note = note

    def go_on(self, txn: Txn, word: str, now_ms: int) -> None:
        """Continues with this store; `word` is an operator's, on why it may be older. Raises
        `StoreIsOlder`."""
        kept, size = self.kept(), txn.audit.peaks().size
        if kept is None or _continues(txn, kept.head, size):
            if word:
                found = f"found {word[:80]!r}, though the store has all that was signed"
                raise StoreIsOlder(f"restored: {found}; allowed: nothing")
            return
        head = kept.head
        if not word:
            raise StoreIsOlder(
                f"{self._file.parent}: the store does not continue the log: it has {size} leaves,"
                f" and the head that was signed last has {head.size}. Put the newest store back, or"
                " say with --restored TEXT why it is older"
            )
        txn.jobs.take_id(skipping=JOBS_SKIPPED)
        body = {"word": word, "leaves": size, "signed": head.size, "root": head.root.hex()}
        txn.audit.append("store_restored", now_ms, body)


def _continues(txn: Txn, head: Checkpoint, size: int) -> bool:
    """Whether the log of `size` leaves begins with those of `head`."""
    return head.size <= size and txn.audit.tree().root(head.size) == head.root
