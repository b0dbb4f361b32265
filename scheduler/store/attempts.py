"""Attempts, where they are placed, and what their ranks reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select, update

from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import Attempt, JobState, NodePlacement, Placement, RankStatus
from scheduler.model.reasons import Reason
from scheduler.store.codec import decode, encode
from scheduler.store.dialect import chunks
from scheduler.store.link import Link
from scheduler.store.records import AttemptRow, Footing, LiveUse, Occupant, SiteUse
from scheduler.store.schema import ATTEMPTS, JOBS, PLACEMENTS, RANKS
from scheduler.store.scratch import ChangeKind, Scratch

LIVE_READ_MAX = 100_000
"""Most live attempts of one site that one question answers."""


def row_of(row: Any) -> AttemptRow:
    """A table row as the record it is."""
    return AttemptRow(
        key=AttemptKey(JobId(row.job), row.attempt),
        site=SiteId(row.site),
        state=JobState(row.state),
        live=row.live,
        leased=row.leased,
        gpu_class=GpuClass(row.gpu_class),
        gpu_milli=row.gpu_milli,
        country=row.country,
        placed_at_ms=row.placed_at_ms,
        started_at_ms=row.started_at_ms,
        ended_at_ms=row.ended_at_ms,
        reason=None if row.reason is None else Reason(row.reason),
        message=row.message,
        checkpoint_at_ms=row.checkpoint_at_ms,
    )


class AttemptsReader:
    """Finds attempts."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def row(self, key: AttemptKey) -> AttemptRow | None:
        """The narrow row."""
        query = select(ATTEMPTS).where(ATTEMPTS.c.job == key.job, ATTEMPTS.c.attempt == key.attempt)
        found = self._link.execute(query).first()
        return None if found is None else row_of(found)

    def any_started(self, job: JobId) -> bool:
        """Whether an attempt of `job` was ever seen running."""
        query = select(ATTEMPTS.c.attempt).where(
            ATTEMPTS.c.job == job, ATTEMPTS.c.started_at_ms > 0
        )
        return self._link.execute(query.limit(1)).first() is not None

    def live_at(self, site: SiteId) -> tuple[AttemptRow, ...]:
        """Attempts that hold nodes of `site`, oldest job first."""
        query = select(ATTEMPTS).where(ATTEMPTS.c.site == site, ATTEMPTS.c.live)
        query = query.order_by(ATTEMPTS.c.job, ATTEMPTS.c.attempt).limit(LIVE_READ_MAX)
        return tuple(row_of(row) for row in self._link.execute(query))

    def live_tenants(self) -> frozenset[TenantPath]:
        """Tenants whose work holds nodes now."""
        query = select(JOBS.c.tenant).distinct()
        query = query.join(ATTEMPTS, ATTEMPTS.c.job == JOBS.c.id).where(ATTEMPTS.c.live)
        return frozenset(TenantPath(row.tenant) for row in self._link.execute(query))

    def occupants(self, nodes: Iterable[NodeId]) -> dict[NodeId, tuple[Occupant, ...]]:
        """What holds GPUs of `nodes` now."""
        found: defaultdict[NodeId, list[Occupant]] = defaultdict(list)
        for chunk in chunks(sorted(set(nodes))):
            query = (
                select(PLACEMENTS, JOBS.c.tenant, JOBS.c.class_id)
                .join(JOBS, JOBS.c.id == PLACEMENTS.c.job)
                .where(PLACEMENTS.c.node.in_(chunk), PLACEMENTS.c.live)
                .order_by(PLACEMENTS.c.job, PLACEMENTS.c.attempt)
            )
            for row in self._link.execute(query):
                node = NodeId(row.node)
                key = AttemptKey(JobId(row.job), row.attempt)
                placed = NodePlacement(node, row.gpu_mask)
                found[node].append(Occupant(key, TenantPath(row.tenant), row.class_id, placed))
        return {node: tuple(held) for node, held in found.items()}

    def footings(self, key: AttemptKey) -> tuple[Footing, ...]:
        """How a live attempt stands on each of its nodes, in rank order."""
        query = (
            select(PLACEMENTS)
            .where(PLACEMENTS.c.job == key.job, PLACEMENTS.c.attempt == key.attempt)
            .where(PLACEMENTS.c.live)
            .order_by(PLACEMENTS.c.ordinal)
        )
        return tuple(
            Footing(NodeId(row.node), row.boot_id, Reason(row.gone) if row.gone else None)
            for row in self._link.execute(query)
        )

    def used_milli_by_site(self) -> dict[SiteId, int]:
        """What live placements are charged, by site."""
        query = select(ATTEMPTS.c.site, func.sum(ATTEMPTS.c.gpu_milli)).where(ATTEMPTS.c.live)
        rows = self._link.execute(query.group_by(ATTEMPTS.c.site))
        return {SiteId(site): int(milli) for site, milli in rows}

    def live_by_site(self) -> tuple[SiteUse, ...]:
        """Live placements in sum, by site, GPU class and state."""
        columns = (ATTEMPTS.c.site, ATTEMPTS.c.gpu_class, ATTEMPTS.c.state)
        query = select(*columns, func.count(), func.sum(ATTEMPTS.c.gpu_milli))
        query = query.where(ATTEMPTS.c.live).group_by(*columns).order_by(*columns)
        return tuple(
            SiteUse(SiteId(site), GpuClass(gpu_class), JobState(state), int(attempts), int(milli))
            for site, gpu_class, state, attempts, milli in self._link.execute(query)
        )

    def live_uses(self, under: TenantPath | None = None) -> Iterator[LiveUse]:
        """What every live attempt is charged, of one node of the tree or of all."""
        columns = (ATTEMPTS.c.gpu_class, ATTEMPTS.c.gpu_milli, ATTEMPTS.c.placed_at_ms)
        query = select(JOBS.c.tenant, JOBS.c.class_id, *columns)
        query = query.join(JOBS, JOBS.c.id == ATTEMPTS.c.job).where(ATTEMPTS.c.live)
        for row in self._link.execute(query.order_by(ATTEMPTS.c.job)):
            tenant = TenantPath(row.tenant)
            if under is None or tenant == under or tenant.startswith(f"{under}/"):
                yield LiveUse(
                    tenant, row.class_id, GpuClass(row.gpu_class), row.gpu_milli, row.placed_at_ms
                )

    def ranks(self, key: AttemptKey) -> tuple[RankStatus, ...]:
        """What the ranks of an attempt last reported, by rank."""
        query = (
            select(RANKS.c.body)
            .where(RANKS.c.job == key.job, RANKS.c.attempt == key.attempt)
            .order_by(RANKS.c.rank)
        )
        return tuple(decode(RankStatus, row.body) for row in self._link.execute(query))

    def placement(self, key: AttemptKey) -> Placement | None:
        """Where an attempt was placed."""
        row = self.row(key)
        if row is None:
            return None
        return _placement(row, self._placed([key.job]).get(key, ()))

    def of_jobs(self, jobs: Sequence[JobId]) -> dict[JobId, tuple[Attempt, ...]]:
        """All attempts of `jobs`, oldest first."""
        placed = self._placed(jobs)
        ranks: defaultdict[AttemptKey, list[RankStatus]] = defaultdict(list)
        found: defaultdict[JobId, list[Attempt]] = defaultdict(list)
        for chunk in chunks(sorted(set(jobs))):
            query = select(RANKS).where(RANKS.c.job.in_(chunk))
            query = query.order_by(RANKS.c.job, RANKS.c.attempt, RANKS.c.rank)
            for row in self._link.execute(query):
                key = AttemptKey(JobId(row.job), row.attempt)
                ranks[key].append(decode(RankStatus, row.body))
            rows = select(ATTEMPTS).where(ATTEMPTS.c.job.in_(chunk))
            rows = rows.order_by(ATTEMPTS.c.job, ATTEMPTS.c.attempt)
            for attempt in map(row_of, self._link.execute(rows)):
                whole = _whole(attempt, placed.get(attempt.key, ()), tuple(ranks[attempt.key]))
                found[attempt.key.job].append(whole)
        return {job: tuple(attempts) for job, attempts in found.items()}

    def _placed(self, jobs: Sequence[JobId]) -> dict[AttemptKey, tuple[NodePlacement, ...]]:
        found: defaultdict[AttemptKey, list[NodePlacement]] = defaultdict(list)
        for chunk in chunks(sorted(set(jobs))):
            query = select(PLACEMENTS).where(PLACEMENTS.c.job.in_(chunk))
            query = query.order_by(PLACEMENTS.c.job, PLACEMENTS.c.attempt, PLACEMENTS.c.ordinal)
            for row in self._link.execute(query):
                key = AttemptKey(JobId(row.job), row.attempt)
                found[key].append(NodePlacement(NodeId(row.node), row.gpu_mask))
        return {key: tuple(nodes) for key, nodes in found.items()}


