"""Whom to ask off the nodes of one domain so that a gang has room: nodes added one by one.

The nodes that have room come first. Then, until there are enough, the node whose price is least
given who leaves already: a victim that is on several nodes is paid for once. In the end those are
spared without whom there is room enough. Greedy, not exact: the best set over many nodes is a
covering problem. But nobody in the set could have stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from scheduler.core.asks import Ask
from scheduler.core.clearing import Candidate, Floor, Price, cheapest, price, spare
from scheduler.core.layout import bits, mask_of
from scheduler.model.ids import JobId


@dataclass(frozen=True, slots=True)
class Domain:
    """Nodes of which a gang must be within one set."""

    roomy: int
    asked: Mapping[int, Sequence[Candidate]]
    """Nodes without room, and who may be asked to leave each."""
    floor: Callable[[int], Floor]
    may_leave: Callable[[Iterable[JobId]], bool]


def clear(domain: Domain, ask: Ask) -> tuple[int, list[Candidate]] | None:
    """Nodes for the gang, and who has to leave them; None: the domain cannot hold it."""
    free = list(bits(domain.roomy))[: ask.nodes]
    missing = ask.nodes - len(free)
    if missing <= 0:
        return mask_of(free), []
    if missing > len(domain.asked):
        return None
    return _Clearing(domain, ask).gather(free, missing)


class _Clearing:
    """One domain while it is being cleared."""

    def __init__(self, domain: Domain, ask: Ask) -> None:
        self._domain = domain
        self._ask = ask
        self._floors = {at: domain.floor(at) for at in domain.asked}
        self._chosen: dict[JobId, Candidate] = {}
        self._prices: dict[int, tuple[Price, list[Candidate]]] = {}
        for at in sorted(domain.asked):
            self._reckon(at)

    def gather(self, free: list[int], missing: int) -> tuple[int, list[Candidate]] | None:
        """Clears `missing` nodes beside those that are `free`."""
        cleared: list[int] = []
        while len(cleared) < missing:
            if not self._prices:
                return None
            at = min(self._prices, key=lambda at: (self._prices[at][0], at))
            _, more = self._prices.pop(at)
            if not self._domain.may_leave([*self._chosen, *(c.job for c in more)]):
                continue
            cleared.append(at)
            self._chosen |= {c.job: c for c in more}
            leaving = {c.job for c in more}
            for other in sorted(self._prices):
                if any(c.job in leaving for c in self._domain.asked[other]):
                    self._reckon(other)
        return self._spared(free, missing)

    def _reckon(self, at: int) -> None:
        """What it takes to clear a node, beyond those who leave already."""
        asked = self._domain.asked[at]
        gone = {c.job for c in asked if c.job in self._chosen}
        floor = self._floors[at]
        if floor.holds(self._ask, gone):
            self._prices[at] = price(()), []
            return
        found = cheapest(floor.after(gone), self._ask, [c for c in asked if c.job not in gone])
        if found is None:
            self._prices.pop(at, None)
        else:
            self._prices[at] = price(found), found

    def _spared(self, free: list[int], missing: int) -> tuple[int, list[Candidate]]:
        touched = [
            at
            for at, asked in sorted(self._domain.asked.items())
            if any(c.job in self._chosen for c in asked)
        ]

        def cleared(kept: Sequence[Candidate]) -> list[int]:
            gone = {c.job for c in kept}
            return [at for at in touched if self._floors[at].holds(self._ask, gone)]

        kept = spare(list(self._chosen.values()), lambda kept: len(cleared(kept)) >= missing)
        return mask_of([*free, *cleared(kept)[:missing]]), kept
