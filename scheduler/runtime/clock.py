"""The only place of the control plane that reads a clock, and what it makes of one set back.

What expires must stay expired: an attested fact, an agreement, an operator's grant, a revoked
certificate's renewal. So the time that the control plane goes by never goes back, neither while it
runs nor from one start to the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

from scheduler.store.store import Txn
from sovshared.grants import SKEW_MS

STEP_MS = 1_000
"""A clock that is this far behind what has passed since boot was set back. Being slewed, at most a
two-thousandth, takes longer to get there than ever passes between two looks."""

_log = logging.getLogger(__name__)


class ClockIsBehind(Exception):
    """The store has acts of a later time, and nobody said why; or has none, and somebody did."""


def now_ms() -> int:
    """UTC milliseconds, for people and for dates of facts and certificates."""
    return time.time_ns() // 1_000_000


def boot_ms() -> int:
    """Milliseconds since boot, sleep included: what durations are measured with."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Steady:
    """UTC that goes on where the system's clock is set back, at the rate of the one since boot.

    It follows a clock that is set forward: what expires too early does no harm. It may be asked
    from any thread.
    """

    def __init__(self, utc_ms: Callable[[], int] = now_ms, boot: Callable[[], int] = boot_ms):
        self._utc_ms, self._boot_ms = utc_ms, boot
        self._lock = Lock()
        self._last_ms, self._at_boot_ms = utc_ms(), boot()
        self._held = False

    def now_ms(self) -> int:
        """UTC milliseconds, never less than before."""
        with self._lock:
            found_ms, boot = self._utc_ms(), self._boot_ms()
            due_ms = self._last_ms + boot - self._at_boot_ms
            held = found_ms < due_ms - STEP_MS
            if held and not self._held:
                text = "the system's clock was set back by %d ms: time goes on as if it were not"
                _log.error(text, due_ms - found_ms)
            self._held = held
            self._last_ms = due_ms if held else max(found_ms, self._last_ms)
            self._at_boot_ms = boot
            return self._last_ms


def go_on(txn: Txn, word: str, now_ms: int) -> None:
    """Continues with a store at this time; `word` is an operator's, on why the store may have acts
    of a later one. Raises `ClockIsBehind`. Two hosts that lead in turn may differ by `SKEW_MS`."""
    newest = txn.checkpoints.newest()
    behind_ms = 0 if newest is None else newest.at_ms - now_ms
    if behind_ms <= SKEW_MS:
        if word:
            found = f"found {word[:80]!r}, though the store has nothing of a later time"
            raise ClockIsBehind(f"clock_was_ahead: {found}; allowed: nothing")
        return
    if not word:
        raise ClockIsBehind(
            f"the system's clock is {behind_ms // 1000} s behind what the store has signed: what"
            " has expired would be in force again. Set the clock, or say with --clock-was-ahead"
            " TEXT why it was ahead then"
        )
    txn.audit.append("clock_set_back", now_ms, {"word": word, "behind_ms": behind_ms})
