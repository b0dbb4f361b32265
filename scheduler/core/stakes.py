"""What a preemption would do to the guarantees of the tree, and the proof that none cycles.

Two rules let a job ask another to leave:

* *Priority*: it is of the same project, and its priority is strictly lower.
* *Reclaim*: it is of another branch of the tree, which borrows; the job's own branch is below its
  guarantee, and not above it with the job (`quota.reclaimable`). Whatever the priorities are.

A guarantee covers the work of highest priority first; what is borrowed is what is left. So let
M(p, d) be the guarantees that work of priority p and above fills, each as far as it is filled,
summed over the nodes at depth d of the tree, and T(p) all that work of priority p uses. Every
preemption raises

    M(high, deepest) ... M(high, 1), M(normal, deepest) ..., M(spot, 1), T(high), T(normal), T(spot)

in lexicographic order; `gain` is the difference, and a set of victims whose gain is not above zero
is not taken. For the priority rule it always is: the work of the victims' priorities and below
shrinks, and above there is more of it; where no guarantee has room for that, T rises. A placement
on free capacity lowers none of the terms and raises a T. All terms are bounded: so for a given set
of jobs there is an end to preemptions, whatever their order. Only what comes from outside (a job
that ends or arrives, a node that fails, another tree) can lead to more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

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
from scheduler.model.ids import TENANT_DEPTH_MAX, GpuClass, JobId, TenantPath
from scheduler.model.job import Priority
from scheduler.model.reasons import Reason

LAYERS = (Priority.HIGH, Priority.NORMAL, Priority.SPOT)

Gain: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stake:
    """Work that holds, or is to hold, so much of a GPU class."""

    tenant: TenantPath
    priority: Priority
    gpu_class: GpuClass
    milli: int


class Ledger:
    """What is in use, by priority, as it will be once everything that was begun is done.

    The usages that it starts from are not changed.
    """

    def __init__(self, tree: QuotaTree, usage: Usage, used_at: Mapping[Priority, Usage]) -> None:
        self.tree = tree
        self._all = _Copy(usage)
        self._at = {priority: _Copy(part) for priority, part in used_at.items()}

    @property
    def usage(self) -> Usage:
        """All that is in use."""
        return self._all.usage

    def shift(self, stake: Stake, sign: int) -> None:
        """`stake` comes (1) or goes (-1)."""
        self._all.charge(stake.tenant, stake.gpu_class, sign * stake.milli)
        self.rank(stake, sign)

    def rank(self, stake: Stake, sign: int = 1) -> None:
        """`stake` counts among what its priority uses; that it is in use was known."""
        part = self._at.get(stake.priority)
        if part is not None:
            part.charge(stake.tenant, stake.gpu_class, sign * stake.milli)

    def may_ask(self, stake: Stake, victim: Stake) -> bool:
        """Whether either rule lets `stake` have `victim` leave, were it the only one."""
        return outranks(stake, victim) or reclaimable(
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
        return self.lets_in(stake, victims) and self.gain(stake, victims) > NOTHING

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

    def gain(self, stake: Stake, victims: Sequence[Stake]) -> Gain:
        """By how much the potential rises if `victims` go and `stake` comes."""
        places = self._places((stake, *victims))
        before = [self._met(layer, places) for layer in LAYERS]
        for victim in victims:
            self.shift(victim, -1)
        self.shift(stake, 1)
        after = [self._met(layer, places) for layer in LAYERS]
        self.shift(stake, -1)
        for victim in victims:
            self.shift(victim, 1)
        met = [
            now[depth] - then[depth]
            for then, now in zip(before, after, strict=True)
            for depth in range(TENANT_DEPTH_MAX, 0, -1)
        ]
        totals = [
            sum(s.milli for s in (stake,) if s.priority is layer)
            - sum(s.milli for s in victims if s.priority is layer)
            for layer in LAYERS
        ]
        return (*met, *totals)

    def _places(self, stakes: Iterable[Stake]) -> list[tuple[TenantPath, GpuClass, int]]:
        """The guarantees that `stakes` count towards."""
        found: dict[tuple[TenantPath, GpuClass], int] = {}
        for stake in stakes:
            for path in lineage(stake.tenant):
                for name in (stake.gpu_class, ALL_CLASSES):
                    milli = self.tree.guarantee_milli(path, name)
                    if milli:
                        found[path, name] = milli
        return [(path, name, milli) for (path, name), milli in sorted(found.items())]

    def _met(self, layer: Priority, places: list[tuple[TenantPath, GpuClass, int]]) -> list[int]:
        """How far work of `layer` and above fills the guarantees at `places`, by depth."""
        met = [0] * (TENANT_DEPTH_MAX + 1)
        for path, name, milli in places:
            met[path.count("/") + 1] += min(milli, self._used(layer, path, name))
        return met

    def _used(self, layer: Priority, path: TenantPath, name: GpuClass) -> int:
        if layer is Priority.SPOT:
            return used_milli(self.usage, path, name)
        parts = (part for priority, part in self._at.items() if priority >= layer)
        return sum(used_milli(part.usage, path, name) for part in parts)


NOTHING: Gain = (0,) * (len(LAYERS) * (TENANT_DEPTH_MAX + 1))


def outranks(stake: Stake, victim: Stake) -> bool:
    """The priority rule."""
    return stake.tenant == victim.tenant and stake.priority > victim.priority


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
