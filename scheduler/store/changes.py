"""The change log as its followers read it: what is true now of everything that changed.

Rows say only *that* something changed. A reader looks up what is true at its own snapshot, so the
changes it gets are absolute, coalesced, and consistent with one another at the sequence answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, insert, select

from scheduler.core.quota import QuotaTree
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import JobState, NodePlacement, Placement
from scheduler.model.plan import (
    BudgetChanged,
    Change,
    JobChanged,
    LiveAttempt,
    NodeChanged,
    PolicyChanged,
    QueuedJob,
    ReservationChanged,
    SiteChanged,
    TenantsChanged,
    WindowChanged,
)
from scheduler.store.dialect import chunks
from scheduler.store.fleet import FleetReader
from scheduler.store.jobs import JobsReader
from scheduler.store.link import Link
from scheduler.store.reservations import ReservationsReader
from scheduler.store.schema import (
    ATTEMPTS,
    CHANGES,
    COUNTERS,
    IS_LIVE,
    JOBS,
    PLACEMENTS,
    QUEUED,
    SITE_STATE,
)
from scheduler.store.scratch import CHANGE_COUNTER, ChangeKind, Scratch
from scheduler.store.tenancy import TenancyReader
from scheduler.store.usage import UsageReader
from scheduler.store.windows import WindowsReader

CHANGES_KEPT = 200_000
"""Rows kept at least: a follower further behind starts anew."""
TRIM_EVERY = 10_000
"""Old rows are deleted when this many new ones have come."""


class ChangesTrimmed(LookupError):
    """The follower is too far behind: it starts from an empty state with `load_all`."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Changes that bring a follower to `sequence`, in the order in which to apply them."""

    sequence: int
    changes: tuple[Change, ...]


