"""Whom to ask off a node so that a job has room on it: as little lost as can be.

Simple equivalent: try every set of those who may be asked, keep the best that makes room. That is
what happens up to EXACT_MAX of them, in an order that cuts most sets short. Beyond, the cheapest
are taken until there is room, and then those are spared that turn out not to be needed.

Sets are compared by the highest rank in them, then by what is lost, then by how many they are,
then by name. Making room is monotone: whoever else leaves, there is no less of it. So a best set
holds nobody who could have stayed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from scheduler.core.asks import Ask, Shape, cpu_milli_on, memory_bytes_on
from scheduler.core.occupancy import NodeRecord, Occupant, may_join
from scheduler.core.ranks import Rank
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import Priority
from scheduler.model.residency import NodeSharing

EXACT_MAX = 10
"""Candidates on one node among whom the best set is found by trying."""

Price: TypeAlias = tuple[Rank, int, int, tuple[JobId, ...]]
"""What a set costs: highest rank, GPU-milliseconds lost, how many, who."""

Permits: TypeAlias = Callable[[Sequence["Candidate"]], bool]

FREE: Price = ((Priority.UNSPECIFIED, 0), 0, 0, ())


@dataclass(frozen=True, slots=True)
class Candidate:
    """An attempt that may be ended, and what that would cost."""

    rank: Rank
    lost_gpu_ms: int
    job: JobId


def anybody(victims: Sequence[Candidate]) -> bool:
    """Permits every set."""
    return True


def price(victims: Collection[Candidate]) -> Price:
    """What ending all of `victims` costs."""
    if not victims:
        return FREE
    return (
        max(v.rank for v in victims),
        sum(v.lost_gpu_ms for v in victims),
        len(victims),
        tuple(sorted(v.job for v in victims)),
    )


@dataclass(frozen=True, slots=True)
class Promise:
    """Room on a node that is promised to a job which is not there yet."""

    shape: Shape
    sharing: NodeSharing
    organisation: TenantPath


class Floor:
    """One node as it will be: without those who leave, with those who were promised room."""

    def __init__(
        self, record: NodeRecord, leaving: Collection[JobId], promises: Sequence[Promise]
    ) -> None:
        self.record = record
        self.staying = [
            record.occupants[job] for job in sorted(record.occupants) if job not in leaving
        ]
        self.promises = promises

    def after(self, leaving: Collection[JobId]) -> Floor:
        """The node once `leaving` have left as well."""
        gone = {job for job in self.record.occupants if job not in {o.job for o in self.staying}}
        return Floor(self.record, gone | set(leaving), self.promises)

    def holds(self, ask: Ask, without: Collection[JobId] = ()) -> bool:
        """Whether a job that asks `ask` could start here once `without` have left as well."""
        staying = [occupant for occupant in self.staying if occupant.job not in without]
        if not may_join(ask.sharing, ask.organisation, staying):
            return False
        if not all(_meets(ask, promise) for promise in self.promises):
            return False
        return self._has_room(ask.shape, staying)

    def _has_room(self, shape: Shape, staying: Sequence[Occupant]) -> bool:
        node = self.record.node
        used = 0
        shared: dict[int, int] = {}
        cpu_milli = node.cpu_milli - cpu_milli_on(shape, node)
        memory_bytes = node.memory_bytes - memory_bytes_on(shape, node)
        for occupant in staying:
            used |= occupant.gpu_mask
            if occupant.shape.share_milli < 1000:
                left = shared.get(occupant.gpu_mask, 1000)
                shared[occupant.gpu_mask] = left - occupant.shape.share_milli
            cpu_milli -= cpu_milli_on(occupant.shape, node)
            memory_bytes -= memory_bytes_on(occupant.shape, node)
        wanted = [shape, *(promise.shape for promise in self.promises)]
        free = self.record.capacity_mask & ~used
        lefts = [left for mask, left in shared.items() if mask & self.record.capacity_mask]
        for promise in self.promises:
            cpu_milli -= cpu_milli_on(promise.shape, node)
            memory_bytes -= memory_bytes_on(promise.shape, node)
        if cpu_milli < 0 or memory_bytes < 0:
            return False
        kind = self.record.kind
        whole = [each for each in wanted if not each.profile]
        return _fit(whole, (free & kind.whole).bit_count(), lefts) and all(
            sum(each.profile == name for each in wanted) <= (free & kind.fit_for(name)).bit_count()
            for name in {each.profile for each in wanted if each.profile}
        )


def _fit(wanted: Sequence[Shape], free: int, lefts: Sequence[int]) -> bool:
    """Whether `free` whole GPUs, and others with so much left, hold all that is wanted.

    No two of them are put on one GPU, although shares might be: so this holds whatever GPU each is
    given when it comes, and it never becomes false when somebody leaves.
    """
    parts = sorted((shape.share_milli for shape in wanted for _ in range(shape.gpus)), reverse=True)
    rooms = sorted([*lefts, *[1000] * free], reverse=True)
    return len(parts) <= len(rooms) and all(
        part <= room for part, room in zip(parts, rooms, strict=False)
    )


def cheapest(
    floor: Floor, ask: Ask, candidates: Sequence[Candidate], permits: Permits = anybody
) -> list[Candidate] | None:
    """The best of `candidates` to end so that `floor` holds `ask`; None: there is no such set.

    Of sets that make room, only those that `permits` lets through count.
    """
    for rank in sorted({c.rank for c in candidates}):
        among = [c for c in candidates if c.rank <= rank]
        if not floor.holds(ask, {c.job for c in among}):
            continue
        among.sort(key=lambda c: (c.lost_gpu_ms, c.job))
        if len(among) <= EXACT_MAX:
            found = _Trial(floor, ask, among, permits).best()
        else:
            found = spare(among, lambda kept: floor.holds(ask, {c.job for c in kept}))
            found = found if permits(found) else None
        if found is not None:
            return found
    return None


def spare(
    victims: Sequence[Candidate], suffices: Callable[[Sequence[Candidate]], bool]
) -> list[Candidate]:
    """Those of `victims` who are needed; whoever costs most is spared first, if it can be."""
    kept = list(victims)
    for victim in sorted(victims, key=_worth, reverse=True):
        without = [c for c in kept if c is not victim]
        if suffices(without):
            kept = without
    return kept


class _Trial:
    """Tries sets of candidates, cheapest first, and leaves out what cannot be better."""

    def __init__(self, floor: Floor, ask: Ask, among: list[Candidate], permits: Permits) -> None:
        self._permits = permits
        self._floor = floor
        self._ask = ask
        self._among = among
        self._best: tuple[Price, list[Candidate]] | None = None

    def best(self) -> list[Candidate] | None:
        """The best set."""
        self._try(0, [], 0)
        return self._best[1] if self._best is not None else None

    def _try(self, at: int, chosen: list[Candidate], lost_gpu_ms: int) -> None:
        if self._best is not None and lost_gpu_ms > self._best[0][1]:
            return
        if self._floor.holds(self._ask, {c.job for c in chosen}):
            found = price(chosen)
            # The rank is settled already: all of `among` are within it.
            better = self._best is None or found[1:] < self._best[0][1:]
            if better and self._permits(chosen):
                self._best = found, list(chosen)
            return
        if at == len(self._among):
            return
        rest = {c.job for c in (*chosen, *self._among[at:])}
        if not self._floor.holds(self._ask, rest):
            return
        candidate = self._among[at]
        chosen.append(candidate)
        self._try(at + 1, chosen, lost_gpu_ms + candidate.lost_gpu_ms)
        chosen.pop()
        self._try(at + 1, chosen, lost_gpu_ms)


def _worth(victim: Candidate) -> tuple[Rank, int, JobId]:
    return victim.rank, victim.lost_gpu_ms, victim.job


def _meets(ask: Ask, promise: Promise) -> bool:
    if ask.sharing is NodeSharing.ANY and promise.sharing is NodeSharing.ANY:
        return True
    mixed = (NodeSharing.TENANT, NodeSharing.ANY)
    same = ask.organisation == promise.organisation
    return same and ask.sharing in mixed and promise.sharing in mixed
