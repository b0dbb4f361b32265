"""The one thread that commits.

Equivalent to: each request is a transaction, one after the other. Departures: requests that wait
are committed together (one fsync for all), each under its own savepoint, and answered after the
commit. Neighbours that are alike (`post_together`) are done by one call, and under no savepoint: in
one that holds much, SQLite looks through all of that for each row that it changes. When a request
fails in a way that is not a refusal, or one of several that are done by one call raises anything at
all, the whole batch is undone and done again one by one, so that a bug harms only the request that
meets it. Work must therefore have no effect but on its transaction.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from typing import Any, TypeAlias, TypeVar

from scheduler.model.reasons import Code, Reason, Refused
from scheduler.store.scratch import News
from scheduler.store.store import Store, StoreFailed, Txn

QUEUE_MAX = 10_000
"""Requests of callers that may wait; beyond it they are told to come back."""
OWN_MAX = 64
"""Requests of the control plane itself (a tick, a plan's placements) that may wait besides those of
callers: however many of them come, they do not keep it from its work."""
BATCH_MAX = 256
"""Requests committed together."""
RETRY_AFTER_MS = 1_000

T = TypeVar("T")
P = TypeVar("P")
Together: TypeAlias = Callable[[Txn, Sequence[P]], Sequence[T | Refused]]
"""Does what several requests ask for, in order, and says what came of each. Of one that it refuses
it has changed nothing."""
_log = logging.getLogger(__name__)


class Place(Enum):
    """Whose room in the queue a request takes."""

    CALLER = "caller"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class _Request:
    """Work inside a transaction, and whom to tell how it went. `part` is what it alone asks for,
    where it may be done together with its neighbours."""

    work: Callable[[Txn], Any] | None
    answer: Future[Any]
    together: Together[Any, Any] | None = None
    part: Any = None

    def do(self, txn: Txn) -> Any:
        """Does it by itself."""
        if self.together is not None:
            return self.together(txn, (self.part,))[0]
        assert self.work is not None, "a request is for one or the other"
        return self.work(txn)


class Writer:
    """Owns the writing side of a store: nobody else may open transactions on it.

    `committed` and `ended` are called on the writer's thread: after each commit, with what it
    changed, and once when the thread ends, with the error that ended it, if one did. `measured` is
    told, there too, how many requests a commit held and how many seconds it took.
    """

    def __init__(
        self,
        store: Store,
        *,
        committed: Callable[[News], None],
        ended: Callable[[BaseException | None], None],
        measured: Callable[[int, float], None] = lambda _requests, _seconds: None,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._store = store
        self._committed = committed
        self._ended = ended
        self._measured = measured
        self._queue_max = queue_max
        # One place more, for the word that it closes.
        self._queue: queue.Queue[_Request | None] = queue.Queue(queue_max + OWN_MAX + 1)
        self._closed = threading.Event()
        self._drained = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Commits what waits, takes nothing more, and ends the thread."""
        if not self._closed.is_set():
            self._closed.set()
            self._queue.put(None)
        self._thread.join()

    def waiting(self) -> int:
        """How many requests wait; for metrics."""
        return self._queue.qsize()

    def post(self, work: Callable[[Txn], T], place: Place = Place.CALLER) -> Future[T]:
        """Queues `work`; the future is answered after its commit.

        Raises:
            Refused: RESOURCE_EXHAUSTED when too much is waiting, UNAVAILABLE when closing.
        """
        answer: Future[T] = Future()
        self._put(_Request(work, answer), place)
        return answer

    def post_together(self, together: Together[P, T], part: P) -> Future[T]:
        """As `post` of work that does `part`: neighbours in the queue that have the same `together`
        are given to it at once, each by its part."""
        answer: Future[T] = Future()
        self._put(_Request(None, answer, together, part), Place.CALLER)
        return answer

    def _put(self, request: _Request, place: Place) -> None:
        if self._closed.is_set():
            raise Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, "the control plane is stopping")
        room = self._queue_max + (OWN_MAX if place is Place.OWN else 0)
        if self._queue.qsize() >= room:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                Reason.RESOURCE_EXHAUSTED,
                f"more than {self._queue_max} requests wait to be written",
                retry_after_ms=RETRY_AFTER_MS,
            )
        self._queue.put(request)

    async def write(self, work: Callable[[Txn], T]) -> T:
        """Does `work` in a transaction and waits for its commit."""
        return await asyncio.wrap_future(self.post(work))

    async def write_together(self, together: Together[P, T], part: P) -> T:
        """As `write`, of what may be done together with its neighbours."""
        return await asyncio.wrap_future(self.post_together(together, part))

    async def write_own(self, work: Callable[[Txn], T]) -> T:
        """As `write`, for what the control plane does by itself: callers do not crowd it out."""
        return await asyncio.wrap_future(self.post(work, Place.OWN))

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while (batch := self._take()) is not None:
                self._commit(batch)
        except BaseException as failure:
            error = failure
            _log.exception("the writer ended")
        finally:
            self._closed.set()
            self._refuse_waiting()
            self._ended(error)

    def _take(self) -> list[_Request] | None:
        """The requests that wait now, at least one; None when closed and drained."""
        if self._drained or (first := self._queue.get()) is None:
            return None
        batch = [first]
        while len(batch) < BATCH_MAX:
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                break
            if request is None:
                self._drained = True
                break
            batch.append(request)
        # Whoever gave up waiting before we began is not served; from here on nobody can.
        return [request for request in batch if request.answer.set_running_or_notify_cancel()]

    def _commit(self, batch: list[_Request]) -> None:
        if not batch:
            return
        began = time.monotonic()
        try:
            outcomes, news = self._transact(batch)
        except _BatchBroken:
            self._commit_one_by_one(batch)
            return
        except Refused as refused:  # Another scheduler leads now: we must not go on.
            self._fail(batch, refused)
            raise
        except Exception as failure:
            self._fail(batch, failure)
            return
        self._measured(len(batch), time.monotonic() - began)
        if news is not None:
            self._committed(news)
        for request, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Refused):
                request.answer.set_exception(outcome)
            else:
                request.answer.set_result(outcome)

    def _commit_one_by_one(self, batch: list[_Request]) -> None:
        for at, request in enumerate(batch):
            try:
                self._commit([request])
            except Refused as refused:  # As above; nobody else would answer the rest.
                self._fail(batch[at + 1 :], refused)
                raise

    def _transact(self, batch: list[_Request]) -> tuple[list[Any], News | None]:
        """Commits what was not refused; answers and refusals, in order, and what it changed."""
        if len(batch) == 1:
            return self._transact_alone(batch[0])
        outcomes: list[Any] = []
        with self._store.transaction() as txn:
            for together, alike in groupby(batch, key=lambda request: request.together):
                requests = list(alike)
                if together is None:
                    outcomes += _each(txn, requests)
                else:
                    outcomes += _together(txn, together, requests)
        return outcomes, txn.news()

    def _transact_alone(self, request: _Request) -> tuple[list[Any], News | None]:
        """As `_transact`; with nobody to protect from it, it needs no savepoint."""
        try:
            with self._store.transaction() as txn:
                try:
                    outcome = request.do(txn)
                except Refused as refused:
                    raise _Undone(refused) from None
        except _Undone as undone:
            return [undone.refused], None
        return [outcome], txn.news()

    def _fail(self, batch: list[_Request], failure: Exception) -> None:
        if not isinstance(failure, Refused):
            _log.error("a transaction failed", exc_info=failure)
        for request in batch:
            request.answer.set_exception(_as_refusal(failure))

    def _refuse_waiting(self) -> None:
        while True:
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                return
            if request is not None and request.answer.set_running_or_notify_cancel():
                stopping = "the control plane is stopping"
                request.answer.set_exception(
                    Refused(Code.UNAVAILABLE, Reason.UNAVAILABLE, stopping)
                )


