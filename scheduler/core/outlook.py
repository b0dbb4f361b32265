"""The fleet as it will be once all that was begun is done: what preemption reckons with.

Attempts that leave already are gone, their nodes free, their quota given back. Jobs that nodes are
kept for from soon on are there. Jobs that others wait for longer keep everybody off their nodes.
The planner's state itself is not touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from scheduler.core.answers import ClassAnswer
from scheduler.core.asks import Ask, ask_of
from scheduler.core.clearing import Floor, Promise
from scheduler.core.evictable import Evictable
from scheduler.core.fleet import FleetState
from scheduler.core.layout import bits
from scheduler.core.occupancy import NodeRecord, View
from scheduler.core.power import Draws
from scheduler.core.stakes import Ledger, Stake
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId
from scheduler.model.job import Placement
from scheduler.model.plan import JobClass, LiveAttempt

SOON_MS = 60 * 1000
"""A claim that begins later, and for which nobody is leaving, is of a job that waits for others to
end by themselves: its nodes are left alone, and its job may still be helped to start sooner."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Nodes that are kept for a job that waits."""

    job: JobId
    job_class: JobClass
    site: SiteId
    gpu_class: GpuClass
    nodes: tuple[NodeId, ...]
    starts_at_ms: int


class Outlook:
    """One plan's view of what is to come; `begin` adds to it.

    `placed` has its places on the state already, and is in use there.
    """

    def __init__(
        self,
        fleet: FleetState,
        evictable: Evictable,
        claims: Iterable[Claim],
        placed: Mapping[JobId, Stake],
        now_ms: int,
    ) -> None:
        self.fleet = fleet
        self.evictable = evictable
        self.now_ms = now_ms
        self.numbers = {site.id: n for n, (site, _, _) in enumerate(fleet.order)}
        self.leaving: set[JobId] = set()
        self.claims: dict[JobId, Claim] = {}
        self._soon: set[JobId] = set()
        # Nodes, by the site's number: those that are as the index has them are in none of these.
        self._closed: dict[int, int] = {}
        self._shifted: dict[int, int] = {}
        self._promises: dict[NodeId, dict[JobId, Promise]] = {}
        self._versions: dict[NodeId, int] = {}
        self.touched: dict[int, list[int]] = {}
        """The nodes of each site, by its number, on which something was begun, in that order."""
        self._draws = Draws()
        for site, line in fleet.draws.held.items():
            for name, milli in line.items():
                self._draws.charge(site, name, milli)
        used = evictable.used_at
        self.ledger = Ledger(fleet.tree, fleet.usage, used)
        for stake in placed.values():
            self.ledger.rank(stake)
        for job in sorted(evictable.leaving):
            self._let_go(evictable.leaving[job])
        for claim in sorted(claims, key=lambda claim: claim.job):
            if claim.job not in placed:
                if is_soon(fleet, claim.nodes, claim.starts_at_ms, now_ms):
                    self._soon.add(claim.job)
                self._keep(claim)

    def begin(self, claim: Claim, victims: Iterable[LiveAttempt]) -> None:
        """`victims` are asked to leave, and `claim` is made."""
        for victim in victims:
            self._let_go(victim)
        self._soon.add(claim.job)
        self._keep(claim)

    def restore(self, claim: Claim) -> None:
        """The claim that was withdrawn stands again."""
        self._keep(claim)

    def withdraw(self, claim: Claim) -> None:
        """A claim of later is given up, until it is restored or another is begun."""
        del self.claims[claim.job]
        assert claim.job not in self._soon, "whom others leave for waits for that"
        self._closed.clear()
        for other in self.claims.values():
            self._mark(other)

    def is_soon(self, claim: Claim) -> bool:
        """Whether the job that `claim` is for starts about now, others willing or not."""
        return claim.job in self._soon

    def floor(self, record: NodeRecord) -> Floor:
        """What will be on a node."""
        promises = self._promises.get(record.node.id, {})
        return Floor(record, self.leaving, [promises[job] for job in sorted(promises)])

    def may_hold(self, record: NodeRecord, ask: Ask, without: Collection[JobId]) -> bool:
        """False where a node lacks whole GPUs for the job even if all of `without` leave: `floor`
        would say the same, and costs ten times as much."""
        if ask.shape.share_milli < 1000:
            return True
        used = 0
        for job, occupant in record.occupants.items():
            if job not in without and job not in self.leaving:
                used |= occupant.gpu_mask
        return (record.capacity_mask & ~used).bit_count() >= ask.shape.gpus

    def version(self, node: NodeId) -> int:
        """Changes with what will be on a node."""
        return self._versions.get(node, 0)

    def powered(self, number: int, stake: Stake, leave: Iterable[JobId]) -> bool:
        """Whether a site may draw what `stake` draws, once `leave` have left."""
        cap = self.fleet.caps.get(number)
        if cap is None:
            return True
        site = self.fleet.order[number][0].id
        held = dict(self._draws.at(site))
        for job in leave:
            placed = self.fleet.live[job].placement
            if placed.site == site:
                held[placed.gpu_class] -= placed.gpu_milli
        return cap.fits(held, stake.gpu_class, stake.milli)

    def open_nodes(self, where: ClassAnswer, number: int) -> int:
        """The nodes of a site that suit, take work now and are kept for nobody for long."""
        ready = self.fleet.order[number][1].ready
        return where.nodes[number] & ready & ~self._closed.get(number, 0)

    def roomy(self, where: ClassAnswer, number: int, ask: Ask, views: tuple[View, ...]) -> int:
        """Those of the open nodes that will have room for the job without anybody else leaving."""
        index = self.fleet.order[number][1]
        nodes, shifted = self.open_nodes(where, number), self._shifted.get(number, 0)
        mask = 0
        for at in bits(nodes & shifted):
            if self.floor(index.records[at]).holds(ask):
                mask |= 1 << at
        ranking = self.fleet.rooms.ranking(where.gpu_class, ask.shape)
        with_gpus = index.candidates(where.gpu_class, views, ranking)
        for at in bits(nodes & ~shifted & with_gpus):
            if index.records[at].left.holds(ask.shape):
                mask |= 1 << at
        return mask

    def _let_go(self, live: LiveAttempt) -> None:
        self.leaving.add(live.placement.key.job)
        placed = live.placement
        self.ledger.shift(stake_of(self.fleet, placed, live.job_class), -1)
        self._draws.charge(placed.site, placed.gpu_class, -placed.gpu_milli)
        for part in live.placement.nodes:
            self._touch(part.node)

    def _keep(self, claim: Claim) -> None:
        self.claims[claim.job] = claim
        if not self.is_soon(claim):
            self._mark(claim)
            return
        ask = ask_of(claim.job_class)
        promise = Promise(ask.shape, ask.sharing, ask.organisation)
        for node in claim.nodes:
            self._promises.setdefault(node, {})[claim.job] = promise
            self._touch(node)
        stake = self._stake(claim)
        self.ledger.shift(stake, 1)
        self._draws.charge(claim.site, claim.gpu_class, stake.milli)

    def _mark(self, claim: Claim) -> None:
        if self.is_soon(claim):
            return
        for node in claim.nodes:
            record, number = self.fleet.nodes.get(node), self.numbers.get(claim.site)
            if record is not None and number is not None:
                self._closed[number] = self._closed.get(number, 0) | 1 << record.at

    def _touch(self, node: NodeId) -> None:
        self._versions[node] = self._versions.get(node, 0) + 1
        record = self.fleet.nodes.get(node)
        number = self.numbers.get(SiteId(node.partition("/")[0]))
        if record is not None and number is not None:
            self._shifted[number] = self._shifted.get(number, 0) | 1 << record.at
            self.touched.setdefault(number, []).append(record.at)

    def _stake(self, claim: Claim) -> Stake:
        records = [self.fleet.nodes[node] for node in claim.nodes if node in self.fleet.nodes]
        ask = ask_of(claim.job_class)
        milli = sum(ask.milli_on(record.node.gpus) for record in records)
        rank = self.evictable.rank(claim.job_class)
        return Stake(claim.job_class.tenant, rank, claim.gpu_class, milli)


def is_soon(fleet: FleetState, nodes: Iterable[NodeId], starts_at_ms: int, now_ms: int) -> bool:
    """Whether a job that `nodes` are kept for starts as soon as those who leave them have left."""
    if starts_at_ms <= now_ms + SOON_MS:
        return True
    leaving = fleet.evictable.leaving
    records = (fleet.nodes[node] for node in nodes if node in fleet.nodes)
    return any(job in leaving for record in records for job in record.occupants)


def stake_of(fleet: FleetState, placement: Placement, job_class: JobClass) -> Stake:
    """What an attempt, or what is about to be one, counts for in the tree."""
    rank = fleet.evictable.rank(job_class, placement.key.job)
    return Stake(job_class.tenant, rank, placement.gpu_class, placement.gpu_milli)
