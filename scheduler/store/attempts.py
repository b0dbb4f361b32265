"""Attempts, where they are placed, and what their ranks reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sqlalchemy import func, select

from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import Attempt, JobState, NodePlacement, Placement, RankStatus
from scheduler.model.reasons import Reason
from scheduler.store.attempt_rows import CHANGING, NAMES, changing, rank_text, row_of
from scheduler.store.bulk import IDS, How, Statement, Values, inserting
from scheduler.store.codec import decode
from scheduler.store.link import Link
from scheduler.store.records import (
    AttemptRow,
    Footing,
    Leaving,
    LiveUse,
    NewAttempt,
    Occupant,
    SiteUse,
)
from scheduler.store.schema import (
    ATTEMPTS,
    IS_LIVE,
    JOBS,
    MASK64,
    PLACEMENTS,
    RANKS,
    of_live,
    signed_mask,
)
from scheduler.store.scratch import ChangeKind, Scratch

LEAVING = (JobState.PREEMPTING, JobState.CANCELLING, JobState.LOST)
"""States of attempts that should soon be over."""
LIVE_READ_MAX = 100_000
"""Most live attempts of one site that one question answers."""

_PLACED = int(JobState.PLACED)
_OF_JOBS = Statement(
    ATTEMPTS, f"SELECT {NAMES} FROM attempts WHERE job IN {IDS} ORDER BY job, attempt"
)
_NODES_OF = Statement(
    PLACEMENTS,
    "SELECT job, attempt, node, gpu_mask, live, boot_id, gone FROM placements"
    f" WHERE job IN {IDS} ORDER BY job, attempt, ordinal",
)
_RANKS_OF = Statement(
    RANKS, f"SELECT job, attempt, body FROM ranks WHERE job IN {IDS} ORDER BY job, attempt, rank"
)
_OCCUPANTS = Statement(
    PLACEMENTS,
    "SELECT node, job, attempt, gpu_mask, tenant, class_id FROM placements"
    f" JOIN jobs ON jobs.id = placements.job WHERE live AND node IN {IDS} ORDER BY job, attempt",
)
_LIVE_AT = Statement(
    PLACEMENTS,
    f"SELECT {NAMES} FROM placements JOIN attempts"
    " ON attempts.job = placements.job AND attempts.attempt = placements.attempt"
    " WHERE placements.live AND ordinal = 0 AND node > ? AND node < ?"
    f" ORDER BY attempts.job, attempts.attempt LIMIT {LIVE_READ_MAX}",
)
_PLACED_SINCE = Statement(
    ATTEMPTS,
    f"SELECT {NAMES} FROM attempts WHERE placed_at_ms >= ?"
    " ORDER BY attempts.job DESC, attempts.attempt DESC LIMIT ?",
)
_SAVE = Statement(
    ATTEMPTS,
    f"UPDATE attempts SET {', '.join(f'{name} = ?' for name in CHANGING)}"
    " WHERE job = ? AND attempt = ?",
    exact=True,
)
_ADD = inserting(ATTEMPTS, How.NEW, ("job", "attempt", "site", "leaf_index", *CHANGING))
_ADD_NODE = inserting(PLACEMENTS)
_PUT_RANK = inserting(RANKS, How.REPLACE)
_END = Statement(
    PLACEMENTS, "UPDATE placements SET live = ? WHERE job = ? AND attempt = ?", part="live"
)
_SET_BOOT = Statement(
    PLACEMENTS,
    "UPDATE placements SET boot_id = ? WHERE job = ? AND attempt = ? AND node = ?",
    part="boot_id",
)
_SET_GONE = Statement(
    PLACEMENTS,
    "UPDATE placements SET gone = ? WHERE job = ? AND attempt = ? AND node = ?",
    part="gone",
)


class AttemptsReader:
    """Finds attempts."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def row(self, key: AttemptKey) -> AttemptRow | None:
        """The narrow row."""
        return self.rows((key,)).get(key)

    def rows(self, keys: Iterable[AttemptKey]) -> dict[AttemptKey, AttemptRow]:
        """The narrow rows of those of `keys` that exist."""
        wanted = set(keys)
        found = self.rows_of_jobs(key.job for key in wanted)
        return {key: row for key, row in found.items() if key in wanted}

    def rows_of_jobs(self, jobs: Iterable[JobId]) -> dict[AttemptKey, AttemptRow]:
        """The narrow rows of all attempts of `jobs`, oldest first."""
        found = self._link.among(_OF_JOBS, sorted(set(jobs)))
        return {row.key: row for row in map(row_of, found)}

    def any_started(self, job: JobId) -> bool:
        """Whether an attempt of `job` was ever seen running."""
        query = select(ATTEMPTS.c.attempt).where(
            ATTEMPTS.c.job == job, ATTEMPTS.c.started_at_ms > 0
        )
        return self._link.execute(query.limit(1)).first() is not None

    def live_at(self, site: SiteId) -> tuple[AttemptRow, ...]:
        """Attempts that hold nodes of `site`, oldest job first."""
        # "0" follows "/": the range holds the nodes of `site` and no others.
        return tuple(map(row_of, self._link.rows(_LIVE_AT, (f"{site}/", f"{site}0"))))

    def placed_since(self, since_ms: int, limit: int) -> tuple[AttemptRow, ...]:
        """Attempts placed at `since_ms` or later, live or over, the newest jobs' first."""
        return tuple(map(row_of, self._link.rows(_PLACED_SINCE, (since_ms, limit))))

    def live_tenants(self) -> frozenset[TenantPath]:
        """Tenants whose work holds nodes now."""
        query = select(JOBS.c.tenant).distinct()
        query = query.join(PLACEMENTS, PLACEMENTS.c.job == JOBS.c.id).where(IS_LIVE)
        return frozenset(TenantPath(row.tenant) for row in self._link.execute(query))

    def occupants(self, nodes: Iterable[NodeId]) -> dict[NodeId, tuple[Occupant, ...]]:
        """What holds GPUs of `nodes` now."""
        found: defaultdict[NodeId, list[Occupant]] = defaultdict(list)
        for row in self._link.among(_OCCUPANTS, sorted(set(nodes))):
            node, job, attempt, gpu_mask, tenant, class_id = row
            placed = NodePlacement(node, gpu_mask & MASK64)
            found[node].append(Occupant(AttemptKey(job, attempt), tenant, class_id, placed))
        return {node: tuple(held) for node, held in found.items()}

    def footings(self, key: AttemptKey) -> tuple[Footing, ...]:
        """How a live attempt stands on each of its nodes, in rank order."""
        return self.footings_of((key,)).get(key, ())

    def footings_of(self, keys: Iterable[AttemptKey]) -> dict[AttemptKey, tuple[Footing, ...]]:
        """How those of `keys` that are live stand on each of their nodes, in rank order."""
        wanted = set(keys)
        found: defaultdict[AttemptKey, list[Footing]] = defaultdict(list)
        for row in self._link.among(_NODES_OF, sorted({key.job for key in wanted})):
            job, attempt, node, _mask, live, boot_id, gone = row
            if live and (key := AttemptKey(job, attempt)) in wanted:
                found[key].append(Footing(node, boot_id, Reason(gone) if gone else None))
        return {key: tuple(stands) for key, stands in found.items()}

    def used_milli_by_site(self) -> dict[SiteId, int]:
        """What live placements are charged, by site."""
        query = of_live(select(ATTEMPTS.c.site, func.sum(ATTEMPTS.c.gpu_milli)))
        rows = self._link.execute(query.group_by(ATTEMPTS.c.site))
        return {SiteId(site): int(milli) for site, milli in rows}

    def live_by_site(self) -> tuple[SiteUse, ...]:
        """Live placements in sum, by site, GPU class and state."""
        columns = (ATTEMPTS.c.site, ATTEMPTS.c.gpu_class, ATTEMPTS.c.state)
        query = of_live(select(*columns, func.count(), func.sum(ATTEMPTS.c.gpu_milli)))
        query = query.group_by(*columns).order_by(*columns)
        return tuple(
            SiteUse(SiteId(site), GpuClass(gpu_class), JobState(state), int(attempts), int(milli))
            for site, gpu_class, state, attempts, milli in self._link.execute(query)
        )

    def leaving(self) -> tuple[Leaving, ...]:
        """Attempts that hold nodes and are being stopped, or are lost, by job."""
        columns = (ATTEMPTS.c.site, ATTEMPTS.c.state, ATTEMPTS.c.reason, PLACEMENTS.c.node)
        query = select(ATTEMPTS.c.job, ATTEMPTS.c.attempt, *columns).join(
            PLACEMENTS,
            (PLACEMENTS.c.job == ATTEMPTS.c.job) & (PLACEMENTS.c.attempt == ATTEMPTS.c.attempt),
        )
        query = query.where(IS_LIVE, ATTEMPTS.c.state.in_([int(state) for state in LEAVING]))
        query = query.order_by(ATTEMPTS.c.job, ATTEMPTS.c.attempt, PLACEMENTS.c.ordinal)
        nodes: defaultdict[tuple[AttemptKey, str, int, str | None], list[NodeId]]
        nodes = defaultdict(list)
        for job, attempt, site, state, reason, node in self._link.execute(query):
            nodes[AttemptKey(job, attempt), site, state, reason].append(NodeId(node))
        return tuple(
            Leaving(SiteId(site), JobState(state), Reason(reason) if reason else None, tuple(held))
            for (_, site, state, reason), held in nodes.items()
        )

    def live_uses(self, under: TenantPath | None = None) -> Iterator[LiveUse]:
        """What every live attempt is charged, of one node of the tree or of all."""
        columns = (ATTEMPTS.c.gpu_class, ATTEMPTS.c.gpu_milli, ATTEMPTS.c.placed_at_ms)
        query = select(JOBS.c.tenant, JOBS.c.class_id, *columns)
        query = of_live(query.join(JOBS, JOBS.c.id == ATTEMPTS.c.job))
        for row in self._link.execute(query.order_by(ATTEMPTS.c.job)):
            tenant = TenantPath(row.tenant)
            if under is None or tenant == under or tenant.startswith(f"{under}/"):
                yield LiveUse(
                    tenant, row.class_id, GpuClass(row.gpu_class), row.gpu_milli, row.placed_at_ms
                )

    def ranks(self, key: AttemptKey) -> tuple[RankStatus, ...]:
        """What the ranks of an attempt last reported, by rank."""
        return tuple(self._ranks([key.job]).get(key, ()))

    def placement(self, key: AttemptKey) -> Placement | None:
        """Where an attempt was placed."""
        row = self.row(key)
        if row is None:
            return None
        return _placement(row, self._placed([key.job]).get(key, ()))

    def of_jobs(self, jobs: Iterable[JobId]) -> dict[JobId, tuple[Attempt, ...]]:
        """All attempts of `jobs`, oldest first."""
        return self.of_rows(self.rows_of_jobs(jobs).values())

    def of_rows(self, rows: Collection[AttemptRow]) -> dict[JobId, tuple[Attempt, ...]]:
        """As `of_jobs`, of jobs the rows of whose attempts were just read."""
        placed_once = sorted({row.key.job for row in rows})
        placed, ranks = self._placed(placed_once), self._ranks(placed_once)
        found: defaultdict[JobId, list[Attempt]] = defaultdict(list)
        for row in rows:
            whole = _whole(row, placed.get(row.key, ()), tuple(ranks.get(row.key, ())))
            found[row.key.job].append(whole)
        return {job: tuple(attempts) for job, attempts in found.items()}

    def leaf_indices(self, job: JobId) -> tuple[int, ...]:
        """Where in the audit log the placements of a job are told."""
        query = select(ATTEMPTS.c.leaf_index).where(ATTEMPTS.c.job == job)
        return tuple(self._link.execute(query.order_by(ATTEMPTS.c.leaf_index)).scalars())

    def _ranks(self, jobs: Sequence[JobId]) -> dict[AttemptKey, list[RankStatus]]:
        found: defaultdict[AttemptKey, list[RankStatus]] = defaultdict(list)
        for job, attempt, body in self._link.among(_RANKS_OF, jobs):
            found[AttemptKey(job, attempt)].append(decode(RankStatus, body))
        return found

    def _placed(self, jobs: Sequence[JobId]) -> dict[AttemptKey, tuple[NodePlacement, ...]]:
        found: defaultdict[AttemptKey, list[NodePlacement]] = defaultdict(list)
        for row in self._link.among(_NODES_OF, jobs):
            placed = NodePlacement(row[2], row[3] & MASK64)
            found[AttemptKey(row[0], row[1])].append(placed)
        return {key: tuple(nodes) for key, nodes in found.items()}


