"""Orders as a site agent gives them to its Ray driver, and what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from agent.node.spool import Phase, RankStatus
from agent.site.executor import LaunchOrder, LaunchResult, RankOrder, RayDriverProcess
from tests.agent.node.rig import LEVELS
from tests.e2e.conftest import LocalCell
from tests.e2e.granting import granted

DEADLINE_S = 90
_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def driving(cell: LocalCell) -> AsyncGenerator[RayDriverProcess]:
    """A driver of the cell, as its site agent has one; what it still holds is ended with it."""
    config = {"address": cell.cell.address, "reserve_ms": 4000}
    process = RayDriverProcess(config, environment=cell.cell.driver_environment())
    async with process, asyncio.timeout(170):
        await process.wait_ready()
        yield process
        for reservation in await process.reservations():
            await end_attempt(process, cell, reservation.key)


async def until(holds: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    """Until `holds()`, or fail saying what did not come."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = holds()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.05)
    raise AssertionError(what)


def order(text: str, *nodes: str, **more: object) -> LaunchOrder:
    """A rank a node, one GPU each; GPU ids differ between orders as the planner's would."""
    number = next(_numbers)
    job = f"job-{os.getpid()}-{number}"
    ranks = tuple(
        RankOrder(rank=rank, node=node, node_rank=rank, local_rank=0, gpus=(number % 4,))
        for rank, node in enumerate(nodes)
    )
    made = LaunchOrder(
        key=f"{job}.1",
        job_id=job,
        attempt=1,
        ranks=ranks,
        argv=("/bin/sh", "-c", text),
        env={},
        gpus_per_node=1,
        num_nodes=len(set(nodes)),
        isolation=LEVELS[-1],
        grace_ms=1000,
    )
    return granted(replace(made, **more))  # type: ignore[arg-type]


def statuses(cell: LocalCell, what: LaunchOrder) -> list[RankStatus]:
    return [cell.spool(rank.node).status(f"{what.key}.{rank.rank}") for rank in what.ranks]


def logs(cell: LocalCell, what: LaunchOrder) -> list[str]:
    read = (cell.spool(r.node).read_log(f"{what.key}.{r.rank}", 0, 1 << 20) for r in what.ranks)
    return [part.data.decode() for part in read]


async def all_over(cell: LocalCell, what: LaunchOrder) -> list[RankStatus]:
    await until(
        lambda: all(status.phase is Phase.OVER for status in statuses(cell, what)),
        f"the end of {what.key}",
    )
    return statuses(cell, what)


async def end_attempt(driver: RayDriverProcess, cell: LocalCell, key: str) -> None:
    """What a site agent does: stop every rank through its node, then give the nodes back."""
    for slot in ("n0", "n1"):
        spool = cell.spool(slot)
        for status in spool.known():
            if status.key.rpartition(".")[0] == key:
                await until(
                    lambda spool=spool, rank=status.key: spool.stop(rank, 0).phase is Phase.OVER,
                    f"the end of {status.key}",
                )
    await until_ok(lambda: driver.release(key))


async def until_ok(call: Callable[[], Awaitable[LaunchResult]]) -> LaunchResult:
    """Repeat a call as a site agent does while the answer is that it may be."""
    async with asyncio.timeout(DEADLINE_S):
        while not (result := await call()).ok:
            assert result.retryable, result
            await asyncio.sleep(0.2)
    return result


async def executor_of(cell: LocalCell, slot: str, *, not_this: int = 0) -> int:
    """The pid of a node's executor, once it has one."""
    await until(lambda: executor_pids(cell, slot) not in ([], [not_this]), f"one on {slot}")
    return executor_pids(cell, slot)[-1]


def executor_pids(cell: LocalCell, slot: str) -> list[int]:
    found = [p.pid for p in cell.cell.processes() if p.slot == slot]
    return [pid for pid in found if b"ResidentExecutor" in cmdline(pid)]


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
