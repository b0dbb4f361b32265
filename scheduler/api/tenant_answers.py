"""Quota, budgets, usage and what-if as they travel."""

from __future__ import annotations

from scheduler.control.spending import BudgetLine, UsageLine
from scheduler.control.views import QuotaLine
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.whatif import JobsWaiting, JobThere, Outcome
from scheduler.wire.tenants import budget_to_proto, share_to_proto
from sovapi.v1 import tenants_pb2


def quota_line_to_proto(line: QuotaLine) -> tenants_pb2.QuotaLine:
    """Quota and use of one node of the tree, on one GPU class."""
    return tenants_pb2.QuotaLine(
        tenant=line.tenant,
        gpu_class=line.gpu_class,
        guarantee_milli=line.guarantee_milli or None,
        limit_milli=line.limit_milli,
        used_milli=line.used_milli,
        borrowed_milli=line.borrowed_milli,
        queued_milli=line.queued_milli,
        weight=line.weight,
        borrow_limit_milli=line.borrow_limit_milli,
        lend_limit_milli=line.lend_limit_milli,
        lent_milli=line.lent_milli,
        shares=[share_to_proto(share) for share in line.shares],
        given_milli=line.given_milli,
    )


def budget_line_to_proto(line: BudgetLine) -> tenants_pb2.BudgetLine:
    """A budget in its present period."""
    return tenants_pb2.BudgetLine(
        tenant=line.tenant,
        budget=budget_to_proto(line.budget),
        first_day=line.first_day,
        end_day=line.end_day,
        reserved_gpu_ms=line.reserved_gpu_ms,
        charged_gpu_ms=line.charged_gpu_ms,
        left_gpu_ms=line.left_gpu_ms(),
    )


def usage_line_to_proto(line: UsageLine) -> tenants_pb2.UsageLine:
    """What was used. Nothing measures the energy of one job yet, and the line says so."""
    whole_gpu_ms = line.charged_gpu_ms + line.refunded_gpu_ms + line.running_gpu_ms
    return tenants_pb2.UsageLine(
        tenant=line.tenant,
        gpu_class=line.gpu_class,
        gpu_milli_ms=whole_gpu_ms * 1000,
        charged_gpu_ms=line.charged_gpu_ms,
        refunded_gpu_ms=line.refunded_gpu_ms,
        running_gpu_ms=line.running_gpu_ms,
        attempts=line.attempts,
        energy_measured=False,
    )


def outcome_to_proto(outcome: Outcome, codec: JobIdCodec) -> tenants_pb2.WhatIfOutcome:
    """What one plan does with the queue."""
    return tenants_pb2.WhatIfOutcome(
        starts=[_start(job, codec) for job in outcome.starts],
        reclaims=[_reclaim(job, codec) for job in outcome.reclaims],
        waits=[_wait(jobs) for jobs in outcome.waits],
        jobs_starting=outcome.jobs_starting,
        jobs_reclaimed=outcome.jobs_reclaimed,
        jobs_waiting=outcome.jobs_waiting,
    )


def _start(job: JobThere, codec: JobIdCodec) -> tenants_pb2.WhatIfStart:
    return tenants_pb2.WhatIfStart(
        job_id=codec.encode(job.job),
        tenant=job.tenant,
        site=job.site,
        gpu_class=job.gpu_class,
        gpu_milli=job.gpu_milli,
    )


def _reclaim(job: JobThere, codec: JobIdCodec) -> tenants_pb2.WhatIfReclaim:
    return tenants_pb2.WhatIfReclaim(
        job_id=codec.encode(job.job),
        tenant=job.tenant,
        site=job.site,
        gpu_class=job.gpu_class,
        gpu_milli=job.gpu_milli,
        detail=job.detail,
    )


def _wait(jobs: JobsWaiting) -> tenants_pb2.WhatIfWait:
    first = jobs.denials[0] if jobs.denials else None
    return tenants_pb2.WhatIfWait(
        tenant=jobs.tenant,
        jobs=jobs.jobs,
        nodes=jobs.nodes,
        gpus_per_node=jobs.gpus_per_node,
        reason=first.reason if first is not None else "",
        detail=first.detail if first is not None else "",
    )
