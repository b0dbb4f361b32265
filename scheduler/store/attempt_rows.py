"""How an attempt lies in its table."""

from __future__ import annotations

from json.encoder import encode_basestring as _string
from typing import Any

from scheduler.model.ids import AttemptKey
from scheduler.model.job import JobState, RankStatus
from scheduler.model.reasons import Reason
from scheduler.store.codec import encode
from scheduler.store.records import AttemptRow

STATE_OF: tuple[JobState, ...] = tuple(JobState)
"""States by their number."""
STATE_NAMES = tuple(state.name for state in STATE_OF)
"""Their names, by the same number: to ask a state for its name costs a call."""
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


def rank_text(rank: RankStatus) -> str:
    """What `encode` makes of a rank, at a fraction of what that costs: most have one line."""
    egress = "null" if rank.egress is None else encode(rank.egress)
    exit_code = "null" if rank.exit_code is None else f"{rank.exit_code:d}"
    return (
        f'{{"cause":{rank.cause:d},"checkpoint_at_ms":{rank.checkpoint_at_ms:d}'
        f',"detail":{_string(rank.detail)},"egress":{egress},"ended_at_ms":{rank.ended_at_ms:d}'
        f',"exit_code":{exit_code},"log_bytes":{rank.log_bytes:d},"node":{_string(rank.node)}'
        f',"outputs":[{",".join([encode(each) for each in rank.outputs])}]'
        f',"phase":{rank.phase:d},"rank":{rank.rank:d},"signal":{rank.signal:d}'
        f',"started_at_ms":{rank.started_at_ms:d}}}'
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
