"""Audit leaves from which the tables can be rebuilt, and nothing else: what changed jobs' states.

`rebuild.py` folds exactly these kinds. Bodies hold ids, states, places and reasons; names,
arguments and environments of jobs are only there as the digest of their spec.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring as _string
from typing import Any

from scheduler.model.ids import GpuClass, NodeId, SiteId, TenantPath
from scheduler.model.job import Awaited, Placement
from scheduler.model.plan import Reservation
from scheduler.model.residency import FactKey
from scheduler.model.tenancy import SettledUse
from scheduler.store.audit import AuditWriter
from scheduler.store.codec import canonical, known_canonical
from scheduler.store.records import Arrival, AttemptRow, JobRow

MASKS_MAX = 4_096
"""Sets of GPUs of a node whose text is remembered."""

JOB_SUBMITTED = "job_submitted"
ATTEMPT_PLACED = "attempt_placed"
JOB_MOVED = "job_moved"
JOB_RELEASED = "job_released"
SERVICE_SCALED = "service_scaled"
NODES_RESERVED = "nodes_reserved"
NODES_UNRESERVED = "nodes_unreserved"


def submitted(audit: AuditWriter, row: JobRow, waits_for: Iterable[Awaited] = ()) -> None:
    """A job was accepted, or an array's task got a row of its own."""
    if not row.held and not row.tasks and row.array_id is None:
        arrival = Arrival(
            row.id, row.class_id, row.tenant, row.name, row.leased, row.spec_digest, b""
        )
        arrived(audit, row.owner, (arrival,), row.submitted_at_ms)
        return
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


def arrived(audit: AuditWriter, owner: str, arrivals: Iterable[Arrival], now_ms: int) -> None:
    """As `submitted`, of plain jobs: most are, and they come by thousands."""
    for job in arrivals:
        text = arrived_text(job, audit.name_of(job.id), owner, now_ms)
        audit.append_text(JOB_SUBMITTED, now_ms, text, tenant=job.tenant, job=job.id)


def arrived_text(job: Arrival, name: str, owner: str, now_ms: int) -> str:
    """The canonical JSON of a plain job's leaf, at a fraction of what `canonical` costs."""
    return (
        f'{{"at_ms":{now_ms:d},"job":"{name}","kind":"{JOB_SUBMITTED}"'
        f',"owner":{_string(owner)},"spec_digest":{_string(job.spec_digest)}'
        f',"tenant":{_string(job.tenant)}}}'
    )


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


def scaled(audit: AuditWriter, before: JobRow, after: JobRow, actor: str, now_ms: int) -> None:
    """A service is to have another number of replicas."""
    body: dict[str, object] = {"from": before.replicas, "to": after.replicas, "actor": actor}
    audit.append(SERVICE_SCALED, now_ms, body, tenant=after.tenant, job=after.id)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What leaves of placements have in common. `facts_digest` names the site's facts as they were
    then: the leaf `site_declared` with the same digest, earlier in the log, holds them."""

    site: SiteId
    country: str
    gpu_class: GpuClass
    facts_digest: str
    relied_on: tuple[FactKey, ...]
    policy_revision: int
    at_ms: int
    agreement: str = ""
    """The one that admits what is placed; empty: it needs none, and none is told."""


class PlacedLeaf:
    """The leaf that an attempt was given a place, for all placements on the same grounds.

    Equivalent to the canonical JSON of the whole; but only the attempt, the job, its tenant, its
    nodes and their sum differ, and the rest is made once. Keys are in canonical JSON's order.
    """

    def __init__(self, grounds: Grounds) -> None:
        g = grounds
        self.grounds = grounds
        agreed = f'"agreement":{canonical(g.agreement)},' if g.agreement else ""
        self._head = f'{{{agreed}"at_ms":{canonical(g.at_ms)},"attempt":'
        self._classed = (
            f',"country":{canonical(g.country)},"facts_digest":{canonical(g.facts_digest)}'
            f',"gpu_class":{canonical(g.gpu_class)},"gpu_milli":'
        )
        self._kind = f',"kind":"{ATTEMPT_PLACED}","nodes":['
        self._tail = (
            f'],"policy_revision":{canonical(g.policy_revision)}'
            f',"relied_on":{canonical([key.value for key in g.relied_on])}'
            f',"site":{canonical(g.site)},"tenant":'
        )

    def text(self, placement: Placement, tenant: TenantPath, job: str) -> str:
        """The leaf of `placement`, of the job that its `tenant` calls `job`."""
        placed = ",".join([_node_text(n.node, n.gpu_mask) for n in placement.nodes])
        return (
            f"{self._head}{placement.key.attempt}{self._classed}{placement.gpu_milli}"
            f',"job":"{job}"{self._kind}{placed}{self._tail}{_string(tenant)}}}'
        )


def placed(audit: AuditWriter, leaf: PlacedLeaf, placement: Placement, tenant: TenantPath) -> None:
    """An attempt was given a place."""
    job = placement.key.job
    text = leaf.text(placement, tenant, audit.name_of(job))
    audit.append_text(ATTEMPT_PLACED, leaf.grounds.at_ms, text, tenant=tenant, job=job)


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
        "kind": JOB_MOVED,
        "at_ms": now_ms,
        "tenant": after.tenant,
        "job": audit.name_of(after.id),
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
    text = known_canonical(body)
    audit.append_text(JOB_MOVED, now_ms, text, tenant=after.tenant, job=after.id)


def _node_text(node: NodeId, gpu_mask: int) -> str:
    return f'{{"gpus":{_gpus_text(gpu_mask)},"node":{_string(node)}}}'


@lru_cache(maxsize=MASKS_MAX)
def _gpus_text(gpu_mask: int) -> str:
    return canonical([n for n in range(gpu_mask.bit_length()) if gpu_mask >> n & 1])
