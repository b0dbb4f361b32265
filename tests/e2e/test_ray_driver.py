"""Launching through real Ray: exactly there, exactly once, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from agent.node import overlay
from agent.node.clock import boot_ms
from agent.node.spool import Cause, Phase
from agent.site import executor as port
from agent.site.executor import LaunchResult, RayDriverProcess
from tests.agent.node.rig import AS_ROOT, needs_root, running
from tests.e2e.conftest import LocalCell
from tests.e2e.driving import (
    all_over,
    driving,
    end_attempt,
    executor_pids,
    logs,
    order,
    statuses,
    until,
    until_ok,
)


@pytest_asyncio.fixture
async def driver(ray_cell: LocalCell) -> AsyncIterator[RayDriverProcess]:
    async with driving(ray_cell) as process:
        yield process


async def test_one_rank_runs_where_it_was_placed_and_its_code_comes_back(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    what = order("echo on $CUDA_VISIBLE_DEVICES of $SOV_JOB_ID; exit 3", "n1")
    result = await driver.launch(what)
    assert result == LaunchResult(what.key, True)
    (status,) = await all_over(ray_cell, what)
    assert (status.exit_code, status.cause) == (3, Cause.EXIT)
    assert logs(ray_cell, what) == [f"on {what.ranks[0].gpus[0]} of {what.job_id}\n"]
    assert ray_cell.spool("n0").status(f"{what.key}.0").phase is Phase.ABSENT


async def test_a_gang_agrees_on_its_meeting_place(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    text = "echo $RANK/$WORLD_SIZE $GROUP_RANK $MASTER_ADDR:$MASTER_PORT"
    what = order(text, "n1", "n0")
    assert (await driver.launch(what)).ok
    await all_over(ray_cell, what)
    first, second = logs(ray_cell, what)
    assert first.startswith("0/2 0 ")
    assert second.startswith("1/2 1 ")
    assert first.split()[2] == second.split()[2]
    # Rank 0 is there: in the network that the nodes share, if they can isolate one from theirs.
    leader = overlay.address_of(0) if AS_ROOT else ray_cell.cell.address_of("n1")
    assert first.split()[2].startswith(f"{leader}:")


async def test_launching_again_starts_nothing_and_says_ok(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    what = order("echo ran; sleep 1000", "n0", "n1")
    assert (await driver.launch(what)).ok
    before = statuses(ray_cell, what)
    results = await asyncio.gather(*(driver.launch(what) for _ in range(4)))
    assert all(result.ok for result in results)
    after = statuses(ray_cell, what)
    assert [s.started_boot_ms for s in before] == [s.started_boot_ms for s in after]
    await until(lambda: logs(ray_cell, what) == ["ran\n", "ran\n"], "the word of both")
    await end_attempt(driver, ray_cell, what.key)
    assert logs(ray_cell, what) == ["ran\n", "ran\n"]
    assert (await driver.launch(what)).ok
    assert logs(ray_cell, what) == ["ran\n", "ran\n"]


async def test_a_job_without_gpus_is_pinned_as_well(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    what = order("exit 4", "n1")
    rank = replace(what.ranks[0], gpus=())
    what = replace(what, gpus_per_node=0, ranks=(rank,))
    assert (await driver.launch(what)).ok
    assert [status.exit_code for status in await all_over(ray_cell, what)] == [4]


async def test_a_bundle_travels_to_every_node_that_lacks_it(
    driver: RayDriverProcess, ray_cell: LocalCell, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in (("run.sh", b"wc -c < big"), ("big", b"x" * 9_000_000)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    bundle = tmp_path / "bundle.tar"
    bundle.write_bytes(stream.getvalue())
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    what = order("sh run.sh", "n0", "n1", bundle_digest=digest, bundle_path=str(bundle))
    assert (await driver.launch(what)).ok
    await all_over(ray_cell, what)
    assert logs(ray_cell, what) == ["9000000\n", "9000000\n"]
    again = order("sh run.sh", "n0", bundle_digest=digest, bundle_path="/absent")
    assert (await driver.launch(again)).ok
    lacking = order("true", "n0", bundle_digest="1" * 64, bundle_path="/absent")
    result = await driver.launch(lacking)
    # Retryable: it may have been evicted since it was fetched, and the next try fetches it.
    assert (result.ok, result.reason, result.retryable) == (False, port.REASON_ORDER, True)


async def test_releasing_gives_the_gpus_to_the_next(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    whole = order("sleep 1000", "n0", gpus_per_node=4)
    assert (await driver.launch(whole)).ok
    assert whole.key in {r.key for r in await driver.reservations() if r.state == "CREATED"}
    await end_attempt(driver, ray_cell, whole.key)
    assert whole.key not in {r.key for r in await driver.reservations()}
    assert (await driver.release(whole.key)).ok
    assert (await driver.launch(order("true", "n0", gpus_per_node=4))).ok


async def test_nodes_reserved_ahead_are_the_launchs_own(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    """Asked for together, as a site agent does, and once more by a driver that knows of nothing."""
    what = order("echo ran", "n0", "n1")
    nodes = [rank.node for rank in what.ranks]
    reserved, result = await asyncio.gather(
        driver.reserve(what.key, nodes, what.gpus_per_node), driver.launch(what)
    )
    assert (reserved.ok, result.ok) == (True, True)
    assert [row.key for row in await driver.reservations()] == [what.key]
    await all_over(ray_cell, what)

    later = order("echo ran", "n1")
    assert (await driver.reserve(later.key, ["n1"], 1)).ok
    assert (await driver.reserve(later.key, ["n1"], 1)).ok
    assert ray_cell.spool("n1").status(f"{later.key}.0").phase is Phase.ABSENT
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGKILL)
    await until_ok(lambda: driver.launch(later))
    assert [row.key for row in await driver.reservations()] == sorted([what.key, later.key])
    assert [status.exit_code for status in await all_over(ray_cell, later)] == [0]


async def test_what_could_not_be_reserved_ahead_fails_its_launch_and_not_the_next(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    whole, what = order("sleep 1000", "n0", gpus_per_node=4), order("echo ran", "n0")
    assert (await driver.launch(whole)).ok
    reserved, result = await asyncio.gather(
        driver.reserve(what.key, ["n0"], 1), driver.launch(what)
    )
    assert not reserved.ok
    assert (result.ok, result.reason, result.retryable) == (False, port.REASON_PLACEMENT, True)
    await end_attempt(driver, ray_cell, whole.key)
    await until_ok(lambda: driver.launch(what))
    assert [status.exit_code for status in await all_over(ray_cell, what)] == [0]


async def test_nodes_that_are_taken_or_unknown_refuse_and_keep_nothing(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    whole = order("sleep 1000", "n0", gpus_per_node=4)
    assert (await driver.launch(whole)).ok
    gang, lost = order("echo ran", "n1", "n0"), order("echo ran", "nowhere")
    for what, result in zip(
        (gang, lost), await asyncio.gather(driver.launch(gang), driver.launch(lost)), strict=True
    ):
        assert (result.ok, result.reason) == (False, port.REASON_PLACEMENT)
        assert result.retryable
        await until_ok(lambda key=what.key: driver.release(key))
    # Room may have been made while Ray was asked; nothing more.
    made = ray_cell.spool("n1").status(f"{gang.key}.0").phase
    assert made in (Phase.ABSENT, Phase.PREPARED)
    assert ray_cell.spool("n1").stop(f"{gang.key}.0", 0).phase is Phase.OVER
    await end_attempt(driver, ray_cell, whole.key)


async def test_a_key_that_was_given_up_makes_the_launch_fail_for_good(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    """What began elsewhere ends with it, and never begins again."""
    what = order("echo ran; sleep 1000", "n0", "n1")
    ray_cell.spool("n1").stop(f"{what.key}.1", 0)
    for _ in range(2):
        result = await driver.launch(what)
        assert (result.ok, result.reason, result.retryable) == (False, port.REASON_GIVEN_UP, False)
        await end_attempt(driver, ray_cell, what.key)
        assert {status.phase for status in statuses(ray_cell, what)} == {Phase.OVER}
    assert logs(ray_cell, what) in (["", ""], ["ran\n", ""])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"key": "../x"}, "want <job>", id="a key that is a path"),
        pytest.param({"num_nodes": 3}, "num_nodes 3", id="a count that contradicts the ranks"),
        pytest.param({"ranks": ()}, "want 0, 1", id="no ranks"),
    ],
)
async def test_an_order_that_contradicts_itself_is_refused(
    driver: RayDriverProcess, change: dict[str, object], message: str
) -> None:
    result = await driver.launch(replace(order("true", "n0"), **change))  # type: ignore[arg-type]
    assert (result.reason, result.retryable) == (port.REASON_ORDER, False)
    assert message in result.detail


async def test_a_lease_reaches_the_rank(driver: RayDriverProcess, ray_cell: LocalCell) -> None:
    what = order("sleep 1000", "n0", leased=True, lease_ms=5_000, given_boot_ms=boot_ms())
    assert (await driver.launch(what)).ok
    (status,) = await all_over(ray_cell, what)
    assert status.cause is Cause.LEASE


@pytest.mark.parametrize("delay_ms", [0, 20, 60, 150, 400])
async def test_a_driver_killed_during_a_launch_costs_nothing_but_time(
    driver: RayDriverProcess, ray_cell: LocalCell, delay_ms: int
) -> None:
    what = order("echo ran; exit 7", "n0", "n1")
    launch = asyncio.create_task(driver.launch(what))
    await asyncio.sleep(delay_ms / 1000)
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGKILL)
    result = await launch
    assert result.ok or (result.reason == port.REASON_DRIVER and result.retryable)
    await until_ok(lambda: driver.launch(what))
    ends = await all_over(ray_cell, what)
    assert [end.exit_code for end in ends] == [7, 7]
    assert logs(ray_cell, what) == ["ran\n", "ran\n"]


async def test_a_killed_driver_takes_no_work_along_and_finds_its_reservations_again(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    what = order("echo ran; sleep 1000", "n0", "n1")
    assert (await driver.launch(what)).ok
    assert driver.pid is not None
    os.kill(driver.pid, signal.SIGKILL)
    await until_ok(lambda: driver.launch(what))
    assert driver.restarts >= 1
    assert what.key in {r.key for r in await driver.reservations()}
    assert [status.phase for status in statuses(ray_cell, what)] == [Phase.RUNNING] * 2
    assert logs(ray_cell, what) == ["ran\n", "ran\n"]


async def test_a_killed_executor_takes_no_work_along_and_comes_back(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    what = order("echo ran; sleep 1000", "n0", "n1")
    assert (await driver.launch(what)).ok
    (pid,) = executor_pids(ray_cell, "n1")
    os.kill(pid, signal.SIGKILL)
    other = order("exit 5", "n1")
    await until_ok(lambda: driver.launch(other))
    assert [end.exit_code for end in await all_over(ray_cell, other)] == [5]
    assert [status.phase for status in statuses(ray_cell, what)] == [Phase.RUNNING] * 2
    assert (await driver.launch(what)).ok
    assert logs(ray_cell, what) == ["ran\n", "ran\n"]
    assert not running(pid)


async def test_a_killed_raylet_takes_no_work_along_and_is_seen(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    what = order("echo ran; sleep 1000", "n0", "n1")
    assert (await driver.launch(what)).ok
    os.kill(ray_cell.cell.pid("n1", "raylet"), signal.SIGKILL)

    async def dead() -> bool:
        return [n.alive for n in await driver.nodes() if n.node == "n1"] == [False]

    await until(dead, "the news of the raylet's death")
    assert [status.phase for status in statuses(ray_cell, what)] == [Phase.RUNNING] * 2
    await asyncio.to_thread(ray_cell.cell.start_node, "n1")
    await until_ok(lambda: driver.launch(what))
    assert logs(ray_cell, what) == ["ran\n", "ran\n"]
    await end_attempt(driver, ray_cell, what.key)
    after = order("exit 6", "n0", "n1")
    await until_ok(lambda: driver.launch(after))
    assert [end.exit_code for end in await all_over(ray_cell, after)] == [6, 6]


@needs_root
async def test_a_rank_can_read_neither_the_token_nor_rays_directory(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    token = ray_cell.cell.token
    probe = f"cat {token}; ls {token.parent}; ls {token.parent}/t; env | grep RAY; true"
    what = order(probe, "n0")
    assert (await driver.launch(what)).ok
    await all_over(ray_cell, what)
    (log,) = logs(ray_cell, what)
    assert token.read_text() not in log
    assert "session" not in log
    assert "RAY" not in log.replace(str(token.parent), "")


async def test_a_broken_line_ends_one_driver_and_the_next_one_works(
    driver: RayDriverProcess, ray_cell: LocalCell
) -> None:
    huge = order("true", "n0", env={"BIG": "x" * port.LINE_BYTES_MAX})
    result = await driver.launch(huge)
    assert (result.reason, result.retryable) == (port.REASON_ORDER, False)
    assert (await driver.launch(order("true", "n0"))).ok
