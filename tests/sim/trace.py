"""What happened, line by line. Two runs of one seed write the same bytes."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable

from tests.sim.clock import Loop

LINES_KEPT = 400  # For the end of a failure's story; the digest covers all lines.


class Trace:
    """Lines of a run: digested, the last ones kept, all handed to `sink` when there is one."""

    def __init__(self, loop: Loop, sink: Callable[[str], None] | None = None) -> None:
        self._loop = loop
        self._sink = sink
        self._digest = hashlib.sha256()
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        self.lines = 0

    def note(self, who: str, what: str) -> None:
        """One line."""
        line = f"{self._loop.now_ms:>9} {who:<24} {what}"
        self._digest.update(line.encode() + b"\n")
        self.last.append(line)
        self.lines += 1
        if self._sink is not None:
            self._sink(line)

    def digest(self) -> str:
        """Of all lines so far."""
        return self._digest.hexdigest()
