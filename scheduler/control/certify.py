"""Certificates of work that is over, refused work included: written in the transaction that ended
it, whatever ended it."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.core.certificates import Account, intervals
from scheduler.model.ids import JobId
from scheduler.model.job import TERMINAL, JobSpec
from scheduler.model.reasons import Denial
from scheduler.store.records import JobRow
from scheduler.store.store import Txn

REFUSED = "REFUSED"


def ended(txn: Txn, row: JobRow, now_ms: int) -> None:
    """Certifies a job that is over now."""
    assert row.state in TERMINAL, "what is not over has no certificate"
    job_class = txn.jobs.job_class(row.class_id)
    stays = txn.certificates.stays(row.id, now_ms) if row.next_attempt > 1 else ()
    facts = txn.certificates.histories({stay.site for stay in stays})
    policies = txn.certificates.policies()
    spec = txn.jobs.spec(row.spec_digest)
    account = Account(
        job=txn.audit.name_of(row.id),
        tenant=row.tenant,
        outcome=row.state.name,
        reason=row.reason,
        spec_digest=row.spec_digest,
        bundle_digest="" if spec is None else spec.bundle_digest,
        submitted_at_ms=row.submitted_at_ms,
        issued_at_ms=now_ms,
        requirement=job_class.residency,
        policy=policies[-1],
        intervals=intervals(job_class.residency, stays, facts, policies),
        facts=facts,
        array=None if row.array_id is None else txn.audit.name_of(row.array_id),
        task=row.task,
        tasks=row.tasks,
    )
    txn.certificates.issue(row.id, account)


def refused(
    txn: Txn, job: JobId, spec: JobSpec, spec_digest: str, denials: Sequence[Denial], now_ms: int
) -> None:
    """Certifies that work was refused, and why."""
    account = Account(
        job=txn.audit.name_of(job),
        tenant=spec.project,
        outcome=REFUSED,
        reason=denials[0].reason if denials else None,
        spec_digest=spec_digest,
        bundle_digest=spec.bundle_digest,
        submitted_at_ms=now_ms,
        issued_at_ms=now_ms,
        requirement=spec.residency,
        policy=txn.certificates.policies()[-1],
        intervals=(),
        facts={},
        denials=tuple(denials),
    )
    txn.certificates.issue(job, account)
