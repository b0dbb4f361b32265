"""Jobs, their attempts and explanations, for those who ask."""

from __future__ import annotations

from scheduler.core.egress import DESTINATIONS_MAX
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.ids import JobId, NodeId, SiteId, node_id, slot_of
from scheduler.model.job import (
    Attempt,
    Awaited,
    EgressUse,
    Job,
    RankCause,
    RankEgress,
    RankPhase,
    RankStatus,
    TaskCounts,
    WrittenOutput,
)
from scheduler.model.plan import Explanation
from scheduler.model.reasons import Denial, Reason
from scheduler.wire.enums import known, number
from scheduler.wire.spec import requirement_to_proto, spec_to_proto
from sovapi.v1 import common_pb2, jobs_pb2

EGRESS_COUNT_MAX = 1 << 53
"""Bytes, and everything else that a site counts of a rank's way out; more is not believed."""
OUTPUTS_OF_RANK_MAX = 32
"""What a site says of more than these is not read: no job has more."""


def denial_to_proto(denial: Denial) -> common_pb2.Denial:
    """One reason against something."""
    return common_pb2.Denial(
        reason=denial.reason, detail=denial.detail, subject=denial.subject, rule=denial.rule
    )


def denial_from_proto(message: common_pb2.Denial) -> Denial:
    """One reason against something; a code we do not know is INTERNAL and keeps its words."""
    return Denial(
        reason_from_wire(message.reason) or Reason.INTERNAL,
        message.detail,
        message.subject,
        message.rule,
    )


def reason_from_wire(code: str) -> Reason | None:
    """A reason's code, or None for none and for one that this version does not know."""
    return Reason(code) if code in Reason.__members__ else None


def rank_to_proto(rank: RankStatus, *, node_as_slot: bool = False) -> jobs_pb2.RankStatus:
    """One process of an attempt. Sites speak of slots, everybody else of node ids."""
    return jobs_pb2.RankStatus(
        rank=rank.rank,
        node=slot_of(rank.node) if node_as_slot else rank.node,
        phase=number(jobs_pb2.RankPhase, rank.phase),
        exit_code=rank.exit_code,
        signal=rank.signal,
        cause=number(jobs_pb2.RankCause, rank.cause),
        started_at_ms=rank.started_at_ms,
        ended_at_ms=rank.ended_at_ms,
        log_bytes=rank.log_bytes,
        detail=rank.detail,
        checkpoint_at_ms=rank.checkpoint_at_ms,
        egress=None if rank.egress is None else _egress_to_proto(rank.egress),
        outputs=[
            jobs_pb2.WrittenOutput(dataset=o.dataset, digest=o.digest, size_bytes=o.size_bytes)
            for o in rank.outputs
        ],
    )


def _egress_to_proto(egress: RankEgress) -> jobs_pb2.RankEgress:
    uses = [
        jobs_pb2.EgressUse(
            connections=use.connections,
            sent_bytes=use.sent_bytes,
            received_bytes=use.received_bytes,
        )
        for use in egress.uses
    ]
    return jobs_pb2.RankEgress(denied=egress.denied, uses=uses)


def _egress_from_site(message: jobs_pb2.RankEgress) -> RankEgress:
    """What a site counted, as far as it can be true."""

    def counted(found: int) -> int:
        return min(max(0, found), EGRESS_COUNT_MAX)

    return RankEgress(
        denied=counted(message.denied),
        uses=tuple(
            EgressUse(
                connections=counted(use.connections),
                sent_bytes=counted(use.sent_bytes),
                received_bytes=counted(use.received_bytes),
            )
            for use in message.uses[:DESTINATIONS_MAX]
        ),
    )


def rank_from_site(message: jobs_pb2.RankStatus, site: SiteId) -> RankStatus:
    """One process as `site` reports it: the node is a slot there, never another site's node."""
    return RankStatus(
        rank=message.rank,
        node=node_id(site, message.node) if message.node else NodeId(""),
        phase=known(RankPhase, message.phase),
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        signal=message.signal,
        cause=known(RankCause, message.cause),
        started_at_ms=message.started_at_ms,
        ended_at_ms=message.ended_at_ms,
        log_bytes=message.log_bytes,
        detail=message.detail,
        checkpoint_at_ms=message.checkpoint_at_ms,
        egress=_egress_from_site(message.egress) if message.HasField("egress") else None,
        outputs=tuple(
            WrittenOutput(o.dataset, o.digest, o.size_bytes)
            for o in message.outputs[:OUTPUTS_OF_RANK_MAX]
        ),
    )


