"""Which attempts are certainly over although nobody said so: pure, and slow to believe it.

Only proof ends an attempt unheard (the architecture's leases): a lease that lapsed, for work that
runs under one; a new boot id of one of its nodes; an operator's audited word that a node is fenced.
Silence is none: work without a lease is waited for.

Ages are durations on the control plane's boot-time clock since a site was last heard, never
differences of two machines' clocks. After a restart, or when another control plane takes over, no
age is known: a site counts as heard at that moment, so every lease runs its full length again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scheduler.model.ids import AttemptKey, NodeId, SiteId
from scheduler.model.job import Attempt, Job, JobState, OnPartition
from scheduler.model.reasons import Reason

LEASE_MS = 60_000
"""How long a site may run leased work without hearing from the control plane."""

LEASE_GRACE_MS = 30_000
"""What every attempt is granted to end once its lease lapsed. A job whose own grace is longer may
use all of that, and is waited for accordingly (`lapse_after`)."""

LEASE_MARGIN_MS = 15_000
"""For clocks that run at different speeds, and for messages under way."""

LAPSE_AFTER_MS = LEASE_MS + LEASE_GRACE_MS + LEASE_MARGIN_MS

_WAITS_FOR_SITE = frozenset(
    {
        JobState.PLACED,
        JobState.STARTING,
        JobState.RUNNING,
        JobState.PREEMPTING,
        JobState.CANCELLING,
        JobState.LOST,
    }
)


@dataclass(frozen=True, slots=True)
class Over:
    """An attempt that is certainly over, and the proof."""

    key: AttemptKey
    reason: Reason
    detail: str


def lapsed_leases(
    jobs: Iterable[Job],
    silence_ms: Mapping[SiteId, int],
    *,
    lapse_after_ms: int = LAPSE_AFTER_MS,
) -> tuple[Over, ...]:
    """The attempts whose lease has lapsed, given how long each site has been silent.

    A site that is not in `silence_ms` is not judged. `lapse_after_ms` is for attempts whose own
    grace is no longer than LEASE_GRACE_MS.
    """
    found: list[Over] = []
    for job in sorted(jobs, key=lambda job: job.id):
        attempt = _current(job)
        if attempt is None or not leased(job):
            continue
        silent_ms = silence_ms.get(attempt.site)
        after_ms = lapse_after(job, lapse_after_ms)
        if silent_ms is not None and silent_ms > after_ms:
            detail = (
                f"site {attempt.site} was silent for {silent_ms} ms; the lease, its grace and the"
                f" margin end after {after_ms} ms"
            )
            found.append(Over(attempt.key, Reason.LEASE_LAPSED, detail))
    return tuple(found)


def lapse_after(job: Job, lapse_after_ms: int) -> int:
    """How long the site of a leased job is silent before nothing of it can run any more.

    When its lease lapses the shim asks the job to end and forces it after the job's own grace.
    """
    assert job.spec is not None, "a leased job has its spec"
    return lapse_after_ms + max(0, job.spec.preemption.grace_ms - LEASE_GRACE_MS)


@dataclass(frozen=True, slots=True)
class Gone:
    """Proof that nothing of before runs on a node: it booted anew, or an operator fenced it."""

    reason: Reason
    detail: str


def rebooted(node: NodeId, old_boot: str, new_boot: str) -> Gone | None:
    """The proof that a node's report gives, if it does. A node never heard of proves nothing."""
    if not old_boot or not new_boot or old_boot == new_boot:
        return None
    return Gone(Reason.NODE_LOST, f"node {node} was booted anew; nothing of before runs there")


def fenced(node: NodeId, by: str) -> Gone:
    """The proof that an operator's audited word gives: the node is off, or isolated for good."""
    return Gone(Reason.OPERATOR_FENCE, f"node {node} was fenced by {by}")


def over_with(jobs: Iterable[Job], gone: Mapping[NodeId, Gone]) -> tuple[Over, ...]:
    """The attempts that are over: every one of their nodes is in `gone`."""
    found: list[Over] = []
    for job in sorted(jobs, key=lambda job: job.id):
        attempt = _current(job)
        proofs = [gone.get(node) for node in _nodes(attempt)]
        if attempt is not None and proofs and None not in proofs:
            first = next(proof for proof in proofs if proof is not None)
            found.append(Over(attempt.key, first.reason, first.detail))
    return tuple(found)


def struck_by(jobs: Iterable[Job], gone: Mapping[NodeId, Gone]) -> tuple[AttemptKey, ...]:
    """The attempts that lost a node and still have another: tell their site to stop the rest.

    They are over only when the site reports that every rank is.
    """
    return tuple(
        attempt.key
        for job in sorted(jobs, key=lambda job: job.id)
        if (attempt := _current(job)) is not None
        and any(node in gone for node in _nodes(attempt))
        and not all(node in gone for node in _nodes(attempt))
    )


def leased(job: Job) -> bool:
    """Whether the job runs under a lease. One whose spec was erased is not presumed to."""
    return job.spec is not None and job.spec.on_partition is OnPartition.REQUEUE


def _current(job: Job) -> Attempt | None:
    if job.state not in _WAITS_FOR_SITE or not job.attempts:
        return None
    return job.attempts[-1]


def _nodes(attempt: Attempt | None) -> tuple[NodeId, ...]:
    return tuple(part.node for part in attempt.placement.nodes) if attempt is not None else ()
