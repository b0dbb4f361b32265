"""Proofs about the log: the reference vectors of Certificate Transparency, every size exhaustively,
and the tree as it is stored."""

from collections.abc import Sequence
from hashlib import sha256

import pytest

from scheduler.store import proofs
from scheduler.store.merkle import EMPTY_ROOT, TILE_HEIGHT, TILE_WIDTH, Peaks, node_hash
from scheduler.store.store import Store
from sovctl import verify

# The eight leaves that the tests of RFC 6962's authors use, and the roots of the first n of them.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
CT_PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
EXHAUSTIVE = 69


def hashed(leaf: bytes) -> bytes:
    return sha256(b"\x00" + leaf).digest()


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH as RFC 6962 defines it, over leaf hashes."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


def nodes_of(leaves: Sequence[bytes]) -> proofs.NodeAt:
    return lambda height, n: naive_root(leaves[n << height : (n + 1) << height])


CT = [hashed(leaf) for leaf in CT_LEAVES]
MANY = [hashed(n.to_bytes(2, "big")) for n in range(EXHAUSTIVE)]


@pytest.mark.parametrize("size", CT_ROOTS)
def test_reference_roots(size: int) -> None:
    peaks = Peaks(0, [])
    for leaf in CT[:size]:
        peaks.append(leaf)
    assert peaks.root().hex() == CT_ROOTS[size]
    assert proofs.root(size, nodes_of(CT)).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("index", "size"), CT_PATHS)
def test_reference_inclusion_proofs(index: int, size: int) -> None:
    path = proofs.inclusion(index, size, nodes_of(CT))
    assert [each.hex() for each in path] == CT_PATHS[index, size]
    assert verify.root_of(CT[index], index, size, path).hex() == CT_ROOTS[size]


@pytest.mark.parametrize(("old", "new"), CT_CONSISTENCY)
def test_reference_consistency_proofs(old: int, new: int) -> None:
    path = proofs.consistency(old, new, nodes_of(CT))
    assert [each.hex() for each in path] == CT_CONSISTENCY[old, new]


def test_every_leaf_of_every_size_is_included_and_no_other() -> None:
    node_at = nodes_of(MANY)
    for size in range(1, EXHAUSTIVE + 1):
        root = naive_root(MANY[:size])
        for index in range(size):
            path = proofs.inclusion(index, size, node_at)
            assert verify.root_of(MANY[index], index, size, path) == root
            assert verify.root_of(MANY[index - 1], index, size, path) != root or size == 1


def test_every_size_is_consistent_with_every_later_one_and_with_no_fork() -> None:
    node_at = nodes_of(MANY)
    fork = [*MANY[:-1], hashed(b"fork")]
    roots = [naive_root(MANY[:size]) for size in range(EXHAUSTIVE + 1)]
    for new in range(EXHAUSTIVE + 1):
        for old in range(new + 1):
            path = proofs.consistency(old, new, node_at)
            assert verify.is_consistent(old, roots[old], new, roots[new], path), (old, new)
            if 0 < old < new:
                assert not verify.is_consistent(old, roots[old - 1], new, roots[new], path)
                assert not verify.is_consistent(old, roots[old], new, naive_root(fork), path)
                assert not verify.is_consistent(old, roots[old], new, roots[new], path[:-1])
                assert not verify.is_consistent(old, roots[old], new, roots[new], [*path, fork[0]])


def test_kept_hashes_are_those_of_whole_tiles() -> None:
    leaves = [hashed(n.to_bytes(4, "big")) for n in range(2 * TILE_WIDTH + 3)]
    peaks = Peaks(0, [])
    for leaf in leaves:
        peaks.append(leaf)
    assert [(kept.level, kept.n) for kept in peaks.kept] == [(1, 0), (1, 1)]
    assert [kept.hash for kept in peaks.kept] == [
        naive_root(leaves[:TILE_WIDTH]),
        naive_root(leaves[TILE_WIDTH : 2 * TILE_WIDTH]),
    ]


def test_higher_levels_are_kept_too() -> None:
    peaks = Peaks(0, [])
    leaf = hashed(b"same")
    for _ in range(TILE_WIDTH * TILE_WIDTH):
        peaks.append(leaf)
    top = leaf
    for _ in range(2 * TILE_HEIGHT):
        top = node_hash(top, top)
    assert peaks.kept[-1].level == 2
    assert peaks.kept[-1].hash == top == peaks.root()
    assert len(peaks.kept) == TILE_WIDTH + 1


def test_the_stored_tree_proves_what_the_leaves_do(store: Store) -> None:
    """Over several transactions, one of them longer than a tile."""
    for leaves in (3, 300, 1, 250, 77):
        with store.transaction() as txn:
            for n in range(leaves):
                txn.audit.append("note", n, {})
    with store.read() as view:
        hashes = [leaf.leaf_hash for leaf in view.audit.all()]
        tree, node_at = view.audit.tree(), nodes_of(hashes)
        assert len(hashes) == 631
        assert tree.root(631) == view.audit.peaks().root()
        for size in (1, 2, 255, 256, 257, 511, 512, 513, 600, 631):
            assert tree.root(size) == naive_root(hashes[:size])
            assert tree.consistency(size, 631) == proofs.consistency(size, 631, node_at)
            for index in {0, size // 3, size - 1}:
                assert tree.inclusion(index, size) == proofs.inclusion(index, size, node_at)
        assert len(tree.tile(1, 0)) == 2
        assert [len(tree.tile(0, n)) for n in range(4)] == [256, 256, 119, 0]
