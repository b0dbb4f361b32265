"""Structured logging: one JSON object a line, with what the code is busy with.

Whoever starts on a request, a job or a site says so with `about`; every line logged inside carries
it. Jobs' commands, environments and secrets are never logged.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

LINE_CHARS_MAX = 16_000
KEYS = frozenset({"request", "method", "caller", "tenant", "job", "site", "tunnel"})

_NOTHING: Mapping[str, str] = MappingProxyType({})
_about: ContextVar[Mapping[str, str]] = ContextVar("about", default=_NOTHING)


@contextmanager
def about(**facts: str) -> Generator[None]:
    """Lines logged inside carry `facts` as well. Not for asynchronous generators: their pieces may
    run in different contexts."""
    assert facts.keys() <= KEYS, f"unknown in logs: {sorted(facts.keys() - KEYS)}"
    token = _about.set({**_about.get(), **facts})
    try:
        yield
    finally:
        _about.reset(token)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, cut to a bounded length."""
        line: dict[str, object] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:LINE_CHARS_MAX],
            **_about.get(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)[-LINE_CHARS_MAX:]
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str) -> None:
    """Sends every log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
