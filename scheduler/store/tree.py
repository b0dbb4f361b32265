"""The log's tree as it is stored: hashes of its subtrees, and proofs about any size it ever had.

A proof reads one tile for each level it climbs: at most four of 256 hashes for four thousand
million leaves.
"""

from __future__ import annotations

from sqlalchemy import Connection

from scheduler.store import proofs
from scheduler.store.bulk import Statement, inserting
from scheduler.store.link import Link
from scheduler.store.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Kept, Peaks, node_hash
from scheduler.store.schema import AUDIT
from scheduler.store.schema_evidence import AUDIT_NODES

REBUILT_ROWS = 16_384
"""Leaves that a rebuild of the tree holds at a time."""

_LEAVES = Statement(
    AUDIT,
    "SELECT leaf_hash FROM audit WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index",
)
_NODES = Statement(
    AUDIT_NODES, "SELECT hash FROM audit_nodes WHERE level = ? AND n >= ? AND n < ? ORDER BY n"
)
_KEEP = inserting(AUDIT_NODES)


class TreeReader:
    """Reads one view of the tree; remembers the tiles it has read."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def tile(self, level: int, n: int) -> list[bytes]:
        """The hashes of the n-th tile of a level: 256, or what there is yet of the last one."""
        found = self._tiles.get((level, n))
        if found is None:
            first = n * TILE_WIDTH
            within = (first, first + TILE_WIDTH)
            rows = (
                self._link.rows(_NODES, (level, *within))
                if level
                else self._link.rows(_LEAVES, within)
            )
            found = self._tiles[level, n] = [bytes(row[0]) for row in rows]
        return found

    def root(self, size: int) -> bytes:
        """The root of the first `size` leaves, all of which must be there."""
        return proofs.root(size, self._node)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """That leaf `index` is among the first `size`."""
        return proofs.inclusion(index, size, self._node)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """That the log of `old` leaves is the beginning of that of `new`."""
        return proofs.consistency(old, new, self._node)

    def _node(self, height: int, n: int) -> bytes:
        level, above = divmod(height, TILE_HEIGHT)
        first = n << above
        tile = self.tile(level, first // TILE_WIDTH)
        at = first % TILE_WIDTH
        hashes = tile[at : at + (1 << above)]
        assert len(hashes) == 1 << above, f"the tree lacks hashes of level {level} from {first} on"
        while len(hashes) > 1:
            hashes = [node_hash(hashes[k], hashes[k + 1]) for k in range(0, len(hashes), 2)]
        return hashes[0]


def keep(connection: Connection, kept: list[Kept]) -> None:
    """Stores roots of subtrees that were completed."""
    _KEEP.many(connection, [(each.level, each.n, each.hash) for each in kept])


def rebuild(connection: Connection) -> Peaks:
    """Stores what `keep` would have, of a log that was written without; its peaks."""
    peaks = Peaks(0, [])
    while True:
        rows = _LEAVES.rows(connection, (peaks.size, peaks.size + REBUILT_ROWS))
        for row in rows:
            assert len(row[0]) == HASH_BYTES, "a leaf's hash has 32 bytes"
            peaks.append(bytes(row[0]))
        keep(connection, peaks.kept)
        peaks.kept.clear()
        if len(rows) < REBUILT_ROWS:
            return peaks
