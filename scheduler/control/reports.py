"""What a site says, and what becomes of it. Messages may be lost, doubled or late: none is trusted
to be the next one, and a site's word counts for its own nodes and attempts only.

A report on an attempt that is over here is about the past: the site is told to forget what it has
ended, and to stop what it still runs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from scheduler.control import evidence, failures, recovery
from scheduler.control.follow import follow
from scheduler.control.life import Cause, Witness, settle, short
from scheduler.core.lifecycle import outcome
from scheduler.model.fleet import NodeReport, SiteContact
from scheduler.model.ids import AttemptKey, NodeId, SiteId, site_of
from scheduler.model.job import NodePlacement, RankPhase, RankStatus
from scheduler.model.reasons import Code, Denial, Reason, Refused, invalid, not_found
from scheduler.model.sitelink import AttemptPhase, AttemptReport, DesiredAction, SiteReport
from scheduler.store.records import AttemptRow, JobRow
from scheduler.store.store import Txn

ATTEMPTS_MAX = 20_000
"""Attempts in one report: more than a site's GPUs can hold."""
NODES_MAX = 20_000
RANKS_MAX = 65_536
"""Ranks of one attempt: 4,096 nodes of 16."""
TEXT_CHARACTERS_MAX = 200
ANSWERS_OF_REPORT_MAX = 256
"""Attempts nobody wants at a site that one of its reports has us answer: what it still has, it
reports again."""
ANSWERS_OF_SITE_MAX = 8_192
"""As many such answers may wait for a site to confirm them: as many rows as it holds itself. Else
one that makes attempts up would fill the store."""

_ADDRESS = re.compile(r"(\[[0-9a-f:]+\]|[a-z0-9][a-z0-9._-]*):[1-9][0-9]{0,4}", re.I | re.A)
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


@dataclass(frozen=True, slots=True)
class Hello:
    """A site's agent presents itself."""

    agent_version: str
    incarnation: str
    epoch: int
    generation: int
    metrics_address: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a report said that nobody could use: counted and alarmed, not refused."""

    undeclared: tuple[NodeId, ...]
    foreign_nodes: tuple[NodeId, ...]
    implausible: tuple[AttemptKey, ...]
    """Attempts whose ranks cannot be theirs."""
    unanswered: int = 0
    """Attempts that nobody wants there, beyond what is answered."""


class _Taken(Enum):
    """What became of a site's word on an attempt."""

    YES = "yes"
    FOREIGN = "foreign"
    """It is placed at another site, and the reporting one had not been told so yet."""
    IMPLAUSIBLE = "implausible"


@dataclass(slots=True)
class _Answers:
    """How many attempts that nobody wants at a site may yet be answered, and how many were not."""

    txn: Txn
    site: SiteId
    left: int | None = None
    refused: int = 0

    def take(self) -> bool:
        """Whether one more is answered."""
        if self.left is None:
            waiting = self.txn.outbox.count(self.site, NOT_DESIRED)
            self.left = min(ANSWERS_OF_REPORT_MAX, ANSWERS_OF_SITE_MAX - waiting)
        if self.left <= 0:
            self.refused += 1
            return False
        self.left -= 1
        return True


def site_hello(txn: Txn, site: SiteId, hello: Hello, epoch: int, now_ms: int) -> None:
    """A session with the agent of a declared site begins."""
    if txn.fleet.site(site) is None:
        raise not_found("site", site)
    _refuse_newer_epoch(hello.epoch, epoch)
    contact = _acknowledge(txn, txn.fleet.contact(site), hello.generation, now_ms)
    contact = replace(
        contact,
        connected=True,
        agent_version=hello.agent_version[:TEXT_CHARACTERS_MAX],
        incarnation=hello.incarnation[:TEXT_CHARACTERS_MAX],
        metrics_address=_address(hello.metrics_address),
    )
    txn.fleet.put_contact(contact, now_ms)


def site_gone(txn: Txn, site: SiteId, incarnation: str, now_ms: int) -> None:
    """A site's only session ended. One that another has replaced is not told of here: an agent
    keeps its incarnation from session to session, so its old one could end the new one."""
    contact = txn.fleet.contact(site)
    if contact.connected and contact.incarnation == incarnation:
        txn.fleet.put_contact(replace(contact, connected=False), now_ms)


