"""The open sessions of sites: which there are, when each was last heard, and what waits to be sent.

Owned by the event loop. Holds nothing that must survive: what is desired is in the store, and a
session that ends takes its orders with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from scheduler.model.ids import SiteId
from scheduler.model.reasons import Code, Reason, Refused

ORDERS_MAX = 256
"""Orders (tunnels to open, acknowledgements) that may wait for one site."""
RETRY_AFTER_MS = 1_000
LEADS_MS = 10_000
"""For how long after a transaction of ours, which asserts it, we take it that we still lead.

Less than the margin of leases: whoever leads next counts from when it took over, and until then
heartbeats that we answer must not have prolonged any lease for longer than that."""

Order = TypeVar("Order")


@dataclass(frozen=True, slots=True)
class Power:
    """What the GPUs of so many nodes of a site draw."""

    gpu_watts: int
    nodes: int


class Line(Generic[Order]):
    """One session with one site."""

    def __init__(self, site: SiteId, heard_boot_ms: int) -> None:
        self.site = site
        self.heard_boot_ms = heard_boot_ms
        self.ended = False
        self.power: Power | None = None
        self._orders: deque[Order] = deque()
        self._woken = asyncio.Event()

    def order(self, order: Order) -> None:
        """Queues something to send."""
        if len(self._orders) >= ORDERS_MAX:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.RESOURCE_EXHAUSTED,
                f"{ORDERS_MAX} messages wait for {self.site}",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._orders.append(order)
        self._woken.set()

    def wake(self) -> None:
        """There may be something new in the store."""
        self._woken.set()

    def end(self) -> None:
        """The session is over, whoever notices next."""
        self.ended = True
        self._woken.set()

    async def wait(self, seconds_max: float) -> tuple[Order, ...]:
        """Waits to be woken, at most so long; what there is to send now."""
        try:
            async with asyncio.timeout(seconds_max):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()
        orders = tuple(self._orders)
        self._orders.clear()
        return orders


class Sites(Generic[Order]):
    """The lines that are open, at most one a site: the newest."""

    def __init__(self, boot_ms: Callable[[], int]) -> None:
        self._boot_ms = boot_ms
        self._started_boot_ms = boot_ms()
        self._led_boot_ms = self._started_boot_ms
        self._lines: dict[SiteId, Line[Order]] = {}
        self._heard_boot_ms: dict[SiteId, int] = {}

    def open(self, site: SiteId) -> Line[Order]:
        """A new line; an older one of the same site is ended."""
        older = self._lines.get(site)
        if older is not None:
            older.end()
        line: Line[Order] = Line(site, self._boot_ms())
        self._lines[site] = line
        self.heard(line)
        return line

    def close(self, line: Line[Order]) -> bool:
        """The session is over; whether it was the site's only one."""
        line.end()
        if self._lines.get(line.site) is not line:
            return False
        del self._lines[line.site]
        return True

    def heard(self, line: Line[Order]) -> None:
        """The site said something."""
        line.heard_boot_ms = self._boot_ms()
        self._heard_boot_ms[line.site] = line.heard_boot_ms

    def now_boot_ms(self) -> int:
        """The clock that sessions are judged by."""
        return self._boot_ms()

    def led(self, boot_ms: int) -> None:
        """A transaction that began then, or later, found that we lead."""
        self._led_boot_ms = max(self._led_boot_ms, boot_ms)

    def leads(self) -> bool:
        """Whether nobody can have led in our place for so long that it would matter."""
        return self._boot_ms() - self._led_boot_ms <= LEADS_MS

    def line(self, site: SiteId) -> Line[Order]:
        """The open line of a site."""
        line = self._lines.get(site)
        if line is None or line.ended:
            raise Refused(
                Code.UNAVAILABLE,
                Reason.SITE_DISCONNECTED,
                f"site {site} is not connected",
                retry_after_ms=RETRY_AFTER_MS,
            )
        return line

    def connected(self) -> tuple[SiteId, ...]:
        """Sites with an open line."""
        return tuple(sorted(self._lines))

    def silence_ms(self, sites: tuple[SiteId, ...]) -> dict[SiteId, int]:
        """For how long each was silent. One not heard since our start was heard at our start."""
        now = self._boot_ms()
        heard = self._heard_boot_ms
        return {site: now - heard.get(site, self._started_boot_ms) for site in sites}

    def power(self) -> dict[SiteId, Power]:
        """What each site draws, as it said with its last heartbeat."""
        return {s: line.power for s, line in self._lines.items() if line.power is not None}

    def wake(self, sites: Iterable[SiteId]) -> None:
        """Wakes the lines of `sites`: their desired state has a new generation."""
        for site in sites:
            if (line := self._lines.get(site)) is not None:
                line.wake()

    def end_all(self) -> None:
        """Ends every line: we stop."""
        for line in tuple(self._lines.values()):
            line.end()
