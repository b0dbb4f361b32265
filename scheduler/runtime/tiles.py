"""The log's hashes as files that any web server can hand out: C2SP's tlog-tiles.

`checkpoint`, and `tile/<level>/<n>`, each with 256 hashes of 32 bytes; the last one of a level, as
long as it is not full, is `tile/<level>/<n>.p/<width>`. Tiles with the entries themselves are not
written: they hold what tenants did. Whoever has a leaf proves with these files that it is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scheduler.store.merkle import TILE_HEIGHT, TILE_WIDTH
from scheduler.store.store import Snapshot

CHECKPOINT_FILE = "checkpoint"
LEVELS_MAX = 8
"""Levels of a tree of 2^63 leaves."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the size of the log that the files show, and how many tiles were new."""

    size: int
    tiles: int


def export(read: Snapshot, directory: Path) -> Exported | None:
    """Brings `directory` up to the newest checkpoint; None: the log has none yet.

    Full tiles that are there are not written again. The checkpoint comes last, so that whoever
    reads meanwhile finds every tile that it needs.
    """
    checkpoint = read.checkpoints.newest()
    if checkpoint is None:
        return None
    written = 0
    for level, n, width in tiles_of(checkpoint.size):
        path = directory / tile_path(level, n, width)
        if not path.exists():
            hashes = read.audit.tree().tile(level, n)[:width]
            assert len(hashes) == width, f"the tree lacks hashes of tile {n} of level {level}"
            _write(path, b"".join(hashes))
            written += 1
    _write(directory / CHECKPOINT_FILE, checkpoint.whole())
    return Exported(checkpoint.size, written)


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """Level, number and width of every tile of a log of `size` leaves."""
    for level in range(LEVELS_MAX):
        hashes = size >> (TILE_HEIGHT * level)
        full, rest = divmod(hashes, TILE_WIDTH)
        yield from ((level, n, TILE_WIDTH) for n in range(full))
        if rest:
            yield level, full, rest


def tile_path(level: int, n: int, width: int) -> str:
    """Where a tile is: its number in groups of three digits, all but the last after an x."""
    groups: list[str] = []
    rest = n
    while True:
        rest, group = divmod(rest, 1_000)
        groups.append(f"{group:03}" if not groups else f"x{group:03}")
        if not rest:
            break
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def _write(path: Path, content: bytes) -> None:
    """A file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)
