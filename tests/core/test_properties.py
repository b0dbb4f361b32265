"""What holds of every world: each test walks a random history, or looks at a random moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_plan, check_world, derived, world_of
from scheduler.core.planner import plan
from scheduler.model.fleet import Node
from scheduler.model.plan import (
    BudgetChanged,
    Change,
    JobChanged,
    NodeChanged,
    PlanBudget,
    QueuedJob,
    TenantsChanged,
)
from tests.core.builders import NOW_MS, commit, rebuilt
from tests.core.worlds import Ended, Placed, Step, end_of, lost, starts, steps

ROOT = Path(__file__).parents[2]
THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def start(changes: list[Change]) -> FleetState:
    fleet = FleetState()
    fleet.apply_all(len(changes), changes)
    return fleet


def walk(fleet: FleetState, step: Step) -> None:
    """One step, as the store would feed it."""
    match step:
        case Placed():
            commit(fleet, plan(fleet, NOW_MS))
        case Ended():
            change = end_of(fleet, step)
            if change is not None:
                fleet.apply(change)
        case BudgetChanged() | TenantsChanged():
            _spend(fleet, step)
        case JobChanged() if step.id in fleet.live:
            fleet.apply(lost(fleet, step.id))
        case NodeChanged(node=None) if _in_use(fleet, step.id):
            pass  # Control refuses to forget a node that holds work.
        case NodeChanged(node=Node() as new) if _another_kind(fleet, new):
            pass  # Nor does it let one become something that the work was not placed for.
        case JobChanged(queued=QueuedJob() as job):
            # A job never changes its class: another one comes with that number.
            fleet.apply(JobChanged(job.id, None, None))
            fleet.apply(step)
        case _:
            fleet.apply(step)


def _spend(fleet: FleetState, step: BudgetChanged | TenantsChanged) -> None:
    """What is spent is told where a budget bears it, and all of it anew after another tree."""
    if isinstance(step, BudgetChanged):
        if fleet.tree.has_budgets:
            fleet.apply(step)
        return
    settled = fleet.book.settlements()
    fleet.apply(step)
    for use in settled if fleet.tree.has_budgets else ():
        fleet.apply(BudgetChanged(use))


def _in_use(fleet: FleetState, name: str) -> bool:
    return any(part.node == name for live in fleet.live.values() for part in live.placement.nodes)


def _another_kind(fleet: FleetState, new: Node) -> bool:
    old = world_of(fleet).nodes.get(new.id)
    if old is None or not _in_use(fleet, new.id):
        return False
    return (new.gpu_class, new.cpu_arch) != (old.gpu_class, old.cpu_arch) or new.gpus < old.gpus


@THOROUGH
@given(starts(), st.lists(steps(), max_size=25))
def test_a_state_fed_by_changes_equals_one_built_from_scratch(
    begin: list[Change], history: list[Step]
) -> None:
    fleet = start(begin)
    for step in history:
        walk(fleet, step)
    fresh = rebuilt(fleet)
    assert derived(fleet) == derived(fresh)
    assert plan(fleet, NOW_MS) == plan(fresh, NOW_MS)


@THOROUGH
@given(starts(), st.lists(steps(), max_size=25))
def test_every_plan_keeps_every_invariant_and_leaves_the_state_alone(
    begin: list[Change], history: list[Step]
) -> None:
    fleet = start(begin)
    for step in [*history, Placed()]:
        before = derived(fleet)
        made = plan(fleet, NOW_MS)
        assert derived(fleet) == before
        assert check_plan(fleet, made, NOW_MS) == ()
        assert plan(fleet, NOW_MS) == made
        walk(fleet, step)


@THOROUGH
@given(starts())
def test_what_was_placed_holds_together(begin: list[Change]) -> None:
    fleet = start(begin)
    commit(fleet, plan(fleet, NOW_MS))
    assert check_world(world_of(fleet), fleet.live.values()) == ()
    assert plan(fleet, NOW_MS).placements == (), "a plan leaves nothing that would still fit"


@THOROUGH
@given(starts())
def test_every_waiting_class_has_a_reason_and_no_other_has(begin: list[Change]) -> None:
    fleet = start(begin)
    made = plan(fleet, NOW_MS)
    commit(fleet, made)
    assert {blocked.job_class for blocked in made.blocked} == set(fleet.classes)
    assert all(blocked.denials for blocked in made.blocked)


@THOROUGH
@given(starts(), st.integers(0, 4))
def test_a_plan_in_pieces_is_the_plan(begin: list[Change], size: int) -> None:
    """Committing a part and planning again goes on where the whole plan would have."""
    fleet = start(begin)
    whole = plan(fleet, NOW_MS).placements
    part = plan(fleet, NOW_MS, PlanBudget(placements_max=size))
    assert part.placements == whole[:size]


@THOROUGH
@given(starts())
def test_the_checks_of_a_plan_see_a_node_taken_twice(begin: list[Change]) -> None:
    fleet = start(begin)
    made = plan(fleet, NOW_MS)
    if made.placements:
        commit(fleet, made)
        assert check_plan(fleet, made, NOW_MS), "a plan that was committed is not valid again"


SNAPSHOT = """
from tests.core.builders import *
from scheduler.core.planner import plan
from scheduler.core.explain import explain
nodes = [node(s, f"n{n}", leaf=f"l{n // 2}") for s in ("leeds", "london") for n in range(4)]
fleet = fleet_of(nodes=nodes, sites=[site("london"), site("leeds")])
for n in range(1, 60):
    tenant_path = ("trust-a/radiology", "trust-b/genomics")[n % 2]
    sharing = (NodeSharing.ANY, NodeSharing.TENANT, NodeSharing.NONE)[n % 3]
    of = job_class(tenant_path, gpus=n % 9, nodes=1 + n % 2, sharing=sharing)
    fleet.apply(queued(n, of))
print(plan(fleet, NOW_MS))
print([explain(fleet, job, NOW_MS) for job in in_order(fleet)])
"""


def test_a_plan_is_the_same_byte_for_byte_whatever_the_hash_seed() -> None:
    plans = {
        subprocess.run(
            [sys.executable, "-c", SNAPSHOT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(plans) == 1
    assert len(plans.pop()) > 1000
