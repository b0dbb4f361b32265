"""The event loop that the control plane serves on.

uvloop where it is installed, as the pinned environment has it: a message of a stream then costs a
fifth less of a core (docs/adr/0015-rows-go-wide-and-the-writer-tells.md). Elsewhere asyncio's own,
which does all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

try:
    from uvloop import new_event_loop
except ImportError:  # There is none for this platform.
    from asyncio import new_event_loop


def run(program: Coroutine[Any, Any, None]) -> None:
    """Runs a whole program, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(program)


def name() -> str:
    """The library that the running loop is of."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
