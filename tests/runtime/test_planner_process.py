"""The planner's child process: right answers, and another child when one dies."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler.control.following import CHANGES_MAX
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import Resources
from scheduler.model.plan import Blocked, Explanation, Plan, PlanBudget
from scheduler.model.reasons import Denial, Reason
from scheduler.runtime.loop import Waiting
from scheduler.runtime.planner_child import Follower, told
from scheduler.runtime.planner_process import PlannerLost, PlannerProcess
from scheduler.runtime.planner_talk import ExplainJob, MakePlan
from scheduler.store.apply import apply_plan
from scheduler.store.store import ReadStore, Store
from tests.store.builders import CODEC, NOW_MS, RADIOLOGY, job_class, lay_out, place, queue, salts
from tests.store.builders import plan as made

BUDGET = PlanBudget()
ASKS_MAX = 1_200


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


async def estimated(ask: Callable[[], Awaitable[Explanation]]) -> int:
    """Asks until an answer has an estimate."""
    for _ in range(ASKS_MAX):
        told = await ask()
        if told.estimated_start_p90_ms:
            return told.estimated_start_p90_ms
        await asyncio.sleep(0.05)
    raise AssertionError(f"no estimate in {ASKS_MAX} answers")


async def test_what_waits_is_estimated_aside_and_told_when_it_is_known(
    store: Store, planner: tuple[PlannerProcess, Restarts]
) -> None:
    process, restarts = planner
    whole = job_class(resources=Resources(gpus_per_node=8))
    with store.transaction() as txn:
        first, second, third = (queue(txn, whole).id for _ in range(3))
        apply_plan(txn, made(place(first, "n01", mask=255), place(second, "n02", mask=255)), NOW_MS)
    limit_ms = whole.time_limit_bucket_ms
    assert (await process.explain(third, NOW_MS)).estimated_start_p90_ms == 0
    assert await estimated(lambda: process.explain(third, NOW_MS)) == NOW_MS + limit_ms
    assert await estimated(lambda: process.forecast(job_class(), NOW_MS)) == NOW_MS + limit_ms
    # What it was thought to be is told until it is known anew, but not when it is refuted.
    with store.transaction() as txn:
        queue(txn, whole)
    late_ms = NOW_MS + 1
    assert (await process.explain(third, late_ms)).estimated_start_p90_ms == NOW_MS + limit_ms
    assert restarts.count == 0


def test_a_walk_ends_with_the_planner_and_is_not_asked_for_twice(store: Store) -> None:
    whole = job_class(resources=Resources(gpus_per_node=8))
    with store.transaction() as txn:
        jobs = [queue(txn, whole).id for _ in range(20)]
    reader = ReadStore(store.url)
    follower = Follower(reader)
    follower.look_ahead(NOW_MS)
    assert not follower.estimating.waits_for(), "nobody asked"
    follower.answer(ExplainJob(NOW_MS, jobs[-1]))
    follower.look_ahead(NOW_MS)
    (walker,) = multiprocessing.active_children()
    follower.answer(ExplainJob(NOW_MS, jobs[-1]))
    follower.look_ahead(NOW_MS)
    assert multiprocessing.active_children() in ([walker], []), "one at a time"
    follower.estimating.close()
    assert not multiprocessing.active_children()
    assert not follower.estimating.waits_for()
    reader.close()


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
