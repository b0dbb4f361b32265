"""What goes wrong, when and for how long: a plan drawn from the seed before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tests.sim.network import Weather
from tests.sim.seeds import Dice


class Kind(StrEnum):
    """One sort of fault, or of change while work is under way."""

    CUT_SITE = "cut_site"
    AGENT_CRASH = "agent_crash"
    DRIVER_CRASH = "driver_crash"
    RAY_LOST = "ray_lost"
    RAYLET_DOWN = "raylet_down"
    NODE_REBOOT = "node_reboot"
    NODE_SICK = "node_sick"
    NODE_UNREACHABLE = "node_unreachable"
    NODE_AGENT_CRASH = "node_agent_crash"
    SHIM_KILLED = "shim_killed"
    DISK_FULL = "disk_full"
    PLANE_CRASH = "plane_crash"
    PLANE_CRASH_MID = "plane_crash_mid"
    PLANE_FAILOVER = "plane_failover"
    CORDON = "cordon"
    FACTS_CHANGE = "facts_change"
    POLICY_CHANGE = "policy_change"
    TENANTS_CHANGE = "tenants_change"
    POWER_OFF_AND_FENCE = "power_off_and_fence"
    INTRUDER = "intruder"


LONGEST_MS = {
    Kind.CUT_SITE: 240_000,
    Kind.AGENT_CRASH: 60_000,
    Kind.RAY_LOST: 60_000,
    Kind.RAYLET_DOWN: 240_000,
    Kind.NODE_REBOOT: 90_000,
    Kind.NODE_SICK: 60_000,
    Kind.NODE_UNREACHABLE: 150_000,
    Kind.NODE_AGENT_CRASH: 90_000,
    Kind.DISK_FULL: 40_000,
    Kind.PLANE_CRASH: 30_000,
    Kind.PLANE_CRASH_MID: 10_000,
    Kind.PLANE_FAILOVER: 40_000,
    Kind.CORDON: 120_000,
    Kind.FACTS_CHANGE: 200_000,
    Kind.POLICY_CHANGE: 200_000,
    Kind.TENANTS_CHANGE: 200_000,
    Kind.POWER_OFF_AND_FENCE: 120_000,
    Kind.INTRUDER: 120_000,
}
"""How long each lasts at most; those not named are over at once."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    at_ms: int
    kind: Kind
    lasts_ms: int
    number: int


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All that goes wrong in a run."""

    faults: tuple[Fault, ...]
    weather: Weather
    late_calls: int
    failed_launches: int
    stale_plans: int
    """Plans per thousand that are applied only after a while."""


def draw_faults(dice: Dice, span_ms: int) -> FaultPlan:
    """Some kinds often, some once or twice, some never: each run has a character of its own."""
    faults: list[Fault] = []
    for kind in Kind:
        own = dice.fork(kind)
        for _ in range(own.pick((0, 0, 1, 1, 2, 4))):
            longest_ms = LONGEST_MS.get(kind, 0)
            lasts_ms = own.between(min(500, longest_ms), own.pick((longest_ms, longest_ms // 8)))
            faults.append(Fault(own.between(0, span_ms), kind, lasts_ms, len(faults)))
    weather = Weather(
        loss=dice.pick((0, 0, 3, 15, 40)),
        double=dice.pick((0, 0, 20, 100)),
        overtake=dice.pick((0, 0, 20, 100)),
        slow=dice.pick((0, 0, 5, 40)),
    )
    return FaultPlan(
        faults=tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.number))),
        weather=weather,
        late_calls=dice.pick((0, 0, 5, 30)),
        failed_launches=dice.pick((0, 0, 50, 200)),
        stale_plans=dice.pick((0, 100, 400)),
    )
