"""A working directory as one file: the same content always makes the same bytes.

The tar holds directories and regular files under sorted relative paths, with the owner, the times
and all permissions but "executable" left out. A link to a file inside the directory is stored as
that file. Links that leave the directory, links to directories, sockets, pipes and devices are
refused by name: a site could not mean the same by them. Sizes are added up while walking, so a
directory that is too large is refused before anything is read.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from sovctl.errors import BundleError, Denial
from sovctl.ignore import IGNORE_BYTES_MAX, IGNORE_FILE, IgnoreInvalid, Rule, is_ignored, parse
from sovctl.spec_values import format_bytes
from sovshared import limits

FAULTS_MAX = 20
LARGEST_SHOWN = 5
PATH_BYTES_MAX = 1024
DEPTH_MAX = 64
MEMORY_BYTES_MAX = 8 * 1024 * 1024  # A larger bundle is made in a temporary file.
READ_BYTES = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory or file that goes into the bundle. `source` has no links left in it."""

    path: str
    source: Path
    is_directory: bool
    is_executable: bool
    size_bytes: int


class Bundle:
    """A finished tar, named by its digest. Close it, or use it in a `with`."""

    def __init__(self, file: IO[bytes], digest: str, size_bytes: int, entries: int) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        self.entries = entries
        self.file = file

    def chunks(self) -> Iterator[bytes]:
        """The content from its beginning, in pieces that fit a message."""
        self.file.seek(0)
        while chunk := self.file.read(limits.CHUNK_BYTES_MAX):
            yield chunk

    def close(self) -> None:
        """Gives the temporary file back."""
        self.file.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


