"""Snapshots for the event loop: reads run on a few threads, so that no disk stalls a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scheduler.model.reasons import Code, Reason, Refused
from scheduler.store.store import ReadStore, Snapshot

THREADS = 4
WAITING_MAX = 1_000
"""Reads of callers that may wait or run; beyond it callers are told to come back."""
RETRY_AFTER_MS = 1_000

T = TypeVar("T")


class Reader:
    """Reads a store from the event loop."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reader")
        self._running = 0

    async def read(self, work: Callable[[Snapshot], T]) -> T:
        """What `work` makes of a snapshot."""
        if self._running >= WAITING_MAX:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.RESOURCE_EXHAUSTED,
                f"more than {WAITING_MAX} requests wait to be read",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._running += 1
        try:
            return await self.read_own(work)
        finally:
            self._running -= 1

    async def read_own(self, work: Callable[[Snapshot], T]) -> T:
        """As `read`, for what the control plane does by itself, one read at a time in each of its
        loops: however many callers wait, it waits its turn and is not sent away."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, work)

    def _read(self, work: Callable[[Snapshot], T]) -> T:
        with self._store.read() as snapshot:
            return work(snapshot)

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)
