"""Budgets: periods, what is reserved, settled and left, and that none is ever passed."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.budgets import (
    DAY_MS,
    GPU_HOUR_MS,
    Book,
    Window,
    day_of,
    escrow_of,
    gpu_ms,
    hours,
    never_affordable,
    settled,
    window,
)
from scheduler.core.quota import ALL_CLASSES, QuotaTree
from scheduler.model.ids import AttemptKey, GpuClass, JobId, SiteId, TenantPath
from scheduler.model.job import JobState, Placement
from scheduler.model.plan import LiveAttempt
from scheduler.model.reasons import Reason
from scheduler.model.tenancy import Budget, BudgetPeriod, SettledUse, Tenant
from tests.core.builders import A100, H100, HOUR_MS, job_class

A = TenantPath("trust-a")
RADIOLOGY = TenantPath("trust-a/radiology")
PATHOLOGY = TenantPath("trust-a/pathology")


def day(text: str) -> int:
    """Days since 1970 of an ISO date."""
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def budget(
    gpu_hours: int,
    period: BudgetPeriod = BudgetPeriod.MONTH,
    *,
    gpu_class: GpuClass = ALL_CLASSES,
    days: int = 0,
    from_day: int = 0,
    until_day: int | None = None,
) -> Budget:
    """A monthly budget of all classes."""
    return Budget(gpu_class, gpu_hours * GPU_HOUR_MS, period, days, from_day, until_day)


def tree(*budgets: Budget, at: TenantPath = A) -> QuotaTree:
    """Trust A with two projects; the budgets are one node's."""
    return QuotaTree(
        Tenant(path, budgets=budgets if path == at else ()) for path in (A, PATHOLOGY, RADIOLOGY)
    )


MAY = day("2026-05-01")
JUNE = day("2026-06-01")


@pytest.mark.parametrize(
    ("given_budget", "at", "first", "end"),
    [
        pytest.param(budget(1), "2026-02-28", "2026-02-01", "2026-03-01", id="a month"),
        pytest.param(budget(1), "2026-12-31", "2026-12-01", "2027-01-01", id="December"),
        pytest.param(
            budget(1, BudgetPeriod.QUARTER), "2026-05-20", "2026-04-01", "2026-07-01",
            id="a quarter",
        ),
        pytest.param(
            budget(1, BudgetPeriod.QUARTER), "2026-11-20", "2026-10-01", "2027-01-01",
            id="the last",
        ),
        pytest.param(
            budget(1, BudgetPeriod.DAYS, days=10, from_day=MAY),
            "2026-05-25", "2026-05-21", "2026-05-31", id="days are counted from the first",
        ),
        pytest.param(
            budget(1, from_day=MAY + 9), "2026-05-20", "2026-05-10", "2026-06-01",
            id="a first period is cut",
        ),
        pytest.param(
            budget(1, until_day=MAY + 19), "2026-05-11", "2026-05-01", "2026-05-20",
            id="and so is a last one",
        ),
    ],
)  # fmt: skip
def test_periods(given_budget: Budget, at: str, first: str, end: str) -> None:
    assert window(given_budget, day(at)) == Window(day(first), day(end))


def test_outside_its_days_a_budget_is_not_there() -> None:
    limited = budget(1, from_day=MAY, until_day=JUNE)
    assert window(limited, MAY - 1) is None
    assert window(limited, JUNE) is None
    book = Book(tree(limited))
    assert book.affords(RADIOLOGY, H100, 10 * GPU_HOUR_MS, (MAY - 1) * DAY_MS)
    assert not book.affords(RADIOLOGY, H100, 10 * GPU_HOUR_MS, MAY * DAY_MS)


