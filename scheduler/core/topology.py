"""Which nodes of a site belong together: sets of bits against the sets of each domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from scheduler.core.layout import LEVELS, Layout
from scheduler.model.job import TopologyLevel

Pick: TypeAlias = Callable[[int, int], int]
"""Chooses so many of these nodes."""


def enough(nodes: int, count: int, domains: Sequence[int]) -> bool:
    """Whether one of `domains` has `count` of `nodes`."""
    if nodes.bit_count() < count:
        return False
    return any((nodes & domain).bit_count() >= count for domain in domains)


def tightest(
    layout: Layout, nodes: int, count: int, loosest: TopologyLevel
) -> tuple[TopologyLevel, int] | None:
    """The closest level, no looser than `loosest`, at which a domain has `count` of `nodes`.

    Answers the level and those of `nodes` in the domain that has fewest to spare there: large
    holes stay whole for larger gangs. Ties go to the first domain in topology order.
    """
    for level in LEVELS:
        if level > loosest:
            return None
        if layout.widest[level] < count:
            continue
        best, best_count = 0, 0
        for domain in layout.domains[level]:
            here = nodes & domain
            here_count = here.bit_count()
            if here_count >= count and (not best or here_count < best_count):
                best, best_count = here, here_count
        if best:
            return level, best
    return None


def compact(layout: Layout, nodes: int, count: int, level: TopologyLevel, pick: Pick) -> int:
    """`count` of `nodes`, which are one domain at `level`, on as few inner domains as can be.

    Whole inner domains are taken from the fullest on; the last one is chosen by best fit again.
    Inside the closest domain `pick` chooses.
    """
    at = LEVELS.index(level)
    if at == 0 or count == nodes.bit_count():
        return pick(nodes, count)
    inner = LEVELS[at - 1]
    if layout.widest[inner] <= 1:
        return pick(nodes, count)
    parts = [part for domain in layout.domains[inner] if (part := nodes & domain)]
    chosen, missing = 0, count
    while missing:
        larger = [part for part in parts if part.bit_count() > missing]
        whole = [part for part in parts if part.bit_count() <= missing]
        if larger and sum(part.bit_count() for part in whole) < missing:
            part = min(larger, key=int.bit_count)
            return chosen | compact(layout, part, missing, inner, pick)
        part = max(whole, key=int.bit_count)
        parts.remove(part)
        chosen |= part
        missing -= part.bit_count()
    return chosen
