"""Residency while work runs: when facts, the policy or the time change, what runs is judged again.

The simple equivalent judges every live attempt at every turn. Here a site is judged again when its
facts, its parents or the policy are not what they were, or when a fact's time came; it is settled
once a turn finds nobody there who has to leave. So a turn that was not committed is repeated, and a
control plane that begins judges everything once.

What is known of nodes counts as well: a node that is refuted, or of which enough is known no more,
is left by the work that it stands against.

Who may not stay leaves with its job's grace, in which it may write a checkpoint, cut to the
deadline: when that is over its processes are killed. It goes back to the queue, and the planner
finds another place for it if there is one. When it had to leave, and why, is in the audit log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.control import evidence
from scheduler.control.life import Cause, begin_stop, stop, stop_grace_ms
from scheduler.control.relabelled import judge_again
from scheduler.control.requirements import effective
from scheduler.core.lifecycle import Event, step
from scheduler.core.node_facts import node_change_ms, node_denials, node_needs
from scheduler.core.residency import country_of, next_change_ms, permits, under
from scheduler.model.fleet import Site
from scheduler.model.ids import AttemptKey, JobId, NodeId, SiteId
from scheduler.model.job import JobState
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Deny, Policy, Requirement, Verdict
from scheduler.store.records import AttemptRow, JobRow
from scheduler.store.store import Txn

DEADLINE_MS = 600_000
"""From the verdict to the kill, at most: a job's own grace may be longer, and is cut to this."""
LEAVING_PER_TURN_MAX = 1_000
"""Attempts that one turn tells to leave; the next goes on."""

_LEAVING = frozenset({JobState.PREEMPTING, JobState.CANCELLING})


@dataclass(frozen=True, slots=True)
class _Settled:
    """What a site was judged by when nobody there had to leave."""

    site: Site
    policy: Policy
    until_ms: int | None
    known: int
    """How often, till then, it was found out otherwise what is known of a node there."""

    def holds(self, site: Site, policy: Policy, known: int, now_ms: int) -> bool:
        """Whether nothing has changed that a verdict depends on."""
        return (
            (self.until_ms is None or now_ms < self.until_ms)
            and self.policy == policy
            and self.known == known
            and self.site.facts == site.facts
            and self.site.parents == site.parents
        )


class Continuous:
    """Judges again what runs, site by site."""

    def __init__(self, *, deadline_ms: int = DEADLINE_MS) -> None:
        self._deadline_ms = deadline_ms
        self._settled: dict[SiteId, _Settled] = {}

    def placed(self, known_until_ms: Mapping[SiteId, int]) -> None:
        """Work was placed at these sites, and rests on what it asks to be known until then. To look
        sooner than one has to does no harm, so it does not matter whether that was committed."""
        for site, until_ms in known_until_ms.items():
            settled = self._settled.get(site)
            if settled is None:
                continue
            if settled.until_ms is None or until_ms < settled.until_ms:
                self._settled[site] = replace(settled, until_ms=until_ms)

    def turn(self, txn: Txn, now_ms: int) -> int:
        """Makes leave what may not stay; how many attempts that is."""
        policy = txn.tenancy.policy()
        for site in sorted(judge_again(txn)):
            self._settled.pop(site, None)
        told = 0
        for entry in txn.fleet.sites():
            site = entry.site
            seen = txn.fleet.times_known(site.id)
            known = self._settled.pop(site.id, None)
            if known is None or not known.holds(site, policy, seen, now_ms):
                if told >= LEAVING_PER_TURN_MAX:
                    continue
                found = self._judge(txn, site, policy, LEAVING_PER_TURN_MAX - told, now_ms)
                told += found.told
                if found.open:
                    continue
                changes = (found.until_ms, next_change_ms(site, policy, now_ms))
                until_ms = min((ms for ms in changes if ms is not None), default=None)
                known = _Settled(site, policy, until_ms, seen)
            self._settled[site.id] = known
        return told

    def _judge(self, txn: Txn, site: Site, policy: Policy, told_max: int, now_ms: int) -> _Found:
        """Looks at everything that is live at a site."""
        live = txn.attempts.live_at(site.id)
        jobs = txn.jobs.rows(sorted({row.key.job for row in live}))
        requirements = _requirements(txn, jobs)
        judged = _Judged(txn, site, policy, [row.key for row in live], now_ms)
        agreed = txn.tenancy.agreements.admitted([row.key for row in live])
        told, waits = 0, False
        for row in live:
            asked = under(requirements[row.key.job], agreed.get(row.key, ""))
            verdict = judged.verdict(row.key, asked)
            if not isinstance(verdict, Deny):
                continue
            if told >= told_max:
                return _Found(told, open=True)
            if self._leave(txn, row, jobs, verdict, policy, now_ms):
                told += 1
            # One that was lost may come back, and has to be told then.
            waits = waits or jobs[row.key.job].state not in _LEAVING
        return _Found(told, open=told > 0 or waits, until_ms=judged.until_ms)

    def _leave(
        self,
        txn: Txn,
        row: AttemptRow,
        jobs: Mapping[JobId, JobRow],
        verdict: Deny,
        policy: Policy,
        now_ms: int,
    ) -> bool:
        """Tells one attempt to leave, or to leave in time; whether it had to be told."""
        job = jobs[row.key.job]
        if step(job.state, Event.PREEMPT) is None:
            desired = txn.outbox.get(row.site, row.key)
            late = desired is not None and desired.grace_ms > self._deadline_ms
            if job.state in _LEAVING and late:
                stop(txn, row, self._deadline_ms, "its site may no longer hold it")
            return job.state in _LEAVING and late
        grace_ms = min(stop_grace_ms(txn.jobs.spec(job.spec_number)), self._deadline_ms)
        first = verdict.denials[0]
        cause = Cause(f"its site may no longer hold it: {first.detail}")
        evidence.residency_lost(txn.audit, job, row, verdict, policy.revision, grace_ms, now_ms)
        begin_stop(
            txn,
            job,
            row,
            Event.PREEMPT,
            grace_ms=grace_ms,
            cause=cause,
            because=Reason.RESIDENCY_LOST,
            now_ms=now_ms,
        )
        return True


