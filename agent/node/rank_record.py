"""What a shim writes down: that its rank started, how it ended, and what it said.

The working directory is the rank's spool directory. Standard library only, as all the shim loads.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from typing import Any

from agent.node.clock import start_ticks, wall_ms
from agent.node.log_times import LogTimes

LOG_LIMIT_BYTES = 64 * 1024 * 1024  # The log keeps this much of the beginning ...
LOG_TAIL_BYTES = 256 * 1024  # ... and, once over it, this much of the end.
RECORD_BYTES = 2048  # Reserved at the start, so that a full disk cannot cost the exit record.
RECORD_RETRY_S = 1.0


def sync_folder(path: str | os.PathLike[str] = ".") -> None:
    """Make the names in a folder durable; the rank's own is our working directory."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Room:
    """Where the record of a start is written: a file of blanks that reads as no record.

    One that was made `ahead`, name and blanks durable while nobody waited, takes the record with
    one write in place. It keeps a name of its own beside the rank's, which is durable before the
    rank's is: `claims.py` finds it by that after the node went down.
    """

    def __init__(self, path: str, *, ahead: bool) -> None:
        self._path, self._ahead = path, ahead
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        if ahead:
            self._make_durable()

    def _make_durable(self) -> None:
        try:
            os.write(self._file, b" " * RECORD_BYTES)
            os.fsync(self._file)
            sync_folder(os.path.dirname(self._path))
        except OSError:  # A full disk, say: no half of a room stays there.
            self.leave()
            raise

    def stands(self) -> bool:
        """Whether its name still leads to it: a spool may have been moved to another disk since."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except OSError:
            return False

    def put(self, doc: dict[str, Any], name: str) -> bool:
        """Make `doc` the document `name`, durably; False if there is one."""
        body = json.dumps(doc).encode().ljust(RECORD_BYTES)
        os.pwrite(self._file, body, 0)
        try:
            os.link(self._path, name)
        except FileExistsError:
            return False
        if self._ahead:
            os.fdatasync(self._file)
        else:
            os.fsync(self._file)  # After its naming: most file systems then write both at once.
            sync_folder()
        return True

    def leave(self) -> None:
        """Give the own name up, and what is open."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


def room_ahead(folder: str) -> Room | None:
    """A room in the spool's folder of them, named after this process; none if there is no space."""
    name = f"{os.getpid()}.{start_ticks(os.getpid())}"
    try:
        return Room(os.path.join(folder, name), ahead=True)
    except OSError:
        return None


def claim_start(doc: dict[str, Any], room: Room | None = None) -> bool:
    """Make started.json: whole, durable, and only if nobody gave the key up by making it first.

    It may be seen a moment before it is durable: nothing runs before that. Without a `room` made
    ahead, that still stands, every name in the rank's folder becomes durable with it.
    """
    if room is not None and room.stands():
        return room.put(doc, "started.json")
    with contextlib.suppress(FileNotFoundError):
        os.unlink("started.tmp")
    fresh = Room("started.tmp", ahead=False)
    try:
        return fresh.put(doc, "started.json")
    finally:
        fresh.leave()


def reserve_record() -> None:
    """Take the room of the exit record now: blank, it reads as 'no record'.

    Room is all: that it is there for good is seen to with the record.
    """
    with open("exit.durable", "wb", 0) as file:
        os.posix_fallocate(file.fileno(), 0, RECORD_BYTES)


def write_outputs(taken: list[dict[str, Any]]) -> None:
    """Write down, durably and before the exit record speaks of them, what is in the store now."""
    with open("outputs.tmp", "w", encoding="utf-8") as file:
        json.dump({"outputs": taken}, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename("outputs.tmp", "outputs.json")
    sync_folder()


def record_end(doc: dict[str, Any]) -> None:
    """Write the exit record over its reserved room and only then make it visible. Given up only
    when there is no folder any more to write it in.

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
            if os.stat(".").st_nlink == 0:
                return  # The rank's folder was deleted: nothing can ever be written there again.
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
        self._size = os.fstat(self._file).st_size
        self._room -= self._size
        self._times = LogTimes(self._size, wall_ms())

    def add(self, chunk: bytes) -> None:
        """Keep what the rank wrote, as far as there is room."""
        if self._open:
            self._times.note(self._size, wall_ms())
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
            self._times.note(self._size, wall_ms())
            kept = b"".join(self._tail)[-LOG_TAIL_BYTES:]
            self._dropped += self._tail_bytes - len(kept)
            self._write(f"\n[sov: {self._dropped} bytes are missing here]\n".encode() + kept)
        self._times.close()
        os.close(self._file)

    def _write(self, chunk: bytes) -> int:
        done = 0
        while done < len(chunk):
            try:
                done += os.write(self._file, chunk[done:])
            except OSError:
                break
        self._size += done
        return done
