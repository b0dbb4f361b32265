"""The attempts of sites' reports: read from the store many at once, judged one after another.

The simple equivalent is to read what is known of each attempt when its turn comes, which costs a
dozen questions for each. Here a batch is read before the first of it is judged; what changes in
between (an attempt that is told of twice, an array that is cancelled with its tasks) is noticed by
the transaction's own changes and read anew. Nothing else is asked while a batch is judged, so what
is written goes to the database a batch at a time, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from scheduler.control import evidence
from scheduler.control.follow import follow
from scheduler.control.life import Cause, Live, settle, short
from scheduler.core.egress import of_attempt
from scheduler.core.lifecycle import Event, outcome
from scheduler.model.ids import AttemptKey, JobId, NodeId, SiteId
from scheduler.model.job import Attempt, NodePlacement, RankPhase, RankStatus
from scheduler.model.sitelink import AttemptPhase, AttemptReport, DesiredAction, SiteReport
from scheduler.store import operator_access
from scheduler.store.records import AttemptRow, Footing, OutboxRow
from scheduler.store.store import Txn

RANKS_MAX = 65_536
"""Ranks of one attempt: 4,096 nodes of 16."""
BATCH_MAX = 1_000
"""Attempts that are read at once: their jobs may be large."""
ANSWERS_OF_REPORT_MAX = 256
"""Attempts nobody wants at a site that one of its reports has us answer: what it still has, it
reports again."""
ANSWERS_OF_SITE_MAX = 8_192
"""As many such answers may wait for a site to confirm them: as many rows as it holds itself. Else
one that makes attempts up would fill the store."""

NOT_DESIRED = "not desired here"
"""Why a site is to end, or to forget, what nobody wants there."""
_OVER_AT_SITE = frozenset(
    {
        AttemptPhase.ENDED,
        AttemptPhase.REFUSED,
        AttemptPhase.FAILED_TO_START,
        AttemptPhase.LOST,
    }
)


@dataclass(slots=True)
class Found:
    """What was wrong with a site's word on its attempts."""

    foreign: list[AttemptKey] = field(default_factory=lambda: [])
    """Placed at another site, where the reporting one had not been told so yet."""
    implausible: list[AttemptKey] = field(default_factory=lambda: [])
    """Their ranks cannot be theirs."""
    unanswered: int = 0
    """Attempts that nobody wants there, beyond what is answered."""
    egress_denied: int = 0
    """Tries to reach elsewhere that were denied, of which nobody had told before."""


def take_attempts(txn: Txn, told: Sequence[tuple[SiteId, SiteReport]], now_ms: int) -> list[Found]:
    """Takes the word of sites, each of them once, on their attempts: site by site, in the order of
    the attempts' keys. What was wrong with the word of each."""
    takings = [_Taking(txn, site, said.generation, now_ms) for site, said in told]
    said_of = [
        _Said(taking, report)
        for taking, (_, said) in zip(takings, told, strict=True)
        for report in sorted(said.attempts, key=_key)
    ]
    for n in range(0, len(said_of), BATCH_MAX):
        for said, known in _with_known(txn, said_of[n : n + BATCH_MAX]):
            said.by.take(said.report, known)
        for taking in takings:
            taking.tell_forgotten()
    return [taking.found for taking in takings]


def _key(report: AttemptReport) -> AttemptKey:
    return report.key


class _Said(NamedTuple):
    """What one site said of one attempt."""

    by: _Taking
    report: AttemptReport


class _Known(NamedTuple):
    """What the store has of some attempts that sites reported."""

    rows: Mapping[AttemptKey, AttemptRow]
    live: Mapping[AttemptKey, Live]
    """Those that are live, and placed at the site that told of them."""
    footings: Mapping[AttemptKey, tuple[Footing, ...]]
    """Of those of `live` of which a rank is said to run."""
    awaited: Collection[JobId]
    """Jobs of `live` that others wait for."""
    desired: Mapping[tuple[SiteId, AttemptKey], OutboxRow]
    """What sites were told of the others."""


def _with_known(txn: Txn, batch: Sequence[_Said]) -> Iterator[tuple[_Said, _Known]]:
    """Each of `batch` with what is known of it when its turn comes."""
    seen = txn.changes_made()
    known = _read(txn, batch)
    stale: set[JobId] = set()
    before: AttemptKey | None = None
    for said in batch:
        key = said.report.key
        stale.update(txn.jobs_changed(seen))
        seen = txn.changes_made()
        # An answer to what is past changes no job: told twice, it is looked at twice.
        is_current = key.job not in stale and key != before
        yield said, known if is_current else _read(txn, (said,))
        before = key


