"""Planner decisions per CPU-second on an empty fleet of the nation's size.

Yardstick, in the same run: the least that a decision costs in plain Python, an AND of two bit sets
and their lowest bit. The planner is the production one with production settings.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path

from bench.record import Result, median
from bench.worlds import NOW_MS, fleet_changes, loaded, queue, shape_from
from scheduler.core.mix import learned
from scheduler.core.planner import plan
from scheduler.model.plan import PlanBudget

RUNS = 5
JOBS, CLASSES, TENANTS, GANG_PERCENT = 100_000, 2_000, 50, 2
SEED = 42
YARDSTICK_TURNS = 300_000


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a topology of the reference fleet's form."""
    fleet = loaded(fleet_changes(shape_from(data), TENANTS))
    fleet.apply_all(2, list(queue(SEED, JOBS, CLASSES, TENANTS, GANG_PERCENT)))
    usual = learned(fleet, NOW_MS)
    assert usual is not None, "enough jobs to learn from"
    fleet.apply_all(3, [usual])
    # As the planner's own process does: nothing is collected in the middle of a plan.
    gc.collect()
    gc.freeze()
    gc.disable()
    budget = PlanBudget(placements_max=JOBS, attempts_max=2 * JOBS)
    placed = 0

    def once() -> float:
        nonlocal placed
        began = time.process_time()
        made = plan(fleet, NOW_MS, budget)
        spent = time.process_time() - began
        gc.collect()
        placed = len(made.placements)
        return (placed + len(made.blocked)) / spent

    rate = median(once, RUNS)
    least = median(bit_set_picks_per_cpu_s, RUNS)
    gc.enable()
    gc.unfreeze()
    return Result(
        bench="plan",
        figures={"decisions_per_cpu_s": round(rate), "placements": placed},
        yardstick={"bit_set_picks_per_cpu_s": round(least)},
        ratios={"ratio_to_bit_sets": round(rate / least, 4)},
        runs=RUNS,
    )


def bit_set_picks_per_cpu_s() -> float:
    """The yardstick: nothing but two bit sets and their lowest bit."""
    free, wanted = (1 << 15_000) - 1, (1 << 15_000) - (1 << 7_000)
    began = time.process_time()
    for _ in range(YARDSTICK_TURNS):
        both = free & wanted
        _lowest = (both & -both).bit_length()
    return YARDSTICK_TURNS / (time.process_time() - began)
