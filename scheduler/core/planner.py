"""Decides where queued work goes: pure, deterministic, and the state is as before when it returns.

Simple equivalent: again and again give the next job in fair order the best permitted place that
has room, until no job has one; and say why for the rest. Departures:

* Jobs of one class are alike. When the first of a class does not fit, the class is done for this
  plan: a plan only takes, so nothing that could help it happens before the next one. It sleeps
  until something does (`alarm`), so a plan's cost follows what changed.
* The state itself is planned on, so that each placement sees the ones before it, and every
  placement is undone after it: only committed changes may move the state for good (`takings`).
* Nodes are reserved for the oldest jobs that find no room, so that smaller ones cannot starve them
  (`backfill`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scheduler.core.allowance import allows, within_caps
from scheduler.core.answers import ClassAnswer
from scheduler.core.backfill import RESERVE_AFTER_MS, Backfill
from scheduler.core.elastic import growing
from scheduler.core.fleet import FleetState
from scheduler.core.gangs import Spot
from scheduler.core.making_room import hopeful_classes, make_room, too_much_power
from scheduler.core.mix import learned
from scheduler.core.no_place import NoPlace
from scheduler.core.outlook import stake_of
from scheduler.core.queueing import NOTHING_SHUT, FairOrder
from scheduler.core.quota import ROOT, lineage
from scheduler.core.search import Memory, Search
from scheduler.core.takings import Takings
from scheduler.core.waiting import Signature, Waiting
from scheduler.core.waking import wake
from scheduler.model.ids import TenantPath
from scheduler.model.job import Placement
from scheduler.model.plan import Blocked, JobClass, Plan, PlanBudget, Preempt
from scheduler.model.reasons import Denial, Reason

DEFAULT_BUDGET = PlanBudget()


def plan(
    fleet: FleetState, now_ms: int, budget: PlanBudget = DEFAULT_BUDGET, number: int = 0
) -> Plan:
    """The placements to commit next, in order, and why the rest waits.

    `number`: by which the plan is known again when it is committed (`Plan.number`).
    """
    fleet.settle()  # 1. What is free, and who uses what.
    desk = Desk(fleet, now_ms)
    for job in desk.backfill.released:
        fleet.note_room_of(fleet.reservations[job])
    anew = wake(fleet, now_ms)  # 2. Who could find a place that found none before.
    try:
        desk.deal(budget, anew=anew)  # 3. In fair order: filter, score, take.
        placements = desk.placements(number)
        desk.keep_room()  # 4. Reserve for those who found none,
        desk.make_room(placements)  # 5. or have others leave for them.
    finally:
        desk.takings.end(number)  # 6. Leave the state as it was, or till it is looked at.
    return Plan(
        sequence=fleet.sequence,
        policy_revision=fleet.policy.revision,
        placements=placements,
        preemptions=(*desk.preemptions, *growing(fleet, now_ms)),
        reservations=tuple(desk.backfill.made),
        released=tuple(sorted(desk.backfill.released)),
        blocked=tuple(desk.blocked),
        emptied=fleet.alarm.take_emptied(),
        anew=anew,
        may_grow=bool(fleet.growable),
        mix=learned(fleet, now_ms),
        number=number,
    )


class Desk:
    """Where one plan is made."""

    def __init__(self, fleet: FleetState, now_ms: int) -> None:
        self.fleet = fleet
        self.now_ms = now_ms
        self.backfill = Backfill(fleet, now_ms)
        self.search = Search(fleet, self.backfill, now_ms, Memory.KEPT)
        self.takings = Takings(fleet, now_ms)
        self.taken = self.takings.all
        self.blocked: list[Blocked] = []
        self.preemptions: list[Preempt] = []
        self._anew = True

    def deal(self, budget: PlanBudget, *, anew: bool) -> None:
        """Gives turns until nobody is left or the budget is spent; says who waits and why, all of
        them if all are looked at `anew`."""
        self._anew = anew
        search, attempts = self.search, 0
        order = self._order(self._in_turn(), search.shut)
        while len(self.taken) < budget.placements_max and attempts < budget.attempts_max:
            turn = order.next()
            if turn is None:
                break
            attempts += 1
            waiting, at = turn
            spot = search.place(waiting, waiting.ids[at])
            if isinstance(spot, Spot):
                self._take(waiting, at, spot)
                order.placed(spot.gpu_class)
            else:
                order.blocked()
                self._seat_holders(waiting, at)
                self._block(waiting, spot)
        for waiting in order.passed_over:
            self._leave_shut(waiting)
        detail = "the plan's budget was spent first; the next plan goes on"
        spent = (Denial(Reason.PLAN_BUDGET, detail),)
        for waiting in order.rest():
            self._say(waiting, spent)

    def _seat_holders(self, waiting: Waiting, first: int) -> None:
        """Starts those of a class that nodes are kept for: its `first` came back before them."""
        for at in self.backfill.holders_in(waiting, first + 1):
            spot = self.search.place(waiting, waiting.ids[at])
            if isinstance(spot, Spot):
                self._take(waiting, at, spot)

    def _take(self, waiting: Waiting, at: int, spot: Spot) -> None:
        """Puts the job on its nodes for the rest of this plan."""
        self.takings.take(waiting, at, spot)
        if waiting.ask.apart is not None:
            self.search.forget(waiting)

    def keep_room(self) -> None:
        """Keeps nodes for jobs that wait for room and have done so for a while, in fair order."""
        backfill = self.backfill
        for taken in self.taken if backfill else ():
            backfill.release(taken.waiting.ids[taken.at])
        for job, waiting in backfill.holders():
            if not self._within_quota(waiting):
                backfill.give_up(job)
        if backfill.is_full():
            return
        for waiting, at, places in self._without_room():
            backfill.reserve(waiting, waiting.ids[at], places, self.takings.show)
            if backfill.is_full():
                return

    def make_room(self, placements: tuple[Placement, ...]) -> None:
        """Has others leave for jobs that found no place and may ask for that, in fair order."""
        fleet, tenants = self.fleet, self.fleet.tree.tenants
        self.preemptions = too_much_power(fleet, self.now_ms)
        if self.preemptions:
            return  # Who is ended may well make the room; the next plan sees.
        hopeful = hopeful_classes(
            fleet, [each for each in fleet.alarm.asleep if each.job_class.tenant in tenants]
        )
        if not hopeful:
            return
        for number in sorted({taken.spot.number for taken in self.taken}):
            self.takings.show(number)
        placed = {
            placement.key.job: stake_of(fleet, placement, taken.waiting.job_class)
            for placement, taken in zip(placements, self.taken, strict=True)
        }
        cleared = make_room(fleet, self._order(hopeful), placed, self._barred_for, self.now_ms)
        self.preemptions = cleared.preemptions
        for made, job_class in cleared.reservations:
            self.backfill.cleared(made, job_class)

    def _barred_for(self, job_class: JobClass, number: int) -> int:
        return self.search.barred(self.fleet.classes[job_class], number)

    def placements(self, number: int) -> tuple[Placement, ...]:
        """What was taken, as it is to be committed; noted as pending until it is."""
        alarm = self.fleet.alarm
        alarm.plan_number = number
        alarm.pending = {
            taken.placement.key.job: (taken.placement, taken.waiting) for taken in self.taken
        }
        return tuple([taken.placement for taken in self.taken])

    def _in_turn(self) -> list[Waiting]:
        """The classes that are awake and have their turn; the others are told why not."""
        fleet, tenants, inside = self.fleet, self.fleet.tree.tenants, list[Waiting]()
        strange = {
            tenant
            for tenant in fleet.queued.of_tenant
            if any(path not in tenants for path in lineage(tenant))
        }
        for waiting in list(fleet.alarm.awake):
            if strange and (tenant := waiting.job_class.tenant) in strange:
                detail = f"tenant {tenant!r} is not in the tree"
                self._say(waiting, (Denial(Reason.QUOTA_LIMIT, detail, tenant),))
                fleet.alarm.sleep(waiting)
            elif waiting.odd and waiting.next_ready(waiting.spent, self.now_ms) == len(waiting.ids):
                detail = "every job waits for its back-off to end"
                self._say(waiting, (Denial(Reason.BACKING_OFF, detail),))
                fleet.alarm.sleep(waiting, clock_ms=waiting.wakes_at_ms())
            else:
                inside.append(waiting)
        return inside

    def _order(
        self, classes: list[Waiting], shut: Mapping[Signature, int] = NOTHING_SHUT
    ) -> FairOrder:
        """The fair order of `classes`, without those that are `shut`."""
        fleet = self.fleet
        return FairOrder(
            classes,
            fleet.tree.tenants,
            fleet.usage,
            fleet.capacity_milli,
            {path: fleet.tree.guarantees(path) for path in fleet.tree.tenants},
            fleet.queued.wanted,
            fleet.evictable.ahead_of,
            self.now_ms,
            {taken.waiting: taken.at + 1 for taken in self.taken},
            shut,
        )

    def _block(self, waiting: Waiting, against: NoPlace) -> None:
        """The class waits: it says why, and sleeps until that may have changed."""
        fleet = self.fleet
        kept = bool(against.held or against.power or against.agreed)
        if against.searched and not against.quota and not kept:
            waiting.signature.busy = True
            self.search.shut[waiting.signature] = 0
        self._say(waiting, against.denials(waiting))
        tenants: set[TenantPath] = set()
        for denial in against.quota:
            tenants.add(ROOT if denial.reason is Reason.QUOTA_KEPT else TenantPath(denial.subject))
        fleet.alarm.sleep(
            waiting,
            room=against.searched,
            power=bool(against.power or against.agreed),
            tenants=sorted(tenants),
            until_ms=against.until_ms(waiting, fleet.book, fleet.agreements, self.now_ms),
        )

    def _leave_shut(self, waiting: Waiting) -> None:
        """As `_block`, of a class that was passed over: most of a long queue."""
        denials = self.search.why_shut(waiting)
        if denials is None:
            at = waiting.next_ready(waiting.spent, self.now_ms)
            against = self.search.place(waiting, waiting.ids[at])
            assert isinstance(against, NoPlace), "what was full stays so to the end of a plan"
            self._block(waiting, against)
            return
        self._say(waiting, denials)
        self.fleet.alarm.sleep_for_room(waiting, self.search.until_ms(waiting))

    def _say(self, waiting: Waiting, denials: tuple[Denial, ...]) -> None:
        """Tells why a class waits, unless the last plan that looked told the same."""
        if self._anew or waiting.denials[:1] != denials[:1]:
            self.blocked.append(Blocked(waiting.job_class, denials))
        waiting.denials = denials

    def _without_room(self) -> Iterator[tuple[Waiting, int, tuple[ClassAnswer, ...]]]:
        """The first ready job of each class that lacks room and no quota and has waited, with where
        it may go: who has waited for its whole bound first, by age, whoever's it is, so that the
        small jobs of others cannot have its nodes kept for them for ever; then in fair order."""
        in_need = self.backfill.in_need()
        for waiting, at in self._overdue(in_need):
            places = self._within_quota(waiting)
            if places:
                yield waiting, at, places
        order = self._order(in_need)
        while (turn := order.next()) is not None:
            waiting, at = turn
            waited_ms = self.now_ms - waiting.submitted_at_ms[at]
            if waited_ms >= RESERVE_AFTER_MS and self.backfill.serves(waiting):
                places = self._within_quota(waiting)
                if places:
                    yield waiting, at, places
            order.blocked()

    def _overdue(self, classes: list[Waiting]) -> list[tuple[Waiting, int]]:
        """The first ready job of each class that has waited for its bound, the oldest first."""
        begin = {taken.waiting: taken.at + 1 for taken in self.taken}
        found: list[tuple[int, Waiting, int]] = []
        for waiting in classes:
            at = begin.get(waiting, waiting.spent)
            if waiting.odd:
                at = waiting.next_ready(at, self.now_ms)
            if at < len(waiting.ids) and self.backfill.has_waited(waiting, at):
                found.append((waiting.submitted_at_ms[at], waiting, at))
        found.sort(key=lambda each: (each[0], each[1].ids[each[2]]))
        return [(waiting, at) for _, waiting, at in found]

    def _within_quota(self, waiting: Waiting) -> tuple[ClassAnswer, ...]:
        """Where a class may go by law, shape, agreements and quota."""
        fleet, milli = self.fleet, waiting.signature.milli or 0
        answer = fleet.answer_for(waiting, self.now_ms)
        open_to_it = within_caps(fleet, waiting.job_class, answer, milli, self.now_ms)
        return tuple(
            where
            for where in open_to_it.classes
            if where.sites and allows(fleet, waiting.job_class, where.gpu_class, milli, self.now_ms)
        )
