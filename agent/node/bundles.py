"""The bundles of a node: what jobs brought along, packed, by digest; the last used are kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from agent.node.refusals import ExecutorError
from sovshared.limits import BUNDLE_BYTES_MAX

BUNDLES_KEPT_MAX = 16


class Bundles:
    """A folder of them. Any number of callers may use it at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where a bundle is, or would be. A malformed digest is refused: it would become a path."""
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise ExecutorError(f"bundle digest {digest!r}: want 64 hexadecimal digits")
        return self._root / f"{digest}.tar"

    def keep(self, digest: str) -> bool:
        """Whether the bundle is here; if so, others go before it when room is made."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def put(self, digest: str, offset: int, content: bytes) -> None:
        """Take in a part. Parts may come twice, and from two callers at once."""
        if not 0 <= offset <= BUNDLE_BYTES_MAX - len(content):
            most = f"at most {BUNDLE_BYTES_MAX}"
            raise ExecutorError(f"bundle part of {len(content)} bytes at {offset}: {most}")
        part = os.open(self.path(digest).with_suffix(".part"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while content:
                written = os.pwrite(part, content, offset)
                content, offset = content[written:], offset + written
        finally:
            os.close(part)

    def seal(self, digest: str) -> None:
        """Accept one whose parts are all here, if it is what its digest says."""
        whole = self.path(digest)
        part = whole.with_suffix(".part")
        if whole.exists():
            return
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != found:
            part.unlink(missing_ok=True)
            raise ExecutorError(f"bundle {digest}: what arrived has digest {found}")
        with contextlib.suppress(FileNotFoundError):  # Another caller sealed it first.
            part.rename(whole)
        kept = sorted(self._root.glob("*.tar"), key=lambda path: -path.stat().st_mtime_ns)
        for old in kept[BUNDLES_KEPT_MAX:]:
            old.unlink(missing_ok=True)
