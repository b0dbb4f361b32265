"""When nodes come free: as the jobs on them reach their time limits, if nobody else came.

Simple equivalent: for every node of a site, let its jobs leave one after another until there is
room, and take the nodes where that is soonest. Departure: most nodes hold work of one organisation
that nobody else may join, and are empty when the last of it leaves. A site's nodes are put in the
order of that moment once a plan; for a job of one node the others alone are looked at, and of
these only who has somebody leave by then.
"""

from __future__ import annotations

from collections.abc import Collection

from scheduler.core.asks import Ask
from scheduler.core.fleet import FleetState
from scheduler.core.index import SiteIndex
from scheduler.core.layout import bits
from scheduler.core.occupancy import Ends, NodeRecord, joinable_views, may_join
from scheduler.model.ids import JobId

FEW_NODES = 32
"""So many are looked at one by one: putting the site in order costs more."""

Moment = tuple[int, int]
"""When a node has room, and which it is."""


class Departures:
    """What one plan knows of it. Whoever leaves already counts as gone.

    A site is put in order when it is first asked about: what the plan itself takes is to be in the
    nodes' lists of occupants by then.
    """

    def __init__(self, fleet: FleetState, now_ms: int) -> None:
        self._fleet = fleet
        self._now_ms = now_ms
        self._leaving = fleet.evictable.leaving
        # By the site's number. Of nodes whose occupants are alike: when the last has left.
        self._orders: dict[int, tuple[list[Moment], int]] = {}
        self._cleared: dict[int, int] | None = None

    def soonest(self, number: int, ask: Ask, nodes: int) -> tuple[int, int] | None:
        """When, and on which of `nodes`, a gang could start at a site if nobody else came, and once
        those who leave already are gone. None: never."""
        index = self._fleet.order[number][1]
        if ask.nodes > 1 or nodes.bit_count() <= FEW_NODES:
            return self._soonest_gang(number, index, ask, nodes)
        found = self._soonest_node(number, index, ask, nodes)
        return None if found is None else (found[0], 1 << found[1])

    def _soonest_gang(
        self, number: int, index: SiteIndex, ask: Ask, nodes: int
    ) -> tuple[int, int] | None:
        times: dict[int, int] = {}
        for at in bits(nodes):
            at_ms = self._free_at_ms(number, index, at, ask)
            if at_ms is not None:
                times[at] = at_ms
        best: tuple[int, int] | None = None
        for domain in index.layout.required_domains(ask):
            inside = [(times[at], at) for at in bits(nodes & domain) if at in times]
            if len(inside) < ask.nodes:
                continue
            inside.sort()
            chosen = inside[: ask.nodes]
            if best is None or chosen[-1][0] < best[0]:
                best = chosen[-1][0], sum(1 << at for _, at in chosen)
        return best

    def _soonest_node(self, number: int, index: SiteIndex, ask: Ask, nodes: int) -> Moment | None:
        order, alike = self._order(number, index)
        joinable = _joinable(index, ask)
        best: Moment | None = None
        now_ms, records, cleared = self._now_ms, index.records, self._cleared_at(number)
        for _, at in order:
            if nodes >> at & 1 and not joinable >> at & 1:
                at_ms = free_at_ms(records[at], ask, now_ms)
                if at_ms is not None:
                    best = at_ms, at
                    break
        for at in bits(nodes & (joinable | ~alike)):
            leaving = self._leaving if cleared >> at & 1 else ()
            record = records[at]
            if best is not None and not leaving and self._waits_beyond(record, ask, best, at):
                continue
            at_ms = free_at_ms(record, ask, now_ms, leaving)
            if at_ms is not None and (best is None or (at_ms, at) < best):
                best = at_ms, at
        return best

    def _waits_beyond(self, record: NodeRecord, ask: Ask, best: Moment, at: int) -> bool:
        """Whether a node that nobody leaves has room after `best` at the soonest: there is not
        enough now, and the first of those on it stays for longer."""
        soonest_ms = self._now_ms if record.left.holds(ask.shape) else record.span().first_ms
        return (soonest_ms, at) > best

    def _order(self, number: int, index: SiteIndex) -> tuple[list[Moment], int]:
        known = self._orders.get(number)
        if known is None:
            cleared, now_ms = self._cleared_at(number), self._now_ms
            order: list[Moment] = []
            alike = 0
            for at, record in enumerate(index.records):
                _, end_ms, is_mixed = record.known_span or record.span()
                if not is_mixed and not cleared >> at & 1:
                    order.append((end_ms if end_ms > now_ms else now_ms, at))
                    alike |= 1 << at
            order.sort()
            known = self._orders[number] = order, alike
        return known

    def _free_at_ms(self, number: int, index: SiteIndex, at: int, ask: Ask) -> int | None:
        leaving = self._leaving if self._cleared_at(number) >> at & 1 else ()
        return free_at_ms(index.records[at], ask, self._now_ms, leaving)

    def _cleared_at(self, number: int) -> int:
        """The nodes of a site that somebody leaves."""
        if self._cleared is None:
            self._cleared = {}
            for live in self._leaving.values():
                site = self._fleet.numbers.get(live.placement.site)
                if site is None:
                    continue
                for part in live.placement.nodes:
                    record = self._fleet.nodes.get(part.node)
                    if record is not None:
                        self._cleared[site] = self._cleared.get(site, 0) | 1 << record.at
        return self._cleared.get(number, 0)