def _read(txn: Txn, batch: Sequence[_Said]) -> _Known:
    by_site: dict[SiteId, set[AttemptKey]] = {}
    for by, report in batch:
        by_site.setdefault(by.site, set()).add(report.key)
    rows = txn.attempts.rows_of_jobs(said.report.key.job for said in batch)
    ours = {key: row for key, row in rows.items() if row.live and key in by_site.get(row.site, ())}
    jobs = txn.jobs.rows(key.job for key in ours)
    attempts = txn.attempts.of_rows([row for key, row in rows.items() if key.job in jobs])
    found = txn.jobs.whole(tuple(jobs.values()), with_spec=True, attempts=attempts)
    wholes = {job.id: job for job in found}
    running = [report.key for _, report in batch if report.key in ours and _running(report.ranks)]
    # Whoever asks for one of them from here on is answered from memory.
    txn.fleet.nodes_by_id(
        placed.node
        for job in found
        for attempt in job.attempts
        for placed in attempt.placement.nodes
    )
    uses = operator_access.uses_of(txn, jobs)
    desired: dict[tuple[SiteId, AttemptKey], OutboxRow] = {}
    for site, keys in by_site.items():
        past = (key for key in keys if key not in ours or ours[key].site != site)
        desired.update(((site, key), row) for key, row in txn.outbox.of(site, past).items())
    return _Known(
        rows=rows,
        live={
            key: Live(
                jobs[key.job],
                row,
                wholes[key.job],
                wholes[key.job].attempts[-1].ranks,
                uses.get(key.job, ()),
            )
            for key, row in ours.items()
        },
        footings=txn.attempts.footings_of(running),
        awaited=txn.waits.awaited(jobs),
        desired=desired,
    )


@dataclass(slots=True)
class _Taking:
    """One report that is being taken, and what was found in it so far."""

    txn: Txn
    site: SiteId
    generation: int
    now_ms: int
    found: Found = field(default_factory=Found)
    answers_left: int | None = None
    """How many attempts that nobody wants at the site may yet be answered, once one was."""
    forgotten: dict[AttemptKey, None] = field(default_factory=lambda: {})
    """Attempts that ended, of which the site is to be told that it may forget them."""

    def take(self, report: AttemptReport, known: _Known) -> None:
        """Takes the site's word on one attempt."""
        live = known.live.get(report.key)
        if live is None or live.attempt.site != self.site:
            row = known.rows.get(report.key)
            is_news = self._answer_past(report, known.desired.get((self.site, report.key)))
            if row is not None and row.site != self.site and is_news:
                self.found.foreign.append(report.key)
            return
        attempt = live.whole.attempts[-1]
        if not _plausible(report.ranks, attempt.placement.nodes):
            self.found.implausible.append(report.key)
            return
        ranks = _newer_ranks(attempt.ranks, report.ranks)
        if ranks:
            self.txn.attempts.put_ranks(report.key, ranks)
            if footings := known.footings.get(report.key):
                self._remember_boots(report.key, footings, ranks)
            live = self._remember_checkpoint(live, ranks)
            live = live._replace(ranks=_joined(attempt.ranks, ranks))
            if any(rank.egress is not None for rank in ranks):
                denied = _denied(attempt._replace(ranks=live.ranks)) - _denied(attempt)
                self.found.egress_denied += max(0, denied)
        self._settle(live, report, is_awaited=report.key.job in known.awaited)

    def _settle(self, live: Live, report: AttemptReport, *, is_awaited: bool) -> None:
        """Makes the outcome of a report so, if it has one, and what follows from it."""
        if (detail := short(report.detail)) is not report.detail:
            report = replace(report, detail=detail)
        made = outcome(live.whole, report)
        if made is None:
            return
        spec = live.whole.spec
        if made.event is Event.STARTED and spec is not None and spec.key_ticket:
            attempt = report.key.attempt
            evidence.keys_released(self.txn.audit, live.job, attempt, self.site, spec, self.now_ms)
        cause = Cause(f"site reported {report.phase.name}", actor=self.site)
        after = settle(self.txn, live, made, cause=cause, now_ms=self.now_ms)
        if made.ends_attempt():
            self.forgotten[report.key] = None
        # To nobody else a job's move means anything.
        if is_awaited or after.array_id is not None:
            follow(self.txn, after, self.now_ms)

    def _answer_past(self, report: AttemptReport, told: OutboxRow | None) -> bool:
        """Tells the site what to do with an attempt that is not, or no longer, to be there.

        Whether this is news: the same answer is not given twice.
        """
        if report.key in self.forgotten:
            return False
        over = report.phase in _OVER_AT_SITE
        action = DesiredAction.FORGET if over else DesiredAction.STOP
        if told is None:
            if not self._may_answer():
                return False
            self.txn.outbox.put(self.site, [report.key], action, reason=NOT_DESIRED)
            return True
        if told.action is DesiredAction.FORGET and not over and told.generation > self.generation:
            return False  # The report is older than what we told the site since.
        if told.action is not action:
            self.txn.outbox.put(self.site, [report.key], action, reason=NOT_DESIRED)
        return False

    def tell_forgotten(self) -> None:
        """Tells the site to forget what ended, all at once."""
        self.txn.outbox.put(self.site, list(self.forgotten), DesiredAction.FORGET)
        self.forgotten = {}

    def _may_answer(self) -> bool:
        """Whether one more attempt that nobody wants there is answered."""
        if self.answers_left is None:
            waiting = self.txn.outbox.count(self.site, NOT_DESIRED)
            self.answers_left = min(ANSWERS_OF_REPORT_MAX, ANSWERS_OF_SITE_MAX - waiting)
        if self.answers_left <= 0:
            self.found.unanswered += 1
            return False
        self.answers_left -= 1
        return True

    def _remember_boots(
        self, key: AttemptKey, footings: Sequence[Footing], ranks: Sequence[RankStatus]
    ) -> None:
        """Under which boot a rank runs, so that a later boot proves that it no longer does."""
        unknown = {stands.node for stands in footings if not stands.boot_id} & _running(ranks)
        boots: Mapping[NodeId, str] = {
            node: entry.report.boot_id
            for node, entry in self.txn.fleet.nodes_by_id(unknown).items()
            if entry.report is not None
        }
        self.txn.attempts.set_boot(key, boots)

    def _remember_checkpoint(self, live: Live, ranks: Sequence[RankStatus]) -> Live:
        """That there is a checkpoint newer than the last. When it was heard is what counts, by our
        clock: the node's may be wrong."""
        if _newest(ranks) <= _newest(live.ranks):
            return live
        after = live.attempt._replace(checkpoint_at_ms=self.now_ms)
        nodes = (placed.node for placed in live.whole.attempts[-1].placement.nodes)
        self.txn.attempts.save(live.job.tenant, live.attempt, after, nodes)
        return live._replace(attempt=after)


