"""How soon a job is tried again; of a replica of a service, when another takes its place.

As the kubelet does it: each end soon after the last doubles the wait, up to a bound, and a run that
lasted forgives all before it. A replica never gives up unless its job says how often to try; but a
row remembers all its attempts, so one that was begun very often ends for a fresh one.
"""

from __future__ import annotations

from collections.abc import Collection

from scheduler.model.job import Attempt, Job, RankStatus
from scheduler.model.reasons import Reason

BACK_OFF_MS = 2_000
"""Wait before the first retry after a fault of the infrastructure; doubles with each."""
BACK_OFF_MAX_MS = 300_000
LASTED_MS = 600_000
"""A run this long was one: what ended before it counts no more."""
ATTEMPTS_OF_REPLICA_MAX = 1_000
"""After so many attempts a replica is worn, and another takes its place."""


def is_replica(job: Job) -> bool:
    """Whether a job runs until it is cancelled. An erased specification tells nothing of that."""
    return job.spec is not None and job.spec.service is not None


def is_worn(job: Job) -> bool:
    """Whether the attempt that just ended is the last one of its row."""
    return job.attempts[-1].key.attempt >= ATTEMPTS_OF_REPLICA_MAX


def short_runs(past: Collection[Attempt], ended: Collection[Reason]) -> int:
    """How many of the latest of `past` ended soon, for a reason in `ended`, one after another."""
    count = 0
    for attempt in reversed(tuple(past)):
        if attempt.reason not in ended or has_lasted(attempt):
            break
        count += 1
    return count


def has_lasted(run: Attempt | RankStatus) -> bool:
    """Whether a run that is over did its work for a while. Each has its own clock."""
    return 0 < run.started_at_ms <= run.ended_at_ms - LASTED_MS


def back_off_ms(used: int) -> int:
    """How long a job waits in the queue after `used` retries came before: doubling, bounded."""
    return min(BACK_OFF_MAX_MS, BACK_OFF_MS << min(used, 16))
