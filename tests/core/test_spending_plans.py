"""The planner under budgets, unlent guarantees, weights by class, and ageing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.ageing import (
    AGEING_MAX_MS,
    SHORTEST_PATIENCE,
    STARVATION_BOUND_MS,
    rank_of,
)
from scheduler.core.budgets import DAY_MS, day_of, window
from scheduler.core.explain import explain, queue_position
from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.model.ids import TenantPath
from scheduler.model.job import Priority
from scheduler.model.plan import BudgetChanged, TenantsChanged
from scheduler.model.reasons import Reason
from scheduler.model.tenancy import (
    Budget,
    BudgetPeriod,
    GpuQuota,
    QueueOrder,
    SettledUse,
    Tenant,
)
from tests.core.builders import (
    A100,
    H100,
    HOUR_MS,
    NOW_MS,
    TENANTS,
    commit,
    fleet_of,
    gone,
    in_order,
    job_class,
    live,
    node,
    queued,
    tenant,
)

RADIOLOGY = TenantPath("trust-a/radiology")
N1 = node("london", "n1")
PERIOD = Budget(H100, 10 * HOUR_MS, BudgetPeriod.MONTH)


def with_budget(gpu_hours: int, at: str = "trust-a") -> tuple[Tenant, ...]:
    """The plain tree, with a monthly budget at one node."""
    budget = replace(PERIOD, amount_gpu_ms=gpu_hours * HOUR_MS)
    return tuple(replace(t, budgets=(budget,)) if t.path == at else t for t in TENANTS)


def placed(fleet: FleetState, now_ms: int = NOW_MS) -> list[int]:
    """The jobs that a plan starts."""
    return [int(p.key.job) for p in plan(fleet, now_ms).placements]


def reasons(fleet: FleetState, now_ms: int = NOW_MS) -> set[Reason]:
    """The decisive reason of each class that waits."""
    return {blocked.denials[0].reason for blocked in plan(fleet, now_ms).blocked}


def test_a_budget_bears_whole_time_limits_and_the_rest_waits() -> None:
    jobs = [queued(n, job_class(gpus=2)) for n in range(1, 4)]
    fleet = fleet_of(*jobs, nodes=[N1], tenants=with_budget(5))
    made = plan(fleet, NOW_MS)
    assert [p.key.job for p in made.placements] == [1, 2]
    assert made.blocked[0].denials[0].reason is Reason.BUDGET_EXHAUSTED
    told = explain(fleet, in_order(fleet)[2], NOW_MS)
    assert told.would_run_at == "london"  # By itself it fits: others are before it.
    commit(fleet, made)
    told = explain(fleet, in_order(fleet)[0], NOW_MS)
    assert [denial.reason for denial in told.quota] == [Reason.BUDGET_EXHAUSTED]


def test_what_was_not_used_lets_the_next_one_start() -> None:
    first, second = (queued(n, job_class(gpus=2)) for n in (1, 2))
    fleet = fleet_of(first, second, nodes=[N1], tenants=with_budget(3))
    commit(fleet, plan(fleet, NOW_MS))
    assert placed(fleet) == []
    fleet.apply(gone(1))
    fleet.apply(BudgetChanged(SettledUse(RADIOLOGY, H100, day_of(NOW_MS), HOUR_MS)))
    assert placed(fleet) == [2]
    fleet.apply(BudgetChanged(SettledUse(RADIOLOGY, H100, day_of(NOW_MS), HOUR_MS + 1)))
    assert placed(fleet) == []


def test_the_next_period_wakes_who_waits_for_it() -> None:
    fleet = fleet_of(queued(1, job_class(gpus=2)), nodes=[N1], tenants=with_budget(2))
    fleet.apply(BudgetChanged(SettledUse(RADIOLOGY, H100, day_of(NOW_MS), 1)))
    assert reasons(fleet) == {Reason.BUDGET_EXHAUSTED}
    period = window(PERIOD, day_of(NOW_MS))
    assert period is not None
    assert placed(fleet, period.end * DAY_MS - 1) == []
    assert placed(fleet, period.end * DAY_MS) == [1]


def test_a_budget_declared_later_counts_what_runs_already() -> None:
    fleet = fleet_of(queued(1, job_class(gpus=2)), nodes=[N1])
    commit(fleet, plan(fleet, NOW_MS))
    fleet.apply(TenantsChanged(with_budget(3)))
    fleet.apply(queued(2, job_class(gpus=2)))
    assert placed(fleet) == []
    fleet.apply(TenantsChanged(with_budget(4)))
    assert placed(fleet) == [2]


def test_an_unlent_guarantee_stands_free_until_its_owner_comes() -> None:
    keeping = Tenant(TenantPath("trust-b"), quotas=(GpuQuota(H100, 4000, lend_limit_milli=0),))
    tree = tuple(keeping if t.path == "trust-b" else t for t in TENANTS)
    jobs = [queued(n, job_class(gpus=2)) for n in range(1, 5)]
    nodes = [node("london", f"n{n}", gpus=4) for n in (1, 2)]
    fleet = fleet_of(*jobs, nodes=nodes, tenants=tree)
    assert reasons(fleet) == {Reason.QUOTA_KEPT}
    commit(fleet, plan(fleet, NOW_MS))
    assert len(fleet.live) == 2
    fleet.apply(queued(9, job_class("trust-b/genomics", gpus=4)))
    assert placed(fleet) == [9]


def test_a_class_may_weigh_otherwise_than_its_tenant() -> None:
    # Both use a quarter of the H100s; B's weigh four times as much, so B goes first.
    heavy = Tenant(TenantPath("trust-b"), quotas=(GpuQuota(H100, weight=4),))
    tree = tuple(heavy if t.path == "trust-b" else t for t in TENANTS)
    a, b = job_class(gpus=2), job_class("trust-b/genomics", gpus=2)
    nodes = [node("london", f"n{n}") for n in range(1, 3)]
    before = fleet_of(queued(1, a), queued(2, b), nodes=nodes, tenants=tree)
    used = [live(p, a if p.key.job == 1 else b) for p in plan(before, NOW_MS).placements]
    waits = [queued(n, of) for n, of in ((3, a), (4, b))]
    fleet = fleet_of(*used, *waits, nodes=nodes, tenants=tree)
    assert placed(fleet) == [4, 3]


def test_a_job_that_waited_counts_as_of_a_higher_class() -> None:
    assert [rank_of(Priority.SPOT, waited) for waited in (0, AGEING_MAX_MS - 1)] == [1, 1]
    assert rank_of(Priority.SPOT, AGEING_MAX_MS) == Priority.NORMAL
    assert rank_of(Priority.SPOT, 9 * AGEING_MAX_MS) == Priority.HIGH
    old = queued(1, job_class(gpus=8, priority=Priority.SPOT), at_ms=NOW_MS - AGEING_MAX_MS)
    fresh = queued(2, job_class(gpus=8), at_ms=NOW_MS)
    assert placed(fleet_of(old, fresh, nodes=[N1])) == [1]
    younger = queued(1, job_class(gpus=8, priority=Priority.SPOT), at_ms=NOW_MS - 1)
    assert placed(fleet_of(younger, fresh, nodes=[N1])) == [2]


waits = st.lists(
    st.tuples(
        st.sampled_from([Priority.SPOT, Priority.NORMAL, Priority.HIGH]),
        st.integers(0, 3 * STARVATION_BOUND_MS // HOUR_MS),
        st.sampled_from([HOUR_MS, 8 * HOUR_MS]),
    ),
    min_size=2,
    max_size=8,
)


@given(waits)
def test_the_first_in_position_is_the_one_that_starts(
    jobs: list[tuple[Priority, int, int]],
) -> None:
    ages = sorted((hours for _, hours, _ in jobs), reverse=True)
    queue = [
        queued(n + 1, job_class(gpus=8, priority=priority), at_ms=NOW_MS - ages[n] * HOUR_MS)
        for n, (priority, _, _) in enumerate(jobs)
    ]
    fleet = fleet_of(*queue, nodes=[N1])
    positions = {job.id: queue_position(fleet, job, NOW_MS) for job in in_order(fleet)}
    assert sorted(positions.values()) == list(range(len(jobs)))
    (start,) = plan(fleet, NOW_MS).placements
    assert positions[start.key.job] == 0


@given(waits, st.sampled_from([QueueOrder.AGE, QueueOrder.SHORTEST]))
def test_nothing_overtakes_a_job_that_came_more_than_the_bound_before(
    jobs: list[tuple[Priority, int, int]], order: QueueOrder
) -> None:
    """One job at a time: whatever still waits is not older, by the bound, than what started."""
    ages = sorted((hours for _, hours, _ in jobs), reverse=True)
    queue = [
        queued(
            n + 1,
            job_class(gpus=8, priority=priority, limit_ms=limit_ms),
            at_ms=NOW_MS - ages[n] * HOUR_MS,
        )
        for n, (priority, _, limit_ms) in enumerate(jobs)
    ]
    tree = tuple(tenant(t.path, order=order) for t in TENANTS)
    fleet = fleet_of(*queue, nodes=[N1], tenants=tree)
    now_ms = NOW_MS
    while in_order(fleet):
        waiting = in_order(fleet)
        (start,) = plan(fleet, now_ms).placements
        chosen = next(job for job in waiting if job.id == start.key.job)
        for job in waiting:
            patience_ms = SHORTEST_PATIENCE * job.job_class.time_limit_bucket_ms
            longer = order is QueueOrder.SHORTEST and patience_ms > STARVATION_BOUND_MS
            bound_ms = patience_ms if longer else STARVATION_BOUND_MS
            assert chosen.submitted_at_ms <= job.submitted_at_ms + bound_ms
        commit(fleet, plan(fleet, now_ms), now_ms=now_ms)
        now_ms += HOUR_MS
        fleet.apply(gone(int(start.key.job)))


def test_a_class_of_gpus_that_a_budget_does_not_name_is_not_charged_to_it() -> None:
    a100 = node("london", "n2", gpu_class=A100)
    of = job_class(gpus=8, classes=(H100, A100))
    fleet = fleet_of(queued(1, of), nodes=[N1, a100], tenants=with_budget(1))
    (placement,) = plan(fleet, NOW_MS).placements
    assert placement.gpu_class == A100
