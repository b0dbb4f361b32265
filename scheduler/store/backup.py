"""Copies of a SQLite store, taken while it is written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

PAGES_AT_ONCE = 4_096
"""16 MiB between two looks at what the writer changed meanwhile."""


class CopyFailed(Exception):
    """No good copy was made: the disk is full, say, or the store is damaged. Says which."""


def copy(store: Path, to: Path) -> None:
    """Makes `to` the store as of one moment, and checks it. The writer is not held up.

    Raises `CopyFailed`; what there is of `to` is then of no use.
    """
    try:
        with (
            closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target, pages=PAGES_AT_ONCE, sleep=0)
            # One file, which whoever restores it can read without its log.
            target.execute("PRAGMA journal_mode=DELETE")
            (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise CopyFailed(str(error)) from error
    if found != "ok":
        raise CopyFailed(f"the copy is damaged: {found}")
