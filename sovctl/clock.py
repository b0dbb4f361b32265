"""The client's clocks: the only module of sovctl that reads them."""

from __future__ import annotations

import time


def now_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds that never go back; only differences mean anything."""
    return time.monotonic_ns() // 1_000_000
