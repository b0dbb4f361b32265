"""How much a counter rose within a time: pure, bounded, not confused by one that restarts."""

from __future__ import annotations

from dataclasses import dataclass

MARKS_MAX = 32
"""Points kept of one window: a rise is known to a thirty-second of its length."""


@dataclass(frozen=True, slots=True)
class Series:
    """A counter over time. `risen` sums what it rose since it was first seen."""

    value: int
    risen: int
    at_ms: int
    marks: tuple[tuple[int, int], ...]
    """(time, risen then), oldest first."""


def follow(series: Series | None, value: int, at_ms: int, window_ms: int) -> Series:
    """The series with one more reading. A counter that fell was set back: it rose from 0."""
    if series is None:
        return Series(value, 0, at_ms, ((at_ms, 0),))
    step = value - series.value if value >= series.value else value
    risen = series.risen + step
    marks = series.marks
    if at_ms - marks[-1][0] >= window_ms // MARKS_MAX:
        marks = (*marks, (at_ms, risen))
    # One mark from before the window stays: what rose since then is an upper bound.
    while len(marks) > 1 and marks[1][0] <= at_ms - window_ms:
        marks = marks[1:]
    return Series(value, risen, at_ms, marks)


def rise(series: Series) -> int:
    """How much it rose within its window."""
    return series.risen - series.marks[0][1]
