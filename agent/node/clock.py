"""What tells time, boots and processes apart. The shim loads this: standard library only."""

from __future__ import annotations

import functools
import time

SETTLED_S = 0.1
"""After a start. What else has just started, here and on the node next door, needs the processor
more than what there is to do about a start, or about an end so soon: that waits until then."""


def boot_ms() -> int:
    """Milliseconds since boot, suspended time included: the clock of leases and limits."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def wall_ms() -> int:
    """UTC milliseconds, for people only."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


@functools.cache
def boot_id() -> str:
    """This boot of this machine, which no process outlives."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_ticks(pid: int) -> int | None:
    """When `pid` started, which tells it from a later process of the same number; None when gone or
    dead.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
