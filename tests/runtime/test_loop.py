"""The control plane's own loops: what ends them, and what they live through."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from scheduler.control.control import Control
from scheduler.model.ids import SiteId
from scheduler.model.plan import Plan, PlanBudget, Underway
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime import loop as loop_module
from scheduler.runtime.loop import Cogs, Planning, rest_ms, tick_forever
from scheduler.runtime.planner_process import PlannerProcess
from scheduler.runtime.planner_talk import NotAhead, Planned
from scheduler.runtime.reader import WAITING_MAX, Reader
from scheduler.runtime.sites import Sites
from scheduler.runtime.telemetry import Metrics
from scheduler.runtime.writer import Writer
from scheduler.store.apply import Applied
from scheduler.store.store import Snapshot, Store, StoreFailed, Txn
from tests.control.plant import Plant
from tests.runtime.test_writer import Gate
from tests.store.builders import CODEC

WAIT_S = 60


@dataclass
class Running:
    """A plant with a writer and a reader of its own, whose queue holds two requests."""

    plant: Plant
    cogs: Cogs


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(loop_module, "TICK_MS", 1)
    monkeypatch.setattr(loop_module, "STORE_RETRY_MS", 1)
    plant = Plant(tmp_path / "s.db")
    plant.lay_out()
    ended: Future[BaseException | None] = Future()
    writer = Writer(plant.store, committed=lambda _: None, ended=ended.set_result, queue_max=2)
    writer.start()
    reader = Reader(plant.store)
    planner = PlannerProcess(plant.store.url, restarted=lambda: None)
    cogs = Cogs(
        control=plant.control,
        writer=writer,
        reader=reader,
        planner=planner,
        sites=Sites(lambda: 1),
        metrics=Metrics("test"),
        now_ms=lambda: plant.now_ms,
    )
    yield Running(plant, cogs)
    writer.close()
    reader.close()
    plant.store.close()


@pytest.fixture
async def planner_ends(running: Running) -> AsyncIterator[None]:
    yield
    await running.cogs.planner.close()


async def crowd(cogs: Cogs) -> Gate:
    """Callers fill the writer's queue; it works on something that takes long."""
    gate = Gate()
    cogs.writer.post(gate)
    await asyncio.to_thread(gate.entered.wait, WAIT_S)
    for _ in range(2):
        cogs.writer.post(lambda txn: None)
    with pytest.raises(Refused):
        cogs.writer.post(lambda txn: None)
    return gate


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


async def test_a_tick_finds_room_among_callers_who_crowd_the_writer(running: Running) -> None:
    gate = await crowd(running.cogs)
    ticking = asyncio.create_task(tick_forever(running.cogs))
    await until(lambda: running.cogs.writer.waiting() == 3)
    gate.open.set()
    await until(lambda: not running.cogs.writer.waiting())
    assert not ticking.done()
    ticking.cancel()
    await asyncio.wait({ticking})


async def test_a_plan_finds_room_among_callers_who_crowd_the_writer(
    running: Running, planner_ends: None
) -> None:
    plant = running.plant
    plant.connect()
    job = plant.submit()
    planning = Planning(running.cogs, PlanBudget())
    gate = await crowd(running.cogs)
    planning.changed()
    running_plan = asyncio.create_task(planning.plan_forever())
    await until(lambda: running.cogs.writer.waiting() == 3)
    gate.open.set()
    await until(lambda: bool(plant.job(job).attempts))
    assert not running_plan.done()
    running_plan.cancel()
    await asyncio.wait({running_plan})


class Told(PlannerProcess):
    """A planner that remembers what it was asked to plan on, and how much it planned."""

    def __init__(self, url: str) -> None:
        super().__init__(url, restarted=lambda: None)
        self.asked: list[tuple[Underway | None, int]] = []

    async def plan(self, now_ms: int, budget: PlanBudget) -> Planned:
        found = await super().plan(now_ms, budget)
        self.asked.append((None, len(found.plan.placements)))
        return found

    async def plan_ahead(
        self, now_ms: int, budget: PlanBudget, underway: Underway
    ) -> Planned | NotAhead:
        found = await super().plan_ahead(now_ms, budget, underway)
        assert isinstance(found, Planned)
        self.asked.append((underway, len(found.plan.placements)))
        return found


class Held(Control):
    """A control plane whose first plan takes long to commit, and is committed as `fate` says."""

    gate: Gate
    fate: Callable[[], None]
    numbers: list[int]

    def apply_plan(self, txn: Txn, plan: Plan, now_ms: int) -> Applied:
        self.numbers.append(plan.number)
        if len(self.numbers) == 1:
            self.gate(txn)
            self.fate()
        return super().apply_plan(txn, plan, now_ms)


def held(plant: Plant, fate: Callable[[], None] = lambda: None) -> Held:
    made = Held(
        codec=CODEC,
        epoch=plant.store.epoch,
        has_bundle=lambda _tenant, _digest: False,
        granter=plant.granting.granter,
    )
    made.gate, made.fate, made.numbers = Gate(), fate, []
    return made


