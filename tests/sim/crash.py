"""Death of a control-plane process in the middle of a transaction: at its n-th statement."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import Engine, event

from bench.heard import heard_by


class SimulatedCrash(BaseException):
    """kill -9, as far as the code around the statement can tell: nothing may handle it."""


class Crashes:
    """Armed for one process at a time; counts its statements."""

    def __init__(self) -> None:
        self._victim: object | None = None
        self._left = 0
        self._watching = False
        event.listen(Engine, "do_connect", heard_by(self._statement))

    def arm(self, victim: object, statements: int) -> None:
        """`victim` dies in a transaction, so many statements from now."""
        self._victim, self._left = victim, statements

    def disarm(self) -> None:
        """Nobody dies so."""
        self._victim = None

    @contextmanager
    def watch(self, process: object) -> Generator[None]:
        """What happens inside belongs to `process`."""
        self._watching = self._victim is process
        try:
            yield
        finally:
            self._watching = False

    def _statement(self, *_: object) -> None:
        if self._watching:
            self._left -= 1
            if self._left < 0:
                self._victim, self._watching = None, False
                raise SimulatedCrash


CRASHES = Crashes()