class ChangesReader:
    """Follows the change log."""

    def __init__(
        self, link: Link, fleet: FleetReader, tenancy: TenancyReader, jobs: JobsReader
    ) -> None:
        self._link = link
        self._fleet = fleet
        self._tenancy = tenancy
        self._jobs = jobs
        self._windows = WindowsReader(link)
        self._reservations = ReservationsReader(link)
        self._usage = UsageReader(link)

    def sequence(self) -> int:
        """The newest change's number, 0 when there was none."""
        query = select(COUNTERS.c.value).where(COUNTERS.c.name == CHANGE_COUNTER)
        return self._link.execute(query).scalar() or 0

    def since(self, sequence: int, limit: int) -> Feed:
        """What changed after `sequence`; all of it, because a part would not be consistent.

        Raises `ChangesTrimmed` when more than `limit` rows are waiting, or some are gone already.
        """
        newest = self.sequence()
        self._check_held(sequence, newest)
        if newest - sequence > limit:
            raise ChangesTrimmed(f"follower at {sequence}, the log ends at {newest}")
        if sequence == newest:
            return Feed(newest, ())
        rows = select(CHANGES.c.kind, CHANGES.c.key).where(CHANGES.c.seq > sequence).distinct()
        keys: defaultdict[ChangeKind, list[str]] = defaultdict(list)
        for kind, key in self._link.execute(rows):
            keys[ChangeKind(kind)].append(key)
        return Feed(newest, tuple(self._delta(keys)))

    def nodes_since(self, sequence: int, limit: int) -> tuple[NodeId, ...]:
        """The nodes that changed after `sequence`, whatever else did.

        Raises `ChangesTrimmed` when they are more than `limit`, or some rows are gone already.
        """
        return tuple(sorted(map(NodeId, self._keys_since(ChangeKind.NODE, sequence, limit))))

    def jobs_since(self, sequence: int, limit: int) -> tuple[JobId, ...]:
        """The jobs that changed after `sequence`; raises as `nodes_since` does."""
        keys = self._keys_since(ChangeKind.JOB, sequence, limit)
        return tuple(sorted(JobId(int(key)) for key in keys))

    def _keys_since(self, kind: ChangeKind, sequence: int, limit: int) -> Sequence[str]:
        self._check_held(sequence, self.sequence())
        rows = select(CHANGES.c.key).where(CHANGES.c.seq > sequence, CHANGES.c.kind == int(kind))
        found = self._link.execute(rows.distinct().limit(limit + 1)).scalars().all()
        if len(found) > limit:
            raise ChangesTrimmed(f"more than {limit} of {kind.name} changed after {sequence}")
        return found

    def load_all(self) -> tuple[int, Iterator[Change]]:
        """Everything, for an empty follower; read the changes inside the snapshot."""
        return self.sequence(), self._everything()

    def _check_held(self, sequence: int, newest: int) -> None:
        """Refuses a follower that needs rows which are gone, or were never there."""
        if sequence > newest:
            raise ChangesTrimmed(f"follower at {sequence}, the log ends at {newest}")
        if sequence == newest:
            return
        oldest = self._link.execute(select(func.min(CHANGES.c.seq))).scalar()
        if oldest is None or oldest > sequence + 1:
            raise ChangesTrimmed(f"follower at {sequence}, the log holds {oldest} to {newest}")

    def _everything(self) -> Iterator[Change]:
        yield PolicyChanged(self._tenancy.policy())
        yield TenantsChanged(self._tenancy.tenants())
        yield from self._settled()
        for entry in self._fleet.sites():
            yield SiteChanged(entry.site.id, entry.site, entry.contact.connected)
        for node in self._fleet.nodes():
            yield NodeChanged(node.node.id, node.node, node.report)
        for window in self._windows.all():
            yield WindowChanged(window.id, window)
        for kept in self._reservations.all():
            yield ReservationChanged(kept.job, kept)
        queued = select(*_QUEUED).where(*_FOR_THE_PLANNER).order_by(JOBS.c.id)
        for row in self._link.execute(queued):
            yield self._queued(row)
        live = _live_query().where(IS_LIVE)
        yield from self._live(self._link.execute(live))

    def _delta(self, keys: defaultdict[ChangeKind, list[str]]) -> Iterator[Change]:
        """What frees something comes before what takes it, whatever happened in between."""
        jobs = sorted(JobId(int(key)) for key in keys[ChangeKind.JOB])
        queued, live, over = self._split_jobs(jobs)
        yield from (JobChanged(job, None, None) for job in over)
        # A second attempt may stand where another's first one stood: clear before placing any.
        yield from (JobChanged(c.id, None, None) for c in live if _is_retry(c))
        if keys[ChangeKind.POLICY]:
            yield PolicyChanged(self._tenancy.policy())
        if keys[ChangeKind.TENANTS]:
            yield TenantsChanged(self._tenancy.tenants())
            yield from self._settled()
        else:
            for key in sorted(keys[ChangeKind.BUDGET]):
                yield BudgetChanged(self._usage.changed(key))
        connected = self._connected(keys[ChangeKind.SITE])
        for site in sorted(map(SiteId, keys[ChangeKind.SITE])):
            yield SiteChanged(site, self._fleet.site(site), site in connected)
        nodes = sorted(map(NodeId, keys[ChangeKind.NODE]))
        entries = self._fleet.nodes_by_id(nodes)
        for node in nodes:
            entry = entries.get(node)
            if entry is None:
                yield NodeChanged(node, None, None)
            else:
                yield NodeChanged(node, entry.node, entry.report)
        for name in sorted(keys[ChangeKind.WINDOW]):
            yield WindowChanged(name, self._windows.get(name))
        for job in sorted(JobId(int(key)) for key in keys[ChangeKind.RESERVATION]):
            yield ReservationChanged(job, self._reservations.get(job))
        yield from queued
        yield from live

    def _settled(self) -> Iterator[BudgetChanged]:
        """All that the budgets in force may ask about."""
        tree = QuotaTree(self._tenancy.tenants())
        return (BudgetChanged(use) for use in self._usage.for_budgets(tree))

    def _split_jobs(
        self, jobs: list[JobId]
    ) -> tuple[list[JobChanged], list[JobChanged], list[JobId]]:
        queued: list[JobChanged] = []
        live: list[JobChanged] = []
        for chunk in chunks(jobs):
            waiting = select(*_QUEUED).where(JOBS.c.id.in_(chunk), *_FOR_THE_PLANNER)
            queued += [self._queued(row) for row in self._link.execute(waiting)]
            holding = _live_query().where(ATTEMPTS.c.job.in_(chunk), ATTEMPTS.c.live)
            live += self._live(self._link.execute(holding))
        known = {change.id for change in queued} | {change.id for change in live}
        queued.sort(key=lambda change: change.id)
        live.sort(key=lambda change: change.id)
        return queued, live, [job for job in jobs if job not in known]

    def _connected(self, sites: list[str]) -> set[SiteId]:
        query = select(SITE_STATE.c.site).where(SITE_STATE.c.connected)
        connected = {SiteId(row.site) for row in self._link.execute(query)}
        return connected & set(map(SiteId, sites))

    def _queued(self, row: Any) -> JobChanged:
        job = JobId(row.id)
        waiting = QueuedJob(
            id=job,
            job_class=self._jobs.job_class(row.class_id),
            submitted_at_ms=row.submitted_at_ms,
            next_attempt=row.next_attempt,
            not_before_ms=row.not_before_ms,
        )
        return JobChanged(job, waiting, None)

    def _live(self, rows: Iterable[Any]) -> Iterator[JobChanged]:
        """One change per attempt; its nodes lie in neighbouring rows."""
        first: Any = None
        nodes: list[NodePlacement] = []
        for row in rows:
            if first is not None and (row.job, row.attempt) != (first.job, first.attempt):
                yield self._live_change(first, tuple(nodes))
                nodes = []
            first = row
            nodes.append(NodePlacement(NodeId(row.node), row.gpu_mask))
        if first is not None:
            yield self._live_change(first, tuple(nodes))

    def _live_change(self, row: Any, nodes: tuple[NodePlacement, ...]) -> JobChanged:
        key = AttemptKey(JobId(row.job), row.attempt)
        live = LiveAttempt(
            placement=Placement(
                key, SiteId(row.site), GpuClass(row.gpu_class), nodes, row.gpu_milli
            ),
            tenant=TenantPath(row.tenant),
            job_class=self._jobs.job_class(row.class_id),
            state=JobState(row.state),
            placed_at_ms=row.placed_at_ms,
            started_at_ms=row.started_at_ms,
            checkpoint_at_ms=row.checkpoint_at_ms,
        )
        return JobChanged(key.job, None, live)