class _Walk:
    """One walk over a directory: gathers entries and faults, and stops when it is too much."""

    def __init__(self, top: Path, rules: Sequence[Rule]) -> None:
        self.top = top.resolve()
        self.rules = rules
        self.entries: list[Entry] = []
        self.faults: list[Denial] = []
        self.size_bytes = 0
        self.sizes: Counter[str] = Counter()

    def directory(self, source: Path, prefix: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            self._fault(prefix, f"nested deeper than {DEPTH_MAX} directories")
            return
        try:
            with os.scandir(source) as found:
                names = sorted(entry.name for entry in found)
        except OSError as error:
            self._fault(prefix or ".", f"cannot be read: {error.strerror}")
            return
        for name in names:
            self._entry(source / name, f"{prefix}{name}", depth)

    def _entry(self, source: Path, path: str, depth: int) -> None:
        try:
            mode = source.lstat().st_mode
            if is_ignored(self.rules, path, is_directory=stat.S_ISDIR(mode)):
                return
            path.encode()
            if stat.S_ISLNK(mode):
                target = self._target(source, path)
                if target is None:
                    return
                source = target
                mode = source.lstat().st_mode
            size = source.lstat().st_size
        except UnicodeEncodeError:
            self._fault(ascii(path), "name is not UTF-8")
            return
        except OSError as error:
            self._fault(path, f"cannot be read: {error.strerror}")
            return
        if "\\" in path:
            self._fault(path, "has a backslash in its name, which sites refuse")
        elif len(path.encode()) > PATH_BYTES_MAX:
            self._fault(path[:80], f"path is longer than {PATH_BYTES_MAX} bytes")
        elif stat.S_ISDIR(mode):
            self._add(Entry(path, source, True, True, 0))
            self.directory(source, f"{path}/", depth + 1)
        elif stat.S_ISREG(mode):
            self._add(Entry(path, source, False, bool(mode & stat.S_IXUSR), size))
        else:
            self._fault(path, "is a socket, pipe or device; only files and directories are bundled")

    def _target(self, source: Path, path: str) -> Path | None:
        """The file that a link leads to, where it may be bundled in the link's place."""
        try:
            target = source.resolve(strict=True)
        except (OSError, RuntimeError):
            self._fault(path, "is a link to nothing")
            return None
        if not target.is_relative_to(self.top):
            self._fault(path, f"is a link that leaves the directory: {os.readlink(source)}")
        elif target.is_dir():
            self._fault(path, f"is a link to a directory; name it in {IGNORE_FILE}")
        else:
            return target
        return None

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if len(self.entries) > limits.BUNDLE_ENTRIES_MAX:
            raise BundleError(
                f"working_dir {self.top}: found more than {limits.BUNDLE_ENTRIES_MAX} files, "
                f"allowed that many; leave some behind in {IGNORE_FILE}",
                reason="TOO_LARGE",
            )
        stored = _BLOCK + -(-entry.size_bytes // _BLOCK) * _BLOCK
        self.size_bytes += stored
        self.sizes[entry.path.split("/", 1)[0]] += stored
        if self.size_bytes > limits.BUNDLE_BYTES_MAX:
            raise self._too_large()

    def _too_large(self) -> BundleError:
        largest = sorted(self.sizes.items(), key=lambda item: (-item[1], item[0]))
        return BundleError(
            f"working_dir {self.top}: found more than {format_bytes(limits.BUNDLE_BYTES_MAX)}, "
            f"allowed that much; leave large entries behind in {IGNORE_FILE}",
            reason="TOO_LARGE",
            details=tuple(
                Denial("TOO_LARGE", f"at least {format_bytes(size)}", name)
                for name, size in largest[:LARGEST_SHOWN]
            ),
        )

    def _fault(self, path: str, detail: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Denial("INVALID_ARGUMENT", detail, path))


def survey(top: Path) -> list[Entry]:
    """What of the directory would be bundled, in order.

    Raises:
        BundleError: It is no directory, too large, or holds what cannot be bundled.
    """
    if not top.is_dir():
        raise BundleError(f"working_dir: found {str(top)!r}, allowed an existing directory")
    walk = _Walk(top, _rules(top))
    walk.directory(walk.top, "", 0)
    if walk.faults:
        raise BundleError(
            f"working_dir {top}: {len(walk.faults)} entries cannot be bundled; "
            f"name them in {IGNORE_FILE} or remove them",
            details=tuple(walk.faults),
        )
    return sorted(walk.entries, key=lambda entry: entry.path)


def _rules(top: Path) -> tuple[Rule, ...]:
    path = top / IGNORE_FILE
    try:
        # Without waiting: where a pipe of this name stands, nobody may ever write to it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise BundleError(f"{path}: found no plain file, allowed one with patterns")
            content = file.read(IGNORE_BYTES_MAX + 1)
        if len(content) > IGNORE_BYTES_MAX:
            raise BundleError(f"{path}: longer than {IGNORE_BYTES_MAX} bytes")
        return parse(content.decode())
    except FileNotFoundError:
        return parse("")
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from None
    except (IgnoreInvalid, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: {error}") from None


def build(top: Path) -> Bundle:
    """The bundle of a directory.

    Raises:
        BundleError: As `survey`, or a file changed while it was read.
    """
    entries = survey(top)
    file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX)  # noqa: SIM115 - the bundle's
    try:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry in entries:
                _append(tar, entry)
        size_bytes = file.tell()
        _check_size(top, size_bytes)
        return Bundle(file, digest_of(file), size_bytes, len(entries))
    except BaseException:
        file.close()
        raise


def digest_of(file: IO[bytes]) -> str:
    """How a bundle is named: by all that is in its file."""
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(READ_BYTES):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _check_size(top: Path, size_bytes: int) -> None:
    """Headers of long names and the tar's own end count as well."""
    if size_bytes > limits.BUNDLE_BYTES_MAX:
        raise BundleError(
            f"working_dir {top}: found {format_bytes(size_bytes)}, allowed "
            f"{format_bytes(limits.BUNDLE_BYTES_MAX)}",
            reason="TOO_LARGE",
        )


def _append(tar: tarfile.TarFile, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mode = 0o755 if entry.is_executable else 0o644
    if entry.is_directory:
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
        return
    member.size = entry.size_bytes
    try:
        # What was a plain file must be one still: no link to follow, no pipe to hang on.
        handle = os.open(entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as content:
            if os.fstat(handle).st_size != entry.size_bytes:
                raise BundleError(f"working_dir: {entry.path} changed while it was read")
            tar.addfile(member, content)
    except OSError as error:
        # tarfile says so too, when a file becomes shorter under its hands.
        detail = error.strerror or "it changed while it was read"
        raise BundleError(f"working_dir: {entry.path}: {detail}") from None