def _joinable(index: SiteIndex, ask: Ask) -> int:
    """The ready nodes that a job may join as they are now, whatever room they have."""
    mask = 0
    for gpu_class in index.layout.classes:
        for view in joinable_views(ask.sharing, ask.organisation):
            lane = index.up.get((gpu_class, view))
            if lane is not None:
                mask |= lane.all()
    return mask


def free_at_ms(
    record: NodeRecord, ask: Ask, now_ms: int, leaving: Collection[JobId] = ()
) -> int | None:
    """When `record` will have room for `ask`, as its occupants reach their time limits.

    None: never, as it reports fewer GPUs than it was declared with.
    """
    shape, node = ask.shape, record.node
    if record.kind.cost(shape) == (node.cpu_milli, node.memory_bytes):
        return _empty_at_ms(record, ask, now_ms, leaving)
    if not leaving and not record.span().is_mixed:
        return _after_some(record, record.ends(), ask, now_ms)
    staying = sorted(
        record.occupants.values(),
        key=lambda o: (-o.until_ms if o.job not in leaving else -now_ms, o.job),
    )
    left = record.left
    at_ms, free = now_ms, left.free_for(shape)
    there = record.capacity_mask & record.kind.fit_for(shape.profile)
    needed_cpu, needed_memory = record.kind.cost(shape)
    cpu, memory = left.cpu_milli - needed_cpu, left.memory_bytes - needed_memory
    while (
        free < shape.gpus
        or cpu < 0
        or memory < 0
        or not may_join(ask.sharing, ask.organisation, staying)
    ):
        if not staying:
            return None
        next_to = staying.pop()
        if next_to.job not in leaving:
            at_ms = max(at_ms, next_to.until_ms)
        if next_to.shape.share_milli == 1000 or not any(
            other.gpu_mask == next_to.gpu_mask for other in staying
        ):
            free += (next_to.gpu_mask & there).bit_count()
        freed_cpu, freed_memory = record.kind.cost(next_to.shape)
        cpu += freed_cpu
        memory += freed_memory
    return at_ms


def _after_some(record: NodeRecord, ends: Ends, ask: Ask, now_ms: int) -> int | None:
    """The same where all who are there are alike: whom the job may join, it may from the first on;
    else it waits for the last."""
    left, (cpu_milli, memory_bytes) = record.left, record.kind.cost(ask.shape)
    gpus = ask.shape.gpus - left.free_for(ask.shape)
    there = record.capacity_mask & record.kind.fit_for(ask.shape.profile)
    cpu_milli -= left.cpu_milli
    memory_bytes -= left.memory_bytes
    in_turn = ends.in_turn
    if ends.alike is not None and not may_join(ask.sharing, ask.organisation, (ends.alike,)):
        in_turn = in_turn[-1:]
    elif gpus <= 0 and cpu_milli <= 0 and memory_bytes <= 0:
        return now_ms
    for end in in_turn:
        freed = (end.gpu_mask & there).bit_count()
        if gpus <= freed and cpu_milli <= end.cpu_milli and memory_bytes <= end.memory_bytes:
            return max(now_ms, end.at_ms)
    return None


def _empty_at_ms(
    record: NodeRecord, ask: Ask, now_ms: int, leaving: Collection[JobId]
) -> int | None:
    """The same for a job that needs all of a node: when the last of those on it has left."""
    if ask.shape.gpus > (record.capacity_mask & record.kind.whole).bit_count():
        return None
    if leaving:
        untils = [o.until_ms for o in record.occupants.values() if o.job not in leaving]
        return max(now_ms, *untils) if untils else now_ms
    return max(now_ms, record.span().last_ms)
