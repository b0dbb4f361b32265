"""One seed from beginning to end: draw, break things, heal them, wait, judge."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.sim import fleet, judge, steady
from tests.sim.chaos import Chaos
from tests.sim.clock import Loop
from tests.sim.faults import FaultPlan, draw_faults
from tests.sim.network import Weather
from tests.sim.seeds import Dice
from tests.sim.trace import Trace
from tests.sim.workload import draw_asks
from tests.sim.world import Drawn, World

SETTLE_MS = 15_000
"""Before the first submission and the first fault."""
FAULTS_MS = 480_000
CALM_MS_MAX = 5_400_000
"""With faults off everything has ended by then, back-offs and leases included."""
LOOK_MS = 30_000
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one seed."""

    seed: int
    violations: tuple[str, ...]
    digest: str
    lines: int
    story: tuple[str, ...]
    counts: str

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.violations


def run_seed(
    seed: int,
    *,
    sink: Callable[[str], None] | None = None,
    jobs: int | None = None,
    plan: FaultPlan | None = None,
    calm_ms_max: int = CALM_MS_MAX,
) -> Result:
    """Simulate one seed. `plan` replaces what the seed would break."""
    dice = Dice(seed, "run")
    loop = Loop()
    trace = Trace(loop, sink)
    faults = plan if plan is not None else draw_faults(dice.fork("faults"), FAULTS_MS)
    count = jobs if jobs is not None else dice.between(20, 45)
    asks = draw_asks(dice.fork("asks"), count, FAULTS_MS)
    for ask in asks:
        ask.at_ms += SETTLE_MS
    drawn = Drawn(
        fleet.draw_fleet(dice.fork("fleet")),
        fleet.draw_tenants(dice.fork("tenants")),
        asks,
        faults.stale_plans,
    )
    parent = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="sov-sim-", dir=parent) as folder:
        world = World(seed, drawn, Path(folder), loop, trace)
        try:
            _live(world, faults, calm_ms_max)
        except Exception:
            # A program that dies of a bug is a finding like any other; it must be replayable.
            trace.note("run", "something raised")
            world.watch.found("raised", [traceback.format_exc()])
        try:
            counts = judge.counts(world)
        finally:
            world.close()
    violations = (*world.watch.violations, *world.tenants.violations)
    return Result(seed, violations, trace.digest(), trace.lines, tuple(trace.last), counts)


def _live(world: World, faults: FaultPlan, calm_ms_max: int) -> None:
    loop = world.loop
    chaos = Chaos(world, faults)
    world.begin(Weather())
    loop.run_until(SETTLE_MS)
    # Phase 1: safety under faults.
    chaos.begin(SETTLE_MS)
    loop.every(LOOK_MS, lambda: world.tenants.look(world.drawn.asks), world.life)
    loop.run_until(SETTLE_MS + FAULTS_MS)
    # Phase 2: liveness with faults off.
    chaos.heal()
    world.trace.note("run", "all faults are over")
    steady.run(world, calm_ms_max)
    loop.run_until(loop.now_ms + calm_ms_max, stop=judge.settled(world))
    judge.final(world, chaos.disturbed)
