"""Tiles: whoever has nothing but the files finds every hash of the log in them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scheduler.runtime import checkpoints, tiles
from scheduler.runtime.tiles import tile_path, tiles_of
from scheduler.store import proofs
from scheduler.store.merkle import TILE_HEIGHT, node_hash
from scheduler.store.store import Store
from sovshared import notes, signing
from tests.store.builders import CODEC, salts


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(tmp_path / "store.db", salts=salts(), codec=CODEC)
    opened.open()
    return opened


def grow(store: Store, leaves: int, log: checkpoints.LogKey) -> None:
    with store.transaction() as txn:
        for n in range(leaves):
            txn.audit.append("note", n, {})
    with store.transaction() as txn:
        checkpoints.newest(txn, log, 5)


def from_files(directory: Path, size: int) -> Callable[[int, int], bytes]:
    """Hashes of subtrees, as a stranger finds them."""
    widths = {(level, n): width for level, n, width in tiles_of(size)}

    def node_at(height: int, n: int) -> bytes:
        level, above = divmod(height, TILE_HEIGHT)
        tile, at = divmod(n << above, 256)
        content = (directory / tile_path(level, tile, widths[level, tile])).read_bytes()
        return fold([content[32 * k : 32 * k + 32] for k in range(at, at + (1 << above))])

    return node_at


def fold(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    half = len(hashes) // 2
    return node_hash(fold(hashes[:half]), fold(hashes[half:]))


def test_the_root_of_the_checkpoint_is_made_of_the_tiles(store: Store, tmp_path: Path) -> None:
    log = checkpoints.log_key("tiles.example", signing.kept_in(tmp_path / "key.pem"))
    directory = tmp_path / "www"
    with store.read() as view:
        assert tiles.export(view, directory) is None
    for leaves, size, new in ((255, 255, 1), (1, 256, 2), (300, 556, 3), (0, 556, 0)):
        grow(store, leaves, log)
        with store.read() as view:
            exported = tiles.export(view, directory)
        assert exported == tiles.Exported(size, new)
        note = notes.parse((directory / "checkpoint").read_bytes())
        head = notes.checkpoint_of(note.text)
        assert notes.signs(log.key, note.text, note.lines[0])
        assert (head.size, head.root) == (size, proofs.root(size, from_files(directory, size)))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        ((0, 0, 256), "tile/0/000"),
        ((1, 7, 5), "tile/1/007.p/5"),
        ((0, 1234067, 256), "tile/0/x001/x234/067"),
        ((2, 1000, 1), "tile/2/x001/000.p/1"),
    ],
)
def test_paths_are_those_of_tlog_tiles(tile: tuple[int, int, int], path: str) -> None:
    assert tile_path(*tile) == path