def sites_gone(txn: Txn, present: Collection[SiteId], now_ms: int) -> None:
    """Nobody but `present` has a session: that one ended may not have been written at the time."""
    for entry in txn.fleet.sites():
        if entry.contact.connected and entry.site.id not in present:
            txn.fleet.put_contact(replace(entry.contact, connected=False), now_ms)


def site_report(txn: Txn, site: SiteId, report: SiteReport, epoch: int, now_ms: int) -> Heard:
    """Takes a site's word: its nodes, its attempts, the generation that it has."""
    _refuse_too_large(report)
    if txn.fleet.site(site) is None:
        raise not_found("site", site)
    _refuse_newer_epoch(report.epoch, epoch)
    foreign_nodes, undeclared, rebooted = _take_nodes(txn, site, report.nodes, now_ms)
    foreign: list[AttemptKey] = []
    implausible: list[AttemptKey] = []
    answers = _Answers(txn, site)
    for attempt in sorted(report.attempts, key=lambda a: a.key):
        match _take_attempt(txn, answers, attempt, report.generation, now_ms):
            case _Taken.FOREIGN:
                foreign.append(attempt.key)
            case _Taken.IMPLAUSIBLE:
                implausible.append(attempt.key)
            case _Taken.YES:
                pass
    for node in rebooted:
        recovery.conclude_reboot(txn, node, now_ms)
    failures.move_work(txn, site, report.nodes, now_ms)
    contact = _acknowledge(txn, txn.fleet.contact(site), report.generation, now_ms)
    txn.fleet.put_contact(contact, now_ms)
    txn.outbox.drop_forgotten(site, contact.acked_generation)
    if foreign:
        evidence.misreported(txn.audit, site, foreign, now_ms)
    return Heard(
        tuple(undeclared), tuple(foreign_nodes), tuple(implausible), unanswered=answers.refused
    )


def _acknowledge(txn: Txn, contact: SiteContact, held: int, now_ms: int) -> SiteContact:
    """What the site holds, believed: less than before means that it lost its journal."""
    if held <= contact.generation:
        return replace(contact, acked_generation=held)
    # Our store was put back to an older state. Start above all that the site ever saw.
    generation = txn.outbox.renumber(contact.site, held + 1)
    evidence.generations_renewed(txn.audit, contact.site, held, generation, now_ms)
    return replace(contact, generation=generation, acked_generation=0)


def _take_nodes(
    txn: Txn, site: SiteId, reports: Sequence[NodeReport], now_ms: int
) -> tuple[list[NodeId], list[NodeId], list[NodeId]]:
    """Nodes that are not the site's, that nobody declared, and that have booted anew."""
    foreign = sorted(r.node for r in reports if site_of(r.node) != site)
    own = {r.node: r for r in reports if site_of(r.node) == site}
    declared = txn.fleet.nodes_by_id(own)
    rebooted: list[NodeId] = []
    for node, entry in declared.items():
        report = own[node]
        if entry.report is not None and entry.report.boot_id != report.boot_id:
            rebooted.append(node)
        told = replace(
            report,
            health_detail=short(report.health_detail),
            metrics_address=_address(report.metrics_address),
        )
        txn.fleet.put_report(told, now_ms)
    return foreign, sorted(set(own) - set(declared)), rebooted


def _take_attempt(
    txn: Txn, answers: _Answers, report: AttemptReport, generation: int, now_ms: int
) -> _Taken:
    """Takes a site's word on one attempt."""
    site = answers.site
    row = txn.attempts.row(report.key)
    if row is None or not row.live or row.site != site:
        is_news = _answer_past(txn, answers, report, generation)
        return _Taken.FOREIGN if row and row.site != site and is_news else _Taken.YES
    job = txn.jobs.get(report.key.job)
    job_row = txn.jobs.row(report.key.job)
    assert job is not None
    assert job_row is not None
    assert job.attempts[-1].key == report.key, "a live attempt is its job's last"
    attempt = job.attempts[-1]
    if not _plausible(report.ranks, attempt.placement.nodes):
        return _Taken.IMPLAUSIBLE
    ranks = _newer_ranks(attempt.ranks, report.ranks)
    if ranks:
        txn.attempts.put_ranks(report.key, ranks)
        _remember_boots(txn, row, ranks)
        row = _remember_checkpoint(txn, job_row, row, _newest(attempt.ranks), ranks, now_ms)
    found = outcome(job, replace(report, detail=short(report.detail)))
    if found is not None:
        after = settle(
            txn,
            job_row,
            row,
            found,
            cause=Cause(f"site reported {report.phase.name}", actor=site),
            witness=Witness.SITE,
            now_ms=now_ms,
        )
        follow(txn, after, now_ms)
    return _Taken.YES


