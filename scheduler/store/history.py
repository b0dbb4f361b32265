"""What ended lately, in sum: how much of their time limits jobs really run."""

from __future__ import annotations

from statistics import median_low

from sqlalchemy import or_, select

from scheduler.store.learned import BY_THEMSELVES
from scheduler.store.schema import ATTEMPTS, JOBS
from scheduler.store.store import Snapshot

HISTORY_MAX = 200
"""Newest attempts that are looked at."""
HISTORY_MIN = 20
"""Fewer say nothing."""


def used_percent(read: Snapshot) -> int:
    """What part of its limit a job mostly runs: the median of those that ended by themselves.

    100 while there are too few to tell.
    """
    own = or_(ATTEMPTS.c.reason.is_(None), ATTEMPTS.c.reason.in_([str(r) for r in BY_THEMSELVES]))
    query = (
        select(ATTEMPTS.c.started_at_ms, ATTEMPTS.c.ended_at_ms, JOBS.c.class_id)
        .join(JOBS, JOBS.c.id == ATTEMPTS.c.job)
        .where(ATTEMPTS.c.started_at_ms > 0, ATTEMPTS.c.ended_at_ms > 0, own)
        .order_by(ATTEMPTS.c.job.desc(), ATTEMPTS.c.attempt.desc())
        .limit(HISTORY_MAX)
    )
    parts: list[int] = []
    for started_at_ms, ended_at_ms, class_id in read.connection.execute(query):
        limit_ms = read.jobs.job_class(class_id).time_limit_bucket_ms
        parts.append((ended_at_ms - started_at_ms) * 100 // max(1, limit_ms))
    if len(parts) < HISTORY_MIN:
        return 100
    return min(100, max(1, median_low(parts)))
