"""Whose a node's checkpoints are: to ask for every job's folder again would take longer than the
rest of a start, and they become many.
"""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path


class Owners:
    """The owners of the folders in one folder. Thread-safe: what is remembered is replaced whole.

    A folder given to a job's user stays that user's, and is told from a later one of its name by
    its inode. One that is not given yet is asked for again.
    """

    def __init__(self, root: Path, users: Container[int]) -> None:
        """`users`: the uids of jobs."""
        self._root = root
        self._users = users
        self._known: dict[tuple[str, int], int] = {}

    def others(self, job: str) -> frozenset[int]:
        """The owners of all folders but this job's."""
        found: dict[tuple[str, int], int] = {}
        known = self._known
        with os.scandir(self._root) as folders:
            for folder in folders:
                name = (folder.name, folder.inode())
                found[name] = known[name] if name in known else folder.stat().st_uid
        self._known = {name: uid for name, uid in found.items() if uid in self._users}
        return frozenset(uid for (name, _), uid in found.items() if name != job)
