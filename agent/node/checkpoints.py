"""When jobs last wrote a checkpoint: what ending them now would lose is counted from there.

A checkpoint is a file or directory right inside SOV_CHECKPOINT_DIR whose name does not begin with a
dot: written under such a name, and renamed when it is whole. The newest modification counts. Jobs
speak for themselves: one that touches a file without saving anything only offers itself to be ended
before others.

Where the site has a store of checkpoints (`checkpoint_store.py`), whole ones are put there when
they are found, and once more when the rank is over: so they outlive the node.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from agent.node.checkpoint_store import ENTRIES_MAX, CheckpointShelf, found_in
from agent.node.spool_files import SpoolError, read_document
from sovshared.checkpoint_keys import CheckpointSealer

VARIABLE = "SOV_CHECKPOINT_DIR"
HELD_MS_MAX = 120_000
"""How long the end of a rank is held back for its last checkpoints."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Folder:
    """Where a rank writes its checkpoints, and where they are kept; `shelf` None: nowhere, or by
    another rank."""

    path: str
    shelf: CheckpointShelf | None = None
    sealer: CheckpointSealer | None = None


class Checkpoints:
    """The newest checkpoint of each rank that lives on this node."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._folders: dict[str, _Folder] = {}
        self._lock = Lock()  # Ends are told by one thread, checkpoints kept by another.
        self._held: dict[str, int] = {}
        self._settled: frozenset[str] = frozenset()
        self.newest_ms: dict[str, int] = {}
        """By rank key, on this node's wall clock; ranks without one are not in it."""

    def held(self, over: Collection[str], now_ms: int) -> frozenset[str]:
        """Those of `over`, ranks that are over, whose last checkpoints are still to be kept: until
        they are, their ends are not told, or the next attempt would begin without. `now_ms` is
        that of a clock that only goes forward. Looks at this node's own disk alone."""
        with self._lock:
            self._settled &= frozenset(over)
            for key in sorted(frozenset(over) - self._settled - self._held.keys()):
                folder = self._folders.get(key) or self._folder(key)
                if folder is not None and folder.shelf is not None and found_in(folder.path):
                    self._held[key] = now_ms
                else:
                    self._settled |= {key}
            self._settle([k for k, at_ms in self._held.items() if now_ms - at_ms >= HELD_MS_MAX])
            return frozenset(self._held) & frozenset(over)

    def keep_last(self) -> bool:
        """Keeps the last checkpoints of ranks that are held back; whether there were any."""
        with self._lock:
            held = sorted(self._held)
        for key in held:
            folder = self._folders.get(key) or self._folder(key)
            if folder is not None:
                _keep(folder)
        with self._lock:
            self._settle(held)
        return bool(held)

    def _settle(self, keys: Collection[str]) -> None:
        self._settled |= frozenset(keys)
        for key in keys:
            self._held.pop(key, None)

    def look(self, keys: Collection[str]) -> None:
        """Looks for those of `keys`, which live, keeps what it finds, and forgets the others."""
        known = {key: self._folders.get(key) or self._folder(key) for key in sorted(keys)}
        self._folders = {key: folder for key, folder in known.items() if folder is not None}
        found = {key: newest_ms(folder.path) for key, folder in self._folders.items()}
        self.newest_ms = {key: at_ms for key, at_ms in found.items() if at_ms}
        for folder in self._folders.values():
            _keep(folder)

    def _folder(self, key: str) -> _Folder | None:
        """Where the rank writes them; None before it starts."""
        try:
            spec: dict[str, Any] = read_document(self._spool / key / "spec.json")
        except (OSError, SpoolError):
            return None
        env: dict[str, str] = spec.get("env") or {}
        path = env.get(VARIABLE, "")
        kept: dict[str, Any] = spec.get("checkpoints") or {}
        if not path or not kept:
            return _Folder(path) if path else None
        shelf = CheckpointShelf(Path(kept["store"]), key.split(".")[0], kept["node_rank"])
        public = bytes.fromhex(kept["public"])
        return _Folder(path, shelf, CheckpointSealer(public) if public else None)


def _keep(folder: _Folder) -> None:
    """Puts what is there into the site's store; the next look tries again what failed."""
    if folder.shelf is None:
        return
    try:
        folder.shelf.keep(Path(folder.path), folder.sealer)
    except OSError as error:
        _log.warning("a checkpoint was not kept: %s", error)


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
