"""The planner's child process: right answers, and another child when one dies."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.model.ids import JobId, TenantPath
from scheduler.model.plan import Blocked, Plan, PlanBudget
from scheduler.model.reasons import Denial, Reason
from scheduler.runtime.loop import Waiting
from scheduler.runtime.planner_child import CHANGES_MAX, Follower, told
from scheduler.runtime.planner_process import PlannerLost, PlannerProcess
from scheduler.runtime.planner_talk import MakePlan
from scheduler.store.store import ReadStore, Store
from tests.store.builders import CODEC, NOW_MS, RADIOLOGY, job_class, lay_out, queue, salts

BUDGET = PlanBudget()


class Restarts:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "s.db", salts=salts(), codec=CODEC)
    made.open()
    with made.transaction() as txn:
        lay_out(txn)
    yield made
    made.close()


@pytest.fixture
async def planner(store: Store) -> AsyncIterator[tuple[PlannerProcess, Restarts]]:
    restarts = Restarts()
    made = PlannerProcess(store.url, restarted=restarts)
    yield made, restarts
    await made.close()
    assert made.pid is None


async def test_it_plans_what_was_committed_since(
    store: Store, planner: tuple[PlannerProcess, Restarts]
) -> None:
    process, _ = planner
    assert (await process.plan(NOW_MS, BUDGET)).plan.placements == ()
    with store.transaction() as txn:
        job = queue(txn).id
    plan = (await process.plan(NOW_MS, BUDGET)).plan
    assert [p.key.job for p in plan.placements] == [job]
    explanation = await process.explain(job, NOW_MS)
    assert explanation.would_run_at == plan.placements[0].site
    assert explanation.estimated_start_ms == explanation.estimated_start_p90_ms == NOW_MS
    forecast = await process.forecast(job_class(), NOW_MS)
    assert forecast.would_run_at == explanation.would_run_at
    assert (await process.explain(JobId(999), NOW_MS)).sites == ()


async def test_killed_it_is_started_again_and_catches_up(
    store: Store, planner: tuple[PlannerProcess, Restarts]
) -> None:
    process, restarts = planner
    await process.plan(NOW_MS, BUDGET)
    first = process.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with store.transaction() as txn:
        job = queue(txn).id
    with pytest.raises(PlannerLost):
        await process.plan(NOW_MS, BUDGET)
    plan = (await process.plan(NOW_MS, BUDGET)).plan
    assert [p.key.job for p in plan.placements] == [job]
    assert process.pid not in (None, first)
    assert restarts.count == 1


def blocked(name: str, *denials: Denial) -> Blocked:
    return Blocked(replace(job_class(), tenant=TenantPath(name)), denials)


BUSY, FULL = Denial(Reason.NODES_BUSY, "busy", "x"), Denial(Reason.QUOTA_LIMIT, "full", "y")


def test_what_plans_tell_adds_up_to_what_every_class_waits_for() -> None:
    waiting = Waiting()
    a, b, c = blocked("a", BUSY, FULL), blocked("b", FULL), blocked("c", FULL)
    steps: list[tuple[Plan, dict[str, Denial]]] = [
        (Plan(1, 1, (), blocked=(a, b), anew=True), {"a": BUSY, "b": FULL}),
        (Plan(1, 1, (), blocked=(c,)), {"a": BUSY, "b": FULL, "c": FULL}),
        (Plan(1, 1, (), blocked=(blocked("a", FULL),)), {"a": FULL, "b": FULL, "c": FULL}),
        (Plan(1, 1, (), emptied=(a.job_class,)), {"b": FULL, "c": FULL}),
        # It was empty for a while, and somebody came.
        (Plan(1, 1, (), emptied=(b.job_class,), blocked=(b,)), {"b": FULL, "c": FULL}),
        (Plan(1, 1, (), blocked=(c,), anew=True), {"c": FULL}),
    ]
    for plan, expected in steps:
        planned = told(plan)
        assert planned.plan.blocked == ()
        waiting.learn(planned)
        assert {
            str(job_class.tenant): each.denials for job_class, each in waiting.blocked.items()
        } == {name: (denial,) for name, denial in expected.items()}


async def test_a_terminals_interrupt_does_not_end_it(
    planner: tuple[PlannerProcess, Restarts],
) -> None:
    process, restarts = planner
    await process.plan(NOW_MS, BUDGET)
    assert process.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(process.pid, number)
    await process.plan(NOW_MS, BUDGET)
    assert restarts.count == 0


def test_a_follower_too_far_behind_starts_anew(store: Store) -> None:
    reader = ReadStore(store.url)
    follower = Follower(reader)
    follower.answer(MakePlan(NOW_MS, BUDGET))
    behind = follower.state
    with store.transaction() as txn:
        job = queue(txn).id
    follower.state.sequence -= CHANGES_MAX + 1_000_000
    plan = follower.answer(MakePlan(NOW_MS, BUDGET))
    assert follower.state is not behind
    assert isinstance(plan, Plan)
    assert [p.key.job for p in plan.placements] == [job]
    assert RADIOLOGY in follower.state.tree.tenants
    reader.close()