def _answer_past(txn: Txn, answers: _Answers, report: AttemptReport, generation: int) -> bool:
    """Tells a site what to do with an attempt that is not, or no longer, to be there.

    Whether this is news: the same answer is not given twice.
    """
    over = report.phase in _OVER_AT_SITE
    action = DesiredAction.FORGET if over else DesiredAction.STOP
    site = answers.site
    row = txn.outbox.get(site, report.key)
    if row is None:
        if not answers.take():
            return False
        txn.outbox.put(site, [report.key], action, reason=NOT_DESIRED)
        return True
    if row.action is DesiredAction.FORGET and not over and row.generation > generation:
        return False  # The report is older than what we told the site since.
    if row.action is not action:
        txn.outbox.put(site, [report.key], action, reason=NOT_DESIRED)
    return False


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
        rank = replace(rank, detail=short(rank.detail))
        old = before.get(rank.rank)
        if old is not None and old.checkpoint_at_ms > rank.checkpoint_at_ms:
            # Its agent was started anew and has not looked yet, or the rank is over.
            rank = replace(rank, checkpoint_at_ms=old.checkpoint_at_ms)
        if old is None or (old != rank and old.phase <= rank.phase):
            newer.append(rank)
    return tuple(newer)


def _address(told: str) -> str:
    """Where an agent says that it is scraped; nowhere, when that is no address."""
    return told if len(told) <= TEXT_CHARACTERS_MAX and _ADDRESS.fullmatch(told) else ""


def _remember_boots(txn: Txn, row: AttemptRow, ranks: Sequence[RankStatus]) -> None:
    """Under which boot a rank runs, so that a later boot proves that it no longer does."""
    running = {rank.node for rank in ranks if rank.phase is RankPhase.RUNNING}
    if not running:
        return
    unknown = {f.node for f in txn.attempts.footings(row.key) if not f.boot_id} & running
    boots: Mapping[NodeId, str] = {
        node: entry.report.boot_id
        for node, entry in txn.fleet.nodes_by_id(unknown).items()
        if entry.report is not None
    }
    txn.attempts.set_boot(row.key, boots)


def _remember_checkpoint(
    txn: Txn,
    job: JobRow,
    row: AttemptRow,
    known_ms: int,
    ranks: Sequence[RankStatus],
    now_ms: int,
) -> AttemptRow:
    """That there is a checkpoint newer than `known_ms`. When it was heard is what counts, by our
    clock: the node's may be wrong."""
    if _newest(ranks) <= known_ms:
        return row
    after = replace(row, checkpoint_at_ms=now_ms)
    txn.attempts.save(job.tenant, row, after)
    return after


def _newest(ranks: Sequence[RankStatus]) -> int:
    return max((rank.checkpoint_at_ms for rank in ranks), default=0)


def _refuse_newer_epoch(heard: int, epoch: int) -> None:
    if heard > epoch:
        raise Refused(
            Code.UNAVAILABLE,
            Reason.NOT_LEADER,
            f"the site has heard from epoch {heard}; ours is {epoch}",
        )


def _refuse_too_large(report: SiteReport) -> None:
    faults = [
        Denial(Reason.TOO_LARGE, f"found {len(found)}, allowed {limit}", field)
        for field, found, limit in (
            ("attempts", report.attempts, ATTEMPTS_MAX),
            ("nodes", report.nodes, NODES_MAX),
        )
        if len(found) > limit
    ]
    if faults:
        raise invalid(*faults)
