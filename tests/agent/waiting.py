"""Waiting for a condition instead of for time to pass."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

DEADLINE_S = 60
T = TypeVar("T")


async def until(what: Callable[[], T]) -> T:
    """The first truthy answer of `what`, within a generous bound."""
    async with asyncio.timeout(DEADLINE_S):
        while not (answer := what()):  # noqa: ASYNC110 - conditions have no event to wait for
            await asyncio.sleep(0.01)
    return answer
