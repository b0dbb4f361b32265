"""The instances of a GPU that is cut by MIG, through NVML."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from agent.node.collectors.pynvml_alone import nv
from agent.node.collectors.readings import NO_PROFILE, MigDevice

T = TypeVar("T")

DEVICES_MAX = 64
_PROFILE = re.compile(r"MIG (\S+)\s*$")


def devices(handle: Any, optional: Callable[[Callable[[], Any]], Any]) -> tuple[MigDevice, ...]:
    """What jobs can be given of a GPU that is cut, by profile and UUID; nothing of one that is not.

    A GPU whose instances cannot be told is not for that reason a whole one: it has one instance of
    no profile, which nobody can ask for. `optional` calls NVML and answers None to what a GPU or
    its driver does not know.
    """
    mode = optional(lambda: nv.nvmlDeviceGetMigMode(handle))
    if mode is None or mode[0] != nv.NVML_DEVICE_MIG_ENABLE:
        return ()
    count = optional(lambda: nv.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0
    found: list[MigDevice] = []
    for index in range(min(count, DEVICES_MAX)):
        device = optional(lambda at=index: nv.nvmlDeviceGetMigDeviceHandleByIndex(handle, at))
        if device is None:
            continue  # Indices have gaps where instances were taken away.
        name = str(optional(lambda of=device: nv.nvmlDeviceGetName(of)) or "")
        profile = _PROFILE.search(name)
        uuid = str(optional(lambda of=device: nv.nvmlDeviceGetUUID(of)) or "")
        found.append(MigDevice(profile[1] if profile and uuid else NO_PROFILE, uuid))
    return tuple(sorted(found)) or (MigDevice(NO_PROFILE, ""),)