@given(
    st.sampled_from(list(BudgetPeriod)[1:]), st.integers(1, 400), st.integers(0, 40_000),
    st.integers(0, 40_000),
)  # fmt: skip
def test_every_day_is_in_exactly_its_own_period(
    period: BudgetPeriod, days: int, start: int, at: int
) -> None:
    chosen = budget(1, period, days=days if period is BudgetPeriod.DAYS else 0, from_day=start)
    found = window(chosen, at)
    if at < start:
        assert found is None
        return
    assert found is not None
    assert found.has(at)
    assert window(chosen, found.first) == found
    assert window(chosen, found.end - 1) == found
    following = window(chosen, found.end)
    assert following is not None
    assert following.first == found.end


def live(number: int, tenant: TenantPath, gpu_class: GpuClass, milli: int, at_ms: int):
    """An attempt of an hour at most."""
    placement = Placement(AttemptKey(JobId(number), 1), SiteId("london"), gpu_class, (), milli)
    of = job_class(tenant, limit_ms=HOUR_MS)
    return LiveAttempt(placement, tenant, of, JobState.RUNNING, at_ms)


def test_the_whole_time_limit_is_reserved_and_what_was_not_used_comes_back() -> None:
    book = Book(tree(budget(10)))
    now_ms = MAY * DAY_MS
    attempt = live(1, RADIOLOGY, H100, 8000, now_ms)
    book.reserve(attempt)
    assert escrow_of(attempt) == 8 * GPU_HOUR_MS
    assert book.affords(PATHOLOGY, H100, 2 * GPU_HOUR_MS, now_ms)
    (denial,) = book.lacking(PATHOLOGY, H100, 3 * GPU_HOUR_MS, now_ms)
    assert (denial.reason, denial.subject) == (Reason.BUDGET_EXHAUSTED, A)
    assert "2 of 10 GPU-hours are left until 2026-06-01" in denial.detail
    book.release(attempt)
    used = settled(8000, HOUR_MS, now_ms, now_ms + HOUR_MS // 4)
    book.settle(SettledUse(RADIOLOGY, H100, MAY, used))
    assert book.affords(PATHOLOGY, H100, 8 * GPU_HOUR_MS, now_ms)
    assert not book.affords(PATHOLOGY, H100, 8 * GPU_HOUR_MS + 1, now_ms)


def test_a_new_period_begins_with_nothing_spent() -> None:
    book = Book(tree(budget(10)))
    book.settle(SettledUse(RADIOLOGY, H100, JUNE - 1, 10 * GPU_HOUR_MS))
    assert not book.affords(RADIOLOGY, H100, 1, JUNE * DAY_MS - 1)
    assert book.affords(RADIOLOGY, H100, 10 * GPU_HOUR_MS, JUNE * DAY_MS)
    assert book.next_period_ms(RADIOLOGY, JUNE * DAY_MS - 1) == JUNE * DAY_MS


def test_a_budget_of_one_class_leaves_others_alone() -> None:
    book = Book(tree(budget(1, gpu_class=H100), at=RADIOLOGY))
    now_ms = MAY * DAY_MS
    assert not book.affords(RADIOLOGY, H100, 2 * GPU_HOUR_MS, now_ms)
    assert book.affords(RADIOLOGY, A100, 2 * GPU_HOUR_MS, now_ms)
    assert book.affords(PATHOLOGY, H100, 2 * GPU_HOUR_MS, now_ms)


def test_an_overrun_is_not_charged() -> None:
    assert settled(1000, HOUR_MS, 0, 5 * HOUR_MS) == GPU_HOUR_MS
    assert settled(1000, HOUR_MS, 5, 0) == 0


def test_what_a_whole_period_could_not_bear_is_told() -> None:
    big = 11 * GPU_HOUR_MS
    (denial,) = never_affordable(tree(budget(10)), RADIOLOGY, H100, big, MAY * DAY_MS)
    assert denial.reason is Reason.BUDGET_EXHAUSTED
    assert not never_affordable(tree(budget(11)), RADIOLOGY, H100, big, MAY * DAY_MS)
    # After its last day it does not stand in the way any more: the work may wait for that.
    ends = tree(budget(10, until_day=JUNE))
    assert not never_affordable(ends, RADIOLOGY, H100, big, MAY * DAY_MS)


def test_hours_are_told_without_floats() -> None:
    assert [hours(n) for n in (0, GPU_HOUR_MS, GPU_HOUR_MS // 2, GPU_HOUR_MS // 3)] == [
        "0", "1", "0.5", "0.33",
    ]  # fmt: skip


moves = st.lists(
    st.tuples(
        st.integers(0, 9),  # Which attempt starts or ends.
        st.sampled_from([RADIOLOGY, PATHOLOGY]),
        st.sampled_from([H100, A100]),
        st.sampled_from([500, 1000, 8000]),
        st.integers(0, 3 * 24),  # Hours that pass first.
    ),
    max_size=60,
)
budgets_of = st.lists(
    st.builds(
        budget,
        st.integers(0, 40),
        st.just(BudgetPeriod.DAYS),
        gpu_class=st.sampled_from([H100, A100, ALL_CLASSES]),
        days=st.integers(1, 5),
        from_day=st.just(MAY - 7),
    ),
    max_size=2,
    unique_by=lambda b: b.gpu_class,
)


@given(moves, budgets_of, budgets_of)
def test_no_budget_is_passed_and_nothing_spent_is_lost(
    history: list[tuple[int, TenantPath, GpuClass, int, int]],
    above: list[Budget],
    own: list[Budget],
) -> None:
    """Against a second, plain account: every attempt with what it cost, added up at each step."""
    nodes = [Tenant(A, budgets=tuple(above)), Tenant(RADIOLOGY, budgets=tuple(own)),
             Tenant(PATHOLOGY)]  # fmt: skip
    quota_tree = QuotaTree(nodes)
    book = Book(quota_tree)
    now_ms = MAY * DAY_MS
    running: dict[int, LiveAttempt] = {}
    costs: list[tuple[TenantPath, GpuClass, int, int]] = []  # Tenant, class, day, settled.
    totals: dict[tuple[TenantPath, GpuClass, int], int] = {}
    for number, tenant, gpu_class, milli, waited in history:
        now_ms += waited * HOUR_MS
        if number in running:
            over = running.pop(number)
            placed_ms = over.placed_at_ms
            used = settled(over.placement.gpu_milli, HOUR_MS, placed_ms, now_ms)
            key = (over.tenant, over.placement.gpu_class, day_of(placed_ms))
            totals[key] = totals.get(key, 0) + used
            costs.append((*key, used))
            book.release(over)
            book.settle(SettledUse(*key, totals[key]))
        else:
            attempt = live(number, tenant, gpu_class, milli, now_ms)
            cost = escrow_of(attempt)
            assert cost == gpu_ms(milli, HOUR_MS)
            affords = book.affords(tenant, gpu_class, cost, now_ms)
            assert affords == (not book.lacking(tenant, gpu_class, cost, now_ms))
            if affords:
                book.reserve(attempt)
                running[number] = attempt
        holds = [
            (a.tenant, a.placement.gpu_class, day_of(a.placed_at_ms), escrow_of(a))
            for a in running.values()
        ]
        for node in nodes:
            for each in node.budgets:
                period = window(each, day_of(now_ms))
                assert period is not None
                spent = sum(
                    amount
                    for whose, name, on, amount in costs + holds
                    if whose.startswith(node.path)
                    and each.gpu_class in (name, ALL_CLASSES)
                    and period.has(on)
                )
                assert book.spent(node.path, each, day_of(now_ms)) == spent
                assert spent <= each.amount_gpu_ms
    again = Book(quota_tree)
    for (tenant, gpu_class, on), amount in totals.items():
        again.settle(SettledUse(tenant, gpu_class, on, amount))
    for attempt in running.values():
        again.reserve(attempt)
    assert again.facts() == book.facts()
