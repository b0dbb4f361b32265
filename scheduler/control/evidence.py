"""Audit leaves of decisions that move no job: refusals, operators' acts, sites that misreport.

Those that do move one are in `store/leaves.py`, because the tables are rebuilt from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from scheduler.model.fleet import Node, Site
from scheduler.model.identity import Principal
from scheduler.model.ids import AttemptKey, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import JobSpec
from scheduler.model.proofs import Finding
from scheduler.model.reasons import Denial
from scheduler.model.residency import Deny, NodeFact, NodeFactKey, Policy
from scheduler.model.window import Window
from scheduler.store import facts
from scheduler.store.audit import AuditWriter
from scheduler.store.codec import plain
from scheduler.store.records import AttemptRow, JobRow

DENIALS_MAX = 500
"""Most reasons of one refusal that its leaf lists; how many there were is said as well."""
CHANGES_MAX = 1_000
"""Most lines of a difference that its leaf lists; the digest is over all of them."""
LISTED_MAX = 100
"""Most things of one misreport that its leaf lists."""

_NODE_KNOWN = {NodeFactKey.LOCATION: "node_located", NodeFactKey.ATTESTATION: "node_attested"}


def submission_refused(
    audit: AuditWriter,
    job: JobId,
    principal: Principal,
    tenant: TenantPath,
    spec_digest: str,
    denials: Sequence[Denial],
    now_ms: int,
) -> None:
    """Work was refused at the door. It has an id and this leaf, and no row."""
    body = {
        "owner": principal.path,
        "spec_digest": spec_digest,
        "denials": [plain(denial) for denial in denials[:DENIALS_MAX]],
        "denials_total": len(denials),
    }
    audit.append("job_refused", now_ms, body, tenant=tenant, job=job)


def site_declared(audit: AuditWriter, site: Site, nodes: Sequence[Node], now_ms: int) -> None:
    """A site is now as declared; placements name its facts by this digest."""
    body = {
        **facts.site_facts(site),
        "facts_digest": facts.facts_digest(site),
        "status": site.status.name,
        "min_isolation": site.min_isolation.name,
        "nodes": len(nodes),
    }
    audit.append("site_declared", now_ms, body)


def applied(
    audit: AuditWriter,
    what: str,
    principal: Principal,
    reason: str,
    changes: Sequence[str],
    now_ms: int,
) -> None:
    """An operator declared something anew."""
    body = {
        "by": principal.path,
        "reason": reason,
        "changes": list(changes[:CHANGES_MAX]),
        "changes_total": len(changes),
        "changes_digest": sha256("\n".join(changes).encode()).hexdigest(),
    }
    audit.append(f"{what}_applied", now_ms, body)


def policy_in_force(
    audit: AuditWriter, policy: Policy, findings: Sequence[Finding], override: str, now_ms: int
) -> None:
    """This revision decides from now on; what was proved of it, and why it does if not all was."""
    proof = [{"claim": it.claim, "standing": str(it.standing)} for it in findings]
    body = {"policy": plain(policy), "proof": proof, "override": override}
    audit.append("policy_in_force", now_ms, body)


def residency_lost(
    audit: AuditWriter,
    job: JobRow,
    attempt: AttemptRow,
    verdict: Deny,
    policy_revision: int,
    grace_ms: int,
    now_ms: int,
) -> None:
    """From this moment its site may no longer hold an attempt: why, and how long it has to go."""
    denials = [
        {"reason": str(d.reason), "rule": d.rule, "detail": d.detail} for d in verdict.denials
    ]
    body = {
        "attempt": attempt.key.attempt,
        "site": attempt.site,
        "country": attempt.country,
        "policy_revision": policy_revision,
        "denials": denials[:LISTED_MAX],
        "denials_total": len(denials),
        "grace_ms": grace_ms,
    }
    audit.append("residency_lost", now_ms, body, tenant=job.tenant, job=job.id)


def operated(
    audit: AuditWriter,
    act: str,
    principal: Principal,
    target: SiteId | NodeId,
    reason: str,
    attempts: int,
    now_ms: int,
) -> None:
    """An operator cordoned, uncordoned, drained or fenced something."""
    body = {"by": principal.path, "target": target, "reason": reason, "attempts": attempts}
    audit.append(act, now_ms, body)


def window(
    audit: AuditWriter, act: str, window: Window, actor: str, reason: str, now_ms: int
) -> None:
    """A window of time was added or removed, or began or ended."""
    told = plain(replace(window, nodes=window.nodes[:LISTED_MAX]))
    body = {"by": actor, "reason": reason, "window": told, "nodes_total": len(window.nodes)}
    audit.append(act, now_ms, body)


def hastened(
    audit: AuditWriter,
    row: JobRow,
    key: AttemptKey,
    actor: str,
    grace_ms: int,
    now_ms: int,
) -> None:
    """What was being stopped with this grace is stopped without any."""
    body = {"by": actor, "attempt": key.attempt, "grace_ms_before": grace_ms}
    audit.append("stop_hastened", now_ms, body, tenant=row.tenant, job=row.id)


def misreported(
    audit: AuditWriter,
    site: SiteId,
    attempts: Sequence[AttemptKey],
    now_ms: int,
) -> None:
    """A site spoke of attempts that are placed at others; its word on them was not taken."""
    body = {
        "site": site,
        "attempts": [[key.job, key.attempt] for key in attempts[:LISTED_MAX]],
        "attempts_total": len(attempts),
    }
    audit.append("site_misreported", now_ms, body)


def node_known(audit: AuditWriter, node: NodeId, fact: NodeFact, now_ms: int) -> None:
    """What was found out about a node, when that is something else than before."""
    audit.append(_NODE_KNOWN[fact.key], now_ms, {"node": node, "fact": plain(fact)})


def keys_released(
    audit: AuditWriter, row: JobRow, attempt: int, site: SiteId, spec: JobSpec, now_ms: int
) -> None:
    """An attempt that does not start without its tenant's keys has started: it was given them."""
    body: dict[str, object] = {
        "attempt": attempt,
        "site": site,
        "secrets": sorted(name for _, name in spec.secrets),
    }
    audit.append("keys_released", now_ms, body, tenant=row.tenant, job=row.id)


def downloaded(
    audit: AuditWriter,
    row: JobRow,
    attempt: int,
    site: SiteId,
    by: str,
    now_ms: int,
    *,
    listing: bool,
) -> None:
    """Somebody was let at what a job left, or was told which files it left."""
    body = {"attempt": attempt, "site": site, "by": by, "listing": listing}
    audit.append("downloaded", now_ms, body, tenant=row.tenant, job=row.id)


def visited(
    audit: AuditWriter, row: JobRow, kind: str, body: dict[str, object], now_ms: int
) -> None:
    """Somebody entered a job that ran, or left it; see `api/visits.py`."""
    audit.append(kind, now_ms, body, tenant=row.tenant, job=row.id)


def generations_renewed(
    audit: AuditWriter, site: SiteId, held: int, generation: int, now_ms: int
) -> None:
    """A site held more generations than were ever given out here: the store was put back."""
    body = {"site": site, "held": held, "generation": generation}
    audit.append("generations_renewed", now_ms, body)
