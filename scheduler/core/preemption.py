"""Who is asked to leave so that a blocked job can start: few, with little to lose, and by right.

By right: `stakes` has the two rules, and the proof that preemptions cannot cycle. A victim's work
must let itself be preempted, have had its least runtime, and not be leaving already. Where the job
may go is what residency and shape answered: nothing is cleared for it elsewhere.

One node: each node on which someone may be asked is priced by the best set there (`clearing`); the
cheapest that the rules allow is taken. A gang: in each domain the nodes that have room come free of
charge, and the cheapest others are added one by one, where a victim that is on several of them is
paid for once; then whoever turns out not to be needed is spared. Of the domains the cheapest is
taken. Where quota is in the way as well, victims are added that free it.

What was begun counts as done (`outlook`): nothing is asked for twice, and where room is about to
come, nobody else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import TypeAlias

from scheduler.core.answers import Answer, ClassAnswer
from scheduler.core.asking import whom_to_ask
from scheduler.core.asks import Ask, ask_of
from scheduler.core.clearing import FREE, Candidate, Price, cheapest, price
from scheduler.core.evictable import lost_gpu_ms
from scheduler.core.gathering import Domain, clear
from scheduler.core.layout import bits
from scheduler.core.occupancy import joinable_views
from scheduler.core.outlook import Claim, Outlook, stake_of
from scheduler.core.ranks import Rank
from scheduler.core.stakes import Stake, standing
from scheduler.core.victims import Option, Victims, why
from scheduler.model.ids import GpuClass, JobId
from scheduler.model.plan import JobClass

OPTIONS_MAX = 64
"""Sets of victims tried for one job, the cheapest first: quota or a guarantee may rule them out."""

Barred: TypeAlias = Callable[[JobClass, int], int]


class Preemption:
    """What one plan asks for. Each answer counts for the questions that follow."""

    def __init__(self, outlook: Outlook, barred: Barred | None = None) -> None:
        """`barred`: the nodes of a site that a class may not use although it is let in there."""
        self._outlook = outlook
        self._barred = barred
        self._searches: dict[JobClass, _Search] = {}
        self.work = 0
        """Attempts that were looked at."""

    def make_room(self, job: JobId, job_class: JobClass, answer: Answer) -> Victims | None:
        """Whom to end so that `job` can start; nobody, where room is about to come anyway.

        None: there is nobody whom it may ask, or who could make room for it.
        """
        outlook = self._outlook
        claim = outlook.claims.get(job)
        if claim is None:
            search = self._searches.get(job_class)
            if search is None:
                search = self._searches[job_class] = _Search(
                    outlook, job_class, answer, self._barred
                )
        elif outlook.is_soon(claim):
            return None
        else:
            outlook.withdraw(claim)
            search = _Search(outlook, job_class, answer, self._barred)
        self.work += search.take_work()
        found = search.find() if search.has_candidates() else None
        if found is not None:
            return self._settle(job, job_class, *found)
        if claim is not None:
            outlook.restore(claim)
        return None

    def _settle(
        self, job: JobId, job_class: JobClass, option: Option, leave: Sequence[JobId]
    ) -> Victims:
        victims = [self._outlook.fleet.live[victim] for victim in leave]
        grace_ms = max((victim.job_class.grace_ms for victim in victims), default=0)
        claim = self._claim(job, job_class, option, grace_ms)
        # Room that comes anyway is not there for the next job as well.
        self._outlook.begin(claim, victims)
        return Victims(
            tuple(victim.placement.key for victim in victims), claim, why(job_class, victims)
        )

    def _claim(self, job: JobId, job_class: JobClass, option: Option, grace_ms: int) -> Claim:
        site, index, _ = self._outlook.fleet.order[option.number]
        nodes = tuple(index.records[at].node.id for at in bits(option.nodes))
        starts_at_ms = self._outlook.now_ms + grace_ms
        return Claim(job, job_class, site.id, option.where.gpu_class, nodes, starts_at_ms)


class _Search:
    """Whom jobs of one class may ask, and the options that makes. Options are found lazily: each
    node's price has a lower bound that costs nothing, so most are never worked out."""

    def __init__(
        self, outlook: Outlook, job_class: JobClass, answer: Answer, barred: Barred | None
    ) -> None:
        self._barred = barred
        self._outlook = outlook
        self._class = job_class
        self._rank = outlook.evictable.rank(job_class)
        self._answer = answer
        self._ask: Ask = ask_of(job_class)
        self._views = joinable_views(self._ask.sharing, self._ask.organisation)
        self._looked = 1
        self._priced: dict[JobId, Candidate] = {}
        # Who may be asked on each node of a site, by the answer's class and the site.
        self._on: dict[tuple[int, int], dict[int, list[Candidate]]] = {}
        for place in range(len(answer.classes)):
            self._collect(place)
        self._heap: list[tuple[Price, int, int, int, int, tuple[JobId, ...]]] = []
        self._gangs: list[Option] = []
        self._rooms: dict[tuple[GpuClass, int], tuple[int, int]] = {}
        self._lenient, self._had_options = True, False
        self._begin()

    def _begin(self) -> None:
        self._heap.clear()
        if self._ask.nodes == 1:
            for place, number in sorted(self._on):
                for at in sorted(self._on[place, number]):
                    self._push(place, number, at)

    def take_work(self) -> int:
        """How many attempts were looked at since this was asked before."""
        looked, self._looked = self._looked, 0
        return looked

    def has_candidates(self) -> bool:
        """Whether anybody at all may be asked."""
        return bool(self._priced)

    def find(self) -> tuple[Option, tuple[JobId, ...]] | None:
        """The cheapest option that the rules allow, with all who have to leave for it: nobody,
        where room is about to come. Where none of the cheapest is allowed, it is looked for among
        those alone whom no guarantee covers. Of nodes that nobody can clear, fewer cannot either;
        a gang's are cleared one by one, and with fewer to choose from that may come out well, if
        there were enough of them to begin with."""
        self._had_options = False
        found = self._cheapest()
        if found is None and self._lenient and self._had_options:
            self._lenient = False
            self._begin()
            found = self._cheapest()
        return found

    def _cheapest(self) -> tuple[Option, tuple[JobId, ...]] | None:
        for tried in range(OPTIONS_MAX):
            option = self._next(tried)
            if option is None:
                return None
            self._had_options = True
            stake = self._stake(option)
            leave = option.leave
            if not self._outlook.powered(option.number, stake, leave):
                continue
            if not leave and self._outlook.ledger.fits(stake):
                return option, ()
            if self._allows(stake, leave):
                self._again(option)
                return option, leave
            if tried == 0 and (more := self._free_quota(stake, option)) is not None:
                self._again(option)
                return option, more
            self._retry(option, stake)
        return None

    def _next(self, tried: int) -> Option | None:
        if self._ask.nodes > 1:
            if tried == 0:
                self._gangs = self._gang_options()
            return self._gangs[tried] if tried < len(self._gangs) else None
        if tried == 0 and (roomy := self._roomy()) is not None:
            return roomy
        return self._pop()

    def _roomy(self) -> Option | None:
        """The first node that will have room anyway: then quota alone is in the way."""
        for where in self._answer.classes:
            for number in bits(where.sites):
                nodes = self._roomy_at(where, number)
                if nodes:
                    return Option(FREE, where, number, nodes & -nodes, ())
        return None

    def _open(self, where: ClassAnswer, number: int) -> int:
        nodes = self._outlook.open_nodes(where, number)
        return nodes & ~self._barred(self._class, number) if self._barred else nodes

    def _roomy_at(self, where: ClassAnswer, number: int) -> int:
        """The nodes that will have room anyway; only those that were touched since are judged
        again."""
        outlook, index = self._outlook, self._outlook.fleet.order[number][1]
        touched = outlook.touched.get(number, [])
        known = self._rooms.get((where.gpu_class, number))
        if known is None:
            mask = outlook.roomy(where, number, self._ask, self._views)
        else:
            mask, seen = known
            for at in touched[seen:]:
                holds = outlook.floor(index.records[at]).holds(self._ask)
                mask = mask | 1 << at if holds else mask & ~(1 << at)
        self._rooms[where.gpu_class, number] = mask, len(touched)
        return mask & self._open(where, number)

    def _push(self, place: int, number: int, at: int) -> None:
        """A node whose price is at least that of the cheapest who may be asked there."""
        candidates = [c for c in self._on[place, number][at] if self._stays(c)]
        if candidates:
            least = min((c.rank, c.lost_gpu_ms) for c in candidates)
            heappush(self._heap, ((*least, 1, ()), place, number, at, -1, ()))

    def _pop(self) -> Option | None:
        while self._heap:
            cost, place, number, at, version, leave = heappop(self._heap)
            where = self._answer.classes[place]
            record = self._outlook.fleet.order[number][1].records[at]
            current = self._outlook.version(record.node.id)
            if version == current:
                return Option(cost, where, number, 1 << at, leave)
            if not self._open(where, number) >> at & 1:
                continue
            candidates = [c for c in self._on[place, number][at] if self._stays(c)]
            found = cheapest(self._outlook.floor(record), self._ask, candidates)
            if found:
                jobs = tuple(sorted(c.job for c in found))
                heappush(self._heap, (price(found), place, number, at, current, jobs))
        return None

    def _retry(self, option: Option, stake: Stake) -> None:
        """The best set on a node is not allowed: there may be one that is."""
        if self._ask.nodes > 1 or not option.leave:
            return
        at, number = option.nodes.bit_length() - 1, option.number
        place = self._answer.classes.index(option.where)
        record = self._outlook.fleet.order[number][1].records[at]
        candidates = [c for c in self._on[place, number][at] if self._stays(c)]
        found = cheapest(
            self._outlook.floor(record),
            self._ask,
            candidates,
            lambda chosen: self._allows(stake, [c.job for c in chosen]),
        )
        if found:
            jobs = tuple(sorted(c.job for c in found))
            version = self._outlook.version(record.node.id)
            heappush(self._heap, (price(found), place, number, at, version, jobs))

    def _again(self, option: Option) -> None:
        """The node of an option that is taken may have room for more."""
        if self._ask.nodes == 1 and option.leave:
            at = option.nodes.bit_length() - 1
            self._push(self._answer.classes.index(option.where), option.number, at)

    def _gang_options(self) -> list[Option]:
        options: list[Option] = []
        for place, where in enumerate(self._answer.classes):
            for number in bits(where.sites):
                options += self._gangs_at(place, where, number)
        options.sort(key=lambda option: option.price)
        return options

    def _gangs_at(self, place: int, where: ClassAnswer, number: int) -> Iterable[Option]:
        outlook, index = self._outlook, self._outlook.fleet.order[number][1]
        roomy = self._roomy_at(where, number)
        open_here, on = self._open(where, number) & ~roomy, self._on.get((place, number), {})
        asked = {
            at: staying
            for at in sorted(on)
            if open_here >> at & 1
            and outlook.may_hold(index.records[at], self._ask, {c.job for c in on[at]})
            and (staying := [c for c in on[at] if self._stays(c)])
        }
        if roomy.bit_count() + len(asked) < self._ask.nodes:
            return
        for mask in index.layout.required_domains(self._ask):
            inside = {at: found for at, found in asked.items() if mask >> at & 1}
            if (roomy & mask).bit_count() + len(inside) < self._ask.nodes:
                continue
            self._had_options = True
            domain = Domain(
                roomy=roomy & mask,
                asked=inside,
                floor=lambda at: outlook.floor(index.records[at]),
                may_leave=self._may_leave,
            )
            found = clear(domain, self._ask)
            if found is not None:
                nodes, victims = found
                jobs = tuple(sorted(c.job for c in victims))
                yield Option(price(victims), where, number, nodes, jobs)

    def _may_leave(self, jobs: Iterable[JobId]) -> bool:
        """Whether all of `jobs` may be asked together; of quota nothing is said."""
        stake, ledger = None, self._outlook.ledger
        gone: list[Stake] = []
        try:
            for job in jobs:
                victim = self._stake_of(job)
                stake = stake or self._least(victim.gpu_class)
                if not ledger.may_ask(stake, victim) or self._covered(stake, victim):
                    return False
                ledger.shift(victim, -1)
                gone.append(victim)
        finally:
            for victim in gone:
                ledger.shift(victim, 1)
        return True

    def _allows(self, stake: Stake, leave: Iterable[JobId]) -> bool:
        return self._outlook.ledger.allows(stake, [self._stake_of(job) for job in leave])

    def _free_quota(self, stake: Stake, option: Option) -> tuple[JobId, ...] | None:
        """Who else has to leave so that quota lets the job in: the cheapest, nobody in vain."""
        ledger = self._outlook.ledger
        if not self._may_leave(option.leave):
            return None
        others = sorted(
            (c for c in self._priced.values() if c.job not in option.leave and self._stays(c)),
            key=_worth,
        )
        gone = [self._stake_of(job) for job in option.leave]
        for victim in gone:
            ledger.shift(victim, -1)
        more = ledger.free_up(stake, [(c.job, self._stake_of(c.job)) for c in others])
        for victim in gone:
            ledger.shift(victim, 1)
        if more is None:
            return None
        leave = tuple(sorted({*option.leave, *more}))
        return leave if self._allows(stake, leave) else None

    def _collect(self, place: int) -> None:
        """Finds whom jobs of the class may ask on the GPUs of one model."""
        outlook, where = self._outlook, self._answer.classes[place]
        fleet = outlook.fleet
        least = self._least(where.gpu_class)
        asked, looked = whom_to_ask(outlook, least)
        self._looked += looked
        for live in asked:
            job = live.placement.key.job
            lost = lost_gpu_ms(live, outlook.now_ms)
            victim = self._stake_of(job)
            candidate = Candidate(standing(least, victim.tenant, victim.rank), lost, job)
            self._priced[job] = candidate
            number = outlook.numbers.get(live.placement.site)
            if number is None or not where.sites >> number & 1:
                continue
            nodes = self._open(where, number)
            for part in live.placement.nodes:
                record = fleet.nodes.get(part.node)
                if record is not None and nodes >> record.at & 1:
                    on = self._on.setdefault((place, number), {})
                    on.setdefault(record.at, []).append(candidate)

    def _stake(self, option: Option) -> Stake:
        """What the job will count for on the nodes of `option`."""
        index = self._outlook.fleet.order[option.number][1]
        milli = sum(self._ask.milli_on(index.records[at].node.gpus) for at in bits(option.nodes))
        return Stake(self._class.tenant, self._rank, option.where.gpu_class, milli)

    def _least(self, gpu_class: GpuClass) -> Stake:
        """What the job counts for at least, wherever it goes."""
        milli = self._ask.nodes * self._ask.shape.gpu_milli()
        return Stake(self._class.tenant, self._rank, gpu_class, milli)

    def _stake_of(self, job: JobId) -> Stake:
        live = self._outlook.fleet.live[job]
        return stake_of(self._outlook.fleet, live.placement, live.job_class)

    def _stays(self, candidate: Candidate) -> bool:
        return candidate.job not in self._outlook.leaving and (
            self._lenient or self._may_leave((candidate.job,))
        )

    def _covered(self, stake: Stake, victim: Stake) -> bool:
        """Whether a guarantee covers `victim`, which `stake` cannot make up for (`stakes`)."""
        strict = not self._lenient and victim.rank >= stake.rank
        return strict and self._outlook.ledger.opens(victim)


def _worth(candidate: Candidate) -> tuple[Rank, int, JobId]:
    return candidate.rank, candidate.lost_gpu_ms, candidate.job