def _requirements(txn: Txn, jobs: Mapping[JobId, JobRow]) -> dict[JobId, Requirement]:
    """What each of `jobs` asks of its site: as it was placed, or as its inputs' labels are now."""
    found = {job: txn.jobs.job_class(row.class_id).residency for job, row in jobs.items()}
    reading = {job for job, requirement in found.items() if requirement.data_sites is not None}
    specs = txn.jobs.specs({jobs[job].spec_number for job in reading})
    for job in sorted(reading):
        spec = specs.get(jobs[job].spec_number)
        if spec is not None:
            found[job] = effective(txn, spec)
    return found


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of judging a site."""

    told: int
    open: bool
    """Whether somebody had to leave, or may have to: the site is judged again at the next turn."""
    until_ms: int | None = None
    """When time alone changes what is known of the nodes in use, or of facts as work asks."""


class _Judged:
    """Verdicts on what is live at a site: the law once for each requirement, then its nodes."""

    def __init__(
        self, txn: Txn, site: Site, policy: Policy, live: Sequence[AttemptKey], now_ms: int
    ) -> None:
        self._txn, self._site, self._policy, self._now_ms = txn, site, policy, now_ms
        self._live = live
        self._country = country_of(site)
        self._any_known = txn.fleet.any_known(site.id)
        self._verdicts: dict[Requirement, Verdict] = {}
        self._placed: dict[AttemptKey, list[NodeId]] | None = None
        self.until_ms: int | None = None

    def verdict(self, key: AttemptKey, requirement: Requirement) -> Verdict:
        """Whether this attempt may stay."""
        known = self._verdicts.get(requirement)
        if known is None:
            known = permits(requirement, self._site, self._policy, self._now_ms)
            self._verdicts[requirement] = known
            asked, now_ms = requirement.facts, self._now_ms
            self._until(next_change_ms(self._site, self._policy, now_ms, asked) if asked else None)
        if isinstance(known, Deny):
            return known
        needs = node_needs(requirement, self._policy)
        if not needs and not self._any_known:
            return known
        denials: list[Denial] = []
        for node in self._nodes_of(key):
            entry = self._txn.fleet.node(node)
            facts = () if entry is None else entry.node.facts
            denials += node_denials(needs, node, facts, self._country, self._now_ms)
            self._until(node_change_ms(needs, facts, self._now_ms))
        return Deny(tuple(denials)) if denials else known

    def _nodes_of(self, key: AttemptKey) -> list[NodeId]:
        if self._placed is None:
            standing = self._txn.attempts.footings_of(self._live)
            self._placed = {k: [at.node for at in footings] for k, footings in standing.items()}
        return self._placed.get(key, [])

    def _until(self, change_ms: int | None) -> None:
        if change_ms is not None:
            self.until_ms = change_ms if self.until_ms is None else min(self.until_ms, change_ms)
