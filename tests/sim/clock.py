"""Virtual time: one queue of events, and the clocks that simulated machines read.

Time is milliseconds since the simulation began; events of one instant happen in the order in which
they were asked for. Nothing else moves time.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

WALL_AT_START_MS = 1_767_225_000_000  # 2025-12-31 23:50 UTC: a midnight comes ten minutes in.
EVENTS_MAX = 4_000_000  # A run that needs more goes round in circles.
PPM = 1_000_000


class SimulationStuck(Exception):
    """More events than any run needs."""


@dataclass(slots=True)
class Life:
    """Of something that can die: its pending events die with it."""

    alive: bool = True

    def end(self) -> None:
        """It died; none of its events will happen."""
        self.alive = False


FOREVER = Life()


@dataclass(order=True, slots=True)
class _Event:
    at_ms: int
    order: int
    act: Callable[[], None] = field(compare=False)
    life: Life = field(compare=False)


class Loop:
    """The queue of what will happen."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._queue: list[_Event] = []
        self._order = 0

    @property
    def wall_ms(self) -> int:
        """The time of day, as people and the control plane's records have it."""
        return WALL_AT_START_MS + self.now_ms

    def after(self, delay_ms: int, act: Callable[[], None], life: Life = FOREVER) -> None:
        """`act` happens after `delay_ms`, unless `life` has ended by then."""
        assert delay_ms >= 0, "nothing happens in the past"
        self._order += 1
        if self._order > EVENTS_MAX:
            raise SimulationStuck(f"{EVENTS_MAX} events by {self.now_ms} ms")
        heapq.heappush(self._queue, _Event(self.now_ms + delay_ms, self._order, act, life))

    def every(self, gap_ms: int, act: Callable[[], None], life: Life) -> None:
        """`act` happens again and again, until `life` ends."""

        def again() -> None:
            act()
            self.after(gap_ms, again, life)

        self.after(gap_ms, again, life)

    def run_until(self, until_ms: int, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass up to `until_ms`, or until `stop` holds after an event; whether it did."""
        while self._queue and self._queue[0].at_ms <= until_ms:
            event = heapq.heappop(self._queue)
            if not event.life.alive:
                continue
            self.now_ms = event.at_ms
            event.act()
            if stop():
                return True
        self.now_ms = max(self.now_ms, until_ms)
        return False


class BootClock:
    """A machine's CLOCK_BOOTTIME: counts from its boot, a little too fast or too slow."""

    def __init__(self, loop: Loop, drift_ppm: int) -> None:
        self._loop = loop
        self._drift_ppm = drift_ppm
        self._booted_at_ms = loop.now_ms

    def reboot(self) -> None:
        """The machine starts again from nothing."""
        self._booted_at_ms = self._loop.now_ms

    @property
    def now_ms(self) -> int:
        """Milliseconds since boot, as the machine counts them."""
        return (self._loop.now_ms - self._booted_at_ms) * (PPM + self._drift_ppm) // PPM

    def until(self, boot_ms: int) -> int:
        """How long, in true time, until this clock shows `boot_ms`; 0 if it already does."""
        left_ms = boot_ms - self.now_ms
        return 0 if left_ms <= 0 else -(-left_ms * PPM // (PPM + self._drift_ppm))
