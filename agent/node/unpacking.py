"""Unpacking a job's bundle: plain files and directories, within limits, or nothing."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

UNPACKED_BYTES_MAX = 1024 * 1024 * 1024
BUNDLE_MEMBERS_MAX = 100_000


class BundleInvalid(Exception):
    """The bundle cannot be unpacked; the message says why."""


def unpack(bundle: IO[bytes], target: Path, *, bytes_max: int = UNPACKED_BYTES_MAX) -> None:
    """Unpack a bundle of plain files and directories with relative paths; anything else is refused.

    Checked here and again by tarfile's own `data` filter, before a byte of a member is written.
    """
    total = 0
    try:
        with tarfile.open(fileobj=bundle, mode="r:") as archive:
            for count, member in enumerate(archive):
                total += member.size
                _check_member(member, count)
                if total > bytes_max:
                    raise BundleInvalid(f"bundle unpacks to more than {bytes_max} bytes")
                archive.extract(member, target, filter="data")
    except tarfile.TarError as error:
        raise BundleInvalid(f"bundle is not a tar archive we can read: {error}") from error


def _check_member(member: tarfile.TarInfo, count: int) -> None:
    path, named = PurePosixPath(member.name), f"bundle member {member.name!r}"
    if not (member.isreg() or member.isdir()):
        raise BundleInvalid(f"{named}: only files and directories are allowed")
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise BundleInvalid(f"{named}: want a relative path without '..'")
    if count >= BUNDLE_MEMBERS_MAX:
        raise BundleInvalid(f"bundle has more than {BUNDLE_MEMBERS_MAX} members")
