"""What became of nodes that were reserved ahead of a launch, kept for the launch. No Ray here."""

from __future__ import annotations

import threading
from concurrent.futures import Future

AHEAD_MAX = (
    256  # Whose launches have not come. The oldest is forgotten: its launch reserves itself.
)


class Ahead:
    """Outcomes by attempt key. Thread-safe."""

    def __init__(self) -> None:
        self._found: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def begin(self, key: str) -> Future[None] | None:
        """The outcome to be set; none if it was begun before."""
        with self._lock:
            if key in self._found:
                return None
            self._found[key] = outcome = Future[None]()
            for oldest in list(self._found)[:-AHEAD_MAX]:
                del self._found[oldest]
            return outcome

    def take(self, key: str) -> Future[None] | None:
        """The outcome, maybe yet to come, of what was begun; it is forgotten with that."""
        with self._lock:
            return self._found.pop(key, None)
