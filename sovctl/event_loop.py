"""The event loop of all clients of a process, on a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, wait
from typing import Any, TypeVar

from sovctl.async_jobs import aclose

TURN_S = 1.0

ValueT = TypeVar("ValueT")


class EventLoop:
    """The event loop of all clients of a process, on a thread of its own.

    One for all, and it never ends: gRPC hands what it hears to all loops of a process through one
    queue, and a loop that is closed while some of it is still on its way to it leaves the answers
    of others lying there until something else wakes them.
    """

    _shared: EventLoop | None = None
    _shared_lock = threading.Lock()

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_quiet_poller)
        thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="sovctl")
        thread.start()

    @classmethod
    def shared(cls) -> EventLoop:
        """The process's own; a forked child has no threads of its parent's and gets another."""
        with cls._shared_lock:
            if cls._shared is None or cls._shared._pid != os.getpid():
                cls._shared = cls()
            return cls._shared

    def run(self, coroutine: Coroutine[Any, Any, ValueT]) -> ValueT:
        """The coroutine's result. Ctrl-C in the caller cancels it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            while not future.done():
                # In turns: a thread that is just falling asleep would miss Ctrl-C until it wakes.
                wait([future], TURN_S)
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise
        except CancelledError:
            raise RuntimeError("the client was closed while a call was under way") from None

    def iterate(self, make: Callable[[], AsyncIterator[ValueT]]) -> Iterator[ValueT]:
        """The items of an asynchronous iterator, one at a time."""
        source = self.run(_made(make))
        try:
            while True:
                try:
                    yield self.run(_next(source))
                except StopAsyncIteration:
                    return
        finally:
            self.run(aclose(source))


async def _made(make: Callable[[], AsyncIterator[ValueT]]) -> AsyncIterator[ValueT]:
    return make()


async def _next(source: AsyncIterator[ValueT]) -> ValueT:
    return await anext(source)


def _quiet_poller(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """gRPC wakes all loops of a process through one pipe; whoever comes late finds it empty."""
    if not isinstance(context.get("exception"), BlockingIOError):
        loop.default_exception_handler(context)
