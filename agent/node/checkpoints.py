"""When jobs last wrote a checkpoint: what ending them now would lose is counted from there.

A checkpoint is a file or directory right inside SOV_CHECKPOINT_DIR whose name does not begin with a
dot: written under such a name, and renamed when it is whole. The newest modification counts. Jobs
speak for themselves: one that touches a file without saving anything only offers itself to be ended
before others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import cast

from agent.node.spool_files import Document, SpoolError, read_document

ENTRIES_MAX = 4_096
"""Entries of a directory that are looked at."""
VARIABLE = "SOV_CHECKPOINT_DIR"


class Checkpoints:
    """The newest checkpoint of each rank that lives on this node."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._folders: dict[str, str] = {}
        self.newest_ms: dict[str, int] = {}
        """By rank key, on this node's wall clock; ranks without one are not in it."""

    def look(self, keys: Collection[str]) -> None:
        """Looks for those of `keys`, which live, and forgets the others."""
        self._folders = {key: self._folders.get(key) or self._folder(key) for key in sorted(keys)}
        found = {key: newest_ms(folder) for key, folder in self._folders.items() if folder}
        self.newest_ms = {key: at_ms for key, at_ms in found.items() if at_ms}

    def _folder(self, key: str) -> str:
        """Where the rank writes them; nowhere, before it starts."""
        try:
            spec = read_document(self._spool / key / "spec.json")
        except (OSError, SpoolError):
            return ""
        told = spec.get("env")
        return str(cast("Document", told).get(VARIABLE, "")) if isinstance(told, dict) else ""


def newest_ms(folder: str) -> int:
    """When the newest checkpoint in `folder` was written; 0: there is none."""
    newest_ns = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, ENTRIES_MAX):
            if entry.name.startswith("."):
                continue
            with contextlib.suppress(OSError):
                newest_ns = max(newest_ns, entry.stat(follow_symlinks=False).st_mtime_ns)
    return newest_ns // 1_000_000
