"""What a plan asks to leave is asked, if it still holds: the writer trusts nobody here either.

Per job that room is made for, all or nothing. It must still wait. Each victim must still be the
live attempt that the plan saw, of work that may be preempted, past its least runtime, and by right:
the rules of `core.stakes` against what is in use now. A victim that is over or leaving already
needs no asking. Where a site's power cap is exceeded nobody waits for the room, and only the site
is asked whether it still is.

What leaves keeps its place in the queue: its id, and so its age, stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from scheduler.control import recovery
from scheduler.control.life import Cause
from scheduler.core.asks import ask_of
from scheduler.core.elastic import GROW_EVERY_MS
from scheduler.core.evictable import LEAVING
from scheduler.core.lengths import ahead_of
from scheduler.core.lifecycle import Event, step
from scheduler.core.quota import QuotaTree, Usage, charge, reclaimable
from scheduler.core.ranks import outranks, rank_of, rank_since
from scheduler.model.ids import GpuClass, JobId, SiteId
from scheduler.model.job import JobState
from scheduler.model.plan import JobClass, Preempt
from scheduler.store.records import AttemptRow, JobRow
from scheduler.store.store import Txn

PREEMPTED = "preempted"
"""The kind of leaf that says for whom. It is no tenant's: who makes room for whom is between them
and the operator, and the leaf of the move itself says by which rule."""


@dataclass(frozen=True, slots=True)
class _Victim:
    """A live attempt that was asked for, with what is judged about it."""

    asked: Preempt
    job: JobRow
    attempt: AttemptRow
    job_class: JobClass


def preempt(txn: Txn, asked: Sequence[Preempt], now_ms: int) -> tuple[Preempt, ...]:
    """Makes leave what still should; which of `asked` that is."""
    by_beneficiary: dict[JobId, list[Preempt]] = {}
    shed: list[Preempt] = []
    grown: list[Preempt] = []
    for each in asked:
        if each.beneficiary is None:
            shed.append(each)
        elif each.beneficiary == each.victim.job:
            grown.append(each)
        else:
            by_beneficiary.setdefault(each.beneficiary, []).append(each)
    begun = [*_shed(txn, shed, now_ms), *_grow(txn, grown, now_ms)]
    if by_beneficiary:
        rights = _Rights(txn)
        for job, group in by_beneficiary.items():
            begun += _make_room(txn, rights, job, group, now_ms)
    return tuple(begun)


def _make_room(
    txn: Txn, rights: _Rights, job: JobId, group: Sequence[Preempt], now_ms: int
) -> list[Preempt]:
    row = txn.jobs.row(job)
    if row is None or row.state is not JobState.QUEUED or row.cancel_requested:
        return []
    victims: list[_Victim] = []
    for asked in group:
        victim = _victim(txn, asked)
        if victim is None or victim.attempt.state in LEAVING:
            continue  # It is over, or on its way.
        if not _may_leave(victim, now_ms):
            return []
        victims.append(victim)
    job_class = txn.jobs.job_class(row.class_id)
    if not rights.hold(row, job_class, victims, now_ms):
        return []
    for victim in victims:
        _leave(txn, victim, f"it makes room for {_for_what(row, job_class, victim)}", now_ms)
    return [victim.asked for victim in victims]


def _for_what(row: JobRow, job_class: JobClass, victim: _Victim) -> str:
    if victim.job.tenant != row.tenant:
        return "work that is guaranteed it"
    if victim.job_class.priority < job_class.priority:
        return "a job of higher priority in its project"
    return "a shorter job of its project"


def _shed(txn: Txn, asked: Iterable[Preempt], now_ms: int) -> list[Preempt]:
    """Ends what a site's lowered power cap has no room for."""
    begun: list[Preempt] = []
    over: dict[SiteId, bool] = {}
    for each in asked:
        victim = _victim(txn, each)
        if victim is None or step(victim.job.state, Event.PREEMPT) is None:
            continue
        site = victim.attempt.site
        if site not in over:
            over[site] = _draws_too_much(txn, site)
        if over[site]:
            _leave(txn, victim, f"{site} may not draw so much power any more", now_ms)
            begun.append(each)
    return begun


