"""Laying the layers of a container image over one another: plain files, folders and links.

A layer may be a stranger's. Every name in it is looked up by the kernel within the tree and never
outside of it, whatever links lie on the way; nothing that is there is ever written to, only
replaced. Devices, sockets, set-user-ID bits, capabilities and owners are dropped: all belongs to
us, and what its owner may read everybody may, for a job's user is none of the image's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import struct
import tarfile
from collections.abc import Generator
from dataclasses import dataclass
from typing import IO, Any, cast

from agent.node.data_store import COPY_BYTES, has_room

TREE_BYTES_MAX = 64 * 1024 * 1024 * 1024
ENTRIES_MAX = 1_000_000
"""Files, folders and links of all layers together, what one layer takes away again included."""
FOLDERS_DEEP_MAX = 128
HEADER_BYTES_MAX = 1024 * 1024  # Of the archive, read at once.
FREE_LOOKED_BYTES = 64 * 1024 * 1024
MODIFIED_S_MAX = 1 << 33
HIDES = ".wh."  # Begins the name of what says that a file of a lower layer is gone.
HIDES_ALL = ".wh..wh..opq"

_OPENAT2, _RESOLVE_IN_ROOT = 437, 0x10  # One number on every architecture.
_SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
_SYSCALL.argtypes = (ctypes.c_long, ctypes.c_int, *(ctypes.c_char_p,) * 2, ctypes.c_size_t)
_SYSCALL.restype = ctypes.c_long
_NODE_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSYS)


class LayerInvalid(Exception):
    """A layer cannot be unpacked; the message says why."""


@dataclass(slots=True)
class Room:
    """What may still be unpacked of an image, into the file system of `folder`."""

    folder: int
    entries: int = ENTRIES_MAX
    size_bytes: int = TREE_BYTES_MAX
    _looked_at: int = 0

    def take(self, size_bytes: int) -> None:
        """So many bytes more."""
        self.size_bytes -= size_bytes
        if self.size_bytes < 0:
            raise LayerInvalid(f"the image unpacks to more than {TREE_BYTES_MAX} bytes")
        self._looked_at -= size_bytes
        if self._looked_at <= 0:
            self._looked_at = FREE_LOOKED_BYTES
            if not has_room(self.folder, FREE_LOOKED_BYTES):
                raise OSError(errno.ENOSPC, "no room is left for images")

    def take_entry(self) -> None:
        """One file, folder or link more."""
        self.entries -= 1
        if self.entries < 0:
            raise LayerInvalid(f"the image has more than {ENTRIES_MAX} files, folders and links")


class Tree:
    """The tree below the folder that is open as `root`."""

    def __init__(self, root: int, room: Room) -> None:
        self._root = root
        self._room = room
        self._above = _depth(root)

    def lay(self, layer: IO[bytes]) -> None:
        """Lays a layer, a tar that can be sought in, over what is there.

        First what it takes away, then what it brings: so it takes away nothing of its own.
        """
        try:
            for step in (self._hide, self._put):
                layer.seek(0)
                with tarfile.TarFile(fileobj=cast("IO[bytes]", _Bounded(layer))) as archive:
                    while (member := archive.next()) is not None:
                        cast("Any", archive).members = []  # Or it remembers them all.
                        step(archive, member)
        except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
            raise LayerInvalid(f"not a tar archive that can be read: {error}"[:500]) from error
        except OSError as error:
            if error.errno in _NODE_TROUBLE:
                raise
            raise LayerInvalid(str(error)[:500]) from error

    def _hide(self, _: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Takes away what the layer says is gone."""
        parts = _parts(member.name)
        if not parts or not parts[-1].startswith(HIDES):
            return
        gone = parts[-1].removeprefix(HIDES)
        if gone in ("", ".", ".."):
            raise LayerInvalid(f"{member.name[:200]!r}: it names nothing")
        try:
            folder = self._open(parts[:-1])
        except (FileNotFoundError, NotADirectoryError):
            return
        with _closing(folder):
            if parts[-1] != HIDES_ALL:
                _remove(gone, folder)
                return
            with os.scandir(f"/proc/self/fd/{folder}") as found:
                names = sorted(entry.name for entry in found)
            for name in names:
                _remove(name, folder)

    def _put(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Makes what the layer brings; the root itself stays as it is."""
        parts = _parts(member.name)
        if not parts or parts[-1].startswith(HIDES):
            return
        if member.size < 0 or member.issparse():
            raise LayerInvalid(f"{member.name[:200]!r}: a file with holes is not unpacked")
        self._room.take_entry()
        with _closing(self._folder(parts[:-1])) as folder:
            name = parts[-1]
            if member.isdir():
                self._put_folder(name, folder, member)
            elif member.isreg():
                self._put_file(archive, name, folder, member)
            elif member.issym():
                _remove(name, folder)
                os.symlink(member.linkname, name, dir_fd=folder)
            elif member.islnk():
                self._put_link(name, folder, member)

    def _put_folder(self, name: str, folder: int, member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                _remove(name, folder)
                os.mkdir(name, 0o700, dir_fd=folder)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        with _closing(os.open(name, flags, dir_fd=folder)) as made:
            os.fchmod(made, _mode(member.mode & 0o1777 | 0o700))

    def _put_file(
        self, archive: tarfile.TarFile, name: str, folder: int, member: tarfile.TarInfo
    ) -> None:
        _remove(name, folder)
        source = archive.extractfile(member)
        assert source is not None, "only what is a file is opened"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(name, flags, 0o600, dir_fd=folder), "wb") as made, source:
            left = member.size
            while left:
                if not (chunk := source.read(min(left, COPY_BYTES))):
                    raise LayerInvalid(f"{member.name[:200]!r}: the archive ends within it")
                self._room.take(len(chunk))
                made.write(chunk)
                left -= len(chunk)
            made.flush()
            os.fchmod(made.fileno(), _mode(member.mode & 0o777 | 0o400))
            modified_s = min(max(int(member.mtime), 0), MODIFIED_S_MAX)
            os.utime(made.fileno(), (modified_s, modified_s))

    def _put_link(self, name: str, folder: int, member: tarfile.TarInfo) -> None:
        """Another name of a file of the tree."""
        target = _parts(member.linkname)
        if not target:
            raise LayerInvalid(f"{member.name[:200]!r}: a link to no file")
        with _closing(self._open(target[:-1])) as beside:
            found = os.lstat(target[-1], dir_fd=beside)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                raise LayerInvalid(f"{member.name[:200]!r}: a link to what is no file")
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(name, dir_fd=folder), found):
                    return
            _remove(name, folder)
            # What was taken away may have been the target, or have held it.
            os.link(target[-1], name, src_dir_fd=beside, dst_dir_fd=folder, follow_symlinks=False)

    def _folder(self, parts: list[str]) -> int:
        """The folder of that path, made if it is not there; open."""
        try:
            return self._open(parts)
        except FileNotFoundError:
            pass
        for length in range(1, len(parts) + 1):
            above = self._open(parts[: length - 1])
            with _closing(above), contextlib.suppress(FileExistsError):
                os.mkdir(parts[length - 1], 0o755, dir_fd=above)
                self._room.take_entry()
        return self._open(parts)

    def _open(self, parts: list[str]) -> int:
        """A folder of the tree, through links that lead nowhere but within it."""
        path = os.fsencode("/".join(parts) or ".")
        if b"\0" in path:
            raise LayerInvalid("a name with a NUL")
        how = struct.pack("QQQ", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
        found = _SYSCALL(_OPENAT2, self._root, path, how, len(how))
        if found < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fsdecode(path)[:200])
        if _depth(found) - self._above > FOLDERS_DEEP_MAX:
            os.close(found)
            raise LayerInvalid(f"more than {FOLDERS_DEEP_MAX} folders within one another")
        return found


class _Bounded:
    """A layer of which little is read at once: what it calls a header is held in memory."""

    def __init__(self, layer: IO[bytes]) -> None:
        self._layer = layer
        self.name = "layer"
        self.mode = "rb"
        self.seek = layer.seek
        self.tell = layer.tell

    def read(self, size: int) -> bytes:
        """Of a size that was said."""
        if not 0 <= size <= HEADER_BYTES_MAX:
            raise LayerInvalid(f"a header of {size} bytes, allowed {HEADER_BYTES_MAX}")
        return self._layer.read(size)


def _parts(name: str) -> list[str]:
    """The path of a member; one that is absolute begins at the tree's root."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LayerInvalid(f"{name[:200]!r}: allowed no '..'")
    if len(parts) > FOLDERS_DEEP_MAX:
        raise LayerInvalid(f"more than {FOLDERS_DEEP_MAX} folders within one another")
    return parts


def _depth(folder: int) -> int:
    return os.readlink(f"/proc/self/fd/{folder}").count("/")


def _mode(mode: int) -> int:
    """With what the owner may read and enter for everybody."""
    return mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6


def _remove(name: str, folder: int) -> None:
    """Takes away what has that name, if there is any."""
    try:
        found = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _closing(descriptor: int) -> Generator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
