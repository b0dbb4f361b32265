"""What a plan takes of the state while it is made, and how that is given back or stays.

Simple equivalent: all of it is given back when the plan is made, and what is committed takes its
nodes again. Departure: a plan that will be known again by its number leaves what it took in place
until the state is read or changed. If the first that is heard is that all of it was committed, it
stays, and is only told to those who keep lists of what is live. Anything else gives all back first.
"""

from __future__ import annotations

from scheduler.core.allowance import give_back, hold
from scheduler.core.budgets import gpu_ms
from scheduler.core.classes import ends_by_ms
from scheduler.core.fleet import FleetState
from scheduler.core.gangs import Spot, Taken, make
from scheduler.core.index import SiteIndex
from scheduler.core.occupancy import NodeRecord, Occupant, View
from scheduler.core.quota import ALL_CLASSES
from scheduler.core.rooms import Left
from scheduler.core.waiting import Waiting
from scheduler.model.ids import GpuClass, JobId
from scheduler.model.job import NodePlacement
from scheduler.model.plan import JobClass


class Takings:
    """All that one plan took so far."""

    def __init__(self, fleet: FleetState, now_ms: int) -> None:
        self.all: list[Taken] = []
        self._fleet = fleet
        self._now_ms = now_ms
        self._has_agreements = bool(fleet.agreements)
        # What was held under which agreements.
        self._agreed: list[tuple[JobClass, str, int]] = []
        self._left: dict[NodeRecord, tuple[SiteIndex, Left, tuple[View, ...]]] = {}
        self._shown: list[tuple[NodeRecord, JobId]] = []
        # What the nodes' lists do not tell yet, by the site's number.
        self._unshown: dict[int, list[Taken]] | None = None

    def take(self, waiting: Waiting, at: int, spot: Spot) -> None:
        """Puts the job at a place of its line on its nodes."""
        signature, left, steps = waiting.signature, self._left, spot.ranking.steps
        index = self._fleet.order[spot.number][1]
        nodes: list[NodePlacement] = []
        for record in spot.records:
            before = record.left
            if record not in left:
                left[record] = index, before, record.views
            step = steps.get(before) or spot.ranking.step(before)
            assert step is not None, "the search saw room"
            record.take(step[1], signature.alone)
            index.move(record)
            nodes.append(make(NodePlacement, (record.node.id, step[0])))
        milli, gpu_class = signature.milli, spot.gpu_class
        if milli is None or signature.wider:
            milli = spot.milli(signature.ask)
        for line in waiting.used:
            line[gpu_class] = line.get(gpu_class, 0) + milli
            line[ALL_CLASSES] = line.get(ALL_CLASSES, 0) + milli
        if self._fleet.caps:
            self._fleet.draws.charge(spot.site, gpu_class, milli)
        if self._has_agreements:
            self._agree(waiting, spot, milli)
        if self._fleet.tree.has_budgets:
            self._spend(waiting, gpu_class, milli)
        taken = Taken(waiting, at, spot, nodes, milli)
        self._fleet.spreads.enter(waiting.ask.apart, taken.placement)
        self.all.append(taken)

    def show(self, number: int) -> None:
        """Writes what was taken at a site into its nodes' lists of occupants, for those who read
        these: few sites are asked about, and most of what a plan takes never is."""
        if self._unshown is None:
            self._unshown = {}
            for taken in self.all:
                self._unshown.setdefault(taken.spot.number, []).append(taken)
        for taken in self._unshown.pop(number, ()):
            job = taken.placement.key.job
            for record, occupant in self._occupants(taken, self._now_ms):
                record.show(occupant)
                self._shown.append((record, job))

    def end(self, number: int) -> None:
        """The plan is made. What `show` wrote goes; the rest stays in place for a plan that has a
        number, where placements take nothing but nodes and quota."""
        for record, job in self._shown:
            record.hide(job)
        fleet = self._fleet
        if number and not (fleet.caps or self._has_agreements or fleet.tree.has_budgets):
            fleet.alarm.unfinished = self
        else:
            self.undo()

    def undo(self) -> None:
        """Gives everything back."""
        fleet = self._fleet
        for record, (index, left, views) in self._left.items():
            record.left, record.views = left, views
            index.move(record)
        for job_class, name, milli in self._agreed:
            give_back(fleet, job_class, name, milli, self._now_ms)
        for taken in self.all:
            gpu_class, milli = taken.spot.gpu_class, taken.placement.gpu_milli
            for line in taken.waiting.used:
                line[gpu_class] -= milli
                line[ALL_CLASSES] -= milli
            if fleet.caps:
                fleet.draws.charge(taken.spot.site, gpu_class, -milli)
            if fleet.tree.has_budgets:
                self._spend(taken.waiting, gpu_class, -milli)
            fleet.spreads.leave(taken.waiting.ask.apart, taken.placement.key.job)

    def adopt(self, placed_at_ms: int) -> None:
        """All of it was committed: it stays."""
        fleet = self._fleet
        for taken in self.all:
            placement, index = taken.placement, fleet.order[taken.spot.number][1]
            for record, occupant in self._occupants(taken, placed_at_ms):
                record.show(occupant)
                index.choose_spares(record)
            fleet.draws.charge(placement.site, placement.gpu_class, placement.gpu_milli)
            fleet.keep(fleet.queued.start(placement, taken.waiting, placed_at_ms))

    def _occupants(self, taken: Taken, placed_at_ms: int) -> list[tuple[NodeRecord, Occupant]]:
        """What its nodes would list of a job, were it placed at that time."""
        ask, job = taken.waiting.ask, taken.placement.key.job
        until_ms = ends_by_ms(taken.waiting.job_class, placed_at_ms)
        shape, sharing, organisation = ask.shape, ask.sharing, ask.organisation
        return [
            (record, Occupant(job, part.gpu_mask, shape, sharing, organisation, until_ms))
            for record, part in zip(taken.spot.records, taken.placement.nodes, strict=True)
        ]

    def _agree(self, waiting: Waiting, spot: Spot, milli: int) -> None:
        """What a placement holds under an agreement that opens its site, if one is needed."""
        names = self._fleet.answer_for(waiting, self._now_ms).agreed.get(spot.number)
        if names:
            name = hold(self._fleet, waiting.job_class, names, milli, self._now_ms)
            self._agreed.append((waiting.job_class, name, milli))

    def _spend(self, waiting: Waiting, gpu_class: GpuClass, milli: int) -> None:
        """What a placement reserves of budgets; negative gives it back."""
        job_class = waiting.job_class
        cost_gpu_ms = gpu_ms(abs(milli), job_class.time_limit_bucket_ms)
        cost_gpu_ms = cost_gpu_ms if milli >= 0 else -cost_gpu_ms
        self._fleet.book.hold(job_class.tenant, gpu_class, cost_gpu_ms, self._now_ms)