class AttemptsWriter(AttemptsReader):
    """Adds and changes attempts; keeps the ledger of what is used and tells the change log."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__(scratch.link)
        self._scratch = scratch

    def add(self, added: Sequence[NewAttempt], *, first_leaf: int, now_ms: int) -> None:
        """New attempts, just placed. Their leaves follow one another from `first_leaf`."""
        rows: list[Values] = []
        nodes: list[Values] = []
        charged: dict[tuple[TenantPath, SiteId, GpuClass], int] = {}
        unstarted = None, "", now_ms, 0, 0, 0
        for leaf_index, (tenant, leased, country, placement) in enumerate(added, first_leaf):
            (job, attempt), site, gpu_class, placed, milli = placement
            held = _PLACED, True, bool(leased), gpu_class, milli, country
            rows.append((job, attempt, site, leaf_index, *held, *unstarted))
            for n, (node, gpu_mask) in enumerate(placed):
                mask = signed_mask(gpu_mask)
                nodes.append((job, attempt, n, node, mask, True, "", ""))
            line = tenant, site, gpu_class
            charged[line] = charged.get(line, 0) + milli
        self._link.do(_ADD, *rows)
        self._link.do(_ADD_NODE, *nodes)
        for line, milli in charged.items():
            self._shift_usage(line, milli)

    def save(
        self,
        tenant: TenantPath,
        before: AttemptRow,
        after: AttemptRow,
        nodes: Iterable[NodeId] | None = None,
    ) -> None:
        """`before`, just read in this transaction, becomes `after`. `nodes`: where it is placed,
        when the caller knows."""
        key = after.key
        assert before.key == key
        assert after.live <= before.live, "an attempt that is over does not come back"
        self._link.do(_SAVE, (*changing(after), key.job, key.attempt))
        if before.live and not after.live:
            self._leave(key, nodes)
            self._link.do(_END, (False, key.job, key.attempt))
            self._shift_usage((tenant, after.site, after.gpu_class), -after.gpu_milli)
        self._scratch.changed(ChangeKind.JOB, str(key.job))

    def put_ranks(self, key: AttemptKey, ranks: Sequence[RankStatus]) -> None:
        """What the ranks reported now."""
        self._link.do(_PUT_RANK, *((key.job, key.attempt, r.rank, rank_text(r)) for r in ranks))
        self._scratch.changed(ChangeKind.JOB, str(key.job))

    def set_boot(self, key: AttemptKey, boots: Mapping[NodeId, str]) -> None:
        """Ranks of the attempt were seen running on these nodes, under these boots."""
        rows = [(boot, key.job, key.attempt, node) for node, boot in sorted(boots.items())]
        self._link.do(_SET_BOOT, *rows)

    def set_gone(self, key: AttemptKey, node: NodeId, proof: Reason) -> None:
        """It is proved that nothing of the attempt runs on this node any more."""
        self._link.do(_SET_GONE, (proof.value, key.job, key.attempt, node))

    def _leave(self, key: AttemptKey, nodes: Iterable[NodeId] | None) -> None:
        """What is remembered of the nodes that an attempt was on holds no longer."""
        if nodes is None:
            nodes = [footing.node for footing in self.footings(key)]
        self._scratch.forget_records(tuple(nodes))

    def _shift_usage(self, line: tuple[TenantPath, SiteId, GpuClass], milli: int) -> None:
        ledger = self._scratch.memo.ledger
        ledger.add_used(*line, milli)
        self._scratch.undo.append(lambda: ledger.add_used(*line, -milli))


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
