"""The site's store of checkpoints: a directory that every node of the site has mounted.

    ROOT/<job id>/<node rank>/<modified, ns>-<digest of the name>.tar      or .sealed

While a rank runs, its node agent puts each whole checkpoint there that it finds; when an attempt
starts on a node that lacks them, its executor puts them back. The newest are kept. For a job whose
tenant holds a key they are sealed before they leave the node, for a public key whose secret no node
has without a grant.

The files are a tenant's and we are root: no link is followed, nothing but plain files and folders
is taken, and what comes back is unpacked beside its place and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from agent.node.data_store import FOLDERS_DEEP_MAX, PLAINLY, has_room
from agent.node.rank_record import sync_folder
from agent.node.unpacking import BundleInvalid, unpack
from sovshared import sealing
from sovshared.checkpoint_keys import CheckpointOpener, CheckpointSealer
from sovshared.sealing import SealInvalid

KEPT_MAX = 2
"""Checkpoints of a job on a node, the newest: one may turn out to be unreadable."""
ENTRIES_MAX = 4_096
"""Entries of a checkpoint directory that are looked at."""
CHECKPOINT_BYTES_MAX = 256 * 1024 * 1024 * 1024

_STORED = re.compile(r"([0-9]{20})-([0-9a-f]{32})\.(tar|sealed)")


class CheckpointUnreadable(Exception):
    """What the store has cannot be put back; the message says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A whole checkpoint in a job's directory."""

    name: str
    modified_ns: int

    def stored(self, *, sealed: bool) -> str:
        """What it is called in the store: the name itself says nothing there."""
        kind = "sealed" if sealed else "tar"
        return f"{self.modified_ns:020d}-{_digest(self.name)}.{kind}"