def _plausible(ranks: Sequence[RankStatus], placed: Sequence[NodePlacement]) -> bool:
    """Whether ranks can be those of an attempt: in number, and by where they are."""
    nodes = {placement.node for placement in placed}
    numbers = {rank.rank for rank in ranks}
    return (
        len(numbers) == len(ranks) <= RANKS_MAX
        and all(0 <= number < RANKS_MAX for number in numbers)
        and all(rank.node in nodes for rank in ranks)
    )


def _newer_ranks(
    known: Sequence[RankStatus], reported: Sequence[RankStatus]
) -> tuple[RankStatus, ...]:
    """Those of `reported` that say more than what is known; ranks never go backwards."""
    before = {rank.rank: rank for rank in known}
    newer: list[RankStatus] = []
    for rank in reported:
        if (detail := short(rank.detail)) is not rank.detail:
            rank = replace(rank, detail=detail)
        old = before.get(rank.rank)
        if old is not None and old.checkpoint_at_ms > rank.checkpoint_at_ms:
            # Its agent was started anew and has not looked yet, or the rank is over.
            rank = replace(rank, checkpoint_at_ms=old.checkpoint_at_ms)
        if old is None or (old != rank and old.phase <= rank.phase):
            newer.append(rank)
    return tuple(newer)


def _joined(known: Sequence[RankStatus], newer: Sequence[RankStatus]) -> tuple[RankStatus, ...]:
    """What is now known of the ranks of an attempt, by rank."""
    ranks = {rank.rank: rank for rank in (*known, *newer)}
    return tuple(ranks[number] for number in sorted(ranks))


def _denied(attempt: Attempt) -> int:
    """What its ranks' ends say was denied; those that shared a network on a node say it once."""
    return of_attempt(attempt, 0).denied


def _running(ranks: Sequence[RankStatus]) -> set[NodeId]:
    """Where ranks run."""
    return {rank.node for rank in ranks if rank.phase is RankPhase.RUNNING}


def _newest(ranks: Sequence[RankStatus]) -> int:
    return max((rank.checkpoint_at_ms for rank in ranks), default=0)