def attempt_to_proto(attempt: Attempt) -> jobs_pb2.Attempt:
    """One try at running a job."""
    return jobs_pb2.Attempt(
        number=attempt.key.attempt,
        site=attempt.site,
        nodes=[node.node for node in attempt.placement.nodes],
        state=number(jobs_pb2.JobState, attempt.state),
        reason=attempt.reason or "",
        message=attempt.message,
        ranks=[rank_to_proto(rank) for rank in attempt.ranks],
        placed_at_ms=attempt.placed_at_ms,
        started_at_ms=attempt.started_at_ms,
        ended_at_ms=attempt.ended_at_ms,
        country=attempt.country,
    )


def counts_to_proto(counts: TaskCounts) -> jobs_pb2.TaskCounts:
    """The tasks of an array or the replicas of a service, counted."""
    return jobs_pb2.TaskCounts(
        total=counts.total,
        queued=counts.queued,
        live=counts.live,
        succeeded=counts.succeeded,
        failed=counts.failed,
        cancelled=counts.cancelled,
        ready=counts.ready,
    )


def awaited_to_proto(awaited: Awaited, codec: JobIdCodec) -> jobs_pb2.Dependency:
    """What a job still waits for."""
    return jobs_pb2.Dependency(
        job=codec.encode(awaited.job), state=number(jobs_pb2.JobState, awaited.state)
    )


def job_to_proto(job: Job, codec: JobIdCodec, *, with_spec: bool = True) -> jobs_pb2.Job:
    """A job as its tenant sees it; the id in its public form."""
    message = jobs_pb2.Job(
        id=codec.encode(job.id) if job.id else "",
        name=job.name,
        tenant=job.tenant,
        owner=job.owner,
        state=number(jobs_pb2.JobState, job.shown_state()),
        reason=job.reason or "",
        message=job.message,
        attempts=[attempt_to_proto(attempt) for attempt in job.attempts],
        submitted_at_ms=job.submitted_at_ms,
        ended_at_ms=job.ended_at_ms,
        exit_code=job.exit_code,
        spec_digest=job.spec_digest,
        array_id=codec.encode(job.array_id) if job.array_id is not None else "",
        task=job.task,
        tasks=counts_to_proto(job.tasks) if job.tasks is not None else None,
        waits_for=[awaited_to_proto(awaited, codec) for awaited in job.waits_for],
        estimated_start_ms=job.estimated_start_ms,
        estimated_start_p90_ms=job.estimated_start_p90_ms,
    )
    if job.effective is not None:
        message.effective_residency.CopyFrom(requirement_to_proto(job.effective))
    if with_spec and job.spec is not None:
        message.spec.CopyFrom(spec_to_proto(job.spec))
    return message


def explanation_to_proto(
    explanation: Explanation, job: Job, codec: JobIdCodec
) -> jobs_pb2.ExplainJobResponse:
    """Why a job does not run, completely."""
    return jobs_pb2.ExplainJobResponse(
        job_id=codec.encode(job.id) if job.id else "",
        state=number(jobs_pb2.JobState, job.shown_state()),
        reason=job.reason or "",
        summary=explanation.summary,
        sites=[
            jobs_pb2.SiteExplanation(
                site=site.site,
                permitted=site.permitted,
                denials=[denial_to_proto(denial) for denial in site.denials],
            )
            for site in explanation.sites
        ],
        quota=[denial_to_proto(denial) for denial in explanation.quota],
        changes=[
            jobs_pb2.UnblockingChange(
                constraints=[denial_to_proto(denial) for denial in change],
                summary=" and ".join(denial.detail for denial in change),
            )
            for change in explanation.changes
        ],
        queue_position=explanation.queue_position,
        would_run_at=explanation.would_run_at or "",
        waits_for=[awaited_to_proto(awaited, codec) for awaited in job.waits_for],
        estimated_start_ms=explanation.estimated_start_ms,
        estimated_start_p90_ms=explanation.estimated_start_p90_ms,
    )


def job_id_from_wire(public: str, codec: JobIdCodec) -> JobId | None:
    """The row id behind a public id, or None for what was never one."""
    return codec.decode(public)
