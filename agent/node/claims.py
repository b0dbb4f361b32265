"""Starts that were recorded and whose names a power cut took, and room for records nobody needs.

The simple way to record a start is to make the file and its name durable, in the rank's folder:
what takes longest of starting a rank. Instead a spare shim has a file of blanks in `claims/`, made
durable while nobody waits, which takes the record in place and gets its name in the rank's folder
besides. That name, the gate and the folder itself may be lost when the node goes down. Here they
are put back, before anything is started in the new boot: a rank that may have run never runs again.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePath

from agent.node.clock import boot_id, start_ticks
from agent.node.rank_record import sync_folder
from agent.node.spool_files import Document, read_document

FOLDER = "claims"


def settle(root: Path) -> None:
    """Put back what the boots before recorded, and drop what no process of this one keeps."""
    for name in sorted(os.listdir(root / FOLDER)):
        path = root / FOLDER / name
        doc = read_document(path)
        if doc and doc.get("boot_id") != boot_id():
            _put_back(root, path, str(doc.get("key", "")))
        elif _kept(name):
            continue
        elif doc:
            with contextlib.suppress(FileNotFoundError):  # Archived: its end is recorded.
                sync_folder(_home(root, doc))
        path.unlink(missing_ok=True)


def _kept(name: str) -> bool:
    """Whether the shim lives that made this file; its name is the shim's number and start time."""
    pid, _, ticks = name.partition(".")
    return pid.isdecimal() and ticks.isdecimal() and start_ticks(int(pid)) == int(ticks)


def _home(root: Path, doc: Document) -> Path:
    return root / str(doc.get("key", ""))


def _put_back(root: Path, path: Path, key: str) -> None:
    """The rank's folder as its shim had it, unless it was put away meanwhile."""
    if PurePath(key).name != key or (root / "archive" / key).exists():
        return
    home = root / key
    home.mkdir(mode=0o711, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink("start", home / "gate")
    with contextlib.suppress(FileExistsError):  # It was not lost, or the key was given up before.
        os.link(path, home / "started.json")
    sync_folder(home)
    sync_folder(root)
