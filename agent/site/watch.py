"""Ends a process whose other side has gone silent: half a driver is worse than none."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

EXIT_CODE = 3

_log = logging.getLogger(__name__)


class Watch:
    """Asks again and again in the background; ends the process when nobody answers for too long."""

    def __init__(self, ask: Callable[[], object], *, every_s: float, silence_s: float) -> None:
        self._ask, self._every_s, self._silence_s = ask, every_s, silence_s
        self._heard = time.monotonic()

    def start(self) -> None:
        """Begin. Asking may hang, so somebody else judges."""
        for work in (self._ask_on, self._judge):
            threading.Thread(target=work, daemon=True).start()

    def _ask_on(self) -> None:
        while True:
            try:
                self._ask()
                self._heard = time.monotonic()
            except Exception as error:
                _log.warning("no answer: %s: %s", type(error).__name__, error)
            time.sleep(self._every_s)

    def _judge(self) -> None:
        while time.monotonic() - self._heard < self._silence_s:
            time.sleep(self._every_s)
        _log.error("silent for %s s: ending", self._silence_s)
        os._exit(EXIT_CODE)
