"""Audit leaves from which the tables can be rebuilt, and nothing else: what changed jobs' states.

`rebuild.py` folds exactly these kinds. Bodies hold ids, states, places and reasons; names,
arguments and environments of jobs are only there as the digest of their spec.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring as _string

from scheduler.model.ids import GpuClass, NodeId, SiteId, TenantPath
from scheduler.model.job import Awaited, Placement
from scheduler.model.plan import Reservation
from scheduler.model.reasons import Reason
from scheduler.model.residency import FactKey
from scheduler.model.tenancy import SettledUse
from scheduler.store.attempt_rows import STATE_NAMES
from scheduler.store.audit import AuditWriter
from scheduler.store.codec import canonical
from scheduler.store.records import Arrival, AttemptRow, JobRow

MASKS_MAX = 4_096
"""Sets of GPUs of a node whose text is remembered."""

_TRUTH = ("false", "true")

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
        (_, attempt), _, _, nodes, gpu_milli = placement
        placed = ",".join([_node_text(node, gpu_mask) for node, gpu_mask in nodes])
        return (
            f"{self._head}{attempt}{self._classed}{gpu_milli}"
            f',"job":"{job}"{self._kind}{placed}{self._tail}{_string(tenant)}}}'
        )


def placed(
    audit: AuditWriter, all_placed: Iterable[tuple[Placement, PlacedLeaf, TenantPath]], now_ms: int
) -> None:
    """Attempts were given a place."""
    name_of = audit.name_of
    audit.append_texts(
        ATTEMPT_PLACED,
        now_ms,
        (
            (leaf.text(placement, tenant, name_of(job)), tenant, job)
            for placement, leaf, tenant in all_placed
            for job in (placement.key.job,)
        ),
    )


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
    name = audit.name_of(after.id)
    text = moved_text(
        before, after, attempt, name, cause=cause, now_ms=now_ms, actor=actor, settled=settled
    )
    audit.append_text(JOB_MOVED, now_ms, text, tenant=after.tenant, job=after.id)


def moved_text(
    before: JobRow,
    after: JobRow,
    attempt: AttemptRow | None,
    name: str,
    *,
    cause: str,
    now_ms: int,
    actor: str,
    settled: SettledUse | None,
) -> str:
    """The canonical JSON of a move of the job that its tenant calls `name`."""
    told = "" if attempt is None else f',"attempt":{_attempt_text(attempt, settled)}'
    return (
        f'{{"actor":{_string(actor)},"at_ms":{now_ms:d}{told}'
        f',"cancel_requested":{_TRUTH[after.cancel_requested]},"cause":{_string(cause)}'
        f',"ended_at_ms":{after.ended_at_ms:d},"exit_code":{_number(after.exit_code)}'
        f',"from":"{STATE_NAMES[before.state]}","job":"{name}"'
        f',"kind":"{JOB_MOVED}","message":{_string(after.message)}'
        f',"not_before_ms":{after.not_before_ms:d},"reason":{_reason(after.reason)}'
        f',"tenant":{_string(after.tenant)},"to":"{STATE_NAMES[after.state]}"}}'
    )


def _attempt_text(attempt: AttemptRow, settled: SettledUse | None) -> str:
    """What a job's move says of its attempt."""
    used = ""
    if settled is not None:
        used = (
            f',"settled":{{"charged_gpu_ms":{settled.charged_gpu_ms:d},"day":{settled.day:d}'
            f',"gpu_class":{_string(settled.gpu_class)}'
            f',"refunded_gpu_ms":{settled.refunded_gpu_ms:d}}}'
        )
    return (
        f'{{"ended_at_ms":{attempt.ended_at_ms:d},"live":{_TRUTH[attempt.live]}'
        f',"message":{_string(attempt.message)},"number":{attempt.key.attempt:d}'
        f',"reason":{_reason(attempt.reason)}{used}'
        f',"started_at_ms":{attempt.started_at_ms:d},"state":"{STATE_NAMES[attempt.state]}"}}'
    )


def _reason(reason: Reason | None) -> str:
    return "null" if reason is None else f'"{reason.value}"'


def _number(number: int | None) -> str:
    return "null" if number is None else f"{number:d}"


def _node_text(node: NodeId, gpu_mask: int) -> str:
    return f'{{"gpus":{_gpus_text(gpu_mask)},"node":{_string(node)}}}'


@lru_cache(maxsize=MASKS_MAX)
def _gpus_text(gpu_mask: int) -> str:
    return canonical([n for n in range(gpu_mask.bit_length()) if gpu_mask >> n & 1])
