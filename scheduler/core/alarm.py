"""Which classes sleep, and what happened since: a plan looks only at what could have changed.

A class that found no place sleeps. Between two plans it can find one only if something happened
that is noted here: a node got room where it may go, somebody whose limit it met uses less, what is
reserved changed, facts changed, or a moment came. Everything else takes room, and a class that does
not fit fits no better for that. `waking` wakes whom the notes concern.

A plan's own placements are undone when it is made. Until they are committed, what they had taken
counts as room that may come back (`pending`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

from scheduler.core.index import LaneKey, SiteIndex
from scheduler.core.occupancy import NodeRecord
from scheduler.core.quota import ROOT, lineage
from scheduler.core.waiting import Signature, Waiting
from scheduler.model.ids import AttemptKey, JobId, TenantPath
from scheduler.model.job import Placement
from scheduler.model.plan import JobClass, PlanBorneOut, PlanKept, Underway

Pending: TypeAlias = tuple[Placement, Waiting]
"""A placement that was planned and may yet be committed, and the line of its job."""


class Presumed(NamedTuple):
    """A plan that is planned on as if it were committed, though that was not heard yet."""

    at_ms: int
    """As of when."""
    jobs: set[JobId]
    """Those of which nothing was heard since."""


class Own(NamedTuple):
    """What was planned here: the newest plan's number, and the jobs of which nothing was heard
    since; and older plans, by their numbers, that are presumed to be committed."""

    plan: int
    pending: Container[JobId]
    presumed: Mapping[int, Presumed]
    overdue: frozenset[JobId]
    """Jobs that were presumed to be placed by plans of which all has been told by now."""


class Unfinished(Protocol):
    """What a plan left in place in the state; see `takings`."""

    def undo(self) -> None:
        """Gives all of it back."""
        ...

    def adopt(self, placed_at_ms: int) -> None:
        """Makes it stay: it was committed, at this time."""
        ...


class Alarm:
    """Who is awake, who sleeps and for what; and what happened since the last plan."""

    def __init__(self) -> None:
        self.awake: dict[Waiting, None] = {}
        self.asleep: dict[Waiting, None] = {}
        self.by_room: dict[Signature, dict[Waiting, None]] = {}
        self.by_tenant: dict[TenantPath, dict[Waiting, None]] = {}
        self.by_power: dict[Waiting, None] = {}
        self.by_clock: dict[Waiting, int] = {}
        # What happened.
        self.everything = True
        self.power = False
        self.grown: dict[LaneKey, dict[int, int]] = {}
        self.relieved: set[TenantPath] = set()
        self.until_ms: int | None = None
        # Of the newest plan: what may yet be committed, and what nothing comes of any more.
        self.plan_number = 0
        self.pending: dict[JobId, Pending] = {}
        self.lapsed: list[Pending] = []
        self.unfinished: Unfinished | None = None
        self.presumed: dict[int, Presumed] = {}
        self.emptied: list[JobClass] = []

    def note_room(self, index: SiteIndex, record: NodeRecord) -> None:
        """A node may have more room than before, or room for others than before."""
        if not index.ready >> record.at & 1:
            return
        gpu_class = record.kind.gpu_class
        for view in record.views:
            rooms = self.grown.get((gpu_class, view))
            if rooms is None:
                rooms = self.grown[gpu_class, view] = {}
            rooms[record.room] = rooms.get(record.room, 0) | index.site_bit

    def note_relief(self, tenant: TenantPath) -> None:
        """Something of `tenant` ended: it and everything above it use less, and so does ROOT."""
        self.relieved.update(lineage(tenant))
        self.relieved.add(ROOT)

    def note_job(self, job: JobId, live: AttemptKey | None) -> None:
        """A job is another than it was: what was planned for it is `live`, or never will be."""
        for presumed in self.presumed.values():
            presumed.jobs.discard(job)
        planned = self.pending.pop(job, None)
        if planned is not None and planned[0].key != live:
            self.lapsed.append(planned)

    def rewind(self) -> None:
        """The state is what was committed again: nothing that was only planned is in it."""
        unfinished, self.unfinished = self.unfinished, None
        if unfinished is not None:
            unfinished.undo()

    def adopt(self, change: PlanKept) -> bool:
        """Whether all that was planned was kept before anything else was heard: it stays."""
        unfinished = self.unfinished
        if unfinished is None or len(change.jobs) != len(self.pending):
            return False
        self.unfinished, self.pending = None, {}
        unfinished.adopt(change.placed_at_ms)
        return True

    def presume(self, underway: Underway) -> bool:
        """Whether that plan counts as committed from here on: nothing else was heard since it was
        made, or it did before. What is heard to be otherwise later is told whole, and is so."""
        if underway.plan in self.presumed:
            return True
        unfinished, jobs = self.unfinished, set(self.pending)
        if unfinished is None or underway.plan != self.plan_number:
            return False
        self.unfinished, self.pending = None, {}
        unfinished.adopt(underway.at_ms)
        self.presumed = {plan: each for plan, each in self.presumed.items() if each.jobs}
        self.presumed[underway.plan] = Presumed(underway.at_ms, jobs)
        return True

    def bear_out(self, change: PlanBorneOut) -> None:
        """What was presumed of these jobs is so."""
        self.presumed[change.plan].jobs.difference_update(change.jobs)

    def own(self, underway: int | None = None) -> Own:
        """The newest plans, for whoever reads what became of them. `underway`: the only one that
        may yet be committed (0: none is); None: nobody knows."""
        overdue = [
            presumed.jobs
            for plan, presumed in self.presumed.items()
            if underway is not None and plan != underway
        ]
        return Own(self.plan_number, self.pending, self.presumed, frozenset().union(*overdue))

    def kept(self, change: PlanKept) -> list[Pending]:
        """What was planned and is live now: pending no more."""
        return [self.pending.pop(job) for job in change.jobs]

    def sleep(
        self,
        waiting: Waiting,
        *,
        room: bool = False,
        power: bool = False,
        tenants: Iterable[TenantPath] = (),
        until_ms: int | None = None,
        clock_ms: int | None = None,
    ) -> None:
        """`waiting` was blocked: it sleeps until one of these things happens, or facts change.

        `until_ms`: its answer holds no longer. `clock_ms`: the first of its jobs may go.
        """
        self.awake.pop(waiting, None)
        self.asleep[waiting] = None
        waiting.tenants = tuple(tenants)
        if room:
            self.by_room.setdefault(waiting.signature, {})[waiting] = None
        if power:
            self.by_power[waiting] = None
        for path in waiting.tenants:
            self.by_tenant.setdefault(path, {})[waiting] = None
        self._wake_by(until_ms)
        if clock_ms is not None:
            self.by_clock[waiting] = clock_ms

    def sleep_for_room(self, waiting: Waiting, until_ms: int | None) -> None:
        """As `sleep` with `room` alone: most of a long queue does."""
        self.awake.pop(waiting, None)
        self.asleep[waiting] = None
        sleepers = self.by_room.get(waiting.signature)
        if sleepers is None:
            sleepers = self.by_room[waiting.signature] = {}
        sleepers[waiting] = None
        if until_ms is not None:
            self._wake_by(until_ms)

    def wake_all(self, signature: Signature) -> None:
        """Those with the signature that lack room take part in the next plan."""
        signature.busy = False
        sleepers = self.by_room.pop(signature)
        self.awake.update(sleepers)
        for waiting in sleepers:
            del self.asleep[waiting]
            if waiting.tenants or self.by_power or self.by_clock:
                self._forget_other_causes(waiting)

    def wake(self, waiting: Waiting) -> None:
        """`waiting` takes part in the next plan."""
        self._forget_sleep(waiting)
        self.awake[waiting] = None

    def forget(self, waiting: Waiting) -> None:
        """Nobody waits in it any more."""
        self.emptied.append(waiting.job_class)
        self.awake.pop(waiting, None)
        self._forget_sleep(waiting)

    def take_emptied(self) -> tuple[JobClass, ...]:
        """The classes that `forget` was told of since the last time."""
        emptied = tuple(self.emptied)
        self.emptied.clear()
        return emptied

    def _forget_sleep(self, waiting: Waiting) -> None:
        if waiting not in self.asleep:
            return
        del self.asleep[waiting]
        self._forget_other_causes(waiting)
        sleepers = self.by_room.get(waiting.signature)
        if sleepers is not None:
            sleepers.pop(waiting, None)
            if not sleepers:
                # Nobody is left to be told of room: the next to come looks for itself.
                del self.by_room[waiting.signature]
                waiting.signature.busy = False

    def _wake_by(self, until_ms: int | None) -> None:
        """At this moment, at the latest, everybody is to be looked at anew."""
        if until_ms is not None and (self.until_ms is None or until_ms < self.until_ms):
            self.until_ms = until_ms

    def _forget_other_causes(self, waiting: Waiting) -> None:
        """Nothing but room would wake it any more."""
        self.by_power.pop(waiting, None)
        self.by_clock.pop(waiting, None)
        for path in waiting.tenants:
            others = self.by_tenant.get(path)
            if others is not None:
                others.pop(waiting, None)
                if not others:
                    del self.by_tenant[path]
        waiting.tenants = ()
