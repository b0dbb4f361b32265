"""Gangs that start in one call a node, when one of their nodes is not as it was."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agent.node.overlay_port import FILE
from agent.node.spool_files import number, put, read_document
from agent.site import executor as port
from agent.site.executor import RayDriverProcess
from tests.agent.node.rig import needs_root
from tests.agent.node.test_overlay import MEET
from tests.e2e.conftest import LocalCell
from tests.e2e.driving import (
    all_over,
    driving,
    end_attempt,
    executor_of,
    logs,
    order,
    until_ok,
)


@pytest_asyncio.fixture
async def driver(ray_cell: LocalCell) -> AsyncIterator[RayDriverProcess]:
    async with driving(ray_cell) as process:
        yield process


@pytest.mark.parametrize("delay_ms", [0, 5, 20, 60])
async def test_an_executor_killed_during_a_launch_costs_nothing_but_time(
    driver: RayDriverProcess, ray_cell: LocalCell, delay_ms: int
) -> None:
    """The gang's other rank may have begun by then: it waits, and is not started again."""
    pid = await executor_of(ray_cell, "n1")
    what = order("echo ran; exit 7", "n0", "n1")
    launch = asyncio.create_task(driver.launch(what))
    await asyncio.sleep(delay_ms / 1000)
    os.kill(pid, signal.SIGKILL)
    assert (await launch).ok or (await until_ok(lambda: driver.launch(what))).ok
    assert [end.exit_code for end in await all_over(ray_cell, what)] == [7, 7]
    assert logs(ray_cell, what) == ["ran\n", "ran\n"]


@needs_root
async def test_a_node_whose_overlays_get_another_port_is_met_there(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    """What the driver was told of it before would lead nowhere: the node refuses that, unless the
    driver has noticed by itself, and the next attempt's are told anew."""
    first = order("sleep 1000", "n0", "n1")
    assert (await driver.launch(first)).ok
    await end_attempt(driver, ray_cell, first.key)
    spool, pid = ray_cell.spool("n1").root, await executor_of(ray_cell, "n1")
    put(spool, FILE, {"port": number(read_document(spool / FILE)["port"]) + 1})
    os.kill(pid, signal.SIGKILL)
    await executor_of(ray_cell, "n1", not_this=pid)
    what = order(MEET, "n0", "n1")
    if not (result := await driver.launch(what)).ok:
        assert (result.reason, result.retryable) == (port.REASON_RANK, False)
        assert "this node is at" in result.detail
        await end_attempt(driver, ray_cell, what.key)
        what = order(MEET, "n0", "n1")
        assert (await driver.launch(what)).ok
    assert [end.exit_code for end in await all_over(ray_cell, what)] == [0, 0]
    assert logs(ray_cell, what)[1].startswith("heard ")
