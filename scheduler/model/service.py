"""Services: work that runs until it is cancelled, as so many replicas of one gang."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.model.topology import Spread

WITHOUT_END = -1
"""Of `retries`, for services only: however often an attempt ends, another follows."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a job of the kind has beside its command and its shape, which are each replica's."""

    replicas: int = 1
    spread: Spread | None = None
    """None: they go where each is best off."""
