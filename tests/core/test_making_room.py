"""Preemption as the planner does it: who is asked, what is kept for whom, and that it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from scheduler.core.planner import plan
from scheduler.core.quota import ALL_CLASSES, used_milli
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import Priority
from scheduler.model.plan import JobClass, WindowChanged
from scheduler.model.residency import NodeSharing
from scheduler.model.window import Window, WindowKind
from tests.core.builders import HOUR_MS, NOW_MS, fleet_of, gone, job_class, node, site, tenant
from tests.core.preempting_time import Town
from tests.sim.seeds import Dice

SPOT, NORMAL, HIGH = Priority.SPOT, Priority.NORMAL, Priority.HIGH
MINUTE_MS = 60_000
GRACE_MS = 30_000
TREE = (
    tenant("trust-a", guarantee=8),
    tenant("trust-a/radiology"),
    tenant("trust-b", guarantee=8),
    tenant("trust-b/genomics"),
)


def of(
    project: str = "trust-a/radiology",
    *,
    gpus: int = 8,
    nodes: int = 1,
    priority: Priority = NORMAL,
    min_runtime_ms: int = 0,
) -> JobClass:
    """Work that shares its nodes with anybody and takes its grace."""
    made = job_class(project, gpus=gpus, nodes=nodes, priority=priority, sharing=NodeSharing.ANY)
    return replace(made, grace_ms=GRACE_MS, min_runtime_ms=min_runtime_ms)


def town(nodes: int = 2) -> Town:
    """A site of some nodes of eight GPUs."""
    return Town(fleet_of(nodes=[node("london", f"n{n}") for n in range(nodes)], tenants=TREE))


def test_who_others_leave_for_starts_when_they_have_left_and_nobody_slips_in() -> None:
    here = town(1)
    here.submit(1, of(priority=SPOT), 9 * HOUR_MS)
    here.step(0)
    here.submit(2, of(priority=HIGH), HOUR_MS)
    made = here.step(MINUTE_MS)
    assert [each.victim.job for each in made.preemptions] == [1]
    assert [(kept.job, kept.nodes) for kept in made.reservations] == [(2, ("london/n0",))]
    assert made.reservations[0].starts_at_ms == here.now_ms + GRACE_MS
    # One that fair order has before it comes, and the node is free: it is kept for the other.
    here.submit(3, of("trust-b/genomics"), HOUR_MS)
    assert here.step(GRACE_MS // 2).preemptions == ()
    made = here.step(GRACE_MS)
    assert [placed.key.job for placed in made.placements] == [2]
    assert made.released == (2,)


def test_what_others_leave_is_free_again_when_the_job_they_leave_for_is_gone() -> None:
    here = town(1)
    here.submit(1, of(priority=SPOT), 9 * HOUR_MS)
    here.step(0)
    here.submit(2, of(priority=HIGH), HOUR_MS)
    here.step(MINUTE_MS)
    here.fleet.apply(gone(2))
    assert here.step(GRACE_MS).released == (2,)
    assert [p.key.job for p in here.step(1).placements] in ([1], [])
    assert JobId(1) in here.fleet.live


def test_a_guarantee_is_reclaimed_in_one_plan_and_met_after_the_grace() -> None:
    here = town(2)
    for number in range(16):
        here.submit(number + 1, of("trust-b/genomics", gpus=1, priority=HIGH), 99 * HOUR_MS)
    here.step(0)
    for number in range(20, 40):
        here.submit(number, of(gpus=1, priority=SPOT), HOUR_MS)
    made = here.step(MINUTE_MS)
    assert len(made.preemptions) == 8
    assert here.step(GRACE_MS // 2).preemptions == ()
    here.step(GRACE_MS)
    here.step(1_000)
    for name in ("trust-a", "trust-b"):
        assert used_milli(here.fleet.usage, TenantPath(name), ALL_CLASSES) == 8_000
    for _ in range(5):
        assert here.step(MINUTE_MS).preemptions == ()


def test_a_class_that_sleeps_is_helped_when_somebody_has_had_its_least_runtime() -> None:
    here = town(1)
    here.submit(1, of(priority=SPOT, min_runtime_ms=10 * MINUTE_MS), 9 * HOUR_MS)
    here.step(0)
    here.submit(2, of(priority=HIGH), HOUR_MS)
    for _ in range(9):
        assert here.step(MINUTE_MS).preemptions == ()
    assert [each.victim.job for each in here.step(MINUTE_MS).preemptions] == [1]


def test_a_plan_that_is_made_anew_from_the_facts_is_the_same() -> None:
    here = town(2)
    for number in range(16):
        here.submit(number + 1, of("trust-b/genomics", gpus=1), 99 * HOUR_MS)
    here.step(0)
    here.submit(20, of(gpus=4), HOUR_MS)
    assert plan(here.fleet, here.now_ms + 1) == plan(here.fleet, here.now_ms + 1)
    assert len(here.step(1).preemptions) == 4


def test_nothing_is_cleared_where_maintenance_is_about_to_begin() -> None:
    here = town(1)
    here.submit(1, of(priority=SPOT), 9 * HOUR_MS)
    here.step(0)
    window = Window(
        "window-1",
        WindowKind.MAINTENANCE,
        site().id,
        (),
        NOW_MS + HOUR_MS // 2,
        NOW_MS + HOUR_MS,
        "new switches",
        "olga",
        TenantPath(""),
    )
    here.fleet.apply(WindowChanged(window.id, window))
    here.submit(2, of(priority=HIGH), HOUR_MS)
    assert here.step(1).preemptions == ()


@pytest.mark.parametrize("seed", range(3))
def test_adversarial_arrivals_do_not_make_the_fleet_thrash(seed: int) -> None:
    """Six hours of the worst: too much work of every priority from tenants that borrow, fall below
    their guarantees and want them back. Nobody is ended before the least runtime, nobody again and
    again, and far fewer are ended than are started."""
    dice = Dice(seed, "arrivals")
    here, number = town(3), 0
    least_ms = 5 * MINUTE_MS
    for minute in range(6 * 60):
        for _ in range(dice.pick([0, 0, 1, 2])):
            number += 1
            kind = of(
                dice.pick(["trust-a/radiology", "trust-b/genomics"]),
                gpus=dice.pick([1, 2, 4, 8]),
                priority=dice.pick([SPOT, SPOT, NORMAL, HIGH]),
                min_runtime_ms=dice.pick([0, least_ms]),
            )
            here.submit(number, kind, dice.pick([2, 10, 40]) * MINUTE_MS)
        here.step(MINUTE_MS if minute % 3 else GRACE_MS)
    assert here.started > 80
    assert here.preempted, "else this shows nothing"
    for live, asked_ms in here.preempted:
        ran_ms = asked_ms - live.started_at_ms
        assert ran_ms >= live.job_class.min_runtime_ms
    often = Counter(live.placement.key.job for live, _ in here.preempted)
    assert 3 * len(here.preempted) <= here.started
    assert max(often.values()) <= 5
