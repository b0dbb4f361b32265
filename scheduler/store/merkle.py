"""Hashes of the audit log: RFC 6962 leaf and node hashes, and the root from a few peaks.

Roots of perfect subtrees of 256 leaves, 65,536 leaves and so on are kept in rows as the log grows
(`Kept`): a row's neighbours are those that C2SP's tlog-tiles has in one tile, and a proof about ten
million leaves reads a few of them. A hash once kept never changes.

A log entry is `salt (16 bytes) || canonical JSON (UTF-8)`. Its leaf hash is
`SHA-256(0x00 || entry)`, an inner node `SHA-256(0x01 || left || right)`. The salt has a fixed
length, so an entry splits in one way only; without it, nothing can be guessed from a hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

SALT_BYTES = 16
HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
"""Hashes in a tile: tlog-tiles fixes the height at 8."""


def leaf_hash(salt: bytes, canonical_json: str) -> bytes:
    """The RFC 6962 leaf hash of one entry."""
    assert len(salt) == SALT_BYTES, f"a salt has {SALT_BYTES} bytes, found {len(salt)}"
    return sha256(b"\x00" + salt + canonical_json.encode()).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The RFC 6962 hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Kept:
    """The root of the `n`-th perfect subtree of 256^level leaves, level 1 or higher."""

    level: int
    n: int
    hash: bytes


@dataclass(slots=True)
class Peaks:
    """Roots of the perfect subtrees that make up the log, largest first.

    `kept`: roots to be kept in rows, of subtrees that were completed since; whoever stores them
    clears the list.
    """

    size: int
    hashes: list[bytes]
    kept: list[Kept] = field(default_factory=lambda: [], compare=False)

    @staticmethod
    def of(size: int, joined: bytes) -> Peaks:
        """Peaks as they were stored."""
        hashes = [joined[n : n + HASH_BYTES] for n in range(0, len(joined), HASH_BYTES)]
        assert len(hashes) == size.bit_count(), "the stored tree does not match its size"
        return Peaks(size, hashes)

    def copied(self) -> Peaks:
        """Peaks that grow by themselves from here."""
        return Peaks(self.size, list(self.hashes))

    def joined(self) -> bytes:
        """The peaks as they are stored."""
        return b"".join(self.hashes)

    def append(self, leaf: bytes) -> None:
        """Adds one leaf hash."""
        self.size += 1
        self.hashes.append(leaf)
        # As many merges as the new size has trailing zeros: each doubles the last subtree.
        remaining, height = self.size, 0
        while remaining % 2 == 0:
            right = self.hashes.pop()
            self.hashes.append(node_hash(self.hashes.pop(), right))
            remaining //= 2
            height += 1
            if height % TILE_HEIGHT == 0:
                done = Kept(height // TILE_HEIGHT, remaining - 1, self.hashes[-1])
                self.kept.append(done)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Adds leaf hashes: equal to `append` of each, a level of the tree at a time."""
        level, height = list(leaves), 0
        size, peaks = self.size, self.hashes
        self.size, self.hashes = size + len(level), []
        while level:
            # A peak of this width is the left half of the first pair.
            if size >> height & 1:
                level.insert(0, peaks.pop())
            if len(level) % 2:
                self.hashes.append(level.pop())
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
            height += 1
            if height % TILE_HEIGHT == 0:
                done = height // TILE_HEIGHT
                self.kept += [Kept(done, n, root) for n, root in enumerate(level, size >> height)]
        # What was wider than anything that is new stays as it is, largest first.
        self.hashes = peaks + self.hashes[::-1]

    def root(self) -> bytes:
        """The RFC 6962 root of the whole log."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for peak in reversed(self.hashes[:-1]):
            root = node_hash(peak, root)
        return root
