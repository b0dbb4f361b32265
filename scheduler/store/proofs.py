"""Inclusion and consistency proofs (RFC 6962, sections 2.1.1 and 2.1.2) from hashes at hand.

The simple equivalent reads every leaf. Here a tree of any size that the log ever had is put
together from roots of perfect subtrees, of which a proof needs about two for each of its levels.
"""

from __future__ import annotations

from collections.abc import Callable

from scheduler.store.merkle import EMPTY_ROOT, node_hash

NodeAt = Callable[[int, int], bytes]
"""The root of the n-th perfect subtree of 2^height leaves, by (height, n)."""


def root(size: int, node_at: NodeAt) -> bytes:
    """The root of the log's first `size` leaves."""
    return _range(0, size, node_at) if size else EMPTY_ROOT


def inclusion(index: int, size: int, node_at: NodeAt) -> list[bytes]:
    """PATH(index, D[size]): from the leaf's sibling up to the root's child."""
    assert 0 <= index < size, f"leaf {index} is not among the first {size}"
    path: list[bytes] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            path.append(_range(middle, end, node_at))
            end = middle
        else:
            path.append(_range(first, middle, node_at))
            first = middle
    path.reverse()
    return path


def consistency(old: int, new: int, node_at: NodeAt) -> list[bytes]:
    """PROOF(old, D[new]): that the first `old` leaves of `new` are what they were.

    Empty when there is nothing to show: the sizes are the same, or the old log was empty.
    """
    assert 0 <= old <= new, f"a log of {new} leaves never had {old}"
    if old in (0, new):
        return []
    path: list[bytes] = []
    first, end = 0, new
    whole = True  # Whether what is left of the old tree is all of it: its root is known then.
    while old != end:
        middle = first + _split(end - first)
        if old <= middle:
            path.append(_range(middle, end, node_at))
            end = middle
        else:
            path.append(_range(first, middle, node_at))
            first, whole = middle, False
    if not whole:
        path.append(_range(first, end, node_at))
    path.reverse()
    return path


def _split(leaves: int) -> int:
    """The largest power of two below `leaves`."""
    return 1 << (leaves - 1).bit_length() - 1


def _range(first: int, end: int, node_at: NodeAt) -> bytes:
    """MTH(D[first:end]), where a tree of the log has such a subtree."""
    leaves = end - first
    if leaves & (leaves - 1) == 0:
        height = leaves.bit_length() - 1
        return node_at(height, first >> height)
    middle = first + _split(leaves)
    return node_hash(_range(first, middle, node_at), _range(middle, end, node_at))
