"""What both agents do to run: say which release they are, log, end in good order when told to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import signal
from collections.abc import Coroutine
from typing import Any


def version() -> str:
    """This release's."""
    return importlib.metadata.version("sovereign-compute-scheduler")


async def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until done, or until SIGTERM or SIGINT ends it in good order."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def start_logging(level: str) -> None:
    """To standard error, one line an event."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