class AttemptsWriter(AttemptsReader):
    """Adds and changes attempts; keeps the ledger of what is used and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def add(self, added: Sequence[tuple[TenantPath, AttemptRow, Placement]]) -> None:
        """New attempts with where they go."""
        if not added:
            return
        self._link.execute(insert(ATTEMPTS), [_columns(row) for _, row, _ in added])
        nodes = [
            {
                "job": row.key.job,
                "attempt": row.key.attempt,
                "ordinal": ordinal,
                "node": placed.node,
                "gpu_mask": placed.gpu_mask,
                "live": True,
                "boot_id": "",
                "gone": "",
            }
            for _, row, placement in added
            for ordinal, placed in enumerate(placement.nodes)
        ]
        self._link.execute(insert(PLACEMENTS), nodes)
        for tenant, row, _ in added:
            self._shift_usage(tenant, row.gpu_class, row.gpu_milli)

    def save(self, tenant: TenantPath, before: AttemptRow, after: AttemptRow) -> None:
        """`before`, just read in this transaction, becomes `after`."""
        assert before.key == after.key
        assert after.live <= before.live, "an attempt that is over does not come back"
        mine = (ATTEMPTS.c.job == after.key.job, ATTEMPTS.c.attempt == after.key.attempt)
        columns = _columns(after)
        del columns["job"], columns["attempt"]
        self._link.execute(update(ATTEMPTS).where(*mine).values(columns))
        if before.live and not after.live:
            placed = (PLACEMENTS.c.job == after.key.job, PLACEMENTS.c.attempt == after.key.attempt)
            self._link.execute(update(PLACEMENTS).where(*placed).values(live=False))
            self._shift_usage(tenant, after.gpu_class, -after.gpu_milli)
        self._scratch.changed(ChangeKind.JOB, str(after.key.job))

    def put_ranks(self, key: AttemptKey, ranks: Sequence[RankStatus]) -> None:
        """What the ranks reported now."""
        rows = [
            {"job": key.job, "attempt": key.attempt, "rank": r.rank, "body": encode(r)}
            for r in ranks
        ]
        self._link.upsert(RANKS, rows)
        self._scratch.changed(ChangeKind.JOB, str(key.job))

    def set_boot(self, key: AttemptKey, boots: Mapping[NodeId, str]) -> None:
        """Ranks of the attempt were seen running on these nodes, under these boots."""
        for node, boot_id in sorted(boots.items()):
            mine = (
                PLACEMENTS.c.job == key.job,
                PLACEMENTS.c.attempt == key.attempt,
                PLACEMENTS.c.node == node,
            )
            self._link.execute(update(PLACEMENTS).where(*mine).values(boot_id=boot_id))

    def set_gone(self, key: AttemptKey, node: NodeId, proof: Reason) -> None:
        """It is proved that nothing of the attempt runs on this node any more."""
        mine = (
            PLACEMENTS.c.job == key.job,
            PLACEMENTS.c.attempt == key.attempt,
            PLACEMENTS.c.node == node,
        )
        self._link.execute(update(PLACEMENTS).where(*mine).values(gone=proof))

    def _shift_usage(self, tenant: TenantPath, gpu_class: GpuClass, milli: int) -> None:
        ledger = self._scratch.memo.ledger
        ledger.add_used(tenant, gpu_class, milli)
        self._scratch.undo.append(lambda: ledger.add_used(tenant, gpu_class, -milli))


def _columns(row: AttemptRow) -> dict[str, object]:
    return {
        "job": row.key.job,
        "attempt": row.key.attempt,
        "site": row.site,
        "state": int(row.state),
        "live": row.live,
        "leased": row.leased,
        "gpu_class": row.gpu_class,
        "gpu_milli": row.gpu_milli,
        "country": row.country,
        "reason": row.reason,
        "message": row.message,
        "placed_at_ms": row.placed_at_ms,
        "started_at_ms": row.started_at_ms,
        "checkpoint_at_ms": row.checkpoint_at_ms,
        "ended_at_ms": row.ended_at_ms,
    }


def _placement(row: AttemptRow, nodes: tuple[NodePlacement, ...]) -> Placement:
    return Placement(row.key, row.site, row.gpu_class, nodes, row.gpu_milli)


def _whole(
    row: AttemptRow, nodes: tuple[NodePlacement, ...], ranks: tuple[RankStatus, ...]
) -> Attempt:
    return Attempt(
        key=row.key,
        site=row.site,
        state=row.state,
        placement=_placement(row, nodes),
        ranks=ranks,
        reason=row.reason,
        message=row.message,
        country=row.country,
        placed_at_ms=row.placed_at_ms,
        started_at_ms=row.started_at_ms,
        ended_at_ms=row.ended_at_ms,
    )
