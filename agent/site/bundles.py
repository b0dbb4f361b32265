"""Bundles fetched from the control plane: verified, kept by digest, bounded, made atomically."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from sovshared.limits import BUNDLE_BYTES_MAX

CACHE_BYTES_MAX = 4 * 1024 * 1024 * 1024
FETCHES_MAX = 4  # Under way at once: what they hold on disk is bounded.
FETCH_S_MAX = 600.0

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
Fetch = Callable[[], AsyncIterator[bytes]]


class BundleFailed(Exception):
    """The bundle is not here; `retryable` says whether asking again may help."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


def hex_of(digest: str) -> str:
    """The hexadecimal part of "sha256:...", or BundleFailed."""
    found = _DIGEST.fullmatch(digest)
    if found is None:
        want = "allowed sha256: and 64 hexadecimal digits"
        raise BundleFailed(f"bundle_digest: found {digest[:80]!r}, {want}", retryable=False)
    return found[1]


class BundleCache:
    """Files named by their digest in one directory. The least recently used go first."""

    def __init__(self, directory: Path, bytes_max: int = CACHE_BYTES_MAX) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._bytes_max = bytes_max
        self._fetches = asyncio.Semaphore(FETCHES_MAX)
        self._locks: dict[str, asyncio.Lock] = {}
        for part in directory.glob("*.part"):
            part.unlink()

    async def get(self, digest: str, fetch: Fetch) -> Path:
        """The bundle of this digest; fetched when it is not here."""
        name = hex_of(digest)
        path = self._directory / f"{name}.tar"
        async with self._locks.setdefault(name, asyncio.Lock()):
            if path.exists():
                os.utime(path)
                return path
            async with self._fetches:
                try:
                    async with asyncio.timeout(FETCH_S_MAX):
                        await self._fetch(path, name, fetch)
                except TimeoutError as error:
                    why = f"bundle: not fetched in {FETCH_S_MAX:.0f} s"
                    raise BundleFailed(why, retryable=True) from error
                except OSError as error:
                    raise BundleFailed(f"bundle: {error.strerror}", retryable=True) from error
        self._evict(path)
        return path

    async def _fetch(self, path: Path, name: str, fetch: Fetch) -> None:
        """Write what comes beside the target, and make it the target once it is right."""
        part = path.with_suffix(".part")
        found, size_bytes = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                part.chmod(0o600)
                async for chunk in fetch():
                    size_bytes += len(chunk)
                    _check_size(size_bytes)
                    found.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            _check_digest(found.hexdigest(), name)
            part.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def _evict(self, keep: Path) -> None:
        stats = {path: path.stat() for path in self._directory.glob("*.tar")}
        total = sum(stat.st_size for stat in stats.values())
        for path in sorted(stats, key=lambda p: (stats[p].st_mtime_ns, p.name)):
            if total <= self._bytes_max:
                return
            if path != keep:
                path.unlink(missing_ok=True)
                total -= stats[path].st_size


def _check_size(size_bytes: int) -> None:
    if size_bytes > BUNDLE_BYTES_MAX:
        raise BundleFailed(f"bundle: more than {BUNDLE_BYTES_MAX} bytes came", retryable=False)


def _check_digest(found: str, wanted: str) -> None:
    if found != wanted:
        why = f"bundle: what came has digest {found}, wanted {wanted}"
        raise BundleFailed(why, retryable=True)
