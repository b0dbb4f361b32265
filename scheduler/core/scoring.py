"""Which of the places that fit is best: data and small pure functions, no weights to tune yet.

One node: the one left with fewest free GPUs (best fit), one in use by the same organisation before
an empty one; ties go to the first site and the first node in topology order, which fills racks one
after another and keeps whole ones for gangs. A gang: the closest domain, and of those the one with
fewest nodes to spare (`topology`). GPUs of a node: as here.
"""

from __future__ import annotations

from functools import lru_cache

from scheduler.model.ids import GPU_INDEX_MAX

CHOICES_MAX = 65_536
"""Choices of GPUs that are remembered: a node of 8 GPUs has 256 states."""


@lru_cache(maxsize=CHOICES_MAX)
def choose_gpus(free_mask: int, count: int) -> int:
    """`count` GPUs of `free_mask`, which has as many: close together, breaking up the least.

    GPUs that are near by NVLink or PCIe have near indices, in groups of 2, 4, 8. As in a buddy
    allocator: of the aligned groups just large enough, the one with fewest free GPUs, then the
    one whose surroundings are fullest, then the lowest; in it the lowest indices.
    """
    assert free_mask.bit_count() >= count, "more GPUs asked than free"
    if count == 0:
        return 0
    size = 1 << (count - 1).bit_length()
    while size <= GPU_INDEX_MAX + 1:
        best: tuple[tuple[int, ...], int] | None = None
        for start in range(0, free_mask.bit_length(), size):
            group = free_mask >> start & ((1 << size) - 1)
            if group.bit_count() >= count:
                rank = (*_free_around(free_mask, start, size), start)
                if best is None or rank < best[0]:
                    best = rank, group << start
        if best is not None:
            return _lowest(best[1], count)
        size *= 2
    return _lowest(free_mask, count)


def _free_around(free_mask: int, start: int, size: int) -> tuple[int, ...]:
    """Free GPUs in the aligned groups around `start`, from groups of `size` up to the node."""
    counts: list[int] = []
    while size <= GPU_INDEX_MAX + 1:
        first = start // size * size
        counts.append((free_mask >> first & ((1 << size) - 1)).bit_count())
        size *= 2
    return tuple(counts)


def _lowest(mask: int, count: int) -> int:
    chosen = 0
    for _ in range(count):
        low = mask & -mask
        chosen |= low
        mask ^= low
    return chosen
