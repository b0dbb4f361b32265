"""When the parts of a rank's log came: what `since` of a log is found by.

A rank writes bytes and no times, so its shim notes, beside the log, when it read them. A *mark* is
an offset and a time (UTC milliseconds of the node's clock): all before the offset was read at that
time or earlier. One is made when a second or more has passed since the one before, so a line is
found to the second. There are never more than `MARKS_MAX`: when they would be, every second one of
the older half goes. So the last hour stays exact to the second, and what is older is found the
coarser the older it is. Whoever asks gets too much then, and never too little.

The shim loads this: standard library only. Marks are not made durable: a node that goes down loses
the last ones, and with them only how exactly the log is found.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

NAME = "log.times"
MARKS_MAX = 8_192
EVERY_MS = 1_000
LINE_BYTES_MAX = 4_096
"""So far back it is looked for the beginning of the line that a stretch begins in."""
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_MARK = struct.Struct(">qq")

Mark: TypeAlias = tuple[int, int]
"""An offset in the log, and when all before it had been read, at the latest."""


class LogTimes:
    """The marks of the log in the working directory, as its one writer makes them."""

    def __init__(self, offset: int, now_ms: int) -> None:
        self._offset = offset
        self._marks: list[Mark] = []
        self._read_ms = self._marked_ms = now_ms
        self._file = -1

    def note(self, offset: int, now_ms: int) -> None:
        """What follows `offset` in the log was read just now. A mark that cannot be written (a full
        disk, say) is left out."""
        if offset > self._offset and not 0 <= now_ms - self._marked_ms < EVERY_MS:
            self._offset = offset
            self._marked_ms = now_ms
            with contextlib.suppress(OSError):
                self._add((offset, self._read_ms))
        self._read_ms = now_ms

    def close(self) -> None:
        """No more will come."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _add(self, mark: Mark) -> None:
        if self._file < 0:
            self._file = os.open(NAME, _FRESH, 0o600)
        if len(self._marks) >= MARKS_MAX:
            self._thin()
        written = os.pwrite(self._file, _MARK.pack(*mark), len(self._marks) * _MARK.size)
        if written == _MARK.size:  # Else the next one is written over it.
            self._marks.append(mark)

    def _thin(self) -> None:
        half = len(self._marks) // 2
        kept = [*self._marks[1:half:2], *self._marks[half:]]
        fresh = f"{NAME}.tmp"
        with os.fdopen(os.open(fresh, _FRESH, 0o600), "wb") as file:
            file.writelines(_MARK.pack(*mark) for mark in kept)
        os.rename(fresh, NAME)
        self.close()
        self._file, self._marks = os.open(NAME, os.O_WRONLY), kept


def marks_of(folder: Path) -> list[Mark]:
    """The marks beside a log, as they were made; none where its rank was over within a second."""
    try:
        with open(folder / NAME, "rb") as file:
            body = file.read(MARKS_MAX * _MARK.size)
    except FileNotFoundError:
        return []
    whole = len(body) - len(body) % _MARK.size
    return [(offset, at_ms) for offset, at_ms in _MARK.iter_unpack(body[:whole])]


def offset_since(log: int, marks: Sequence[Mark], since_ms: int) -> int:
    """Where to begin in the open file `log` so as to miss nothing that was read since then: the
    first byte of a line, unless the line is longer than `LINE_BYTES_MAX`."""
    found = os.fstat(log)
    whole = (found.st_size, found.st_mtime_ns // 1_000_000)
    older = (offset for offset, at_ms in (*marks, whole) if at_ms < since_ms)
    offset = min(max(older, default=0), found.st_size)
    if offset == found.st_size:
        return offset
    first = max(0, offset - LINE_BYTES_MAX)
    before = os.pread(log, offset - first, first)
    line = before.rfind(b"\n") + 1
    return first + line if line or first == 0 else offset
