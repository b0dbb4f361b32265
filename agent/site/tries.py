"""What became of the launches of attempts that are to run, and when the next one may be tried."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from agent.site.events import LaunchFinished
from agent.site.state import Progress, Verdict
from sovapi.v1 import sitelink_pb2 as sitelink

SETTLE_MS = 3_000  # After a launch the spools get this long to show its ranks.
PAUSE_MS_FIRST, PAUSE_MS_MAX = 1_000, 30_000


@dataclass(slots=True)
class _Try:
    since_ms: int
    tries: int = 0
    not_before_ms: int = 0
    failure: Verdict | None = None
    retryable: bool = True


class Tries:
    """By attempt key, from the moment it is to run until it is not."""

    def __init__(self) -> None:
        self._tries: dict[str, _Try] = {}

    def follow(self, running: Set[str], launching: Set[str], now_ms: int) -> None:
        """The attempts that are to run, and those that a launch of is under way."""
        for key in running - self._tries.keys():
            self._tries[key] = _Try(now_ms)
        for key in self._tries.keys() - running - launching:
            del self._tries[key]

    def finished(self, event: LaunchFinished, now_ms: int) -> None:
        """A launch is over. One that was refused is not tried again, and of no matter here."""
        attempt = self._tries.setdefault(event.key, _Try(now_ms))
        attempt.tries += 1
        if event.ok:
            attempt.failure = None
            attempt.not_before_ms = now_ms + SETTLE_MS
        elif not event.refused:
            failed = sitelink.ATTEMPT_PHASE_FAILED_TO_START
            attempt.failure = Verdict(failed, "START_FAILED", event.detail)
            attempt.retryable = event.retryable
            pause_ms = min(PAUSE_MS_FIRST << min(attempt.tries, 16), PAUSE_MS_MAX)
            attempt.not_before_ms = now_ms + pause_ms

    def progress(self, waiting: Set[str], now_ms: int) -> Mapping[str, Progress]:
        """How each one stands. Those `waiting` for something else may not be tried."""
        return {
            key: Progress(
                waiting_ms=now_ms - attempt.since_ms,
                tries=attempt.tries,
                may_try=now_ms >= attempt.not_before_ms and key not in waiting,
                failure=attempt.failure,
                retryable=attempt.retryable,
            )
            for key, attempt in self._tries.items()
        }
