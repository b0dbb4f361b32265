"""The machine: memory, load, and room in the file system of the spool."""

from __future__ import annotations

import os
from pathlib import Path

from agent.node.collectors import sysfs
from agent.node.collectors.readings import System


def read(spool: Path, proc: Path = Path("/proc")) -> System:
    """As it is now."""
    memory = _memory_bytes(proc / "meminfo")
    free, detail = _free_bytes(spool)
    return System(
        memory_total_bytes=memory.get("MemTotal", 0),
        memory_available_bytes=memory.get("MemAvailable", 0),
        load_milli=_load_milli(sysfs.text(proc / "loadavg") or ""),
        spool_free_bytes=free,
        spool_detail=detail,
    )


def _memory_bytes(meminfo: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in (sysfs.text(meminfo) or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def _load_milli(loadavg: str) -> int:
    """The load of the last minute, from `0.52 0.58 0.59 1/467 12345`."""
    whole, _, part = loadavg.partition(" ")[0].partition(".")
    return int(whole) * 1000 + int((part + "000")[:3]) if whole.isdigit() else 0


def _free_bytes(spool: Path) -> tuple[int | None, str]:
    try:
        disk = os.statvfs(spool)
    except OSError as error:
        return None, error.strerror or "cannot be read"
    return disk.f_bavail * disk.f_frsize, ""
