"""What calls NVML, against a library of ours with NVIDIA's layouts: real calls, no GPU."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from agent.node.collectors.nvml_process import NvmlProcess
from agent.node.collectors.readings import (
    NO_PROFILE,
    Gpu,
    GpuReadings,
    Missing,
    SourceFault,
    gpu_readings_from_plain,
    gpu_readings_to_plain,
)
from tests.agent.node.rig import DEADLINE_S, running
from tests.agent.node.stub.library import LINKS, Stub, build

INTERVAL_MS = 200


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def stub(library: Path) -> Stub:
    return Stub(library)


@contextlib.asynccontextmanager
async def reading(library: Path) -> AsyncGenerator[NvmlProcess]:
    """The supervised process on a library, ended again."""
    process = NvmlProcess(INTERVAL_MS, str(library), lambda: None)
    task = asyncio.create_task(process.run())
    try:
        yield process
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(
    process: NvmlProcess, holds: Callable[[GpuReadings | Missing], bool], what: str
) -> GpuReadings | Missing:
    """Ask until an answer is as wanted."""
    last: GpuReadings | Missing | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                last = process.read()
                if holds(last):
                    return last
                await asyncio.sleep(0.02)
    raise AssertionError(f"{what}: did not come; last {last}")


async def gpus(
    process: NvmlProcess, holds: Callable[[tuple[Gpu, ...]], bool] = bool
) -> tuple[Gpu, ...]:
    found = await until(
        process, lambda r: isinstance(r, GpuReadings) and holds(r.gpus), "GPUs as wanted"
    )
    assert isinstance(found, GpuReadings)
    return found.gpus


async def missing(process: NvmlProcess, fault: SourceFault, words: str = "") -> Missing:
    """Until this is missing."""

    def holds(answer: GpuReadings | Missing) -> bool:
        return isinstance(answer, Missing) and answer.fault is fault and words in answer.detail

    found = await until(process, holds, fault)
    assert isinstance(found, Missing)
    return found


async def test_everything_a_gpu_says_arrives_typed(stub: Stub) -> None:
    stub.set(
        gpu1__fabric__state=3,
        gpu1__fabric__summary=1,
        gpu1__fabric__mask=0x4100,
        **{f"gpu1__field__220__{link}": 0x20F if link != 7 else 0x10A for link in range(LINKS)},
    )
    async with reading(stub.library) as process:
        first, second = await gpus(process, lambda found: len(found) == 2)
    assert (first.uuid, first.model, first.serial) == ("GPU-stub-0", "Stub H100", "S0")
    assert (first.pci_bus_id, first.vbios) == ("00000000:01:00.0", "96.00.0")
    assert (first.temperature_c, first.temperature_max_c) == (40, 87)
    assert (first.memory_temperature_c, first.memory_temperature_max_c) == (45, 95)
    assert (first.power_mw, first.power_limit_mw, first.energy_mj) == (70_500, 700_000, 1_000_000)
    assert (first.utilisation_percent, first.sm_clock_mhz, first.clock_events) == (7, 1980, 1)
    assert (first.memory_used_bytes, first.memory_total_bytes) == (1 << 30, 80 << 30)
    assert (first.ecc_volatile_corrected, first.ecc_volatile_uncorrected) == (0, 0)
    assert (first.ecc_aggregate_corrected, first.ecc_aggregate_uncorrected) == (3, 0)
    assert (first.remap_pending, first.remap_failed, first.recovery_action) == (False, False, 0)
    assert (first.pcie_replays, first.pcie_generation, first.pcie_width) == (0, 5, 16)
    assert first.nvlinks is not None
    assert (first.nvlinks.active, first.nvlinks.present) == (LINKS, LINKS)
    assert (first.nvlinks.replays, first.nvlinks.effective_ber) == (0, None)
    assert first.fabric is None
    assert second.nvlinks is not None
    assert second.nvlinks.effective_ber == 0x10A
    assert second.fabric is not None
    assert (second.fabric.state, second.fabric.summary, second.fabric.mask) == (3, 1, 0x4100)
    assert (second.fabric.cluster_uuid, second.fabric.clique) == ("ab" * 16, 7)


async def test_what_a_gpu_does_not_support_is_not_zero(stub: Stub) -> None:
    for prefix in ("*.ecc", "*.remap", "*.link", "*.field", "*.energy"):
        stub.unset(prefix)
    async with reading(stub.library) as process:
        gpu = (await gpus(process))[0]
    assert gpu.ecc_volatile_uncorrected is None
    assert gpu.remap_failed is None
    assert gpu.recovery_action is None
    assert gpu.memory_temperature_c is None
    assert gpu.energy_mj is None
    assert gpu.nvlinks is None


async def test_the_instances_of_a_gpu_that_is_cut_are_told_by_profile_and_name(stub: Stub) -> None:
    stub.set(gpu0__mig=1, gpu0__mig__0=3040, gpu0__mig__2=1010, gpu1__mig=0)
    async with reading(stub.library) as process:
        cut, whole = await gpus(process, lambda found: len(found) == 2)
        assert [(one.profile, one.uuid) for one in cut.mig] == [
            ("1g.10gb", "MIG-stub-0-2"),
            ("3g.40gb", "MIG-stub-0-0"),
        ]
        assert whole.mig == ()
        stub.set(gpu1__mig=1)
        _, emptied = await gpus(process, lambda found: bool(found[1].mig))
    assert [one.profile for one in emptied.mig] == [NO_PROFILE], "cut, and nothing of it to be had"


async def test_a_library_that_knows_nothing_of_mig_has_whole_gpus(stub: Stub) -> None:
    async with reading(stub.library) as process:
        assert all(gpu.mig == () for gpu in await gpus(process))


def links(gpu: Gpu) -> int:
    return gpu.nvlinks.active if gpu.nvlinks is not None else 0


CHANGES: dict[str, tuple[dict[str, int], Callable[[Gpu], bool]]] = {
    "ECC": ({"gpu0__ecc__1__0": 2}, lambda gpu: gpu.ecc_volatile_uncorrected == 2),
    "an NVLink down": ({"gpu0__link__3": 0}, lambda gpu: links(gpu) == LINKS - 1),
    "hot": ({"gpu0__temperature": 95}, lambda gpu: gpu.temperature_c == 95),
    "power": ({"gpu0__power": 690_000}, lambda gpu: gpu.power_mw == 690_000),
    "recovery": ({"gpu0__field__230": 2}, lambda gpu: gpu.recovery_action == 2),
    "remap": ({"gpu0__remap__failed": 1}, lambda gpu: gpu.remap_failed is True),
    "lost": ({"gpu0__lost": 1}, lambda gpu: gpu.lost and gpu.uuid == "GPU-stub-0"),
}


@pytest.mark.parametrize(("change", "value"), CHANGES.values(), ids=CHANGES)
async def test_a_change_is_in_a_later_reading(
    stub: Stub, change: dict[str, int], value: Callable[[Gpu], bool]
) -> None:
    async with reading(stub.library) as process:
        before = await gpus(process)
        assert not value(before[0])
        stub.set(**change)
        after = await gpus(process, lambda found: value(found[0]))
        assert not value(after[1])


async def test_errors_of_the_driver_arrive_once_each(stub: Stub) -> None:
    async with reading(stub.library) as process:
        await gpus(process)
        stub.xid(1, 79)
        stub.xid(0, 31)
        seen: list[tuple[str, int]] = []

        def collect(answer: GpuReadings | Missing) -> bool:
            if isinstance(answer, GpuReadings):
                seen.extend((event.gpu, event.xid) for event in answer.xids)
            return len(seen) >= 2

        await until(process, collect, "two errors")
        assert sorted(seen) == [("GPU-stub-0", 31), ("GPU-stub-1", 79)]
        stub.set(all__temperature=41)
        await gpus(process, lambda found: found[0].temperature_c == 41)
        assert collect(process.read())
        assert len(seen) == 2


async def test_a_call_that_hangs_is_unknown_and_its_process_is_killed(stub: Stub) -> None:
    async with reading(stub.library) as process:
        await gpus(process)
        first = process.pid
        assert first is not None
        stub.set(gpu1__hang_ms=3_600_000)
        await missing(process, SourceFault.NOT_ANSWERING, "3 intervals")
        await until(process, lambda _: not running(first), "the end of the process that hangs")
        stub.set(gpu1__hang_ms=0)
        await gpus(process)
        assert process.pid not in (None, first)
        assert process.restarts >= 1


async def test_no_process_is_left_behind(stub: Stub) -> None:
    async with reading(stub.library) as process:
        await gpus(process)
        pid = process.pid
        assert pid is not None
    assert not running(pid)


async def test_a_reader_that_is_killed_is_started_again(stub: Stub) -> None:
    async with reading(stub.library) as process:
        await gpus(process)
        pid = process.pid
        assert pid is not None
        os.kill(pid, 9)
        await missing(process, SourceFault.FAILED)
        await gpus(process)


async def test_a_library_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    async with reading(tmp_path / "libnvidia-ml.so.1") as process:
        await missing(process, SourceFault.LIBRARY_MISSING, "libnvidia-ml.so.1")


async def test_a_library_of_another_version_than_the_driver_is_unfit(stub: Stub) -> None:
    stub.set(node__init=18)
    async with reading(stub.library) as process:
        await missing(process, SourceFault.LIBRARY_UNFIT, "mismatch")


async def test_an_older_library_gives_what_it_has(tmp_path: Path) -> None:
    old = Stub(build(tmp_path, "-DNVML_STUB_OLD"))
    async with reading(old.library) as process:
        gpu = (await gpus(process))[0]
    assert gpu.clock_events is None
    assert gpu.temperature_c == 40


def test_a_reading_crosses_the_pipe_unchanged() -> None:
    made = GpuReadings((Gpu(0, "GPU-1", temperature_c=4), Gpu(1, "GPU-2", lost=True)), (), "999")
    assert gpu_readings_from_plain(gpu_readings_to_plain(made)) == made
