"""What was committed, told to those on the event loop who wait for it.

After commits, one look at the store finds which jobs changed and which sites have a new generation
of desired state; watchers and sessions then read what they need. Many commits close together are
one look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scheduler.model.ids import JobId, SiteId
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime.reader import Reader
from scheduler.runtime.sites import Sites
from scheduler.store.changes import ChangesTrimmed
from scheduler.store.store import Snapshot

CHANGES_MAX = 20_000
"""Further behind than this, everything may have changed."""
DIRTY_JOBS_MAX = 20_000
SUBSCRIPTIONS_MAX = 2_000


class Subscription:
    """Collects the jobs that changed until somebody asks."""

    def __init__(self) -> None:
        self._dirty: set[JobId] = set()
        self._everything = False
        self._event = asyncio.Event()

    def tell(self, jobs: Iterable[JobId] | None) -> None:
        """These changed; None: anything may have."""
        if jobs is not None:
            self._dirty.update(jobs)
        if jobs is None or len(self._dirty) > DIRTY_JOBS_MAX:
            self._everything = True
            self._dirty.clear()
        if self._dirty or self._everything:
            self._event.set()

    async def changed(self) -> tuple[JobId, ...] | None:
        """Waits for changes: the jobs that changed, or None when anything may have."""
        await self._event.wait()
        self._event.clear()
        jobs = None if self._everything else tuple(sorted(self._dirty))
        self._dirty.clear()
        self._everything = False
        return jobs


@dataclass(frozen=True, slots=True)
class _Look:
    sequence: int
    jobs: tuple[JobId, ...] | None
    generations: dict[SiteId, int]


class Feed:
    """Follows the change log on behalf of the event loop."""

    def __init__(self, reader: Reader, sites: Sites[Any], *, changed: Callable[[], None]) -> None:
        self._reader = reader
        self._sites = sites
        self._changed = changed
        self._sequence = -1
        self._committed = asyncio.Event()
        self._subscriptions: set[Subscription] = set()

    def committed(self) -> None:
        """There was a commit. Called on the event loop."""
        self._committed.set()

    @contextmanager
    def subscribed(self) -> Generator[Subscription]:
        """A subscription for as long as the block lasts."""
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.RESOURCE_EXHAUSTED,
                f"{SUBSCRIPTIONS_MAX} watches are open, allowed no more",
            )
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def follow(self) -> None:
        """Looks after every commit, for ever."""
        while True:
            look = await self._reader.read_own(self._look)
            self._sites.wake_changed(look.generations)
            if look.sequence != self._sequence:
                self._sequence = look.sequence
                for subscription in tuple(self._subscriptions):
                    subscription.tell(look.jobs)
                self._changed()
            await self._committed.wait()
            self._committed.clear()

    def _look(self, snapshot: Snapshot) -> _Look:
        generations = snapshot.fleet.generations()
        newest = snapshot.changes.sequence()
        if self._sequence < 0:
            return _Look(newest, None, generations)
        try:
            jobs = snapshot.changes.jobs_since(self._sequence, CHANGES_MAX)
        except ChangesTrimmed:
            return _Look(newest, None, generations)
        return _Look(newest, jobs, generations)
