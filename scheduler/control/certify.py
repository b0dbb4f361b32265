"""Certificates of work that is over, refused work included: written in the transaction that ended
it, whatever ended it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scheduler.control import joint, outputs
from scheduler.core.certificates import Account
from scheduler.core.data_told import Data, DataTouched, Egress
from scheduler.core.egress import of_attempt
from scheduler.core.node_history import NodeThen
from scheduler.core.residency import asked_of
from scheduler.core.stays import Stay, agreements_of, intervals
from scheduler.model.ids import AttemptKey, JobId, NodeId
from scheduler.model.job import TERMINAL, Attempt, JobSpec, JobState
from scheduler.model.operator_access import OperatorUse
from scheduler.model.reasons import Denial
from scheduler.store import operator_access
from scheduler.store.records import JobRow
from scheduler.store.store import Txn

REFUSED = "REFUSED"
Past = tuple[JobSpec | None, Sequence[Attempt]]
"""A job's spec, if it was not erased, and its attempts as they are now."""


def ended(
    txn: Txn,
    row: JobRow,
    now_ms: int,
    past: Past | None = None,
    uses: tuple[OperatorUse, ...] | None = None,
) -> None:
    """Certifies a job that is over now. `past`, and `uses` of grants on it: where the caller has
    them."""
    assert row.state in TERMINAL, "what is not over has no certificate"
    job_class = txn.jobs.job_class(row.class_id)
    if past is not None:
        spec, attempts = past
    else:
        attempts = txn.attempts.of_jobs((row.id,)).get(row.id, ()) if row.next_attempt > 1 else ()
        spec = txn.jobs.spec(row.spec_number)
    if uses is None:
        uses = operator_access.uses_of(txn, (row.id,)).get(row.id, ())
    allowed = () if spec is None else spec.egress
    egress = Egress(allowed, tuple(of_attempt(each, len(allowed)) for each in attempts))
    agreed = txn.tenancy.agreements.admitted([each.key for each in attempts])
    stays = _stays(attempts, agreed, now_ms)
    facts = txn.certificates.histories({stay.site for stay in stays})
    policies = txn.certificates.policies()
    nodes = _known_of(txn, {node for stay in stays for node in stay.nodes})
    account = Account(
        job=txn.audit.name_of(row.id),
        tenant=row.tenant,
        outcome=row.state.name,
        reason=row.reason,
        spec_digest=row.spec_digest,
        bundle_digest="" if spec is None else spec.bundle_digest,
        image="" if spec is None else spec.image,
        submitted_at_ms=row.submitted_at_ms,
        issued_at_ms=now_ms,
        requirement=job_class.residency,
        policy=policies[-1],
        intervals=intervals(
            job_class.residency, stays, facts, policies, nodes, txn.certificates.verdicts()
        ),
        facts=facts,
        data=_data(txn, row, spec, attempts, egress, now_ms),
        nodes=nodes,
        agreements=agreements_of(stays, policies),
        shares=joint.shares_of(txn, row.tenant),
        array=None if row.array_id is None else txn.audit.name_of(row.array_id),
        task=row.task,
        tasks=row.tasks,
        operator_uses=uses,
        customer_keys=spec is not None and bool(spec.key_ticket),
    )
    txn.certificates.issue(row.id, account)


def _data(
    txn: Txn,
    row: JobRow,
    spec: JobSpec | None,
    attempts: Sequence[Attempt],
    egress: Egress,
    now_ms: int,
) -> Data:
    """What a job that is over read and wrote; the latter is in the catalogue from now on."""
    if spec is None or not (spec.inputs or spec.outputs):
        return Data(egress=egress)
    reads = outputs.read_by(txn, spec)
    writes: tuple[DataTouched, ...] = ()
    if spec.outputs and row.state is JobState.SUCCEEDED and attempts:
        writes = outputs.register(txn, row, spec, attempts[-1], now_ms)
    txn.tenancy.datasets.over(row.id)
    return Data(reads, writes, egress)


def _known_of(txn: Txn, nodes: set[NodeId]) -> dict[NodeId, tuple[NodeThen, ...]]:
    """What was known of these nodes when. Of most fleets nothing ever was, and that is quick."""
    entries = txn.fleet.nodes_by_id(nodes)
    known = sorted(n for n in nodes if n not in entries or entries[n].node.facts)
    found: dict[NodeId, tuple[NodeThen, ...]] = {}
    for then in txn.certificates.of_nodes.history(known):
        found[then.node] = (*found.get(then.node, ()), then)
    return found


def _stays(
    attempts: Iterable[Attempt], agreed: Mapping[AttemptKey, str], now_ms: int
) -> tuple[Stay, ...]:
    """Where a job was, attempt by attempt; one that has not ended ends now."""
    return tuple(
        Stay(
            attempt=each.key.attempt,
            site=each.site,
            nodes=tuple(placed.node for placed in each.placement.nodes),
            placed_at_ms=each.placed_at_ms,
            started_at_ms=each.started_at_ms,
            ended_at_ms=each.ended_at_ms or now_ms,
            agreement=agreed.get(each.key, ""),
        )
        for each in attempts
    )


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
        image=spec.image,
        submitted_at_ms=now_ms,
        issued_at_ms=now_ms,
        requirement=asked_of(spec),
        policy=txn.certificates.policies()[-1],
        intervals=(),
        facts={},
        data=Data(egress=Egress(spec.egress)),
        denials=tuple(denials),
    )
    txn.certificates.issue(job, account)
