"""Whether a class finds a place as the state stands, and what stands against it if not.

Simple equivalent: for every GPU class that it may use look at quota, then for the best nodes, then
at the site's power, and take the place with the best score. Departures: what was found full is not
looked at again before something made room (`alarm`), and what is found to be kept for others stays
so to the end of the plan, for jobs that take as long or longer.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from scheduler.core.allowance import allows, denials, over_caps
from scheduler.core.answers import Answer, ClassAnswer
from scheduler.core.backfill import Backfill
from scheduler.core.classes import ends_by_ms
from scheduler.core.elastic import widest
from scheduler.core.fleet import FleetState
from scheduler.core.gangs import Exhausted, Held, Spot, find
from scheduler.core.no_place import NoPlace, kept_for_others
from scheduler.core.occupancy import EMPTY, NodeRecord
from scheduler.core.waiting import Signature, Waiting
from scheduler.core.windows import Bars
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.reasons import Denial, Reason

NO_POWER = "there is room, but the site may not draw the power"


class Memory(Enum):
    """What a search makes of what earlier plans found full."""

    KEPT = "kept"
    """It still is: `wake` was called."""
    LEFT = "left"
    """It looks for itself."""


class Search:
    """Searches on the state as the plan that is being made leaves it."""

    def __init__(
        self, fleet: FleetState, backfill: Backfill, now_ms: int, memory: Memory = Memory.LEFT
    ) -> None:
        self.fleet = fleet
        self.backfill = backfill
        self.now_ms = now_ms
        self._keeps = memory is Memory.KEPT
        self.bars = Bars(fleet.windows, now_ms)
        self._has_bars = bool(self.bars)
        # Nothing is kept for anybody, and never is in this plan before the turns are over.
        self._is_open = not backfill and not self._has_bars
        self._exhausted = Exhausted()
        # By what asked for it: an empty node that has room for that, and may be kept for others.
        self._empty: dict[int, tuple[ClassAnswer, NodeRecord]] = {}
        # The sites' nodes that windows keep from a tenant until a moment.
        self._barred: dict[tuple[TenantPath, int], Held] = {}
        self._answers: dict[Signature, Answer] = {}
        # Of classes that found no room but what is kept for others: the shortest time limit of
        # which that is known, a tenant's, and how it is kept.
        self._kept: dict[Signature, tuple[int, TenantPath, Reason]] = {}
        # Of signatures without room: who takes so long, or longer, has none to the end of the plan.
        self.shut: dict[Signature, int] = {}
        # What `why_shut` said, where every class of a tenant with the signature is told the same.
        self._told: dict[tuple[Signature, TenantPath], tuple[Denial, ...] | None] = {}

    def place(self, waiting: Waiting, job: JobId) -> Spot | NoPlace:
        """The best place for a job of a class now, or what stands against it."""
        signature = waiting.signature
        answer = self._answers.get(signature) or self._answer_for(waiting)
        against, best, milli = NoPlace(answer), None, signature.milli
        kept = self._kept_before(waiting, job) if self._kept else None
        is_full = self._keeps and signature.busy
        for where in answer.classes:
            if milli is not None and not allows(
                self.fleet, waiting.job_class, where.gpu_class, milli, self.now_ms
            ):
                against.quota += self._over(waiting, where.gpu_class, milli)
                continue
            against.searched = True
            if not is_full and kept is None:
                spot = self._place_on(waiting, job, where, against)
                if spot is not None and (best is None or spot.growth < best.growth):
                    best = spot
        if best is not None:
            return best
        if against.searched and not is_full and not against.power and not against.agreed:
            against.held = kept if kept is not None else self._who_keeps(waiting, answer)
            if against.held is not None and not against.quota:
                self._note_kept(waiting, against.held)
        return against

    def why_shut(self, waiting: Waiting) -> tuple[Denial, ...] | None:
        """Why a class that is `shut` waits, if that is all there is; None: look for yourself."""
        if self.fleet.tree.has_budgets:
            return self._why_shut(waiting)
        key = waiting.signature, waiting.job_class.tenant
        if key not in self._told:
            self._told[key] = self._why_shut(waiting)
        return self._told[key]

    def until_ms(self, waiting: Waiting) -> int | None:
        """Until when it holds where a class may go by law and shape; None: for good."""
        return (self._answers.get(waiting.signature) or self._answer_for(waiting)).until_ms

    def _why_shut(self, waiting: Waiting) -> tuple[Denial, ...] | None:
        signature = waiting.signature
        answer = self._answers.get(signature) or self._answer_for(waiting)
        milli = signature.milli
        if milli is None or not answer.classes:
            return None
        for where in answer.classes:
            if not self._allows(waiting, where.gpu_class, milli):
                return None
        if signature.busy:
            return signature.full(answer)
        return kept_for_others(self._kept[signature][2], answer)

    def barred(self, waiting: Waiting, number: int) -> int:
        """The nodes of a site that windows of time keep from a class."""
        if not self.bars:
            return 0
        ends_ms = ends_by_ms(waiting.job_class, self.now_ms)
        site, index, _ = self.fleet.order[number]
        return self.bars.against(site, index, waiting.job_class.tenant, ends_ms)

    def forget(self, waiting: Waiting) -> None:
        """Where a class may go is no more what it was: one of it was taken in this plan."""
        self._answers.pop(waiting.signature, None)

    def _answer_for(self, waiting: Waiting) -> Answer:
        """Where a class may go by law and shape: the same to the end of the plan."""
        known = self._answers[waiting.signature] = self.fleet.answer_for(waiting, self.now_ms)
        return known

    def _place_on(
        self, waiting: Waiting, job: JobId, where: ClassAnswer, against: NoPlace
    ) -> Spot | None:
        """The best place on one GPU class that power, agreements and, where it is charged whole
        nodes, quota allow; what stood against others is added to `against`."""
        fleet, signature = self.fleet, waiting.signature
        if signature.wider:
            spot = widest(fleet, self._look, waiting, job, where, self.now_ms)
            if spot is not None:
                return spot
        held = None if self._is_open else self._held_from(waiting, job)
        while (spot := self._find(signature, where, held)) is not None:
            milli = signature.milli
            if milli is not None and not fleet.caps and not against.answer.agreed:
                return spot
            if milli is None:
                milli = spot.milli(waiting.ask)
            agreements = against.answer.agreed.get(spot.number, ())
            if not fleet.may_draw(spot.number, where.gpu_class, milli):
                against.power += (Denial(Reason.POWER_CAP, NO_POWER, spot.site),)
            elif over := over_caps(fleet, waiting.job_class, agreements, milli, self.now_ms):
                against.agreed += over
            elif signature.milli is not None or self._allows(waiting, where.gpu_class, milli):
                return spot
            else:
                against.quota += self._over(waiting, where.gpu_class, milli)
            where = self._without(where, spot, signature)
        return None

    def _find(self, signature: Signature, where: ClassAnswer, held: Held | None) -> Spot | None:
        """The best place on one GPU class; of replicas, the one that keeps them furthest apart."""
        apart = signature.ask.apart
        if apart is None:
            return find(self.fleet, signature, where, held, self._exhausted)
        for near in self.fleet.spreads.preferences(apart, self.fleet.order):
            others = held if near is None else both(held or {}, near)
            spot = find(self.fleet, signature, where, others)
            if spot is not None:
                return spot
        return None

    def _without(self, where: ClassAnswer, spot: Spot, signature: Signature) -> ClassAnswer:
        """`where` without what costs no less than `spot`, which costs too much. Whole nodes are
        charged by their size, so smaller ones of the same site may do; else the site does not."""
        number = spot.number
        closed = replace(where, sites=where.sites & ~(1 << number))
        if signature.milli is not None:
            return closed
        kinds = self.fleet.order[number][1].layout.of_kind
        open_here = where.nodes[number]
        sizes = [
            gpus
            for (name, gpus), nodes in kinds.items()
            if name == where.gpu_class and nodes & open_here
        ]
        largest = max(spot.records, key=lambda record: (record.node.gpus, record.at))
        if largest.node.gpus == min(sizes):
            return closed
        if signature.ask.nodes > 1:  # It may be one large node too many.
            left = open_here & ~(1 << largest.at)
        else:
            left = open_here
            for (_, gpus), nodes in kinds.items():
                left &= ~nodes if gpus >= largest.node.gpus else -1
        return replace(where, nodes={**where.nodes, number: left})

    def _allows(self, waiting: Waiting, gpu_class: GpuClass, milli: int) -> bool:
        return allows(self.fleet, waiting.job_class, gpu_class, milli, self.now_ms)

    def _over(self, waiting: Waiting, gpu_class: GpuClass, milli: int) -> tuple[Denial, ...]:
        return denials(self.fleet, waiting.job_class, gpu_class, milli, self.now_ms)

    def _look(
        self, waiting: Waiting, job: JobId, where: ClassAnswer, signature: Signature
    ) -> Spot | None:
        """The best place on one GPU class, leaving alone what is reserved for others."""
        held = None if self._is_open else self._held_from(waiting, job)
        return find(self.fleet, signature, where, held, self._exhausted)

    def _held_from(self, waiting: Waiting, job: JobId) -> Held:
        """The nodes that `job` must leave to others."""
        held = self.backfill.held(ends_by_ms(waiting.job_class, self.now_ms), job)
        if not self._has_bars:
            return held
        return both(held, self._all_barred(waiting))

    def _all_barred(self, waiting: Waiting) -> Held:
        """What `barred` says, of all sites."""
        job_class = waiting.job_class
        key = job_class.tenant, job_class.time_limit_bucket_ms
        known = self._barred.get(key)
        if known is None:
            numbers = range(len(self.fleet.order))
            known = {at: mask for at in numbers if (mask := self.barred(waiting, at))}
            self._barred[key] = known
        return known

    def _who_keeps(self, waiting: Waiting, answer: Answer) -> Reason | None:
        """Whether there would be room, were it not for reservations, or for windows of time."""
        signature, places = waiting.signature, answer.classes
        barred = self._all_barred(waiting) if self._has_bars else None
        if self.backfill and any(self._fits(signature, where, barred) for where in places):
            return Reason.BEHIND_OTHERS
        if self._has_bars and any(self._fits(signature, where, None) for where in places):
            return Reason.WINDOW
        return None

    def _fits(self, signature: Signature, where: ClassAnswer, barred: Held | None) -> bool:
        """Whether there is room on the GPU class of `where`, whoever it is kept for.

        An empty node that one found is room for all who ask the same, if nobody took it since.
        """
        known = self._empty.get(id(where)) if barred is None else None
        if known is not None and known[1].views[0] is EMPTY and EMPTY in signature.views:
            return True
        spot = find(self.fleet, signature, where, barred, self._exhausted)
        if spot is None:
            return False
        if barred is None and signature.ask.nodes == 1 and spot.records[0].views[0] is EMPTY:
            self._empty[id(where)] = where, spot.records[0]
        return True

    def _note_kept(self, waiting: Waiting, how: Reason) -> None:
        signature, limit_ms = waiting.signature, waiting.job_class.time_limit_bucket_ms
        if not self._has_bars:
            limit_ms = self.backfill.least_alike_ms(limit_ms)
        self._kept[signature] = limit_ms, waiting.job_class.tenant, how
        if not self._has_bars and not self.backfill.is_kept_for(signature):
            self.shut[signature] = limit_ms

    def _kept_before(self, waiting: Waiting, job: JobId) -> Reason | None:
        """How room is kept from a class, if that is known of one that takes no longer. A plan only
        takes room, so what was found holds to its end."""
        known = self._kept.get(waiting.signature)
        if known is None or self.backfill.keeps_for(job):
            return None
        limit_ms, tenant, how = known
        if waiting.job_class.time_limit_bucket_ms < limit_ms:
            return None
        return how if waiting.job_class.tenant == tenant or not self._has_bars else None


def both(one: Held, other: Held) -> Held:
    """The nodes that either holds."""
    return {at: one.get(at, 0) | other.get(at, 0) for at in one.keys() | other.keys()}
