"""Where the replicas of services are that are to be apart, and where that leaves for the others.

Simple equivalent: for each replica that waits, look at the domains of every node where another of
its service is. Departure: a service's domains are bit sets, made again only when a replica came or
went, or where the class may go changed.

Where distance is required, the nodes of domains in use are out of the class's answer, so that
whatever looks for a place heeds it: turns, reservations, preemption, explanations. Where it is
liked, the search tries the domains with the fewest replicas first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from scheduler.core.answers import Answer, ClassAnswer
from scheduler.core.index import SiteIndex
from scheduler.core.layout import Layout
from scheduler.model.fleet import Site
from scheduler.model.ids import JobId, SiteId
from scheduler.model.job import Placement, TopologyLevel
from scheduler.model.reasons import Denial, Reason
from scheduler.model.topology import Apart

PREFERENCES_MAX = 8
"""So many numbers of replicas a domain are tried, the fewest first; then wherever there is room."""

Order = Sequence[tuple[Site, SiteIndex, bool]]
"""The fleet's sites, each at its number."""
Held = Mapping[int, int]
"""Nodes of sites as bits, by the site's number."""


class Spreads:
    """The placements of replicas that are to be apart, by their service."""

    def __init__(self) -> None:
        self._at: dict[JobId, dict[JobId, Placement]] = {}
        # Of each service: the answer that was narrowed, and what was made of it.
        self._narrowed: dict[JobId, tuple[Answer, Answer]] = {}

    def enter(self, apart: Apart | None, placement: Placement) -> None:
        """A job, if it is such a replica, holds nodes."""
        if apart is None:
            return
        self._at.setdefault(apart.service, {})[placement.key.job] = placement
        self._narrowed.pop(apart.service, None)

    def leave(self, apart: Apart | None, job: JobId) -> None:
        """It does not any more."""
        if apart is None:
            return
        others = self._at[apart.service]
        del others[job]
        if not others:
            del self._at[apart.service]
        self._narrowed.pop(apart.service, None)

    def narrowed(self, apart: Apart | None, answer: Answer, order: Order) -> Answer:
        """`answer` without the domains that others of the service are in, if that must be."""
        if apart is None or not apart.required or apart.service not in self._at:
            return answer
        known = self._narrowed.get(apart.service)
        if known is None or known[0] is not answer:
            used = _above(self._domains(apart, order), 0)
            known = self._narrowed[apart.service] = answer, _without(answer, used, order, apart)
        return known[1]

    def used(self, apart: Apart, number: int, order: Order) -> int:
        """The nodes of a site that are in a domain with others of the service."""
        return _above(self._domains(apart, order), 0).get(number, 0)

    def preferences(self, apart: Apart, order: Order) -> Iterator[Held | None]:
        """What to leave alone, where distance is liked: at first every domain with others, then
        those with more than the fewest, and so on; in the end nothing (None)."""
        if not apart.required and apart.service in self._at:
            domains = self._domains(apart, order)
            counts = sorted({0, *domains.values()})[:-1]
            for count in counts[:PREFERENCES_MAX]:
                yield _above(domains, count)
        yield None

    def facts(self) -> Mapping[JobId, Iterable[JobId]]:
        """Who is spread, comparable."""
        return {service: sorted(jobs) for service, jobs in self._at.items()}

    def _domains(self, apart: Apart, order: Order) -> Counter[tuple[int, int]]:
        """How many replicas are in which domain: a site's number, and its nodes as bits."""
        numbers: dict[SiteId, int] = {site.id: at for at, (site, _, _) in enumerate(order)}
        found: Counter[tuple[int, int]] = Counter()
        for placement in self._at.get(apart.service, {}).values():
            number = numbers.get(placement.site)
            if number is None:
                continue  # Its site is not declared any more: nobody goes there.
            layout = order[number][1].layout
            found.update({(number, nodes) for nodes in _domains_of(layout, placement, apart.over)})
        return found


def _domains_of(layout: Layout, placement: Placement, level: TopologyLevel) -> Iterator[int]:
    """The domains that a placement has nodes in."""
    positions = (layout.position.get(part.node) for part in placement.nodes)
    nodes = [1 << at for at in positions if at is not None]
    if level is TopologyLevel.NODE:
        yield from nodes
    elif level is TopologyLevel.SITE:
        yield layout.all
    else:
        for domain in layout.domains[level]:
            if any(domain & node for node in nodes):
                yield domain


def _above(domains: Mapping[tuple[int, int], int], count: int) -> dict[int, int]:
    """The nodes of domains with more than `count` replicas."""
    held: dict[int, int] = {}
    for (number, nodes), replicas in domains.items():
        if replicas > count:
            held[number] = held.get(number, 0) | nodes
    return held


def _without(answer: Answer, used: Held, order: Order, apart: Apart) -> Answer:
    classes = tuple(_less(where, used) for where in answer.classes)
    left = 0
    for where in classes:
        left |= where.sites
    detail = f"others of its service are there, and each must be in a {apart.over.name.lower()}"
    denials = tuple(
        Denial(Reason.SPREAD, f"{detail} of its own", order[number][0].id)
        for number in sorted(used)
        if not left >> number & 1
    )
    return replace(
        answer,
        classes=tuple(where for where in classes if where.sites),
        denials=(*denials, *answer.denials),
    )


def _less(where: ClassAnswer, used: Held) -> ClassAnswer:
    nodes = {number: mask & ~used.get(number, 0) for number, mask in where.nodes.items()}
    empty = sum(1 << number for number, mask in nodes.items() if not mask)
    return replace(where, sites=where.sites & ~empty, nodes=nodes)
