"""What was committed, told to those on the event loop who wait for it.

The writer says what each commit changed: which jobs, and which sites have a new generation of
desired state; watchers and sessions then read what they need. Nothing is looked up for it: it is
done thousands of times a minute, mostly for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from scheduler.model.ids import JobId
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.runtime.sites import Sites
from scheduler.store.scratch import News

DIRTY_JOBS_MAX = 20_000
SUBSCRIPTIONS_MAX = 2_000


class Subscription:
    """Collects the jobs that changed until somebody asks."""

    def __init__(self) -> None:
        self._dirty: set[JobId] = set()
        self._everything = False
        self._event = asyncio.Event()

    def tell(self, jobs: Iterable[JobId]) -> None:
        """These changed."""
        self._dirty.update(jobs)
        if len(self._dirty) > DIRTY_JOBS_MAX:
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


class Feed:
    """Passes on, on the event loop, what was committed."""

    def __init__(self, sites: Sites[Any], *, changed: Callable[[], None]) -> None:
        self._sites = sites
        self._changed = changed
        self._subscriptions: set[Subscription] = set()

    def committed(self, news: News) -> None:
        """There was a commit that changed this. Called on the event loop."""
        self._sites.wake(news.sites)
        if not news.changes:
            return
        if self._subscriptions:
            jobs = news.jobs()
            for subscription in tuple(self._subscriptions):
                subscription.tell(jobs)
        self._changed()

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
