"""What tenants want of services: how many replicas, how far apart, and what they change of that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scheduler.model.job import JobKind, JobSpec, Retries
from scheduler.model.service import WITHOUT_END, Service
from scheduler.model.topology import Spread, TopologyLevel, TopologyMode
from tests.sim.scripts import Script
from tests.sim.seeds import Dice

REPLICAS_MAX = 3
CHANGES_MAX = 3
GAP_MS_MAX = 120_000
"""Between two changes of one service."""
FOR_EVER_MS = 10_000_000
"""Longer than any run of the simulator."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a tenant asks for, so long after the one before: another number of replicas, or the end
    of one of them. Exactly one of `replicas` and `replica` is set."""

    after_ms: int
    replicas: int | None = None
    replica: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A service, as its tenant means it. `over`: "site", "leaf", "node" or "" for wherever they
    are best off; `bounded`: whether a replica gives up in the end."""

    replicas: int
    over: str = ""
    required: bool = False
    bounded: bool = False
    changes: tuple[Change, ...] = ()

    def made_of(self, spec: JobSpec, time_limit_ms: int) -> JobSpec:
        """The job as a service of this kind, of which one run is so long."""
        mode = TopologyMode.REQUIRED if self.required else TopologyMode.PREFERRED
        spread = Spread(TopologyLevel[self.over.upper()], mode) if self.over else None
        retries = spec.retries if self.bounded else Retries(WITHOUT_END, WITHOUT_END)
        return replace(
            spec,
            kind=JobKind.SERVICE,
            service=Service(self.replicas, spread),
            retries=retries,
            time_limit_ms=time_limit_ms,
        )


def draw_wish(dice: Dice) -> Wish:
    """A service of a few replicas, which is changed a few times."""
    changes = tuple(_change(dice) for _ in range(dice.between(0, CHANGES_MAX)))
    return Wish(
        dice.between(1, REPLICAS_MAX),
        dice.pick(("", "", "site", "leaf", "node", "node")),
        dice.chance(600),
        dice.chance(300),
        changes,
    )


def draw_replica(dice: Dice) -> Script:
    """What a replica does: most run until they are told to stop, some end by themselves."""
    runs_ms = dice.pick((FOR_EVER_MS, FOR_EVER_MS, dice.between(500, 90_000)))
    term_ms = dice.pick((-1, 0, 200, 4_000))
    code = dice.pick((0, 0, 3))
    return Script(runs_ms, code=code, term_ms=term_ms, term_code=dice.pick((0, 15)))


def draw_run_ms(dice: Dice) -> int:
    """How long one run of a replica is at most."""
    return dice.between(30_000, 90_000) if dice.chance(150) else 3_600_000


def _change(dice: Dice) -> Change:
    after_ms = dice.between(0, GAP_MS_MAX)
    if dice.chance(300):
        return Change(after_ms, replica=dice.between(0, REPLICAS_MAX))
    return Change(after_ms, replicas=dice.between(0, REPLICAS_MAX))
