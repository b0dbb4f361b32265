"""Keeps the process that calls NVML: its newest reading, and what to believe when it is silent.

A process that is silent for SILENT_INTERVALS of its intervals hangs in the driver: it is killed by
its pid, and another is started after a back-off that doubles. One that cannot even be killed is
waited for, so that hanging processes never pile up. Meanwhile nothing is known of the GPUs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable

from agent.node.collectors.readings import (
    GpuReadings,
    Missing,
    SourceFault,
    XidEvent,
    gpu_readings_from_plain,
)

LINE_BYTES_MAX = 1024 * 1024
XIDS_HELD_MAX = 4096
SILENT_INTERVALS = 3
"""health.md, hang safety: a heartbeat older than three intervals is *unknown*, not healthy."""
START_S = 10.0
"""More than its intervals, the first time: loading the driver's library takes a while."""
BACKOFF_S_FIRST, BACKOFF_S_MAX = 1.0, 60.0
HEALTHY_READINGS = 3
"""After as many readings the back-off begins anew."""

_log = logging.getLogger(__name__)


class NvmlProcess:
    """The supervised child. `read` never waits."""

    def __init__(self, interval_ms: int, library: str, changed: Callable[[], None]) -> None:
        self._interval_ms = interval_ms
        self._library = library
        self._changed = changed
        self._latest: GpuReadings | None = None
        self._missing = Missing(SourceFault.NOT_ANSWERING, "not read yet")
        self._xids: list[XidEvent] = []
        self.pid: int | None = None
        self.restarts = 0

    def read(self) -> GpuReadings | Missing:
        """The newest reading, with all errors since the last call; or why there is none."""
        if self._latest is None:
            return self._missing
        xids, self._xids = tuple(self._xids), []
        return GpuReadings(self._latest.gpus, xids, self._latest.driver)

    async def run(self) -> None:
        """Keep a child running until cancelled; none is left behind."""
        pause_s = BACKOFF_S_FIRST
        while True:
            readings = await self._one_life()
            pause_s = BACKOFF_S_FIRST if readings >= HEALTHY_READINGS else pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, BACKOFF_S_MAX)
            self.restarts += 1

    async def _one_life(self) -> int:
        """One child, from its start to its end; how many readings it gave."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent.node.collectors.nvml_child",
            str(self._interval_ms),
            *([self._library] if self._library else []),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        self.pid = child.pid
        assert child.stdout is not None
        try:
            return await self._listen(child.stdout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            self.pid = None

    async def _listen(self, lines: asyncio.StreamReader) -> int:
        given = 0
        patience_s = SILENT_INTERVALS * self._interval_ms / 1000
        while True:
            try:
                async with asyncio.timeout(patience_s if given else patience_s + START_S):
                    line = await lines.readline()
                if not line:
                    self._lost(Missing(SourceFault.FAILED, "the process that reads it ended"))
                    return given
                told = json.loads(line)
                if "missing" in told:
                    fault = SourceFault(told["missing"]["fault"])
                    self._lost(Missing(fault, str(told["missing"]["detail"])))
                    return given
                self._take(gpu_readings_from_plain(told["readings"]))
                given += 1
            except TimeoutError:
                detail = f"no reading for {SILENT_INTERVALS} intervals of {self._interval_ms} ms"
                self._lost(Missing(SourceFault.NOT_ANSWERING, detail))
                return given
            except (ValueError, KeyError, TypeError) as error:
                self._lost(Missing(SourceFault.FAILED, f"a reading nobody understands: {error}"))
                return given

    def _take(self, readings: GpuReadings) -> None:
        self._latest = readings
        self._xids = (self._xids + list(readings.xids))[-XIDS_HELD_MAX:]
        if readings.xids:
            self._changed()

    def _lost(self, missing: Missing) -> None:
        self._missing, self._latest = missing, None
        _log.warning("GPUs cannot be read: %s %s", missing.fault, missing.detail)
        self._changed()
