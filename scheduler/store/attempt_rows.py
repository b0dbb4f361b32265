"""How an attempt lies in its table."""

from __future__ import annotations

from typing import Any

from scheduler.model.ids import AttemptKey
from scheduler.model.job import JobState
from scheduler.model.reasons import Reason
from scheduler.store.records import AttemptRow

STATE_OF: tuple[JobState, ...] = tuple(JobState)
"""States by their number."""
NAMES = (
    "attempts.job, attempts.attempt, site, state, attempts.live, leased, gpu_class, gpu_milli,"
    " country, placed_at_ms, started_at_ms, ended_at_ms, reason, message,"
    " checkpoint_at_ms"
)
"""What is read of an attempt; `row_of` takes it in this order."""
CHANGING = (
    "state",
    "live",
    "leased",
    "gpu_class",
    "gpu_milli",
    "country",
    "reason",
    "message",
    "placed_at_ms",
    "started_at_ms",
    "ended_at_ms",
    "checkpoint_at_ms",
)
"""What `save` may change of an attempt."""


def row_of(row: Any) -> AttemptRow:
    """A table row as the record it is."""
    return AttemptRow(
        key=AttemptKey(row[0], row[1]),
        site=row[2],
        state=STATE_OF[int(row[3])],
        live=bool(row[4]),
        leased=bool(row[5]),
        gpu_class=row[6],
        gpu_milli=row[7],
        country=row[8],
        placed_at_ms=row[9],
        started_at_ms=row[10],
        ended_at_ms=row[11],
        reason=None if row[12] is None else Reason(row[12]),
        message=row[13],
        checkpoint_at_ms=row[14],
    )


def changing(row: AttemptRow) -> list[object]:
    """The values of `CHANGING`."""
    return [
        int(row.state),
        row.live,
        row.leased,
        row.gpu_class,
        row.gpu_milli,
        row.country,
        None if row.reason is None else row.reason.value,
        row.message,
        row.placed_at_ms,
        row.started_at_ms,
        row.ended_at_ms,
        row.checkpoint_at_ms,
    ]