_QUEUED = (
    JOBS.c.id,
    JOBS.c.class_id,
    JOBS.c.submitted_at_ms,
    JOBS.c.next_attempt,
    JOBS.c.not_before_ms,
)
_FOR_THE_PLANNER = (QUEUED, JOBS.c.held.is_(False))


def _live_query() -> Select[Any]:
    return (
        select(ATTEMPTS, PLACEMENTS.c.node, PLACEMENTS.c.gpu_mask, JOBS.c.tenant, JOBS.c.class_id)
        .join(JOBS, JOBS.c.id == ATTEMPTS.c.job)
        .join(
            PLACEMENTS,
            (PLACEMENTS.c.job == ATTEMPTS.c.job) & (PLACEMENTS.c.attempt == ATTEMPTS.c.attempt),
        )
        .order_by(ATTEMPTS.c.job, ATTEMPTS.c.attempt, PLACEMENTS.c.ordinal)
    )


def _is_retry(change: JobChanged) -> bool:
    return change.live is not None and change.live.placement.key.attempt > 1


def write_changes(scratch: Scratch) -> None:
    """Writes pending change rows, each key once; a last step before a commit."""
    unique = list(dict.fromkeys(scratch.changes))
    if not unique:
        return
    first = scratch.take(CHANGE_COUNTER, len(unique))
    rows = [
        {"seq": first + n, "kind": int(kind), "key": key} for n, (kind, key) in enumerate(unique)
    ]
    scratch.link.execute(insert(CHANGES), rows)
    last = first + len(unique) - 1
    if first // TRIM_EVERY != (last + 1) // TRIM_EVERY:
        old = delete(CHANGES).where(CHANGES.c.seq <= last - CHANGES_KEPT)
        scratch.link.execute(old)