class CheckpointShelf:
    """What the store at `root` has of one job's node."""

    def __init__(self, root: Path, job_id: str, node_rank: int) -> None:
        self._folder = root / job_id / str(node_rank)
        self._about = f"{job_id}/{node_rank}"

    def keep(self, source: Path, sealer: CheckpointSealer | None) -> int:
        """Takes in the newest checkpoints of `source` that are not here; how many those were.

        Raises OSError where the store cannot take them. One that changes meanwhile is left for the
        next time.
        """
        newest = found_in(source)[-KEPT_MAX:]
        names = {each.stored(sealed=sealer is not None): each for each in newest}
        taken = 0
        for name, each in sorted(names.items()):
            if not (self._folder / name).exists():
                taken += self._take(source, each, name, sealer)
        if taken:
            self._forget(set(names))
        return taken

    def restore(self, target: Path, uid: int | None, opener: CheckpointOpener | None) -> int:
        """Puts back what `target` lacks or has older, for the user `uid`; how many. Its parent is
        ours alone, so nobody meddles with what is being unpacked there. Raises
        CheckpointUnreadable."""
        if not self._lacking(target):
            return 0
        with _locked(target.parent):
            lacking = self._lacking(target)
            for stored, modified_ns in lacking:
                self._put_back(self._folder / stored, target, modified_ns, uid, opener)
        return len(lacking)

    def _lacking(self, target: Path) -> list[tuple[str, int]]:
        """What is stored and `target` lacks or has older, with its time, the oldest first."""
        have = {_digest(each.name): each.modified_ns for each in found_in(target)}
        lacking: list[tuple[str, int]] = []
        for stored in self._stored():
            match = _STORED.fullmatch(stored)
            assert match is not None, "only such are listed"
            if have.get(match[2], -1) < int(match[1]):
                lacking.append((stored, int(match[1])))
        return lacking

    def _stored(self) -> list[str]:
        """Names of what is here, the oldest first."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(filter(_STORED.fullmatch, os.listdir(self._folder)))
        return []

    def _take(self, source: Path, found: Found, name: str, sealer: CheckpointSealer | None) -> bool:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._folder / f".{name}.part"
        try:
            with part.open("wb") as file:
                if sealer is None:
                    _pack(source, found.name, file, self._folder)
                else:
                    with tempfile.TemporaryFile(dir=source.parent) as plain:
                        _pack(source, found.name, plain, self._folder)
                        plain.seek(0)
                        sealing.seal(plain, file, sealer, sealing.CHECKPOINT, self._about)
                file.flush()
                os.fsync(file.fileno())
            if found not in found_in(source):
                return False
            part.rename(self._folder / name)
            sync_folder(self._folder)
        finally:
            part.unlink(missing_ok=True)
        return True

    def _forget(self, newest: set[str]) -> None:
        for stored in self._stored()[:-KEPT_MAX]:
            if stored not in newest:
                (self._folder / stored).unlink(missing_ok=True)

    def _put_back(
        self,
        stored: Path,
        target: Path,
        modified_ns: int,
        uid: int | None,
        opener: CheckpointOpener | None,
    ) -> None:
        room = Path(tempfile.mkdtemp(prefix=".restore-", dir=target.parent))
        try:
            with stored.open("rb") as file, self._plain(file, target, opener) as plain:
                unpack(plain, room, bytes_max=CHECKPOINT_BYTES_MAX)
            if uid is not None:
                give(room, uid)
            for entry in sorted(room.iterdir()):
                os.utime(entry, ns=(modified_ns, modified_ns))
                place = target / entry.name
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                entry.rename(place)
        except (BundleInvalid, SealInvalid) as error:
            raise CheckpointUnreadable(f"checkpoint {stored.name}: {error}") from error
        finally:
            shutil.rmtree(room, ignore_errors=True)

    @contextlib.contextmanager
    def _plain(
        self, file: IO[bytes], target: Path, opener: CheckpointOpener | None
    ) -> Generator[IO[bytes]]:
        """A stored checkpoint, opened; its name in the header is this job's and node rank's."""
        sealed = sealing.is_sealed(file.read(sealing.HEAD_BYTES))
        file.seek(0)
        if sealed != (opener is not None):
            raise SealInvalid("it is sealed and should not be, or should be and is not")
        if opener is None:
            yield file
            return
        header = sealing.read_header(file)
        if (header.purpose, header.name) != (sealing.CHECKPOINT, self._about):
            raise SealInvalid("it is another job's, or another node's of it")
        data_key = opener.unwrap(header)
        with tempfile.TemporaryFile(dir=target.parent) as plain:
            for chunk in sealing.unseal(file, header, data_key):
                plain.write(chunk)
            plain.seek(0)
            yield plain


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    """While nobody else who asks for it puts anything back below a folder that is ours."""
    handle = os.open(folder, PLAINLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def give(folder: Path, uid: int) -> None:
    """Hands a folder, and all in it, to a user; nobody else may reach it meanwhile."""
    for place, folders, files in os.walk(folder):
        for name in ("", *folders, *files):
            os.chown(os.path.join(place, name), uid, uid, follow_symlinks=False)


def found_in(folder: Path | str) -> list[Found]:
    """The whole checkpoints right inside a folder, the oldest first; links are none."""
    found: list[Found] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in islice(entries, ENTRIES_MAX):
            with contextlib.suppress(FileNotFoundError, UnicodeEncodeError):
                entry.name.encode()
                if not entry.name.startswith(".") and not entry.is_symlink():
                    at_ns = entry.stat(follow_symlinks=False).st_mtime_ns
                    found.append(Found(entry.name, at_ns))
    return sorted(found, key=lambda each: (each.modified_ns, each.name))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _pack(source: Path, name: str, target: IO[bytes], store: Path) -> None:
    """A tar of one entry of `source`."""
    folder = os.open(source, PLAINLY | os.O_DIRECTORY)
    try:
        with tarfile.open(fileobj=target, mode="w") as archive:
            _add(archive, folder, name, name, store)
    except tarfile.TarError as error:
        raise OSError(errno.EIO, f"checkpoint {name!r}: {error}") from error
    finally:
        os.close(folder)


def _add(archive: tarfile.TarFile, folder: int, name: str, path: str, store: Path) -> None:
    """Adds an entry of an open folder and all below it; what is no plain file is left out."""
    try:
        entry = os.open(name, PLAINLY, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return
        raise
    try:
        found = os.fstat(entry)
        told = tarfile.TarInfo(path)
        told.mtime, told.mode = int(found.st_mtime), stat.S_IMODE(found.st_mode)
        if stat.S_ISDIR(found.st_mode) and path.count("/") < FOLDERS_DEEP_MAX:
            told.type = tarfile.DIRTYPE
            archive.addfile(told)
            for below in sorted(os.listdir(entry)):
                _add(archive, entry, below, f"{path}/{below}", store)
        elif stat.S_ISREG(found.st_mode):
            if not has_room(store, found.st_size):
                raise OSError(errno.ENOSPC, "the site's store of checkpoints is full")
            told.size = found.st_size
            with open(entry, "rb", closefd=False) as file:
                archive.addfile(told, file)
    finally:
        os.close(entry)
