"""The tables of jobs and attempts, rebuilt from the audit log alone: a pure fold over its leaves.

The simulator compares the two after every run: a state that no leaf explains is a bug.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from scheduler.core.job_ids import JobIdCodec
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import Attempt, Job, JobState, NodePlacement
from scheduler.model.reasons import Reason
from scheduler.store.leaves import (
    ATTEMPT_PLACED,
    JOB_MOVED,
    JOB_RELEASED,
    JOB_SUBMITTED,
    SERVICE_SCALED,
)
from scheduler.store.records import AuditLeaf

FOLDED = (JOB_SUBMITTED, JOB_RELEASED, ATTEMPT_PLACED, JOB_MOVED, SERVICE_SCALED)
"""Kinds of leaves from which the tables follow."""


@dataclass(frozen=True, slots=True)
class RebuiltAttempt:
    """An attempt as the log tells it."""

    key: AttemptKey
    site: SiteId
    country: str
    gpu_class: GpuClass
    gpu_milli: int
    nodes: tuple[NodePlacement, ...]
    placed_at_ms: int
    state: JobState = JobState.PLACED
    reason: Reason | None = None
    message: str = ""
    started_at_ms: int = 0
    ended_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class RebuiltJob:
    """A job as the log tells it."""

    id: JobId
    tenant: TenantPath
    owner: str
    spec_digest: str
    submitted_at_ms: int
    state: JobState = JobState.QUEUED
    attempts: tuple[RebuiltAttempt, ...] = ()
    reason: Reason | None = None
    message: str = ""
    exit_code: int | None = None
    cancel_requested: bool = False
    not_before_ms: int = 0
    ended_at_ms: int = 0
    held: bool = False
    tasks: int = 0
    array_id: JobId | None = None
    task: int | None = None


def rebuild(leaves: Iterable[AuditLeaf], codec: JobIdCodec) -> dict[JobId, RebuiltJob]:
    """Every job that the log knows, in its last state. `codec` knows whom its names are of."""
    jobs: dict[JobId, RebuiltJob] = {}
    for leaf in leaves:
        if leaf.kind not in FOLDED:
            continue
        body: Mapping[str, Any] = json.loads(leaf.body)
        job = codec.decode(body["job"])
        assert job is not None, f"leaf {leaf.index}: {body['job']!r} names no job"
        match leaf.kind:
            case "job_submitted":
                assert job not in jobs, f"leaf {leaf.index}: job {job} was submitted before"
                jobs[job] = _submitted(job, body, codec)
            case "job_released":
                jobs[job] = replace(jobs[job], held=False)
            case "service_scaled":
                jobs[job] = replace(jobs[job], tasks=body["to"])
            case "attempt_placed":
                jobs[job] = _placed(jobs[job], body)
            case _:
                jobs[job] = _moved(jobs[job], body, leaf.index)
    return jobs


def as_told(job: Job) -> RebuiltJob:
    """A job of the tables in the form in which the log tells it, to compare the two."""
    return RebuiltJob(
        id=job.id,
        tenant=job.tenant,
        owner=job.owner,
        spec_digest=job.spec_digest,
        submitted_at_ms=job.submitted_at_ms,
        state=job.state,
        attempts=tuple(_attempt_as_told(attempt) for attempt in job.attempts),
        reason=job.reason,
        message=job.message,
        exit_code=job.exit_code,
        cancel_requested=job.cancel_requested,
        not_before_ms=job.not_before_ms,
        ended_at_ms=job.ended_at_ms,
        held=job.held,
        tasks=job.tasks.total if job.tasks is not None else 0,
        array_id=job.array_id,
        task=job.task,
    )


def _attempt_as_told(attempt: Attempt) -> RebuiltAttempt:
    return RebuiltAttempt(
        key=attempt.key,
        site=attempt.site,
        country=attempt.country,
        gpu_class=attempt.placement.gpu_class,
        gpu_milli=attempt.placement.gpu_milli,
        nodes=attempt.placement.nodes,
        placed_at_ms=attempt.placed_at_ms,
        state=attempt.state,
        reason=attempt.reason,
        message=attempt.message,
        started_at_ms=attempt.started_at_ms,
        ended_at_ms=attempt.ended_at_ms,
    )


def _submitted(job: JobId, body: Mapping[str, Any], codec: JobIdCodec) -> RebuiltJob:
    return RebuiltJob(
        id=job,
        tenant=TenantPath(body["tenant"]),
        owner=body["owner"],
        spec_digest=body["spec_digest"],
        submitted_at_ms=body["at_ms"],
        held=body.get("held", False),
        tasks=body.get("tasks", 0),
        array_id=codec.decode(body["array"]) if "array" in body else None,
        task=body.get("task"),
    )


def _placed(job: RebuiltJob, body: Mapping[str, Any]) -> RebuiltJob:
    nodes = tuple(
        NodePlacement(NodeId(n["node"]), sum(1 << gpu for gpu in n["gpus"])) for n in body["nodes"]
    )
    attempt = RebuiltAttempt(
        key=AttemptKey(job.id, body["attempt"]),
        site=SiteId(body["site"]),
        country=body["country"],
        gpu_class=GpuClass(body["gpu_class"]),
        gpu_milli=body["gpu_milli"],
        nodes=nodes,
        placed_at_ms=body["at_ms"],
    )
    return replace(
        job,
        state=JobState.PLACED,
        attempts=(*job.attempts, attempt),
        reason=None,
        message="",
        not_before_ms=0,
    )


def _moved(job: RebuiltJob, body: Mapping[str, Any], index: int) -> RebuiltJob:
    assert job.state.name == body["from"], f"leaf {index}: {job.state.name}, not {body['from']}"
    attempts = job.attempts
    if (told := body.get("attempt")) is not None:
        assert attempts, f"leaf {index}: no attempt was placed before"
        last = attempts[-1]
        assert last.key.attempt == told["number"], f"leaf {index}: not the last attempt"
        ended = replace(
            last,
            state=JobState[told["state"]],
            reason=_reason(told["reason"]),
            message=told["message"],
            started_at_ms=told["started_at_ms"],
            ended_at_ms=told["ended_at_ms"],
        )
        attempts = (*attempts[:-1], ended)
    return replace(
        job,
        state=JobState[body["to"]],
        attempts=attempts,
        reason=_reason(body["reason"]),
        message=body["message"],
        exit_code=body["exit_code"],
        cancel_requested=body["cancel_requested"],
        not_before_ms=body["not_before_ms"],
        ended_at_ms=body["ended_at_ms"],
    )


def _reason(code: str | None) -> Reason | None:
    return None if code is None else Reason(code)
