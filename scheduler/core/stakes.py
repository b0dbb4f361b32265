"""What a preemption would do to the guarantees of the tree, and the proof that none cycles.

Three rules let a job ask another to leave:

* *Priority*: it is of the same project, and its priority is strictly lower.
* *Service*: it is of the same project, which goes by `shortest`, its priority is the same, and its
  service is larger (`ranks`).
* *Reclaim*: it is of another branch of the tree, which borrows; the job's own branch is below its
  guarantee, and not above it with the job (`quota.reclaimable`). Whatever the priorities are.

The first two are one: the other ranks lower. A guarantee covers the work of highest rank first;
what is borrowed is what is left. So let M(r, d) be the guarantees that work of rank r and above
fills, each as far as it is filled, summed over the nodes at depth d of the tree, and T(r) all that
work of rank r uses. Every preemption raises

    M(highest, deepest) ... M(highest, 1), M(next, deepest) ... M(lowest, 1), T(highest) ...


in lexicographic order, and a set of victims that does not is not taken. Within a project every set
does: work of the victims' ranks and below shrinks, and above there is more of it; where no
guarantee has room for that, T rises. A placement on free capacity lowers none of the terms and
raises a T. All terms are bounded, and so are the ranks there are: so for a given set of jobs there
is an end to preemptions, whatever their order. Only what comes from outside can lead to more: a job
that ends or arrives, a node that fails, another tree, the time that work has had, which moves a
job by a rank once for each of a few levels, or what a day's runs tell of lengths (`lengths`).

Between two ranks of those who come and go, what changes is the same. So what happens at a guarantee
is only looked at where one of them ranks: if there it is filled with and without them, it is so at
all that rank lower, down to the next of them. Where guarantees gain and lose as much as one another
that does not hold of their sum, and all ranks in between are looked at.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from scheduler.core.evictable import EVERYBODY
from scheduler.core.quota import (
    ALL_CLASSES,
    QuotaTree,
    Usage,
    charge,
    fits,
    lineage,
    reclaimable,
    used_milli,
    within,
)
from scheduler.core.ranks import Rank, outranks
from scheduler.model.ids import TENANT_DEPTH_MAX, GpuClass, JobId, TenantPath
from scheduler.model.reasons import Reason


@dataclass(frozen=True, slots=True)
class Stake:
    """Work that holds, or is to hold, so much of a GPU class."""

    tenant: TenantPath
    rank: Rank
    gpu_class: GpuClass
    milli: int


class Ledger:
    """What is in use, by rank, as it will be once everything that was begun is done.

    The usages that it starts from are not changed.
    """

    def __init__(self, tree: QuotaTree, usage: Usage, used_at: Mapping[Rank, Usage]) -> None:
        """`used_at`: of `usage`, the part of each rank but EVERYBODY."""
        self.tree = tree
        self._all = _Copy(usage)
        self._at = used_at
        # What comes and goes, by rank: how much, at which guarantees.
        self._moved: dict[Rank, dict[Place, int]] = {}
        # By place: all ranks, ascending, and what each and those above used at first.
        self._above: dict[Place, tuple[list[Rank], list[int]]] = {}

    @property
    def usage(self) -> Usage:
        """All that is in use."""
        return self._all.usage

    def shift(self, stake: Stake, sign: int) -> None:
        """`stake` comes (1) or goes (-1)."""
        self._all.charge(stake.tenant, stake.gpu_class, sign * stake.milli)
        self.rank(stake, sign)

    def rank(self, stake: Stake, sign: int = 1) -> None:
        """`stake` counts among what its rank uses; that it is in use was known."""
        if stake.rank == EVERYBODY:
            return
        moved = self._moved.setdefault(stake.rank, {})
        for place in _counts_at(stake):
            moved[place] = moved.get(place, 0) + sign * stake.milli

    def may_ask(self, stake: Stake, victim: Stake) -> bool:
        """Whether any rule lets `stake` have `victim` leave, were it the only one."""
        if stake.tenant == victim.tenant:
            return outranks(stake.rank, victim.rank)
        return reclaimable(
            self.tree,
            self.usage,
            stake.tenant,
            victim.tenant,
            victim.gpu_class,
            victim.milli,
            asked_milli=stake.milli,
        )

    def allows(self, stake: Stake, victims: Sequence[Stake]) -> bool:
        """Whether all of `victims` may leave for `stake`, which quota then lets in."""
        return self.lets_in(stake, victims) and self.gains(stake, victims)

    def lets_in(self, stake: Stake, victims: Sequence[Stake]) -> bool:
        """Whether the rules hold for each of `victims` after the others, and then quota does."""
        gone: list[Stake] = []
        try:
            for victim in victims:
                if not self.may_ask(stake, victim):
                    return False
                self.shift(victim, -1)
                gone.append(victim)
            return self.fits(stake)
        finally:
            for victim in gone:
                self.shift(victim, 1)

    def free_up(self, stake: Stake, others: Sequence[tuple[JobId, Stake]]) -> list[JobId] | None:
        """Those of `others`, the first first, without whom quota lets `stake` in; None: not even
        without all that may be asked. Nobody is among them who could have stayed."""
        gone: list[tuple[JobId, Stake]] = []
        try:
            for job, other in others:
                if self.fits(stake):
                    break
                helps = self._in_the_way(stake, other.tenant)
                if helps and self.may_ask(stake, other):
                    self.shift(other, -1)
                    gone.append((job, other))
            if not self.fits(stake):
                return None
            for entry in reversed(list(gone)):
                self.shift(entry[1], 1)
                if self.fits(stake):
                    gone.remove(entry)
                else:
                    self.shift(entry[1], -1)
            return [job for job, _ in gone]
        finally:
            for _, other in gone:
                self.shift(other, 1)

    def _in_the_way(self, stake: Stake, tenant: TenantPath) -> bool:
        """Whether what `tenant` uses counts for something that keeps `stake` out."""
        denials = fits(self.tree, self.usage, stake.tenant, stake.gpu_class, stake.milli)
        above = lineage(tenant)
        return any(
            denial.subject in above or denial.reason is not Reason.QUOTA_LIMIT for denial in denials
        )

    def fits(self, stake: Stake) -> bool:
        """Whether quota lets `stake` in."""
        return within(self.tree, self.usage, stake.tenant, stake.gpu_class, stake.milli)

    def gains(self, stake: Stake, victims: Sequence[Stake]) -> bool:
        """Whether the potential rises if `victims` go and `stake` comes."""
        if stake.milli and all(victim.tenant == stake.tenant for victim in victims):
            return True
        moves = ((stake, 1), *((victim, -1) for victim in victims))
        places = self._places(moves)
        ranks = sorted({each.rank for each, _ in moves}, reverse=True)
        known = sorted({*self._at, *self._moved, EVERYBODY}, reverse=True)
        for rank, lower in zip(ranks, (*ranks[1:], None), strict=True):
            between = (r for r in known if r < rank and (lower is None or r > lower))
            for at in (rank, *between):
                changes = self._changes(at, moves, places)
                sums = _by_depth(changes)
                if any(sums):
                    return sums > NOTHING
                if not any(change for _, change in changes):
                    break
        return _totals(moves, ranks) > (0,) * len(ranks)

    def _places(self, moves: Sequence[tuple[Stake, int]]) -> list[tuple[Place, int]]:
        """The guarantees that count what moves, with how much they are."""
        found: dict[Place, int] = {}
        for stake, _ in moves:
            for path, name in _counts_at(stake):
                milli = self.tree.guarantee_milli(path, name)
                if milli:
                    found[path, name] = milli
        return sorted(found.items())

    def _changes(
        self,
        rank: Rank,
        moves: Sequence[tuple[Stake, int]],
        places: Sequence[tuple[Place, int]],
    ) -> list[tuple[Place, int]]:
        """How much more work of `rank` and above fills each guarantee, after all moves."""
        changes: list[tuple[Place, int]] = []
        for place, guarantee_milli in places:
            more = sum(
                sign * stake.milli
                for stake, sign in moves
                if stake.rank >= rank and place in _counts_at(stake)
            )
            if more:
                used = self._used(rank, place)
                after = min(guarantee_milli, used + more)
                changes.append((place, after - min(guarantee_milli, used)))
        return changes

    def opens(self, victim: Stake) -> bool:
        """Whether a guarantee is filled less by work of `victim`'s rank and above without it."""
        for place in _counts_at(victim):
            milli = self.tree.guarantee_milli(*place)
            if milli and self._used(victim.rank, place) - victim.milli < milli:
                return True
        return False

    def _used(self, rank: Rank, place: Place) -> int:
        """What work of `rank` and above uses."""
        if rank > EVERYBODY:
            return self._from(rank, place) + self._came(place, lambda each: each >= rank)
        lower = self._from(None, place) - self._from(rank, place)
        lower += self._came(place, lambda each: each < rank)
        return used_milli(self.usage, *place) - lower

    def _from(self, rank: Rank | None, place: Place) -> int:
        """What work of `rank` and above used at first; None: of any rank but EVERYBODY."""
        known = self._above.get(place)
        if known is None:
            ranks = sorted(self._at)
            sums = [0]
            for each in reversed(ranks):
                sums.append(sums[-1] + used_milli(self._at[each], *place))
            known = self._above[place] = ranks, sums[::-1]
        ranks, above = known
        return above[0 if rank is None else bisect_left(ranks, rank)]

    def _came(self, place: Place, counts: Callable[[Rank], bool]) -> int:
        """What work of such ranks uses since."""
        return sum(moved.get(place, 0) for each, moved in self._moved.items() if counts(each))


