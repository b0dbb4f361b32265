"""What the kernel says of NVSwitches: their errors (SXids) reach nobody through NVML.

Reads the kernel's log, which gives a record at each read and never waits; a file or a pipe of the
same lines does as well. Only what is said from the first look on counts: what was said before may
have been mended since.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from agent.node.collectors.readings import XidEvent

READ_BYTES = 8192  # The kernel's own limit of a record.
READS_MAX = 512  # In one look; what is left is read in the next.
EVENTS_MAX = 256
_SXID = re.compile(rb"SXid \((?:PCI:)?([0-9a-fA-F:.]{7,16})\): (\d{5})\b")


class KernelLog:
    """One reader. Where there is nothing to be read it says nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._rest = b""

    def read(self, now_ms: int) -> tuple[XidEvent, ...]:
        """The switches' errors since the last look, at most EVENTS_MAX. `now_ms` is UTC."""
        text = self._rest + b"".join(self._records())
        whole, newline, self._rest = text.rpartition(b"\n")
        self._rest = self._rest[-READ_BYTES:]
        found = _SXID.findall(whole + newline)[:EVENTS_MAX]
        return tuple(
            XidEvent(f"nvswitch {address.decode().lower()}", int(number), now_ms)
            for address, number in found
        )

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _records(self) -> list[bytes]:
        if self._file is None and not self._open():
            return []
        assert self._file is not None
        records: list[bytes] = []
        for _ in range(READS_MAX):
            try:
                record = os.read(self._file, READ_BYTES)
            except BrokenPipeError:  # Records were overwritten before we came: on with the next.
                continue
            except OSError:  # There is no more now.
                break
            if not record:
                break
            records.append(record)
        return records

    def _open(self) -> bool:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        with contextlib.suppress(OSError):  # A pipe has no end to go to.
            os.lseek(self._file, 0, os.SEEK_END)
        return True
