"""The process that calls NVML, because a call may hang: one JSON line for each reading.

`python -m agent.node.collectors.nvml_child INTERVAL_MS [LIBRARY]`. It ends with whoever started it.
A line is a reading, or says what is missing, after which the process ends; every line is a sign of
life. Lines come each interval, and at once when the driver reports an error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import Any

from agent.node.clock import boot_ms, wall_ms
from agent.node.collectors.nvml import Nvml, NvmlUnusable
from agent.node.collectors.readings import gpu_readings_to_plain

PR_SET_PDEATHSIG = 1
XID_GAP_S = 0.2
"""In a storm of errors, this long between two readings."""


def main(arguments: list[str]) -> int:
    """Read for ever; 1 when NVML cannot be used."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 0
    interval_ms = int(arguments[0])
    try:
        nvml = Nvml(arguments[1] if len(arguments) > 1 else "")
        while True:
            began_ms = boot_ms()
            _say({"readings": gpu_readings_to_plain(nvml.readings(()))})
            _until(nvml, began_ms + interval_ms)
    except NvmlUnusable as error:
        _say({"missing": asdict(error.missing)})
        return 1
    except BrokenPipeError:
        return 0


def _until(nvml: Nvml, end_ms: int) -> None:
    """Pass the time; errors are told at once, with a reading of their own."""
    while (left_ms := end_ms - boot_ms()) > 0:
        if not nvml.watches:
            time.sleep(left_ms / 1000)
            break
        if xids := nvml.wait(left_ms, wall_ms):
            _say({"readings": gpu_readings_to_plain(nvml.readings(xids))})
            time.sleep(XID_GAP_S)


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