Place: TypeAlias = tuple[TenantPath, GpuClass]
"""Where a guarantee may be: a node of the tree, and a GPU class or all of them."""

NOTHING = (0,) * TENANT_DEPTH_MAX


def standing(stake: Stake, tenant: TenantPath, rank: Rank) -> Rank:
    """How dear work of `tenant` is to one who asks: service counts within a project only."""
    return rank if tenant == stake.tenant else (rank[0], 0)


def _counts_at(stake: Stake) -> list[Place]:
    return [
        (path, name) for path in lineage(stake.tenant) for name in (stake.gpu_class, ALL_CLASSES)
    ]


def _by_depth(changes: Iterable[tuple[Place, int]]) -> tuple[int, ...]:
    """The sum at each depth of the tree, the deepest first."""
    sums = [0] * TENANT_DEPTH_MAX
    for (path, _), change in changes:
        sums[TENANT_DEPTH_MAX - 1 - path.count("/")] += change
    return tuple(sums)


def _totals(moves: Iterable[tuple[Stake, int]], ranks: Iterable[Rank]) -> tuple[int, ...]:
    """How much more work of each rank there is."""
    moved = list(moves)
    return tuple(
        sum(sign * stake.milli for stake, sign in moved if stake.rank == rank) for rank in ranks
    )


class _Copy:
    """A usage of which only the lines that change are copied."""

    def __init__(self, usage: Usage) -> None:
        self.usage = dict(usage)
        self._own: set[TenantPath] = set()

    def charge(self, tenant: TenantPath, gpu_class: GpuClass, milli: int) -> None:
        for path in lineage(tenant):
            if path not in self._own:
                self._own.add(path)
                self.usage[path] = dict(self.usage.get(path, {}))
        charge(self.usage, tenant, gpu_class, milli)
