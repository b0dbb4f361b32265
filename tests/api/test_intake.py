"""Submissions that go to the writer together: each has its own outcome, whatever the others do."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest

from scheduler.api.intake import NEXT_MIN, TOGETHER_MAX, Intake
from scheduler.control.admission import Accepted, Asked, Submission
from scheduler.control.control import Control
from scheduler.model.identity import Principal
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime.writer import Writer
from scheduler.store.store import Txn
from scheduler.wire.written import written
from tests.control.plant import ADA, EVE, Plant, spec
from tests.runtime.test_writer import Gate

WAIT_S = 60
WAITING_MAX = TOGETHER_MAX + 5


class Buggy(Control):
    """A control plane that cannot bear jobs of one name, and counts what comes together."""

    together: list[int]

    def submit_each(
        self, txn: Txn, principal: Principal, many: Sequence[Asked], now_ms: int
    ) -> list[Submission | Refused]:
        self.together.append(len(many))
        outcomes = super().submit_each(txn, principal, many, now_ms)
        if any(asked.written.spec.name == "bug" for asked in many):
            raise ZeroDivisionError
        return outcomes


@dataclass
class Door:
    """An intake before a real writer."""

    plant: Plant
    writer: Writer
    intake: Intake
    control: Buggy

    def post(
        self, *names: str, who: Principal = ADA
    ) -> "asyncio.Future[list[Submission | Refused]]":
        project = "trust-a/radiology" if who is ADA else "uni-b/physics"
        return self.intake.post(who, [Asked(written(spec(n, project)), "") for n in names])

    async def hold(self) -> Gate:
        """The writer is busy until the gate opens."""
        gate = Gate()
        self.writer.post(gate)
        assert await asyncio.to_thread(gate.entered.wait, WAIT_S)
        return gate

    def names(self) -> list[str]:
        with self.plant.store.read() as view:
            page = view.jobs.page(None, states=frozenset(), before=None, limit=1000)
        return [row.name for row in reversed(page)]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    plant = Plant(tmp_path / "s.db")
    plant.lay_out()
    ended: Future[BaseException | None] = Future()
    writer = Writer(plant.store, committed=lambda _: None, ended=ended.set_result)
    writer.start()
    control = Buggy(
        codec=plant.codec,
        epoch=plant.store.epoch,
        has_bundle=lambda _t, _d: False,
        granter=plant.granting.granter,
    )
    control.together = []
    intake = Intake(control, writer, now_ms=lambda: plant.now_ms, waiting_max=WAITING_MAX)
    yield Door(plant, writer, intake, control)
    await asyncio.to_thread(writer.close)
    plant.store.close()


async def test_each_is_answered_with_its_own_outcomes_in_order(door: Door) -> None:
    gate = await door.hold()
    answers = [door.post("a", "b"), door.post("c", who=EVE), door.post("-", "d"), door.post("e")]
    gate.open.set()
    found = await asyncio.wait_for(asyncio.gather(*answers), WAIT_S)
    assert [[isinstance(one, Accepted) for one in each] for each in found] == [
        [True, True],
        [True],
        [False, True],
        [True],
    ]
    assert door.names() == ["a", "b", "d", "e", "c"]
    by_id = [
        one.job_or_raise().name for each in found for one in each if not isinstance(one, Refused)
    ]
    assert by_id == ["a", "b", "c", "d", "e"]


async def test_a_bug_harms_only_the_one_that_meets_it(door: Door) -> None:
    gate = await door.hold()
    before, bad, after = door.post("a"), door.post("bug"), door.post("b")
    gate.open.set()
    assert isinstance((await asyncio.wait_for(before, WAIT_S))[0], Accepted)
    assert isinstance((await asyncio.wait_for(after, WAIT_S))[0], Accepted)
    with pytest.raises(ZeroDivisionError):
        await bad
    assert door.names() == ["a", "b"]


async def test_too_many_are_told_to_come_back_and_the_rest_is_done(door: Door) -> None:
    gate = await door.hold()
    first = [door.post("first")]
    await asyncio.sleep(0)  # It is at the writer: it waits here no more.
    next_ones = [f"next{n}" for n in range(NEXT_MIN)]
    first.append(door.post(*next_ones))
    await asyncio.sleep(0)  # So are these, which are worth a commit of their own.
    many = door.post(*(f"n{n}" for n in range(TOGETHER_MAX)))
    few = door.post(*(f"m{n}" for n in range(5)))
    with pytest.raises(Refused) as caught:
        door.post("one too many")
    other = door.post("other", who=EVE)  # There is room for those who send few.
    assert (caught.value.code, caught.value.reason) == (
        Code.RESOURCE_EXHAUSTED,
        Reason.RESOURCE_EXHAUSTED,
    )
    assert caught.value.retry_after_ms
    gate.open.set()
    for answer in (*first, many, few, other):
        assert all(isinstance(one, Accepted) for one in await asyncio.wait_for(answer, WAIT_S))
    assert isinstance((await asyncio.wait_for(door.post("again"), WAIT_S))[0], Accepted)


async def test_callers_take_turns(door: Door) -> None:
    gate = await door.hold()
    answers = [door.post("first")]
    await asyncio.sleep(0)
    answers.append(door.post(*(f"next{n}" for n in range(NEXT_MIN))))
    await asyncio.sleep(0)  # The writer has enough to do: whatever comes now waits.
    half = TOGETHER_MAX // 2
    answers += [door.post(*(f"{part}{n}" for n in range(half))) for part in ("a", "b")]
    answers.append(door.post("one", who=EVE))
    gate.open.set()
    await asyncio.wait_for(asyncio.gather(*answers), WAIT_S)
    assert door.control.together == [1, NEXT_MIN, half, 1, half]


async def test_who_gives_up_before_its_turn_has_asked_for_nothing(door: Door) -> None:
    gate = await door.hold()
    door.post("a")
    await asyncio.sleep(0)
    given_up = door.post("given up")
    last = door.post("b")
    given_up.cancel()
    gate.open.set()
    await asyncio.wait_for(last, WAIT_S)
    assert door.names() == ["a", "b"]


async def test_few_wait_for_each_other_while_the_writer_is_busy(door: Door) -> None:
    gate = await door.hold()
    door.post("first")
    await turns()
    waiting = [door.writer.waiting()]
    last = [door.post(f"n{n}") for n in range(NEXT_MIN - 1)][-1]
    await turns()
    waiting.append(door.writer.waiting())
    door.post("enough")
    await turns()
    waiting.append(door.writer.waiting())
    gate.open.set()
    await asyncio.wait_for(last, WAIT_S)
    assert waiting == [1, 1, 2]


async def test_whoever_waits_when_a_commit_is_done_waits_for_those_who_come_next(
    door: Door,
) -> None:
    gate = await door.hold()
    first = door.post("first")
    await turns()
    second = door.post("second")
    gate.open.set()
    await first
    await asyncio.sleep(0)  # The intake was told that the commit is done.
    third = door.post("third")
    assert len(await asyncio.wait_for(second, WAIT_S)) == 1
    assert third.done()
    alone = door.post("alone")
    assert len(await asyncio.wait_for(alone, WAIT_S)) == 1
    assert door.control.together == [1, 2, 1]


async def turns() -> None:
    """Time for the loop to hand over what is due."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_when_we_stop_whoever_waits_is_told(door: Door) -> None:
    gate = await door.hold()
    answers = [door.post(name) for name in ("a", "b", "c")]
    closing = asyncio.create_task(asyncio.to_thread(door.writer.close))
    gate.open.set()
    await closing
    for outcome in await asyncio.gather(*answers, return_exceptions=True):
        assert isinstance(outcome, list | Refused)
    with pytest.raises(Refused) as caught:
        await asyncio.wait_for(door.post("late"), WAIT_S)
    assert caught.value.code is Code.UNAVAILABLE
