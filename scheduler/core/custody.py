"""Who held the keys to a job's secrets and bundle, as its certificate says it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Stayed(Protocol):
    """An attempt as far as keys are concerned; `started_at_ms` 0: it never started."""

    @property
    def attempt(self) -> int:
        """Its number."""
        ...

    @property
    def site(self) -> str:
        """Where it was."""
        ...

    @property
    def started_at_ms(self) -> int:
        """When it started, UTC."""
        ...


def told(customer_keys: bool, stays: Iterable[Stayed]) -> dict[str, object]:
    """To whom and when keys were given out: an attempt that lacks one does not start."""
    if not customer_keys:
        return {"held_by": "NONE", "released": []}
    by_attempt = {stay.attempt: stay for stay in stays if stay.started_at_ms}
    return {
        "held_by": "CUSTOMER",
        "released": [
            {"attempt": n, "site": stay.site, "at_ms": stay.started_at_ms}
            for n, stay in sorted(by_attempt.items())
        ],
    }
