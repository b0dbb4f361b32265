"""Jobs as the planner follows them: what waits, what holds nodes, and what is neither.

A restart reads all that waits, so rows are the driver's own tuples and go into arrays a column at a
time: a job without history costs no object of its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from sys import intern
from typing import Any

from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId
from scheduler.model.job import HOLDS_NODES, JobState, NodePlacement, Placement
from scheduler.model.plan import JobChanged, JobClass, LiveAttempt, QueuedJob, QueueLoaded
from scheduler.store.attempt_rows import STATE_OF
from scheduler.store.bulk import IDS, Statement
from scheduler.store.jobs import JobsReader
from scheduler.store.link import Link
from scheduler.store.schema import JOBS, MASK64, PLACEMENTS

_WAITS = f"state = {int(JobState.QUEUED)} AND NOT held"
_FIRST = "next_attempt = 1 AND not_before_ms = 0"
_FRESH = Statement(
    JOBS,
    f"SELECT class_id, id, submitted_at_ms FROM jobs WHERE {_WAITS} AND {_FIRST} ORDER BY id",
)
_ODD = Statement(
    JOBS,
    "SELECT id, class_id, submitted_at_ms, next_attempt, not_before_ms FROM jobs"
    f" WHERE {_WAITS} AND NOT ({_FIRST}) ORDER BY id",
)
_OF_JOBS = Statement(
    JOBS,
    "SELECT id, class_id, submitted_at_ms, next_attempt, not_before_ms, state, held FROM jobs"
    f" WHERE id IN {IDS}",
)
_LIVE = (
    "SELECT placements.job, placements.attempt, node, gpu_mask, site, gpu_class, gpu_milli,"
    " attempts.state, placed_at_ms, started_at_ms, checkpoint_at_ms, class_id,"
    " jobs.submitted_at_ms"
    " FROM placements JOIN attempts"
    " ON attempts.job = placements.job AND attempts.attempt = placements.attempt"
    " JOIN jobs ON jobs.id = placements.job WHERE "
)
_IN_ORDER = " ORDER BY placements.job, placements.attempt, placements.ordinal"
_ALL_LIVE = Statement(PLACEMENTS, f"{_LIVE}placements.live{_IN_ORDER}")
_LIVE_OF = Statement(PLACEMENTS, f"{_LIVE}attempts.live AND attempts.job IN {IDS}{_IN_ORDER}")
_ATTEMPT = itemgetter(0, 1)
_WAITING, _HOLDING = int(JobState.QUEUED), frozenset(map(int, HOLDS_NODES))


@dataclass(frozen=True, slots=True)
class JobChanges:
    """What is true now of some jobs; each list by id."""

    over: list[JobChanged]
    queued: list[JobChanged]
    live: list[JobChanged]


class JobChangesReader:
    """Reads jobs for the planner."""

    def __init__(self, link: Link, jobs: JobsReader) -> None:
        self._link = link
        self._jobs = jobs

    def fresh(self) -> Iterator[QueueLoaded]:
        """Every job that waits and was never placed, a class at a time."""
        lines: dict[int, tuple[array[int], array[int]]] = {}
        for rows in self._link.pages(_FRESH):
            for class_id, job, submitted_at_ms in rows:
                line = lines.get(class_id)
                if line is None:
                    line = lines[class_id] = (array("q"), array("q"))
                line[0].append(job)
                line[1].append(submitted_at_ms)
        classes = self._jobs.job_classes(lines)
        for class_id in sorted(lines):
            # Given away: it lives no longer than whoever takes it wants.
            yield QueueLoaded(classes[class_id], *lines.pop(class_id))

    def odd(self) -> Iterator[JobChanged]:
        """Every other job that waits: for a later attempt, or until a back-off is over."""
        for rows in self._link.pages(_ODD):
            classes = self._jobs.job_classes(row[1] for row in rows)
            for row in rows:
                yield _queued(row, classes[row[1]])

    def live(self) -> Iterator[JobChanged]:
        """Every job that holds nodes."""
        return self._live(chain.from_iterable(self._link.pages(_ALL_LIVE)))

    def of(self, jobs: Sequence[JobId]) -> JobChanges:
        """What is true now of `jobs`, ascending."""
        rows = self._link.among(_OF_JOBS, jobs)
        rows.sort()
        classes = self._jobs.job_classes(row[1] for row in rows)
        waiting = [row for row in rows if row[5] == _WAITING and not row[6]]
        holding = [row[0] for row in rows if row[5] in _HOLDING]
        live = list(self._live(self._link.among(_LIVE_OF, holding)))
        known = {row[0] for row in waiting}
        known.update(change.id for change in live)
        class_of = {row[0]: classes[row[1]] for row in rows}
        return JobChanges(
            over=[
                JobChanged(job, None, None, class_of.get(job)) for job in jobs if job not in known
            ],
            queued=[_queued(row, classes[row[1]]) for row in waiting],
            live=live,
        )

    def _live(self, rows: Iterable[Any]) -> Iterator[JobChanged]:
        """One change per attempt; its nodes lie in neighbouring rows."""
        for (job, attempt), group in groupby(rows, _ATTEMPT):
            parts: list[Any] = list(group)
            nodes = [NodePlacement(NodeId(intern(row[2])), row[3] & MASK64) for row in parts]
            site, gpu_class, milli, state, placed_ms, started_ms, saved_ms = parts[0][4:11]
            class_id, submitted_ms = parts[0][11:]
            # Names are shared: there are as many of them as nodes, and not as attempts.
            placement = Placement(
                AttemptKey(job, attempt),
                SiteId(intern(site)),
                GpuClass(intern(gpu_class)),
                tuple(nodes),
                milli,
            )
            job_class = self._jobs.job_class(class_id)
            live = LiveAttempt(
                placement,
                job_class.tenant,
                job_class,
                STATE_OF[int(state)],
                placed_ms,
                started_ms,
                saved_ms,
                submitted_ms,
            )
            yield JobChanged(job, None, live, job_class)


def _queued(row: Any, job_class: JobClass) -> JobChanged:
    job, _, submitted_at_ms, next_attempt, not_before_ms, *_ = row
    waiting = QueuedJob(job, job_class, submitted_at_ms, next_attempt, not_before_ms)
    return JobChanged(job, waiting, None)
