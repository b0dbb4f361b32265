"""Serves the calls that the site agent's end of the driver makes (`executor.py`). No Ray here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeAlias

from agent.site import executor as port
from agent.site.launch_order import first_line

THREADS = 16  # Calls served at once that may wait for nodes ...
SLOW = ("launch", "reserve")
QUICK_THREADS = 4  # ... and others, which must not wait behind them.

Method: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def serve(
    methods: Mapping[str, Method], calls: IO[bytes], send: Callable[[Mapping[str, Any]], None]
) -> None:
    """Answer calls, a line each, until there are no more; `send` is given the answers, in any
    order.
    """

    def answer(call: Mapping[str, Any]) -> None:
        try:
            send({"id": call["id"], "result": methods[call["method"]](call["params"])})
        except Exception as error:  # A call must not take the others along.
            send({"id": call["id"], "error": first_line(error)})

    slow, quick = ThreadPoolExecutor(THREADS), ThreadPoolExecutor(QUICK_THREADS)
    for line in iter(lambda: calls.readline(port.LINE_BYTES_MAX), b""):
        call = json.loads(line)
        (slow if call["method"] in SLOW else quick).submit(answer, call)
    for pool in (slow, quick):
        pool.shutdown(wait=False, cancel_futures=True)
