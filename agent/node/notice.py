"""Tells when a directory's entries change, by inotify: nothing runs while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path

IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
EVENTS_BYTES_MAX = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryNotice:
    """Calls `changed` on the running loop after entries were made, moved or removed. Several
    changes may be one call.
    """

    def __init__(self, directory: Path, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        _refuse_failure(self._fd, directory)
        wanted = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
        try:
            _refuse_failure(
                _libc.inotify_add_watch(self._fd, os.fsencode(directory), wanted), directory
            )
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """No more calls."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _read(self) -> None:
        # What changed is not asked: whoever is told looks at everything.
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, EVENTS_BYTES_MAX)
        self._changed()


def _refuse_failure(result: int, directory: Path) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(directory))
