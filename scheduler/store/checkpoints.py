"""Signed heads of the log, and what witnesses have put under them.

What is kept is bounded: the newest heads, and the newest of those that a witness has cosigned.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Select, select

from scheduler.store.bulk import How, Statement, inserting
from scheduler.store.link import Link
from scheduler.store.schema_evidence import CHECKPOINTS, COSIGNATURES
from scheduler.store.scratch import Scratch

PLAIN_MAX = 1_000
"""Checkpoints without a cosignature that are kept."""
COSIGNED_MAX = 10_000
CANDIDATES_MAX = 20
"""Cosigned checkpoints that are looked at for the one with the most witnesses."""


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A head as the log signed it, and the lines of witnesses in the order of their names."""

    size: int
    note: bytes
    at_ms: int
    lines: tuple[bytes, ...] = ()

    def whole(self) -> bytes:
        """The note with every signature."""
        return self.note + b"".join(line + b"\n" for line in self.lines)


class CheckpointsReader:
    """Reads checkpoints."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def newest(self) -> StoredCheckpoint | None:
        """The newest there is."""
        return self._first(select(CHECKPOINTS).order_by(CHECKPOINTS.c.size.desc()).limit(1))

    def at(self, size: int) -> StoredCheckpoint | None:
        """That of the log when it had `size` leaves."""
        return self._first(select(CHECKPOINTS).where(CHECKPOINTS.c.size == size))

    def covering(self, index: int) -> StoredCheckpoint | None:
        """One that has leaf `index`: with the most cosignatures, of the newest; None: none yet."""
        has_leaf = CHECKPOINTS.c.size > index
        query = select(CHECKPOINTS).where(has_leaf).order_by(CHECKPOINTS.c.size.desc())
        cosigned = self._all(query.where(CHECKPOINTS.c.cosigned).limit(CANDIDATES_MAX))
        best = max(cosigned, key=lambda each: (len(each.lines), each.size), default=None)
        return best or self._first(query.limit(1))

    def _first(self, query: Select[*tuple[object, ...]]) -> StoredCheckpoint | None:
        return next(iter(self._all(query)), None)

    def _all(self, query: Select[*tuple[object, ...]]) -> list[StoredCheckpoint]:
        rows = self._link.execute(query).all()
        sizes = [row.size for row in rows]
        lines: dict[int, list[bytes]] = {size: [] for size in sizes}
        found = select(COSIGNATURES).where(COSIGNATURES.c.size.in_(sizes))
        for row in self._link.execute(found.order_by(COSIGNATURES.c.witness)) if sizes else ():
            lines[row.size].append(bytes(row.line))
        return [
            StoredCheckpoint(row.size, bytes(row.note), row.at_ms, tuple(lines[row.size]))
            for row in rows
        ]


_ADD = inserting(CHECKPOINTS, How.ABSENT)
_COSIGN = inserting(COSIGNATURES, How.REPLACE)
_MARK = Statement(CHECKPOINTS, "UPDATE checkpoints SET cosigned = TRUE WHERE size = ?")
_OF = "SELECT size FROM checkpoints WHERE cosigned = ? ORDER BY size DESC LIMIT 1 OFFSET ?"
_TRIM = Statement(CHECKPOINTS, f"DELETE FROM checkpoints WHERE cosigned = ? AND size <= ({_OF})")
_TRIM_LINES = Statement(
    COSIGNATURES,
    "DELETE FROM cosignatures WHERE size NOT IN (SELECT size FROM checkpoints WHERE cosigned)",
)


class CheckpointsWriter(CheckpointsReader):
    """Adds checkpoints and cosignatures."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)

    def add(self, size: int, note: bytes, at_ms: int) -> None:
        """The log has signed its head of `size` leaves; the oldest such heads go."""
        self._link.do(_ADD, (size, note, at_ms, False))
        self._link.do(_TRIM, (False, False, PLAIN_MAX))

    def cosign(self, size: int, witness: str, line: bytes) -> None:
        """A witness has cosigned that head; its line before, if there was one, goes."""
        self._link.do(_COSIGN, (size, witness, line))
        self._link.do(_MARK, (size,))
        self._link.do(_TRIM, (True, True, COSIGNED_MAX))
        self._link.do(_TRIM_LINES, ())
