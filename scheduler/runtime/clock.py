"""The only place of the control plane that reads a clock."""

from __future__ import annotations

import time


def now_ms() -> int:
    """UTC milliseconds, for people and for dates of facts and certificates."""
    return time.time_ns() // 1_000_000


def boot_ms() -> int:
    """Milliseconds since boot, sleep included: what durations are measured with."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