def _grow(txn: Txn, asked: Iterable[Preempt], now_ms: int) -> Iterator[Preempt]:
    """Ends elastic jobs that start again with more nodes, while nobody waits."""
    for each in asked:
        victim = _victim(txn, each)
        if victim is None or victim.job.state is not JobState.RUNNING:
            continue
        wide = len(txn.attempts.footings(each.victim)) < victim.job_class.resources.max_nodes
        due_ms = victim.attempt.started_at_ms + GROW_EVERY_MS
        if wide and due_ms <= now_ms and _may_leave(victim, now_ms):
            _leave(txn, victim, "it starts again with more nodes", now_ms)
            yield each


def _draws_too_much(txn: Txn, name: SiteId) -> bool:
    site = txn.fleet.site(name)
    cap = txn.mirror.cap(site) if site else None
    if cap is None:
        return False
    held: dict[GpuClass, int] = {}
    for use in txn.attempts.live_by_site():
        if use.site == name and use.state not in LEAVING:
            held[use.gpu_class] = held.get(use.gpu_class, 0) + use.gpu_milli
    return cap.used_w(held) > cap.cap_w


def _victim(txn: Txn, asked: Preempt) -> _Victim | None:
    attempt = txn.attempts.row(asked.victim)
    if attempt is None or not attempt.live:
        return None
    job = txn.jobs.row(asked.victim.job)
    assert job is not None, "an attempt has a job"
    return _Victim(asked, job, attempt, txn.jobs.job_class(job.class_id))


def _may_leave(victim: _Victim, now_ms: int) -> bool:
    least_ms = victim.job_class.min_runtime_ms
    began_ms = victim.attempt.started_at_ms or victim.attempt.placed_at_ms
    return (
        victim.job_class.preemptible
        and step(victim.job.state, Event.PREEMPT) is not None
        and (not least_ms or began_ms + least_ms <= now_ms)
    )


def _leave(txn: Txn, victim: _Victim, why: str, now_ms: int) -> None:
    begun = recovery.preempt(txn, victim.attempt, Cause(why), now_ms)
    assert begun, "it was just seen that it may leave"
    body: Mapping[str, object] = {
        "attempt": victim.attempt.key.attempt,
        "tenant": victim.job.tenant,
        "beneficiary": victim.asked.beneficiary,
        "detail": victim.asked.detail,
    }
    txn.audit.append(PREEMPTED, now_ms, dict(body), job=victim.job.id)


class _Rights:
    """Whether those who ask may, counting what was granted in the same plan."""

    def __init__(self, txn: Txn) -> None:
        self._txn = txn
        self._tree = QuotaTree(txn.tenancy.tenants())
        self._used: Usage = {path: dict(line) for path, line in txn.ledger().used.items()}

    def hold(
        self, row: JobRow, job_class: JobClass, victims: Sequence[_Victim], now_ms: int
    ) -> bool:
        """Whether `row` may ask each of `victims` after the others. If not, nothing counts."""
        ask = ask_of(job_class)
        milli = ask.nodes * ask.milli_on(ask.shape.gpus)
        gone: list[_Victim] = []
        for victim in victims:
            if not self._may_ask(row, job_class, milli, victim, now_ms):
                for back in gone:
                    self._charge(back, 1)
                return False
            self._charge(victim, -1)
            gone.append(victim)
        return True

    def _may_ask(
        self, row: JobRow, job_class: JobClass, milli: int, victim: _Victim, now_ms: int
    ) -> bool:
        if victim.job.tenant == row.tenant:
            order = self._tree.tenants[row.tenant].queue_order
            ahead = ahead_of(self._txn.learned.lengths(row.tenant).lengths)
            theirs = rank_since(
                victim.job_class,
                order,
                ahead,
                submitted_at_ms=victim.job.submitted_at_ms,
                placed_at_ms=victim.attempt.placed_at_ms,
                began_at_ms=victim.attempt.started_at_ms or victim.attempt.placed_at_ms,
                now_ms=now_ms,
            )
            return outranks(rank_of(job_class, order, ahead), theirs[0])
        return reclaimable(
            self._tree,
            self._used,
            row.tenant,
            victim.job.tenant,
            victim.attempt.gpu_class,
            victim.attempt.gpu_milli,
            asked_milli=milli,
        )

    def _charge(self, victim: _Victim, sign: int) -> None:
        milli = sign * victim.attempt.gpu_milli
        charge(self._used, victim.job.tenant, victim.attempt.gpu_class, milli)
