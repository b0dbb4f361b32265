"""The site's store of datasets, as a directory that every node of the site has mounted.

    ROOT/<owner's path>/@<name>/<version>/...     what the catalogue calls <owner>/<name>
    ROOT/.incoming/<rank>/...                     what is being taken in

A version never changes once it has its name. What a job leaves is copied to `.incoming`, listed,
made durable, and then gets the digest of its listing for a name: so it is there whole or not at
all, and taking it in twice is harmless. Versions are taken out by whoever runs the store.

The files are a tenant's and we are root: nothing of them is followed, opened as anything but a
plain file or a directory, or believed. Standard library only: the shim loads this.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.node.rank_record import sync_folder

OUTPUT_BYTES_MAX = 64 * 1024 * 1024 * 1024
"""Of all outputs of one attempt."""
OUTPUT_FILES_MAX = 100_000
FOLDERS_DEEP_MAX = 64
FREE_BYTES_MIN = 1024 * 1024 * 1024
"""What a copy leaves free on the store's file system."""
COPY_BYTES = 1024 * 1024

_SEGMENT = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?")
PLAINLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How what a tenant made is opened: no link is followed, and no pipe waited for."""


class StoreError(Exception):
    """The store does not have what was asked for; the message says what."""


class OutputFailed(Exception):
    """What the job was to leave cannot be taken in; the message names it and says why."""


@dataclass(slots=True)
class _Taken:
    """What was copied so far."""

    files: int = 0
    size_bytes: int = 0
    listing: list[tuple[bytes, bytes]] = field(default_factory=lambda: [])
    """Path, and the line about it."""

    def digest(self) -> str:
        """SHA-256 of a line for each file, by path: its digest, its size, its path, NUL."""
        whole = hashlib.sha256()
        for _, line in sorted(self.listing):
            whole.update(line)
        return whole.hexdigest()


class Store:
    """The store at `root`."""

    def __init__(self, root: Path, *, bytes_max: int = OUTPUT_BYTES_MAX) -> None:
        self._root = root
        self._bytes_max = bytes_max

    def place(self, dataset: str, version: str) -> Path:
        """Where a version of a dataset lies, or would."""
        owner, _, name = dataset.rpartition("/")
        parts = [*owner.split("/"), name]
        if not all(map(_SEGMENT.fullmatch, parts)) or not _VERSION.fullmatch(version):
            raise StoreError(f"dataset {dataset[:200]!r}, version {version[:200]!r}: no such names")
        return self._root.joinpath(*parts[:-1], f"@{name}", version)

    def found(self, dataset: str, version: str) -> Path:
        """The directory of a version that is there."""
        place = self.place(dataset, version)
        if not place.is_dir() or place.is_symlink():
            raise StoreError(f"{dataset}: version {version} is not in this site's store")
        return place

    def take(self, key: str, work: str, outputs: list[list[str]]) -> list[dict[str, Any]]:
        """Takes in each dataset of `outputs` from its path under `work`: dataset, digest and size.

        All of them or none: a version that nobody names is no dataset.
        """
        incoming = self._root / ".incoming" / key
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(mode=0o700, parents=True)
        try:
            taken = [
                (name, incoming / str(n), self._copy(work, path, name, incoming / str(n)))
                for n, (name, path) in enumerate(outputs)
            ]
            total = sum(each.size_bytes for _, _, each in taken)
            if total > self._bytes_max:
                raise OutputFailed(f"outputs: {total} bytes, allowed {self._bytes_max}")
            return [self._settle(name, copy, each) for name, copy, each in taken]
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _copy(self, work: str, path: str, name: str, target: Path) -> _Taken:
        taken = _Taken()
        try:
            with opened_below(work, path) as source:
                if stat.S_ISREG(os.fstat(source).st_mode):
                    _make_folder(target)
                    self._copy_file(source, target, os.path.basename(path.rstrip("/")), taken)
                else:
                    self._copy_folder(source, target, "", taken)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            raise OutputFailed(f"output {name}: {path}: {error.strerror}") from error
        except OutputFailed as failed:
            raise OutputFailed(f"output {name}: {failed}") from failed
        return taken

    def _copy_folder(self, source: int, target: Path, below: str, taken: _Taken) -> None:
        if below.count("/") > FOLDERS_DEEP_MAX:
            raise OutputFailed(f"more than {FOLDERS_DEEP_MAX} folders within one another")
        folder = target / below
        _make_folder(folder)
        for name in sorted(os.listdir(source)):
            path = f"{below}{name}"
            try:
                entry = os.open(name, PLAINLY, dir_fd=source)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENXIO):
                    raise OutputFailed(f"{path!r}: allowed plain files and folders") from error
                raise
            try:
                kind = os.fstat(entry).st_mode
                if stat.S_ISDIR(kind):
                    self._copy_folder(entry, target, f"{path}/", taken)
                elif stat.S_ISREG(kind):
                    self._copy_file(entry, target, path, taken)
                else:
                    raise OutputFailed(f"{path!r}: allowed plain files and folders")
            finally:
                os.close(entry)
        sync_folder(folder)

    def _copy_file(self, source: int, target: Path, path: str, taken: _Taken) -> None:
        taken.files += 1
        if taken.files > OUTPUT_FILES_MAX:
            raise OutputFailed(f"more than {OUTPUT_FILES_MAX} files")
        digest, size_bytes = hashlib.sha256(), 0
        with open(target / path, "xb") as copy:
            os.fchmod(copy.fileno(), 0o644)
            while chunk := os.read(source, COPY_BYTES):
                size_bytes += len(chunk)
                if taken.size_bytes + size_bytes > self._bytes_max:
                    raise OutputFailed(f"more than {self._bytes_max} bytes")
                if size_bytes % (64 * COPY_BYTES) <= COPY_BYTES:
                    self._refuse_full()
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        taken.size_bytes += size_bytes
        name = os.fsencode(path)
        line = f"{digest.hexdigest()} {size_bytes} ".encode() + name + b"\0"
        taken.listing.append((name, line))

    def _refuse_full(self) -> None:
        if not has_room(self._root):
            raise OSError(errno.ENOSPC, "the site's store is full")

    def _settle(self, name: str, copy: Path, taken: _Taken) -> dict[str, Any]:
        """Gives a copy its name; what has it already is the same."""
        version = taken.digest()
        place = self.place(name, version)
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not place.is_dir():
            try:
                copy.rename(place)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise  # Else another attempt left the same just now.
        sync_folder(place.parent)
        return {"dataset": name, "digest": f"sha256:{version}", "size_bytes": taken.size_bytes}


def data_of(root: str, spec: Mapping[str, Any]) -> dict[str, object]:
    """What the shim of a rank is told: where its inputs lie and are to be seen, and what the
    attempt's first rank leaves. Raises StoreError where the store at `root` lacks an input."""
    inputs: list[list[str]] = spec["inputs"]
    if not inputs and not spec["outputs"]:
        return {}
    if not root:
        raise StoreError("this node has no store of datasets")
    if inputs and spec["isolation"] == "none":
        raise StoreError("inputs cannot be mounted on a node of isolation none")
    store = Store(Path(root))
    return {
        "inputs": [[str(store.found(name, version)), mount] for name, version, mount in inputs],
        "outputs": spec["outputs"] if spec["rank"] == 0 else [],
        "data_store": root,
    }


def has_room(place: Path | int, size_bytes: int = 0) -> bool:
    """Whether so much more leaves enough free on the file system of a folder, by path or open."""
    free = os.statvfs(place)
    return free.f_bavail * free.f_frsize >= FREE_BYTES_MIN + size_bytes


@contextlib.contextmanager
def opened_below(work: str | Path, path: str) -> Generator[int]:
    """What is at `path` below `work`, no part of which may be a link."""
    here = os.open(work, PLAINLY | os.O_DIRECTORY)
    try:
        for part in filter(None, path.split("/")):
            if part == "..":
                raise OSError(errno.EINVAL, "allowed no '..'")
            below = os.open(part, PLAINLY, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _make_folder(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)  # Whatever the umask: other jobs' users read it.
