"""What another policy would have made of decisions that are on record, as the facts are now."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scheduler.core.residency import permits, under
from scheduler.model.ids import AttemptKey, SiteId
from scheduler.model.reasons import Denial
from scheduler.model.residency import Deny, Policy, Requirement, Verdict
from scheduler.store.store import Snapshot

ATTEMPTS_MAX = 10_000
"""Placements that are replayed, the newest jobs' first."""
CHANGES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Replayed:
    """A placement on record whose verdict differs under the two policies."""

    key: AttemptKey
    site: SiteId
    permitted_before: bool
    denials: tuple[Denial, ...]
    """What stands against it under the other policy; empty where that permits it."""


def replay(read: Snapshot, after: Policy, since_ms: int, now_ms: int) -> tuple[Replayed, ...]:
    """Placements since a time that the policy in force and `after` judge differently.

    Each distinct requirement is judged once at each site.
    """
    before = read.tenancy.policy()
    after = replace(after, agreements=before.agreements)
    sites = {entry.site.id: entry.site for entry in read.fleet.sites()}
    recorded = read.attempts.placed_since(since_ms, ATTEMPTS_MAX)
    rows = read.jobs.rows(sorted({attempt.key.job for attempt in recorded}))
    agreed = read.tenancy.agreements.admitted([attempt.key for attempt in recorded])
    judged: dict[tuple[Requirement, SiteId], tuple[Verdict, Verdict]] = {}
    changes: list[Replayed] = []
    for attempt in recorded:
        site = sites.get(attempt.site)
        if site is None:
            continue  # It is no longer declared: neither policy has anything to judge.
        asked = read.jobs.job_class(rows[attempt.key.job].class_id).residency
        work = under(asked, agreed.get(attempt.key, ""))
        verdicts = judged.get((work, site.id))
        if verdicts is None:
            verdicts = (
                permits(work, site, before, now_ms),
                permits(work, site, after, now_ms),
            )
            judged[work, site.id] = verdicts
        was, becomes = (isinstance(verdict, Deny) for verdict in verdicts)
        if was != becomes and len(changes) < CHANGES_MAX:
            then = verdicts[1]
            denials = then.denials if isinstance(then, Deny) else ()
            changes.append(Replayed(attempt.key, site.id, not was, denials))
    return tuple(changes)
