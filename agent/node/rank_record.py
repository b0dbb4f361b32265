"""What a shim writes down: that its rank started, how it ended, and what it said.

The working directory is the rank's spool directory. Standard library only, as all the shim loads.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from typing import Any

LOG_LIMIT_BYTES = 64 * 1024 * 1024  # The log keeps this much of the beginning ...
LOG_TAIL_BYTES = 256 * 1024  # ... and, once over it, this much of the end.
RECORD_BYTES = 2048  # Reserved at the start, so that a full disk cannot cost the exit record.
RECORD_RETRY_S = 1.0


def sync_folder() -> None:
    """Make the names in the rank's directory, our working directory, durable."""
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def claim_start(doc: dict[str, Any]) -> bool:
    """Make started.json: whole, durable, and only if nobody gave the key up by making it first.

    It may be seen a moment before it is durable: nothing runs before that. With its name every
    other name in the folder becomes durable: the gate, the reserved record.
    """
    with open("started.tmp", "w", encoding="utf-8") as file:
        json.dump(doc, file)
        file.flush()
        try:
            os.link("started.tmp", "started.json")
        except FileExistsError:
            return False
        finally:
            os.unlink("started.tmp")
        os.fsync(file.fileno())  # After its naming: most file systems then write both at once.
    sync_folder()
    return True


def reserve_record() -> None:
    """Take the room of the exit record now: blank, it reads as 'no record'.

    Room is all: that it is there for good is seen to by `claim_start`, which comes next.
    """
    with open("exit.durable", "wb", 0) as file:
        os.posix_fallocate(file.fileno(), 0, RECORD_BYTES)


def record_end(doc: dict[str, Any]) -> None:
    """Write the exit record over its reserved room and only then make it visible; never give up.

    A reader that finds nobody alive and no exit.json reads exit.durable, so a power cut between the
    two steps loses nothing. If another already recorded the end, that record stands.
    """
    body = (
        json.dumps({**doc, "detail": str(doc.get("detail", ""))[:400]}).encode().ljust(RECORD_BYTES)
    )
    while True:
        try:
            file = os.open("exit.durable", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(file, body, 0)
                os.fsync(file)
            finally:
                os.close(file)
            sync_folder()
            os.link("exit.durable", "exit.json")
            sync_folder()
        except FileExistsError:
            return
        except OSError:
            time.sleep(RECORD_RETRY_S)
        else:
            return


class Log:
    """The rank's output, bounded: the beginning as it comes, the end when it is over.

    A write that fails (disk full) ends the beginning there; the rank never notices.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._room = limit_bytes
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped = 0
        self._open = True
        self._file = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._room -= os.fstat(self._file).st_size

    def add(self, chunk: bytes) -> None:
        """Keep what the rank wrote, as far as there is room."""
        if self._open:
            taken = self._write(chunk[: max(0, self._room)])
            self._room -= taken
            chunk = chunk[taken:]
            if not chunk:
                return
            self._open = False
            self._write(b"\n[sov: the log is full; its end follows when the rank is over]\n")
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= LOG_TAIL_BYTES:
            self._tail_bytes -= len(self._tail[0])
            self._dropped += len(self._tail.popleft())

    def close(self) -> None:
        """Write the kept end, after a line saying how much is missing before it."""
        if self._tail:
            kept = b"".join(self._tail)[-LOG_TAIL_BYTES:]
            self._dropped += self._tail_bytes - len(kept)
            self._write(f"\n[sov: {self._dropped} bytes are missing here]\n".encode() + kept)
        os.close(self._file)

    def _write(self, chunk: bytes) -> int:
        done = 0
        while done < len(chunk):
            try:
                done += os.write(self._file, chunk[done:])
            except OSError:
                break
        return done
