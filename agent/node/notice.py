"""Tells when the ranks of a spool start, end or go, by inotify: nothing runs while nothing happens,
and little while something starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path

from agent.node.clock import SETTLED_S

IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_Q_OVERFLOW, IN_IGNORED, IN_ONLYDIR, IN_ISDIR = 0x4000, 0x8000, 0x1000000, 0x40000000
EVENTS_BYTES_MAX = 64 * 1024
DOTS_OF_KEY = 2
"""In the name of a rank's directory; nothing else in a spool has them."""
_EVENT = struct.Struct("iIII")  # Watch, mask, cookie, length of the name that follows.
_libc = ctypes.CDLL(None, use_errno=True)


class Word(IntEnum):
    """What one look at the kernel's events came to; the greater says more."""

    NOTHING = 0
    COMES = 1
    STARTED = 2
    CHANGED = 3


TELLING = {b"started.json": Word.STARTED, b"exit.json": Word.CHANGED}


class SpoolNotice:
    """Calls `changed` on the running loop when a rank's directory went, or came with the record of
    a start or an end in it, and when one of these was made in one that is there. Several changes
    may be one call.

    A start is told SETTLED_S after it; from when its rank's directory came, nothing is listened to
    for as long, for a start writes much.

    A directory that cannot be watched, the kernel limits how many, is not told of.
    """

    def __init__(self, spool: Path, changed: Callable[[], object]) -> None:
        self._spool = os.fsencode(spool)
        self._changed = changed
        self._settling: asyncio.TimerHandle | None = None
        self._homes: dict[int, bytes] = {}
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        _refuse_failure(self._fd, spool)
        try:
            wanted = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ONLYDIR
            self._root = _libc.inotify_add_watch(self._fd, self._spool, wanted)
            _refuse_failure(self._root, spool)
            self._watch_all()
            asyncio.get_running_loop().add_reader(self._fd, self._listen)
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """No more calls."""
        if self._settling is not None:
            self._settling.cancel()
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _listen(self) -> None:
        heard = self._heard()
        if heard is Word.CHANGED:
            self._changed()
        elif heard is not Word.NOTHING:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            self._settling = loop.call_later(SETTLED_S, self._settled, heard)

    def _settled(self, heard: Word) -> None:
        """What began has had its time; `heard` is what was known of it then."""
        self._settling = None
        asyncio.get_running_loop().add_reader(self._fd, self._listen)
        if max(heard, self._heard()) > Word.COMES:
            self._changed()

    def _heard(self) -> Word:
        """What the kernel has to tell, taken together."""
        told = b""
        with contextlib.suppress(BlockingIOError):
            told = os.read(self._fd, EVENTS_BYTES_MAX)
        return max((self._hear(*event) for event in _events(told)), default=Word.NOTHING)

    def _hear(self, watch: int, mask: int, name: bytes) -> Word:
        """Take in one event; what is to be told of it."""
        if mask & IN_Q_OVERFLOW:
            self._watch_all()
            return Word.CHANGED
        if mask & IN_IGNORED:
            self._homes.pop(watch, None)
            return Word.NOTHING
        if watch != self._root:
            return TELLING.get(name, Word.NOTHING)
        if mask & (IN_CREATE | IN_MOVED_TO):
            return self._watch(name) if mask & IN_ISDIR else Word.NOTHING
        self._unwatch(name)
        return Word.CHANGED

    def _watch_all(self) -> None:
        for name in os.listdir(self._spool):
            self._watch(name)

    def _watch(self, name: bytes) -> Word:
        """Watch a rank's directory; what it holds already that is to be told."""
        if name.count(b".") != DOTS_OF_KEY:
            return Word.NOTHING
        path, wanted = os.path.join(self._spool, name), IN_MOVED_TO | IN_CREATE | IN_ONLYDIR
        watch = _libc.inotify_add_watch(self._fd, path, wanted)
        if watch >= 0:
            self._homes[watch] = name
        there = (each for each in TELLING if os.path.lexists(os.path.join(path, each)))
        return max((TELLING[each] for each in there), default=Word.COMES)

    def _unwatch(self, name: bytes) -> None:
        for watch in [watch for watch, home in self._homes.items() if home == name]:
            _libc.inotify_rm_watch(self._fd, watch)
            del self._homes[watch]


def _events(told: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Watch, mask and name of each event."""
    at = 0
    while at < len(told):
        watch, mask, _, length = _EVENT.unpack_from(told, at)
        at += _EVENT.size
        yield watch, mask, told[at : at + length].rstrip(b"\0")
        at += length


def _refuse_failure(result: int, directory: Path) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(directory))
