"""Decides where queued work goes: pure, deterministic, and the state is as before when it returns.

Simple equivalent: again and again give the next job in fair order the best permitted place that
has room, until no job has one; and say why for the rest. Departures:

* Jobs of one class are alike. When the first of a class does not fit, the class is done for this
  plan: a plan only takes, so nothing that could help it happens before the next one.
* The state itself is planned on, so that each placement sees the ones before it, and every
  placement is undone at the end: only committed changes may move the state for good.
* Jobs that find no room keep nodes for themselves, so that smaller ones cannot starve them
  (`backfill`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from scheduler.core.answers import Answer, ClassAnswer
from scheduler.core.backfill import RESERVE_AFTER_MS, Backfill
from scheduler.core.fleet import FleetState, ends_by_ms
from scheduler.core.gangs import Spot, find
from scheduler.core.making_room import hopeful_classes, make_room, too_much_power
from scheduler.core.outlook import stake_of
from scheduler.core.queueing import FairOrder
from scheduler.core.quota import charge, fits, lineage, within
from scheduler.core.waiting import Waiting
from scheduler.core.windows import Bars
from scheduler.model.ids import AttemptKey, GpuClass, JobId
from scheduler.model.job import Placement
from scheduler.model.plan import Blocked, JobClass, Plan, PlanBudget, Preempt
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import NodeSharing

DEFAULT_BUDGET = PlanBudget()
FOR_ROOM = frozenset({Reason.NODES_BUSY, Reason.BEHIND_OTHERS, Reason.WINDOW})
"""What a job waits for when there is no room: nodes are kept for it."""


def plan(fleet: FleetState, now_ms: int, budget: PlanBudget = DEFAULT_BUDGET) -> Plan:
    """The placements to commit next, in order, and why the rest waits."""
    fleet.settle()  # 1. What is free, and who uses what.
    order, blocked = whose_turn(fleet, now_ms)  # 2. In which order.
    desk = Desk(fleet, now_ms)
    try:
        blocked += desk.deal(order, budget)  # 3. Filter, score, take.
        desk.make_room()  # 4. Who has to leave for those who found no place.
        placements = tuple(placement for placement, _ in desk.taken)
    finally:
        desk.undo()  # 5. Leave the state as it was.
    return Plan(
        sequence=fleet.sequence,
        policy_revision=fleet.policy.revision,
        placements=placements,
        preemptions=tuple(desk.preemptions),
        blocked=tuple(blocked),
        reservations=tuple(desk.backfill.made),
        released=tuple(sorted(desk.backfill.released)),
    )


def whose_turn(fleet: FleetState, now_ms: int) -> tuple[FairOrder, list[Blocked]]:
    """The fair order, and the classes that are outside it."""
    tenants = fleet.tree.tenants
    inside: list[Waiting] = []
    blocked: list[Blocked] = []
    for job_class, waiting in fleet.classes.items():
        if any(path not in tenants for path in lineage(job_class.tenant)):
            detail = f"tenant {job_class.tenant!r} is not in the tree"
            denial = Denial(Reason.QUOTA_LIMIT, detail, job_class.tenant)
            blocked.append(Blocked(job_class, (denial,)))
        elif waiting.next_ready(0, now_ms) == len(waiting.line):
            denial = Denial(Reason.BACKING_OFF, "every job waits for its back-off to end")
            blocked.append(Blocked(job_class, (denial,)))
        else:
            inside.append(waiting)
    # A class's first job orders it; dictionaries keep insertion order, and that is history.
    blocked.sort(key=lambda b: fleet.classes[b.job_class].line[0])
    return fair_order(fleet, inside, now_ms), blocked


def fair_order(fleet: FleetState, classes: Iterable[Waiting], now_ms: int) -> FairOrder:
    """The fair order of `classes`, as things are."""
    tenants = fleet.tree.tenants
    guarantees = {path: fleet.tree.guarantees(path) for path in tenants}
    return FairOrder(
        classes, dict(tenants), fleet.usage, fleet.capacity_milli, guarantees, now_ms
    )  # fmt: skip


class Desk:
    """Where one plan is made: what was taken so far, and how to undo it."""

    def __init__(self, fleet: FleetState, now_ms: int) -> None:
        self.fleet = fleet
        self.now_ms = now_ms
        self.backfill = Backfill(fleet, now_ms)
        self.bars = Bars(fleet.windows, now_ms)
        self.taken: list[tuple[Placement, JobClass]] = []
        self.unserved: list[Waiting] = []
        self.preemptions: list[Preempt] = []

    def deal(self, order: FairOrder, budget: PlanBudget) -> list[Blocked]:
        """Gives turns until nobody is left or the budget is spent; says who waits and why."""
        blocked: list[Blocked] = []
        attempts = 0
        while len(self.taken) < budget.placements_max and attempts < budget.attempts_max:
            turn = order.next()
            if turn is None:
                return blocked
            attempts += 1
            waiting, at = turn
            job = waiting.line[at][1]
            spot = self.place(waiting, job)
            if isinstance(spot, Spot):
                order.placed(self.take(waiting, at, spot))
            else:
                order.blocked()
                self._keep(waiting, at, spot)
                self.unserved.append(waiting)
                blocked.append(Blocked(waiting.job_class, spot))
        detail = "the plan's budget was spent first; the next plan goes on"
        denials = (Denial(Reason.PLAN_BUDGET, detail),)
        return blocked + [Blocked(waiting.job_class, denials) for waiting in order.rest()]

    def place(self, waiting: Waiting, job: JobId) -> Spot | tuple[Denial, ...]:
        """The best place for a job of a class now, or what stands against it."""
        fleet, ask, tenant = self.fleet, waiting.ask, waiting.job_class.tenant
        answer = fleet.answer_for(waiting, self.now_ms)
        quota: list[Denial] = []
        power: list[Denial] = []
        for suiting in answer.classes:
            where = suiting
            if ask.sharing is not NodeSharing.NONE:
                milli = ask.nodes * ask.shape.gpus * 1000
                if not within(fleet.tree, fleet.usage, tenant, where.gpu_class, milli):
                    quota += fits(fleet.tree, fleet.usage, tenant, where.gpu_class, milli)
                    continue
            while (spot := self.look(waiting, job, where)) is not None:
                milli = spot.milli(ask)
                if not self.powered(spot.number, where.gpu_class, milli):
                    detail = "there is room, but the site may not draw the power"
                    power.append(Denial(Reason.POWER_CAP, detail, spot.site))
                elif within(fleet.tree, fleet.usage, tenant, where.gpu_class, milli):
                    return spot
                else:
                    quota += fits(fleet.tree, fleet.usage, tenant, where.gpu_class, milli)
                # Whole nodes are charged by their size: another site's may be small enough.
                where = replace(where, sites=where.sites & ~(1 << spot.number))
        return (*power, *answer.denials) if power else self._why(waiting, answer, quota)

    def powered(self, number: int, gpu_class: GpuClass, milli: int) -> bool:
        """Whether a site may draw what so many more GPUs draw."""
        cap = self.fleet.caps.get(number)
        return cap is None or cap.fits(
            self.fleet.draws.at(self.fleet.order[number][0].id), gpu_class, milli
        )

    def look(self, waiting: Waiting, job: JobId, where: ClassAnswer) -> Spot | None:
        """The best place on one GPU class, leaving alone what is kept for others."""
        if not self.backfill and not self.bars:
            return find(self.fleet, waiting.ask, waiting.views, where, None)
        ends_ms = ends_by_ms(waiting.job_class, self.now_ms)

        def kept(number: int, _: GpuClass) -> int:
            return self.barred(waiting, number) | self.backfill.against(number, ends_ms, job)

        return find(self.fleet, waiting.ask, waiting.views, where, kept)

    def barred(self, waiting: Waiting, number: int) -> int:
        """The nodes of a site that windows of time keep from a class."""
        ends_ms = ends_by_ms(waiting.job_class, self.now_ms)
        site, index, _ = self.fleet.order[number]
        return self.bars.against(site, index, waiting.job_class.tenant, ends_ms)

    def take(self, waiting: Waiting, at: int, spot: Spot) -> GpuClass:
        """Puts the job on its nodes for the rest of this plan."""
        ask, job_class = waiting.ask, waiting.job_class
        queued = waiting.jobs[waiting.line[at][1]]
        placement = Placement(
            AttemptKey(queued.id, queued.next_attempt),
            spot.site,
            spot.gpu_class,
            spot.parts(ask),
            spot.milli(ask),
        )
        self.fleet.occupy(placement, ask, ends_by_ms(job_class, self.now_ms))
        charge(self.fleet.usage, job_class.tenant, spot.gpu_class, placement.gpu_milli)
        self.fleet.draws.charge(spot.site, spot.gpu_class, placement.gpu_milli)
        self.taken.append((placement, job_class))
        self.backfill.placed(queued.id)
        return spot.gpu_class

    def make_room(self) -> None:
        """Has others leave for jobs that found no place and may ask for that, in fair order."""
        shed = too_much_power(self.fleet, self.now_ms)
        self.preemptions += shed
        if shed:
            return  # Who is ended may well make the room; the next plan sees.
        hopeful = hopeful_classes(self.fleet, self.unserved)
        if not hopeful:
            return
        placed = {placement.key.job: stake_of(placement, of) for placement, of in self.taken}
        turns = fair_order(self.fleet, hopeful, self.now_ms)
        cleared = make_room(self.fleet, turns, placed, self._barred_for, self.now_ms)
        self.preemptions += cleared.preemptions
        for made in cleared.reservations:
            self.backfill.cleared(made)

    def _barred_for(self, job_class: JobClass, number: int) -> int:
        return self.barred(self.fleet.classes[job_class], number) if self.bars else 0

    def undo(self) -> None:
        """Takes back everything."""
        self.fleet.vacate_all(placement for placement, _ in self.taken)
        for placement, job_class in self.taken:
            charge(self.fleet.usage, job_class.tenant, placement.gpu_class, -placement.gpu_milli)
            self.fleet.draws.charge(placement.site, placement.gpu_class, -placement.gpu_milli)

    def _why(self, waiting: Waiting, answer: Answer, quota: list[Denial]) -> tuple[Denial, ...]:
        """The decisive reason first, then everything that rules out sites."""
        if not answer.classes:
            return answer.denials
        if quota:
            return (*quota, *answer.denials)
        ask = waiting.ask
        if self.backfill and any(
            find(self.fleet, ask, waiting.views, where, lambda n, _: self.barred(waiting, n))
            for where in answer.classes
        ):
            detail = "there is room, but it is kept for a job that waited longer for it"
            return (Denial(Reason.BEHIND_OTHERS, detail), *answer.denials)
        if self.bars and any(
            find(self.fleet, ask, waiting.views, where, None) for where in answer.classes
        ):
            detail = "there is room, but maintenance or a reservation begins there too soon"
            return (Denial(Reason.WINDOW, detail), *answer.denials)
        room = f"{ask.nodes} node(s) with {ask.shape.gpus} GPU(s) each"
        detail = f"{room} are not free together at any site that may hold the work"
        return (Denial(Reason.NODES_BUSY, detail), *answer.denials)

    def _keep(self, waiting: Waiting, at: int, denials: tuple[Denial, ...]) -> None:
        """Keeps nodes for a job that waits for room and has done so for a while."""
        submitted_at_ms, job = waiting.line[at]
        if not denials or denials[0].reason not in FOR_ROOM:
            self.backfill.give_up(job)
        elif self.now_ms - submitted_at_ms >= RESERVE_AFTER_MS:
            answer = self.fleet.answer_for(waiting, self.now_ms)
            self.backfill.reserve(waiting, job, answer)
