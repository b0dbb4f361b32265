"""Whether a tar is a bundle: only plain files and directories, at relative paths, within limits.

Clients make such tars, but what arrives may come from anybody. It is read as a stream and never
unpacked here.
"""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from scheduler.model.reasons import Denial, Reason, Refused, invalid
from sovshared import sealing
from sovshared.limits import BUNDLE_BYTES_MAX, BUNDLE_ENTRIES_MAX
from sovshared.sealing import SealInvalid

PATH_CHARS_MAX = 1_000
PATH_DEPTH_MAX = 64
EXTENSION_BYTES_MAX = 64 * 1024
"""Largest extension header (a long path, say); they are read into memory."""
FAULTS_MAX = 20
"""Faults reported at once."""

_EXTENSIONS = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)


class _Bounded(tarfile.TarInfo):
    """A header that is refused before what it announces is read."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in _EXTENSIONS and self.size > EXTENSION_BYTES_MAX):
            raise tarfile.ReadError(f"a header announces {self.size} bytes")
        return cast("Any", super())._proc_member(tar)


def check(file: BinaryIO) -> None:
    """Refuses what is not a bundle, naming its faulty entries. Of a sealed one only the header can
    be read here; its node checks the rest when it has the key."""
    if sealing.is_sealed(file.read(sealing.HEAD_BYTES)):
        file.seek(0)
        return _check_sealed(file)
    file.seek(0)
    faults: list[Denial] = []
    seen: set[str] = set()
    unpacked_bytes = 0
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Bounded) as tar:
            for n, entry in enumerate(tar):
                unpacked_bytes += max(entry.size, 0)
                if n >= BUNDLE_ENTRIES_MAX or unpacked_bytes > BUNDLE_BYTES_MAX:
                    raise _too_much()
                fault = _fault_of(entry, seen)
                if fault:
                    faults.append(Denial(Reason.INVALID_ARGUMENT, fault, _shown(entry.name)))
                if len(faults) >= FAULTS_MAX:
                    break
                seen.add(entry.name)
                cast("Any", tar).members.clear()  # Else the whole index is kept in memory.
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        fault = Denial(Reason.INVALID_ARGUMENT, f"not an uncompressed tar: {error}", "chunk")
        raise invalid(fault) from error
    if faults:
        raise invalid(*faults)


def _check_sealed(file: BinaryIO) -> None:
    try:
        header = sealing.read_header(file)
    except SealInvalid as error:
        raise invalid(Denial(Reason.INVALID_ARGUMENT, str(error), "chunk")) from error
    if header.purpose != sealing.BUNDLE:
        found = f"found a sealed {header.purpose[:20]!r}, allowed a sealed bundle"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "chunk"))


def _fault_of(entry: tarfile.TarInfo, seen: set[str]) -> str | None:
    path = PurePosixPath(entry.name)
    if not (entry.isreg() or entry.isdir()):
        return "found a link or special file, allowed plain files and directories"
    if path.is_absolute() or entry.name.startswith("/"):
        return "found an absolute path, allowed relative ones"
    if ".." in path.parts or "\0" in entry.name:
        return "found a path that leaves the bundle, allowed paths inside"
    if len(entry.name) > PATH_CHARS_MAX or len(path.parts) > PATH_DEPTH_MAX:
        return f"found too long a path, allowed {PATH_CHARS_MAX} characters"
    if entry.name in seen:
        return "found twice, allowed once"
    if entry.mode & 0o7000:
        return f"found mode {entry.mode:o}, allowed none of setuid, setgid, sticky"
    return None


def _too_much() -> Refused:
    allowed = f"allowed {BUNDLE_ENTRIES_MAX} entries of {BUNDLE_BYTES_MAX} bytes together"
    return invalid(Denial(Reason.TOO_LARGE, f"found more than that, {allowed}", "chunk"))


def _shown(name: str) -> str:
    return name[:200].encode("utf-8", "replace").decode()
