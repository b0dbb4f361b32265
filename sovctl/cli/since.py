"""`--since`: how far back something is looked at."""

from __future__ import annotations

from sovctl import clock
from sovctl.errors import InvalidArgumentError
from sovctl.fleet_values import parse_moment
from sovctl.spec_values import duration_ms


def since_ms(text: str) -> int:
    """UTC milliseconds of what `--since` says: so long ago (`10m`), or a date, or a date and time
    with its offset; 0, from the beginning, where it says nothing."""
    if not text:
        return 0
    try:
        found = parse_moment(text) if "-" in text else clock.now_ms() - duration_ms(text)
    except ValueError as error:
        raise InvalidArgumentError(f"--since: {error}") from None
    return max(1, found)
