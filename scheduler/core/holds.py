"""Keeping a stream of small jobs from starving a large one.

The first job in fair order that finds no room at a site for a GPU class, and has waited for
HOLD_AFTER_MS, gets a hold there: the nodes that will have room for it soonest, going by the time
limits of what runs on them, and the moment when they will. For the rest of the plan nobody behind
it may take those nodes, unless its own time limit ends it before that moment. One hold a site and
GPU class; a plan makes HOLDS_MAX at most.

Holds are no facts: each plan finds them anew from the same state, so they cost nothing to keep and
cannot go stale. Fair order still rules: who is before the holder in it may take the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.core.answers import Answer
from scheduler.core.asks import Ask, cpu_milli_on, memory_bytes_on
from scheduler.core.fleet import FleetState
from scheduler.core.index import SiteIndex
from scheduler.core.layout import bits
from scheduler.core.occupancy import NodeRecord, may_join
from scheduler.model.ids import GpuClass

HOLD_AFTER_MS = 60_000
"""A job that has waited less gets no hold: most small waits end by themselves."""

HOLDS_MAX = 8
SITES_TRIED_MAX = 4
"""How many sites are looked at for one hold."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Nodes kept for a job until it can start there, about then."""

    nodes: int
    starts_at_ms: int


class Holds:
    """The holds of one plan."""

    def __init__(self, fleet: FleetState, now_ms: int) -> None:
        self._fleet = fleet
        self._now_ms = now_ms
        self._held: dict[tuple[int, GpuClass], Hold] = {}

    def __len__(self) -> int:
        return len(self._held)

    def against(self, number: int, gpu_class: GpuClass, ends_by_ms: int) -> int:
        """The nodes of a site that a job which ends by `ends_by_ms` must leave alone."""
        hold = self._held.get((number, gpu_class))
        if hold is None or ends_by_ms <= hold.starts_at_ms:
            return 0
        return hold.nodes

    def hold_for(self, ask: Ask, answer: Answer) -> None:
        """Makes a hold for a job that found no room, where it could start soonest."""
        if len(self._held) >= HOLDS_MAX:
            return
        best: tuple[int, int, GpuClass, int] | None = None
        tried = 0
        for where in answer.classes:
            for number in bits(where.sites):
                if (number, where.gpu_class) in self._held or tried >= SITES_TRIED_MAX:
                    continue
                tried += 1
                index = self._fleet.order[number][1]
                soonest = self._soonest(index, ask, where.nodes[number] & index.ready)
                if soonest is not None and (best is None or soonest[0] < best[0]):
                    best = soonest[0], number, where.gpu_class, soonest[1]
        if best is not None:
            starts_at_ms, number, gpu_class, nodes = best
            self._held[number, gpu_class] = Hold(nodes, starts_at_ms)

    def _soonest(self, index: SiteIndex, ask: Ask, nodes: int) -> tuple[int, int] | None:
        """When, and on which nodes, the gang could start if nobody else came."""
        times = [
            (at_ms, at)
            for at in bits(nodes)
            if (at_ms := self._free_at_ms(index.records[at], ask)) is not None
        ]
        best: tuple[int, int] | None = None
        for domain in index.layout.required_domains(ask):
            inside = sorted(entry for entry in times if domain >> entry[1] & 1)
            if len(inside) < ask.nodes:
                continue
            chosen = inside[: ask.nodes]
            if best is None or chosen[-1][0] < best[0]:
                best = chosen[-1][0], sum(1 << at for _, at in chosen)
        return best

    def _free_at_ms(self, record: NodeRecord, ask: Ask) -> int | None:
        """When `record` will have room for `ask`, as its occupants reach their time limits.

        None: never, as it reports fewer GPUs than it was declared with.
        """
        shape, node = ask.shape, record.node
        staying = sorted(record.occupants.values(), key=lambda o: (-o.until_ms, o.job))
        at_ms, free = self._now_ms, record.free
        cpu = record.cpu_free_milli - cpu_milli_on(shape, node)
        memory = record.memory_free_bytes - memory_bytes_on(shape, node)
        while (
            free < shape.gpus
            or cpu < 0
            or memory < 0
            or not may_join(ask.sharing, ask.organisation, staying)
        ):
            if not staying:
                return None
            leaving = staying.pop()
            at_ms = max(at_ms, leaving.until_ms)
            free += (leaving.gpu_mask & record.capacity_mask).bit_count()
            cpu += cpu_milli_on(leaving.shape, node)
            memory += memory_bytes_on(leaving.shape, node)
        return at_ms
