"""The planner's state: everything it knows, kept between cycles and fed by changes alone.

`apply` is the sole mutator. Applying the same changes in any order that keeps the order per key
gives the same state; a test rebuilds it from scratch and compares. `settle` brings the indices up
to date before they are read: a change of what is declared rebuilds the index of its site only, a
report, a placement or an end moves a few bits.

The planner plans on this state and undoes it: see `planner.Desk`. What it learned of classes that
are blocked stays (`alarm`), and is forgotten as soon as something happens that could unblock them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from scheduler.core.agreement_caps import AgreementCaps
from scheduler.core.alarm import Alarm
from scheduler.core.answers import Answer, Answers, Verdicts
from scheduler.core.asks import Ask
from scheduler.core.budgets import Book
from scheduler.core.classes import ends_by_ms
from scheduler.core.energy import in_turn, liking
from scheduler.core.evictable import Evictable
from scheduler.core.index import FleetLanes, SiteIndex
from scheduler.core.lines import Lines
from scheduler.core.occupancy import NodeRecord, Occupant
from scheduler.core.packing import Capacity, Packing, capacity_of
from scheduler.core.power import Cap, Draws, cap_of
from scheduler.core.quota import QuotaTree, Usage, charge
from scheduler.core.ranking import Rooms
from scheduler.core.spread import Spreads
from scheduler.core.waiting import Waiting
from scheduler.core.windows import Windows
from scheduler.model.fleet import Node, NodeReport, Site, SiteStatus
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, site_of
from scheduler.model.job import Placement
from scheduler.model.plan import (
    AgreementUsed,
    BudgetChanged,
    Change,
    Everywhere,
    JobChanged,
    JobClass,
    LengthsChanged,
    LiveAttempt,
    MixChanged,
    MixEntry,
    NodeChanged,
    PlanBorneOut,
    PlanKept,
    PolicyChanged,
    QueuedJob,
    QueueLoaded,
    Reservation,
    ReservationChanged,
    SiteChanged,
    TenantsChanged,
    Told,
    WindowChanged,
)
from scheduler.model.residency import Policy


class FleetState:
    """Sites, nodes, tenants, policy, queued and live jobs, and the indices over them."""

    def __init__(self) -> None:
        self.sequence = 0
        self.policy = Policy(allowed_jurisdictions=())  # Until one is in force: nowhere.
        self.tree = QuotaTree()
        self.sites: dict[SiteId, tuple[Site, bool]] = {}
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.live: dict[JobId, LiveAttempt] = {}
        # Of these, elastic ones with fewer nodes than they would take.
        self.growable: dict[JobId, None] = {}
        self.reservations: dict[JobId, Reservation] = {}
        self.usage: Usage = {}
        self.evictable = Evictable()
        self.draws = Draws()
        self.agreements = AgreementCaps()
        self.book = Book(self.tree)
        self.windows = Windows()
        self.spreads = Spreads()
        self.alarm = Alarm()
        self.queued = Lines(self.usage, self.alarm)
        self.classes = self.queued.classes
        # Derived; read only after `settle`.
        self.order: list[tuple[Site, SiteIndex, bool]] = []
        self.in_turn: tuple[int, ...] = ()
        self.numbers: dict[SiteId, int] = {}
        self.lanes: FleetLanes = {}
        self.capacity_milli: dict[GpuClass, int] = {}
        # By the site's number, where there is one.
        self.caps: dict[int, Cap] = {}
        self.version = 0
        self.verdicts = Verdicts(self.policy)
        self._answers = Answers()
        self.usual = MixChanged()
        self.rooms = Rooms()
        self._scored: tuple[tuple[MixEntry, ...], Capacity] | None = None
        self._indices: dict[SiteId, SiteIndex] = {}
        self._nodes_at: dict[SiteId, set[NodeId]] = {}
        self._occupants: dict[NodeId, dict[JobId, Occupant]] = {}
        self._stale_sites: set[SiteId] = set()
        self._stale_order = True

    def apply_all(self, sequence: int, changes: Iterable[Change]) -> None:
        """Applies `changes`, the last of which has the number `sequence`."""
        for change in changes:
            self.apply(change)
        self.sequence = sequence

    def apply(self, change: Change) -> None:
        """Makes `change` so. Changes are absolute: applying one twice is applying it once."""
        if isinstance(change, PlanKept):
            self._apply_kept(change)
            return
        if isinstance(change, PlanBorneOut):
            self.alarm.bear_out(change)
            return
        self.alarm.rewind()
        self._apply(change)

    def _apply(self, change: Told) -> None:
        match change:
            case JobChanged():
                self._apply_job(change)
            case QueueLoaded():
                self.queued.line(change.job_class).load(change.ids, change.submitted_at_ms)
            case NodeChanged():
                self._apply_node(NodeId(change.id), change.node, change.report)
            case SiteChanged():
                self._apply_site(change)
            case WindowChanged():
                self.windows.put(change.id, change.window)
                self.alarm.everything = True
            case ReservationChanged():
                self._apply_reservation(change)
            case AgreementUsed():
                self.agreements.put(change)
                self.alarm.power = True  # There may be room under its caps.
            case BudgetChanged():
                self.book.settle(change.use)
                self.alarm.note_relief(change.use.tenant)
            case TenantsChanged() | PolicyChanged() | MixChanged() | LengthsChanged():
                self._apply_everywhere(change)
            case _:
                assert_never(change)

    def _apply_everywhere(self, change: Everywhere) -> None:
        match change:
            case TenantsChanged():
                self.tree = QuotaTree(change.tenants, self.capacity_milli)
                self.evictable = self.evictable.under(self.tree.tenants, self.live.values())
                self.book = Book.of_live(self.tree, self.live.values())
            case PolicyChanged():
                self.policy = change.policy
                self.agreements.under(change.policy.agreements)
                self.verdicts = Verdicts(change.policy)
                self.version += 1
            case MixChanged():
                self.usual = change
                self._answers.learn(change.press)
                self._stale_order = True
            case LengthsChanged():
                self.evictable.tell(change, self.live.values())
        self.alarm.everything = True

    def settle(self) -> None:
        """Brings the indices up to date; cheap when nothing was declared anew."""
        self.alarm.rewind()
        if self._stale_order or self._stale_sites:
            self._rebuild()
        self.in_turn = in_turn(self.order)

    def _rebuild(self) -> None:
        for stale in sorted(self._stale_sites):
            here = sorted(self._nodes_at.get(stale, ()))
            self._indices[stale] = SiteIndex(self.nodes[node] for node in here)
        self._stale_sites.clear()
        self._stale_order = False
        self.order, self.numbers, self.lanes, self.capacity_milli, self.caps = [], {}, {}, {}, {}
        liked = sorted(liking(each) for each, _ in self.sites.values())
        for number, (_, _, name) in enumerate(liked):
            site, connected = self.sites[name]
            index = self._indices.setdefault(name, SiteIndex(()))
            index.join_fleet(1 << number, self.lanes)
            self.order.append((site, index, connected))
            self.numbers[name] = number
            if (cap := cap_of(site, index.layout.nodes)) is not None:
                self.caps[number] = cap
            if site.status is SiteStatus.ACTIVE:
                for node in index.layout.nodes:
                    milli = self.capacity_milli.get(node.gpu_class, 0) + node.gpus * 1000
                    self.capacity_milli[node.gpu_class] = milli
        self.tree = self.tree.rated(self.capacity_milli)
        self._score_by_mix()
        self.version += 1
        self.alarm.everything = True

    def _score_by_mix(self) -> None:
        """Has rooms ranked by what free capacity is worth to what is usually asked for."""
        sites = [index for site, index, _ in self.order if site.status is SiteStatus.ACTIVE]
        capacity = capacity_of(node for index in sites for node in index.layout.nodes)
        mix = self.usual.mix
        if self._scored != (mix, capacity) and (mix or self._scored):
            self.rooms.score_by(Packing(mix, capacity) if mix else None)
            self._scored = mix, capacity

    def answer_for(self, waiting: Waiting, now_ms: int) -> Answer:
        """Where the class may go by law and shape."""
        signature = waiting.signature
        if (known := signature.answer) is None or not known.holds(self.version, now_ms):
            known = signature.answer = self._answers.to(
                signature.ask, signature.residency, self.order, self.verdicts, now_ms, self.version
            )
        return self.spreads.narrowed(signature.ask.apart, known, self.order)

    def answer_to(self, job_class: JobClass, now_ms: int) -> Answer:
        """The same for a class that may have no queued job."""
        return self.answer_for(self.queued.passing(job_class), now_ms)

    def _occupy(self, live: LiveAttempt, ask: Ask) -> None:
        """Puts the job of `live` on its nodes; `_vacate` undoes it exactly."""
        placement, job = live.placement, live.placement.key.job
        until_ms = ends_by_ms(live.job_class, live.placed_at_ms)
        shape, sharing, organisation = ask.shape, ask.sharing, ask.organisation
        index = self.index_of(placement.site)
        for part in placement.nodes:
            occupant = Occupant(job, part.gpu_mask, shape, sharing, organisation, until_ms)
            record = self.nodes.get(part.node)
            if record is None:
                # Not declared now; should it be again, the job is already there.
                self._occupants.setdefault(part.node, {})[job] = occupant
                continue
            record.add(occupant)
            if index is not None:
                index.fill(record)

    def _vacate(self, placement: Placement) -> None:
        """Takes the job of `placement` off its nodes."""
        job = placement.key.job
        index = self.index_of(placement.site)
        for part in placement.nodes:
            record = self.nodes.get(part.node)
            if record is None:
                others = self._occupants[part.node]
                del others[job]
                if not others:
                    del self._occupants[part.node]
                continue
            record.remove(record.occupants[job])
            if index is not None:
                for freed in index.reenter(record):
                    self.alarm.note_room(index, freed)

    def may_draw(self, number: int, gpu_class: GpuClass, milli: int) -> bool:
        """Whether a site may draw what so many more GPUs draw."""
        cap = self.caps.get(number)
        return cap is None or cap.fits(self.draws.at(self.order[number][0].id), gpu_class, milli)

    def index_of(self, site: SiteId) -> SiteIndex | None:
        """The index of `site`, None while it is to be made anew."""
        return None if site in self._stale_sites else self._indices.get(site)

    def _apply_site(self, change: SiteChanged) -> None:
        if change.site is None:
            self.sites.pop(change.id, None)
        else:
            self.sites[change.id] = change.site, change.connected
        self.verdicts.forget(change.id)
        self._stale_order = True

    def _apply_node(self, name: NodeId, node: Node | None, report: NodeReport | None) -> None:
        site, record = site_of(name), self.nodes.get(name)
        if node is None:
            if record is not None:
                del self.nodes[name]
                self._nodes_at[site].discard(name)
                self._stale_sites.add(site)
                if not record.occupants:
                    self._occupants.pop(name, None)
            return
        if record is None or not record.is_declared_like(node):
            occupants = self._occupants.setdefault(name, {})
            self.nodes[name] = NodeRecord(node, report, occupants, self.rooms)
            self._nodes_at.setdefault(site, set()).add(name)
            self._stale_sites.add(site)
            return
        index = self.index_of(site)
        if index is not None:
            index.leave(record)
            if record.isolation() is not (report.isolation if report else None):
                index.forget_isolation()
                self._answers_changed()
            if record.node.facts != node.facts and index.learn(record, node.facts):
                self._answers_changed()
        record.node, record.report = node, report
        record.recount()
        if index is not None:
            index.enter(record)
            for freed in (record, *index.choose_spares(record)):
                self.alarm.note_room(index, freed)

    def _answers_changed(self) -> None:
        """What any class was told of where it may go is to be asked again."""
        self.version += 1
        self.alarm.everything = True

    def _apply_reservation(self, change: ReservationChanged) -> None:
        before = self.reservations.pop(change.job, None)
        if change.reservation is not None:
            self.reservations[change.job] = change.reservation
        if before == change.reservation:
            return
        if before is not None:
            self.note_room_of(before)
        waiting = self.queued.line_of(change.job) if change.reservation is not None else None
        if waiting is not None:
            self.alarm.wake(waiting)  # What is kept for others there is its own now.

    def note_room_of(self, kept: Reservation) -> None:
        """What was kept for a job may be kept no longer, or from a later moment on."""
        index = self.index_of(kept.site)
        if index is not None:
            for record in (self.nodes[name] for name in kept.nodes if name in self.nodes):
                self.alarm.note_room(index, record)

    def _apply_kept(self, change: PlanKept) -> None:
        if self.alarm.adopt(change):
            return
        self.alarm.rewind()
        for placement, waiting in self.alarm.kept(change):
            live = self.queued.start(placement, waiting, change.placed_at_ms)
            self._hold(live, waiting.ask)

    def _apply_job(self, change: JobChanged) -> None:
        assert change.queued is None or change.live is None, "a job is never queued and live"
        before, live = self.live.get(change.id), change.live
        self.alarm.note_job(change.id, live.placement.key if live is not None else None)
        told = change.queued or change.live
        of = told.job_class if told is not None else change.job_class
        if of is not None and before is None:  # What was live waited in no line.
            self.queued.leave_former(change.id, of)
        if before is not None:
            self.evictable.remove(before)
            self._leave(before, change.live)
        if change.queued is not None:
            self._wait(change.queued)
            return
        if change.live is not None:
            self.queued.remove(change.id, change.live.job_class)
            self._hold(change.live, self.queued.ask_for(change.live.job_class))
        elif before is None:
            self.queued.remove(change.id, change.job_class)

    def _hold(self, live: LiveAttempt, ask: Ask) -> None:
        """A live attempt is as told now; a new one takes its nodes."""
        placed = live.placement
        if placed.key.job not in self.live:
            self._occupy(live, ask)
            self.spreads.enter(ask.apart, placed)
            charge(self.usage, live.tenant, placed.gpu_class, placed.gpu_milli)
            self.draws.charge(placed.site, placed.gpu_class, placed.gpu_milli)
            if self.tree.has_budgets:
                self.book.reserve(live)
        self.keep(live)

    def keep(self, live: LiveAttempt) -> None:
        """An attempt that has its nodes is live."""
        job = live.placement.key.job
        self.live[job] = live
        if live.job_class.resources.max_nodes > len(live.placement.nodes):
            self.growable[job] = None
        self.evictable.add(live)

    def _leave(self, before: LiveAttempt, now: LiveAttempt | None) -> None:
        """A live attempt is over, unless `now` is the same one in another state."""
        placed, of = before.placement, before.job_class
        if now is not None and (placed, of) == (now.placement, now.job_class):
            return
        del self.live[placed.key.job]
        self.growable.pop(placed.key.job, None)
        self._vacate(placed)
        charge(self.usage, before.tenant, placed.gpu_class, -placed.gpu_milli)
        self.draws.charge(placed.site, placed.gpu_class, -placed.gpu_milli)
        if self.caps:
            self.alarm.power = True  # There may be power for those who lacked it.
        if self.tree.has_budgets:
            self.book.release(before)
        self.alarm.note_relief(before.tenant)
        self.spreads.leave(of.apart, placed.key.job)
        self.queued.wake_apart(before.tenant, of.apart)

    def _wait(self, job: QueuedJob) -> None:
        waiting = self.queued.line(job.job_class)
        waiting.add(job)
        if waiting in self.alarm.by_clock:
            self.alarm.wake(waiting)
