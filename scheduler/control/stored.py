"""Which jobs are over, for a site whose store has checkpoints of theirs.

A site knows attempts alone. A job of which none lives there may wait to go on, or run elsewhere:
its checkpoints are kept. Of jobs that never were at the site that asks, it is told nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.model.ids import AttemptKey, JobId, SiteId
from scheduler.model.job import TERMINAL
from scheduler.store.store import Snapshot


def over(read: Snapshot, site: SiteId, jobs: Iterable[JobId], now_ms: int) -> dict[JobId, int]:
    """Those of `jobs` that were at `site` and are over, each with for how many ms."""
    ended = {job: row for job, row in read.jobs.rows(jobs).items() if row.state in TERMINAL}
    tried = (AttemptKey(job, n) for job, row in ended.items() for n in range(row.next_attempt))
    here = {key.job for key, row in read.attempts.rows(tried).items() if row.site == site}
    return {job: max(0, now_ms - ended[job].ended_at_ms) for job in sorted(here)}
