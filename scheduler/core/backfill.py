"""Reservations: keeping a stream of small jobs from starving a large one.

A job that finds no room, and has waited for RESERVE_AFTER_MS, gets a reservation, in fair order:
(in a project that goes by `shortest`: once it has waited for so long that it goes by age)
the nodes that will have room for it soonest, going by the time limits of what runs on them, and the
moment when they will. It is a stored fact and stands until the job starts. Nobody
else is placed on those nodes, whatever their turn, unless their own time limit ends them before
that moment: so no reservation is ever delayed by a backfilled job. No node is in two of them.

A reservation is given up when its job no longer waits, or waits for something else than room (its
quota), and made anew when its nodes are no longer fit: they failed, were closed, or are set aside
for others in the meantime.

The bound is of placements: a job's time limit runs from its start at the site, which is that much
after its placement. The writer checks placements against what is reserved once more.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable

from scheduler.core.ageing import ageing_ms
from scheduler.core.answers import ClassAnswer
from scheduler.core.departures import Departures
from scheduler.core.fleet import FleetState
from scheduler.core.gangs import Held
from scheduler.core.index import SiteIndex
from scheduler.core.layout import bits
from scheduler.core.layout import mask_of as mask_at
from scheduler.core.outlook import is_soon
from scheduler.core.waiting import Signature, Waiting
from scheduler.core.windows import mask_of
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.plan import JobClass, Reservation
from scheduler.model.tenancy import QueueOrder

RESERVE_AFTER_MS = 60_000
"""A job that has waited less gets none: most small waits end by themselves."""

RESERVATIONS_MAX = 16
"""Reservations that stand at the same time."""
AT_A_SITE_MAX = 4
"""Of one GPU class at one site."""
SITES_TRIED_MAX = 4
"""How many sites are looked at for one reservation."""


class Backfill:
    """The reservations during one plan: those that stand, and those that it makes."""

    def __init__(self, fleet: FleetState, now_ms: int) -> None:
        self._fleet = fleet
        self._now_ms = now_ms
        self._numbers = fleet.numbers
        self._departures = Departures(fleet, now_ms)
        self._waiting: dict[JobId, Waiting] = {}
        # Classes for a job of which nodes are kept, or were when this plan began.
        self._served: set[Waiting] = set()
        self._standing: dict[JobId, Reservation] = {}
        # By the site's number: nodes, and from when on, for whom.
        self._held: dict[int, dict[JobId, tuple[int, int]]] = {}
        # For whom nodes are kept in this plan and from when on; and what is `held` against those
        # who outlast so many of these moments.
        self._kept_for: set[JobId] = set()
        self._moments: list[int] = []
        self._levels: dict[int, Held] = {}
        # Of those that stand: those for whom others leave, or who start about now.
        self._soon: set[JobId] = set()
        # By the site's number: nodes that nobody else is promised before who claimed them is.
        self._claimed: dict[int, int] = {}
        self.made: list[Reservation] = []
        self.released: list[JobId] = []
        for job in sorted(fleet.reservations):
            waiting, nodes = fleet.queued.line_of(job), 0
            if waiting is not None:
                nodes = self._nodes_of(fleet.reservations[job], waiting)
            if waiting is not None and nodes:
                self._stand(fleet.reservations[job], nodes, waiting)
            else:
                self.released.append(job)

    def __bool__(self) -> bool:
        return bool(self._standing)

    def against(self, number: int, ends_by_ms: int, job: JobId) -> int:
        """The nodes of a site that `job`, which ends by `ends_by_ms`, must leave to others."""
        mask = 0
        held = self._held.get(number, {})
        for holder, (nodes, starts_at_ms) in held.items():
            if holder != job and ends_by_ms > starts_at_ms:
                mask |= nodes
        # Several for whom others leave a node share what is left there: there is enough for all.
        return mask & ~held[job][0] if job in held else mask

    def held(self, ends_by_ms: int, job: JobId) -> Held:
        """What `against` says, of all sites. The same for all who end after the same of the moments
        from which nodes are kept, so it is worked out once for each."""
        if job in self._kept_for:
            return {number: self.against(number, ends_by_ms, job) for number in self._held}
        after = bisect_left(self._moments, ends_by_ms)
        known = self._levels.get(after)
        if known is None:
            known = {number: self.against(number, ends_by_ms, job) for number in self._held}
            self._levels[after] = known
        return known

    def least_alike_ms(self, limit_ms: int) -> int:
        """The least time limit against which the same is held as against this one."""
        after = bisect_left(self._moments, self._now_ms + limit_ms)
        return self._moments[after - 1] + 1 - self._now_ms if after else 0

    def keeps_for(self, job: int) -> bool:
        """Whether nodes are kept for `job`."""
        return job in self._standing

    def release(self, job: JobId) -> None:
        """Nothing is kept for `job` any more: it has its place, or waits for something else.

        For the rest of this plan the nodes stay kept: who was told so before would have had them.
        """
        found = self._standing.pop(job, None)
        if found is None:
            return
        self._soon.discard(job)
        if found in self.made:
            self.made.remove(found)
        if job in self._fleet.reservations:
            self.released.append(job)

    def give_up(self, job: JobId) -> None:
        """`job` waits for something else than room: unless others leave for it, which may well
        free what it waits for, nothing is kept for it any more."""
        if job not in self._soon:
            self.release(job)

    def cleared(self, made: Reservation, job_class: JobClass) -> None:
        """Others leave for a job: it waits for nothing else."""
        self.release(made.job)
        if made.job in self.released:
            self.released.remove(made.job)
        position = self._fleet.order[self._numbers[made.site]][1].layout.position
        nodes = mask_at(position[node] for node in made.nodes)
        self._stand(made, nodes, self._fleet.queued.passing(job_class))
        self._soon.add(made.job)
        self.made.append(made)

    def holders(self) -> list[tuple[JobId, Waiting]]:
        """The jobs whose reservations stand, and their classes."""
        return [(job, self._waiting[job]) for job in sorted(self._standing)]

    def holders_in(self, waiting: Waiting, start: int) -> list[int]:
        """The places, from `start` on, of those of a class that may go and have a reservation."""
        if waiting not in self._served:
            return []
        jobs = (job for job in sorted(self._standing) if self._waiting[job] is waiting)
        places = (at for job in jobs if (at := waiting.find(job)) is not None and at >= start)
        return [at for at in places if waiting.next_ready(at, self._now_ms) == at]

    def is_kept_for(self, signature: Signature) -> bool:
        """Whether nodes are kept for a job with this signature."""
        return any(waiting.signature is signature for waiting in self._served)

    def in_need(self) -> list[Waiting]:
        """The classes that lack room."""
        roomless = self._fleet.alarm.by_room.values()
        return [each for asleep in roomless for each in asleep]

    def serves(self, waiting: Waiting) -> bool:
        """Whether nodes may be kept for the first of a class. In a project that goes by `shortest`
        they are not before it goes by age: what is shorter is to have them until then."""
        order = self._fleet.evictable.order_of(waiting.job_class.tenant)
        return order is not QueueOrder.SHORTEST or self.has_waited(waiting, waiting.spent)

    def has_waited(self, waiting: Waiting, at: int) -> bool:
        """Whether a job has waited for the whole of its bound (`ageing`)."""
        of = waiting.job_class
        order = self._fleet.evictable.order_of(of.tenant)
        waited_ms = self._now_ms - waiting.submitted_at_ms[at]
        return waited_ms >= 2 * ageing_ms(order, of.time_limit_bucket_ms)

    def is_full(self) -> bool:
        """Whether no more reservations may be made."""
        return len(self._standing) - len(self._soon) >= RESERVATIONS_MAX

    def reserve(
        self,
        waiting: Waiting,
        job: JobId,
        places: tuple[ClassAnswer, ...],
        show: Callable[[int], None],
    ) -> None:
        """Keeps nodes for a job that found no room in `places`, unless some are kept for it.

        `show` has the nodes of a site list as occupants whom this plan put there.
        """
        if job in self._standing or self.is_full():
            return
        best: tuple[int, int, GpuClass, int] | None = None
        tried = 0
        for where in places:
            for number in where.numbers():
                if tried >= SITES_TRIED_MAX or self._is_full(number, where.gpu_class):
                    continue
                tried += 1
                show(number)
                index = self._fleet.order[number][1]
                nodes = where.nodes[number] & index.ready & ~self._others(number)
                nodes &= ~self._set_aside(number, waiting.job_class.tenant)
                nodes &= ~self._claimed.get(number, 0)
                found = self._departures.soonest(number, waiting.ask, nodes)
                if found is not None and (best is None or found[0] < best[0]):
                    best = found[0], number, where.gpu_class, found[1]
        if best is None:
            at = waiting.find(job)
            if at is not None and self.has_waited(waiting, at):
                self._claim(waiting, places, show)
            return
        starts_at_ms, number, gpu_class, nodes = best
        site, index, _ = self._fleet.order[number]
        names = tuple(index.records[at].node.id for at in bits(nodes))
        made = Reservation(job, site.id, gpu_class, names, starts_at_ms)
        self._fleet.queued.remember(job, waiting)
        self._stand(made, nodes, waiting)
        self.made.append(made)
        if job in self.released:
            self.released.remove(job)

    def _claim(
        self, waiting: Waiting, places: tuple[ClassAnswer, ...], show: Callable[[int], None]
    ) -> None:
        """Sees to it that a job which has waited for its bound has nodes kept for it next: what
        others are promised where it could go stands, and in this plan no more is promised there.
        Else small jobs could take turns for ever in having some of its nodes kept for them."""
        for where in places:
            for number in list(where.numbers())[:SITES_TRIED_MAX]:
                show(number)
                nodes = where.nodes[number] & self._fleet.order[number][1].ready
                nodes &= ~self._set_aside(number, waiting.job_class.tenant)
                if self._departures.soonest(number, waiting.ask, nodes) is not None:
                    self._claimed[number] = self._claimed.get(number, 0) | nodes
                    return

    def _stand(self, made: Reservation, nodes: int, waiting: Waiting) -> None:
        self._standing[made.job] = made
        self._waiting[made.job] = waiting
        self._served.add(waiting)
        if is_soon(self._fleet, made.nodes, made.starts_at_ms, self._now_ms):
            self._soon.add(made.job)
        held = self._held.setdefault(self._numbers[made.site], {})
        held[made.job] = nodes, made.starts_at_ms
        self._kept_for.add(made.job)
        insort(self._moments, made.starts_at_ms)
        self._levels.clear()

    def _others(self, number: int) -> int:
        mask = 0
        for nodes, _ in self._held.get(number, {}).values():
            mask |= nodes
        return mask

    def _is_full(self, number: int, gpu_class: GpuClass) -> bool:
        site = self._fleet.order[number][0].id
        here = (
            r
            for job, r in self._standing.items()
            if (r.site, r.gpu_class) == (site, gpu_class) and job not in self._soon
        )
        return sum(1 for _ in here) >= AT_A_SITE_MAX

    def _set_aside(self, number: int, tenant: TenantPath) -> int:
        """Nodes that a window of time keeps from `tenant` at some time to come."""
        site, index, _ = self._fleet.order[number]
        mask = 0
        for window in self._fleet.windows.at(site.id):
            if window.ends_at_ms > self._now_ms and not window.admits(tenant):
                mask |= mask_of(window, index)
        return mask

    def _nodes_of(self, stored: Reservation, waiting: Waiting) -> int:
        """The nodes of a stored reservation as bits; 0 when it does not stand any more."""
        number = self._numbers.get(stored.site)
        if number is None:
            return 0
        answer = self._fleet.answer_for(waiting, self._now_ms)
        where = next((w for w in answer.classes if w.gpu_class == stored.gpu_class), None)
        if where is None or not where.sites >> number & 1:
            return 0
        index = self._fleet.order[number][1]
        fit = where.nodes[number] & index.ready
        fit &= ~self._set_aside(number, waiting.job_class.tenant)
        mask = _bits_of(index, stored, fit)
        soon = is_soon(self._fleet, stored.nodes, stored.starts_at_ms, self._now_ms)
        if mask.bit_count() != waiting.ask.nodes or (mask & self._others(number) and not soon):
            return 0
        found = self._departures.soonest(number, waiting.ask, mask)
        late = found is None or found[0] > max(self._now_ms, stored.starts_at_ms)
        return 0 if late else mask


def _bits_of(index: SiteIndex, stored: Reservation, among: int) -> int:
    position = index.layout.position
    return mask_at(position[node] for node in stored.nodes if node in position) & among