async def test_the_next_plan_is_made_while_the_writer_commits_one(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "AHEAD_PLACEMENTS_MIN", 1)
    plant = running.plant
    plant.connect()
    jobs = [plant.submit() for _ in range(3)]
    planner, control = Told(plant.store.url), held(plant)
    cogs = replace(running.cogs, planner=planner, control=control)
    planning = Planning(cogs, PlanBudget(placements_max=1))
    planning.changed()
    running_plan = asyncio.create_task(planning.plan_forever())
    assert await asyncio.to_thread(control.gate.entered.wait, WAIT_S)
    await until(lambda: len(planner.asked) == 2)
    assert control.numbers == [1], "the first one is being committed yet"
    assert planner.asked == [(None, 1), (Underway(1, plant.now_ms), 1)]
    assert not any(plant.job(job).attempts for job in jobs)
    control.gate.open.set()
    await until(lambda: all(plant.job(job).attempts for job in jobs))
    running_plan.cancel()
    await asyncio.wait({running_plan})
    await planner.close()


async def test_what_was_planned_on_a_plan_that_failed_is_planned_anew(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "AHEAD_PLACEMENTS_MIN", 1)
    plant = running.plant
    plant.connect()
    jobs = [plant.submit() for _ in range(3)]

    def fail() -> None:
        raise StoreFailed("database or disk is full")

    planner, control = Told(plant.store.url), held(plant, fail)
    cogs = replace(running.cogs, planner=planner, control=control)
    planning = Planning(cogs, PlanBudget(placements_max=2))
    planning.changed()
    running_plan = asyncio.create_task(planning.plan_forever())
    assert await asyncio.to_thread(control.gate.entered.wait, WAIT_S)
    await until(lambda: len(planner.asked) == 2)
    control.gate.open.set()
    await until(lambda: all(plant.job(job).attempts for job in jobs))
    assert 2 not in control.numbers, "it rested on a plan that came to nothing"
    assert not running_plan.done()
    running_plan.cancel()
    await asyncio.wait({running_plan})
    await planner.close()


async def test_callers_who_crowd_the_reader_do_not_send_us_away(running: Running) -> None:
    gate = Gate()

    def wait(_snapshot: Snapshot) -> None:
        assert gate.open.wait(WAIT_S)

    reader = running.cogs.reader
    theirs = [asyncio.create_task(reader.read(wait)) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Refused) as caught:
        await reader.read(wait)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    ours = asyncio.create_task(reader.read_own(lambda snapshot: snapshot.changes.sequence()))
    gate.open.set()
    assert await ours > 0
    await asyncio.gather(*theirs)


class NothingToDo(PlannerProcess):
    """A planner that finds nothing to change."""

    plans = 0

    async def plan(self, now_ms: int, budget: PlanBudget) -> Planned:
        self.plans += 1
        return Planned(Plan(0, 1, ()), (), (), anew=False)


async def test_what_changes_after_a_plan_that_did_nothing_is_planned_together(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "EMPTY_REST_MS", WAIT_S * 1000)
    monkeypatch.setattr(loop_module, "EMPTY_REST_MS_MAX", WAIT_S * 1000)
    idle = NothingToDo(running.plant.store.url, restarted=lambda: None)
    planning = Planning(replace(running.cogs, planner=idle), PlanBudget())
    running_plan = asyncio.create_task(planning.plan_forever())
    planning.changed()
    await until(lambda: idle.plans == 1)
    for _ in range(10):  # While it rests.
        planning.changed()
        await asyncio.sleep(0)
    assert idle.plans == 1
    assert planning.current_until_ms() == running.plant.now_ms
    running_plan.cancel()
    await asyncio.wait({running_plan})


class FullDisk(Control):
    """A control plane whose store cannot be written, twice."""

    failures = 2
    ticked = threading.Event()

    def tick(
        self,
        txn: Txn,
        silence_ms: Mapping[SiteId, int],
        now_ms: int,
        *,
        present: Collection[SiteId],
    ) -> int:
        if self.failures:
            self.failures -= 1
            raise StoreFailed("database or disk is full")
        self.ticked.set()
        return super().tick(txn, silence_ms, now_ms, present=present)


def test_plans_that_do_nothing_are_followed_by_ever_longer_rests_up_to_a_bound() -> None:
    assert [rest_ms(empty) for empty in (0, 1, 2, 4, 5, 10_000)] == [0, 25, 50, 100, 100, 100]


async def test_a_store_that_is_away_for_a_while_does_not_end_us(running: Running) -> None:
    control = FullDisk(
        codec=CODEC,
        epoch=running.plant.store.epoch,
        has_bundle=lambda _tenant, _digest: False,
        granter=running.plant.granting.granter,
    )
    ticking = asyncio.create_task(tick_forever(replace(running.cogs, control=control)))
    assert await asyncio.to_thread(control.ticked.wait, WAIT_S)
    assert control.failures == 0
    assert not ticking.done()
    ticking.cancel()
    await asyncio.wait({ticking})


async def test_another_leader_ends_us(running: Running) -> None:
    successor = Store(running.plant.path, salts=lambda: b"0" * 16, codec=CODEC)
    successor.open()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(Refused) as caught:
            await tick_forever(running.cogs)
    assert caught.value.reason is Reason.NOT_LEADER
    successor.close()
