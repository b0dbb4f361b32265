"""Audit leaves from which the tables can be rebuilt, and nothing else: what changed jobs' states.

`rebuild.py` folds exactly these kinds. Bodies hold ids, states, places and reasons; names,
arguments and environments of jobs are only there as the digest of their spec.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from scheduler.model.fleet import Site
from scheduler.model.ids import TenantPath
from scheduler.model.job import Awaited, NodePlacement, Placement
from scheduler.model.plan import Reservation
from scheduler.model.residency import FactKey
from scheduler.model.tenancy import SettledUse
from scheduler.store.audit import AuditWriter
from scheduler.store.codec import canonical
from scheduler.store.records import AttemptRow, JobRow

JOB_SUBMITTED = "job_submitted"
ATTEMPT_PLACED = "attempt_placed"
JOB_MOVED = "job_moved"
JOB_RELEASED = "job_released"
NODES_RESERVED = "nodes_reserved"
NODES_UNRESERVED = "nodes_unreserved"


def submitted(audit: AuditWriter, row: JobRow, waits_for: Iterable[Awaited] = ()) -> None:
    """A job was accepted, or an array's task got a row of its own."""
    body: dict[str, object] = {"owner": row.owner, "spec_digest": row.spec_digest}
    if row.held:
        body["held"] = True
        body["waits_for"] = [[audit.name_of(on.job), on.state.name] for on in waits_for]
    if row.tasks:
        body["tasks"] = row.tasks
    if row.array_id is not None:
        body["array"] = audit.name_of(row.array_id)
        body["task"] = row.task
    audit.append(JOB_SUBMITTED, row.submitted_at_ms, body, tenant=row.tenant, job=row.id)


def reserved(audit: AuditWriter, made: Reservation, tenant: TenantPath, now_ms: int) -> None:
    """From now on nodes are kept for a job that waits for room."""
    body: dict[str, object] = {
        "site": made.site,
        "gpu_class": made.gpu_class,
        "nodes": list(made.nodes),
        "starts_at_ms": made.starts_at_ms,
    }
    audit.append(NODES_RESERVED, now_ms, body, tenant=tenant, job=made.job)


def unreserved(audit: AuditWriter, row: JobRow, now_ms: int) -> None:
    """Nothing is kept for a job any more."""
    audit.append(NODES_UNRESERVED, now_ms, {}, tenant=row.tenant, job=row.id)


def released(audit: AuditWriter, row: JobRow, now_ms: int) -> None:
    """All that a job waited for has come to pass: it is for the planner now."""
    audit.append(JOB_RELEASED, now_ms, {}, tenant=row.tenant, job=row.id)


def placed(
    audit: AuditWriter,
    row: JobRow,
    placement: Placement,
    *,
    country: str,
    facts_digest: str,
    relied_on: Iterable[FactKey],
    policy_revision: int,
    now_ms: int,
) -> None:
    """An attempt was given a place. `facts_digest` names the site's facts as they were then.

    The leaf `site_declared` with the same digest, earlier in the log, holds the facts themselves.
    """
    body = {
        "attempt": placement.key.attempt,
        "site": placement.site,
        "country": country,
        "gpu_class": placement.gpu_class,
        "gpu_milli": placement.gpu_milli,
        "nodes": [_node(n) for n in placement.nodes],
        "policy_revision": policy_revision,
        "relied_on": [key.value for key in relied_on],
        "facts_digest": facts_digest,
    }
    audit.append(ATTEMPT_PLACED, now_ms, body, tenant=row.tenant, job=row.id)


def moved(
    audit: AuditWriter,
    before: JobRow,
    after: JobRow,
    attempt: AttemptRow | None,
    *,
    cause: str,
    now_ms: int,
    actor: str = "",
    settled: SettledUse | None = None,
) -> None:
    """A job, and its attempt if it has one, went from one state to another, because of `cause`.

    `settled`: what the attempt, which is over, has used.
    """
    body: dict[str, Any] = {
        "from": before.state.name,
        "to": after.state.name,
        "cause": cause,
        "actor": actor,
        "reason": after.reason,
        "message": after.message,
        "exit_code": after.exit_code,
        "cancel_requested": after.cancel_requested,
        "not_before_ms": after.not_before_ms,
        "ended_at_ms": after.ended_at_ms,
    }
    if attempt is not None:
        told: dict[str, Any] = {
            "number": attempt.key.attempt,
            "state": attempt.state.name,
            "live": attempt.live,
            "reason": attempt.reason,
            "message": attempt.message,
            "started_at_ms": attempt.started_at_ms,
            "ended_at_ms": attempt.ended_at_ms,
        }
        if settled is not None:
            told["settled"] = {
                "gpu_class": settled.gpu_class,
                "day": settled.day,
                "charged_gpu_ms": settled.charged_gpu_ms,
                "refunded_gpu_ms": settled.refunded_gpu_ms,
            }
        body["attempt"] = told
    audit.append(JOB_MOVED, now_ms, body, tenant=after.tenant, job=after.id)


def site_facts(site: Site) -> dict[str, object]:
    """All that is judged about a site, in the form that its digest is of."""
    facts = [
        {
            "key": fact.key.value,
            "values": list(fact.values),
            "assurance": fact.assurance.name,
            "asserted_by": fact.asserted_by,
            "observed_at_ms": fact.observed_at_ms,
            "expires_at_ms": fact.expires_at_ms,
            "evidence_digest": fact.evidence_digest,
        }
        for fact in sorted(site.facts, key=lambda fact: (fact.key.value, fact.values))
    ]
    parents = [
        [p.name, p.country, p.stake_milli_percent, *(["at most"] if p.at_most else [])]
        for p in sorted(site.parents)
    ]
    return {"site": site.id, "facts": facts, "parents": parents}


def facts_digest(site: Site) -> str:
    """Names the facts of a site: SHA-256 of their canonical JSON."""
    return "sha256:" + sha256(canonical(site_facts(site)).encode()).hexdigest()


def _node(placed: NodePlacement) -> dict[str, object]:
    return {"node": placed.node, "gpus": list(placed.gpu_indices())}