def _together(
    txn: Txn, together: Together[Any, Any], requests: Sequence[_Request]
) -> Sequence[Any]:
    """What came of requests that are alike."""
    try:
        outcomes = together(txn, [request.part for request in requests])
        # Now, because a savepoint of the next request would be around all that waits.
        txn.link.send()
        return outcomes
    except Exception as failure:
        raise _BatchBroken from failure


def _each(txn: Txn, requests: Sequence[_Request]) -> list[Any]:
    """What came of requests that are done one after the other."""
    outcomes: list[Any] = []
    for request in requests:
        try:
            with txn.savepoint():
                outcomes.append(request.do(txn))
        except Refused as refused:
            outcomes.append(refused)
        except Exception as failure:
            raise _BatchBroken from failure
    return outcomes


class _BatchBroken(Exception):
    """One of several requests failed in a way that is not a refusal."""


class _Undone(Exception):
    """The only request of a batch was refused: nothing of it is committed."""

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self.refused = refused


def _as_refusal(failure: Exception) -> Exception:
    """A database that fails is away, as far as callers are concerned; a bug stays a bug."""
    if isinstance(failure, StoreFailed):
        return Refused(
            Code.UNAVAILABLE,
            Reason.UNAVAILABLE,
            "the store cannot be written now; nothing was changed",
            retry_after_ms=RETRY_AFTER_MS,
        )
    return failure
