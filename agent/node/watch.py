"""Reads a node's hardware at intervals, keeps the verdict on it, and says when it changed.

Whatever hangs here hangs beside the agent: NVML is another process, files are read in a thread, and
a reading that does not come back makes the node UNKNOWN.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.node import instances
from agent.node import verdict as judging
from agent.node.clock import boot_id, boot_ms, wall_ms
from agent.node.collectors import ethernet, infiniband, simulated, system
from agent.node.collectors.kernel_log import KernelLog
from agent.node.collectors.nvml_process import NvmlProcess
from agent.node.collectors.readings import GpuReadings, Missing, Readings, Telemetry
from agent.node.fault_file import FaultFile
from agent.node.faults import FaultLog, absorb
from agent.node.health import Health
from agent.node.instances import Placed
from agent.node.verdict import Finding, Memory, Verdict

FILES_S_MAX = 5.0
"""A reading of files takes milliseconds; past this a file system hangs."""
SAVE_MS = 60_000
"""How often what only grows (energy) is kept; faults are kept at once."""
XID_KINDS_MAX = 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is read, and how often. `logical` and `logical_mig`: what stands in where there are no
    GPUs."""

    telemetry: Telemetry
    interval_ms: int
    spool: Path
    state_dir: Path
    logical: tuple[str, ...] = ()
    logical_mig: tuple[Placed, ...] = ()
    nvml_library: str = ""
    sysfs_root: Path = Path("/sys")
    rdma_exclude: tuple[str, ...] = ()
    kernel_log: Path = Path("/dev/kmsg")
    """Where NVSwitches' errors are told; read where there are real GPUs."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Counted since this agent began."""

    xids: Mapping[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    faults: Mapping[Health, int] = field(default_factory=dict[Health, int])
    readings: int = 0
    complete_at_ms: int = 0
    """UTC of the newest reading in which nothing was missing."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything known of the node at one moment."""

    readings: Readings
    verdict: Verdict
    log: FaultLog
    totals: Totals


class HealthWatch:
    """One node's. `latest` never waits; it is None before the first reading."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._file = FaultFile(sources.state_dir)
        self._now = asyncio.Event()
        self._nvml: NvmlProcess | None = None
        if sources.telemetry is Telemetry.NVML:
            self._nvml = NvmlProcess(sources.interval_ms, sources.nvml_library, self._now.set)
        self._kernel_log = KernelLog(sources.kernel_log)
        self._memory = Memory()
        self._log = FaultLog("")
        self._saved: FaultLog | None = None
        self._saved_at_ms = 0
        # One thread of our own: a file system that hangs must not use up the agent's.
        self._thread = ThreadPoolExecutor(1, "readings")
        self._reading: asyncio.Future[tuple[Readings, FaultLog | None]] | None = None
        self.latest: Snapshot | None = None

    @property
    def telemetry(self) -> Telemetry:
        """Where the GPU readings come from."""
        return self._sources.telemetry

    @property
    def nvml_restarts(self) -> int:
        """How often the process that reads GPUs was started anew."""
        return self._nvml.restarts if self._nvml is not None else 0

    def verdict(self) -> Verdict:
        """How the node is; UNKNOWN before the first reading."""
        latest = self.latest
        if latest is None:
            return Verdict(Health.UNKNOWN, (Finding("NOT_READ", Health.UNKNOWN, "", "not yet"),))
        return latest.verdict

    def gpu_uuids(self) -> tuple[str, ...]:
        """The GPUs by index, the lost ones included."""
        if self.telemetry is not Telemetry.NVML:
            return self._sources.logical
        return tuple(gpu.uuid for gpu in self.latest.readings.gpus) if self.latest else ()

    def instances(self) -> tuple[Placed, ...]:
        """The instances of GPUs that are cut, in the order of their numbers."""
        if self.telemetry is not Telemetry.NVML:
            return self._sources.logical_mig
        return instances.placed(self.latest.readings.gpus) if self.latest else ()

    def _told(self) -> tuple[object, ...]:
        """What the site is told at once when it changes."""
        verdict = self.verdict()
        return verdict.detail(), verdict.health, self.gpu_uuids(), self.instances()

    def gpu_watts(self) -> int | None:
        """What the GPUs draw, of those that say so; None when none does."""
        if self.latest is None or self.latest.readings.gpus_missing is not None:
            return None
        gpus = self.latest.readings.gpus
        drawn_mw = [gpu.power_mw for gpu in gpus if gpu.power_mw is not None and not gpu.lost]
        return sum(drawn_mw) // 1000 if drawn_mw else None

    async def run(self, changed: Callable[[], None]) -> None:
        """Watch until cancelled. `changed` is called whenever the verdict is another one."""
        self._log = await asyncio.to_thread(self._file.load, boot_id(), wall_ms())
        async with asyncio.TaskGroup() as group:
            if self._nvml is not None:
                group.create_task(self._nvml.run())
            while True:
                told = self._told()
                await self._look()
                if self._told() != told:
                    _log.info("health %s: %s", self.verdict().health.name, self.verdict().detail())
                    changed()
                await self._pause()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._sources.interval_ms / 1000):
                await self._now.wait()
        except TimeoutError:
            pass
        self._now.clear()

    async def _look(self) -> None:
        """One reading of everything, its verdict, and what has to be kept of it."""
        if self._reading is None:
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(self._thread, self._files, self._log)
        await asyncio.wait({self._reading}, timeout=FILES_S_MAX)
        if not self._reading.done():
            self._unreadable(f"files could not be read within {FILES_S_MAX} s")
            return
        done, self._reading = self._reading, None
        try:
            readings, cleared = done.result()
        except OSError as error:
            self._unreadable(str(error))
            return
        if cleared is not None:
            self._log, self._memory = cleared, Memory()
        readings = self._with_gpus(readings)
        self._log = absorb(self._log, readings)
        self._memory, verdict = judging.judge(self._memory, self._log, readings)
        self.latest = Snapshot(readings, verdict, self._log, self._counted(readings, verdict))
        await self._keep()

    def _files(self, log: FaultLog) -> tuple[Readings, FaultLog | None]:
        """All that lies in files, and the log as an operator's word made it."""
        sources, now_ms = self._sources, wall_ms()
        switched = self._nvml is not None
        readings = Readings(
            boot_ms(),
            now_ms,
            sources.telemetry,
            xids=self._kernel_log.read(now_ms) if switched else (),
            ports=infiniband.read(sources.sysfs_root, sources.rdma_exclude),
            ethernet=ethernet.read(sources.sysfs_root),
            system=system.read(sources.spool),
        )
        return readings, self._file.cleared(log)

    def _with_gpus(self, readings: Readings) -> Readings:
        if self._nvml is None:
            simulating = self.telemetry is Telemetry.SIMULATED
            logical = self._sources.logical if simulating else ()
            return replace(readings, gpus=simulated.read(logical, readings.at_ms))
        match self._nvml.read():
            case Missing() as missing:
                # What was known of them stays on show; the verdict says how little it is worth.
                gpus = self.latest.readings.gpus if self.latest is not None else ()
                return replace(readings, gpus=gpus, gpus_missing=missing)
            case GpuReadings() as told:
                xids = (*readings.xids, *told.xids)
                return replace(readings, gpus=told.gpus, xids=xids, driver=told.driver)

    def _unreadable(self, why: str) -> None:
        finding = Finding("NOT_READABLE", Health.UNKNOWN, "", why)
        if self.latest is not None:
            kept = tuple(f for f in self.latest.verdict.findings if f.health is Health.FAILED)
            worst = max((f.health for f in kept), default=Health.UNKNOWN)
            self.latest = replace(self.latest, verdict=Verdict(worst, (*kept, finding)))

    def _counted(self, readings: Readings, verdict: Verdict) -> Totals:
        before = self.latest.totals if self.latest is not None else Totals()
        told = self.latest.verdict.findings if self.latest is not None else ()
        known = {(f.code, f.subject) for f in told}
        xids = dict(before.xids)
        for event in readings.xids:
            key = (event.gpu, event.xid)
            if key in xids or len(xids) < XID_KINDS_MAX:
                xids[key] = xids.get(key, 0) + 1
        faults = dict(before.faults)
        for finding in verdict.findings:
            if (finding.code, finding.subject) not in known:
                faults[finding.health] = faults.get(finding.health, 0) + 1
        complete = readings.gpus_missing is None
        complete_at_ms = readings.wall_ms if complete else before.complete_at_ms
        return Totals(xids, faults, before.readings + 1, complete_at_ms)

    async def _keep(self) -> None:
        """Faults must outlast us, so a changed log is kept before anybody hears of it."""
        log, now_ms = self._log, boot_ms()
        if self._saved is not None:
            quiet = replace(log, energy_mj={}) == replace(self._saved, energy_mj={})
            if quiet and (log == self._saved or now_ms - self._saved_at_ms < SAVE_MS):
                return
        try:
            await asyncio.to_thread(self._file.save, log)
        except OSError as error:
            _log.warning("the fault log cannot be kept: %s", error)
            return
        self._saved, self._saved_at_ms = log, now_ms
