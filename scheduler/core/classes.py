"""Which class a job belongs to: what decides where and when it may run, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from scheduler.core.residency import asked_of
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.job import JobSpec
from scheduler.model.plan import JobClass
from scheduler.model.topology import Apart, TopologyMode

NO_SERVICE = JobId(0)
"""No job has this id."""

BUCKET_MS_MIN = 60_000
"""The shortest time-limit bucket, and the step between the next ones."""
BUCKETS_PER_DOUBLING = 32
"""Buckets hold limits up to their own length, so a job never outlives its own. From the 32nd minute
on their step grows with them: limits in common use (1 h, 4 h, 24 h) are buckets of their own, none
is more than a thirtieth longer than a limit in it, and a few hundred cover a month."""
GRACE_MS_MIN = 1_000
"""The shortest bucket of a grace; each is twice the one before."""


def class_of(spec: JobSpec, tenant: TenantPath) -> JobClass:
    """The class of a job of `tenant` as `spec` asks for it."""
    least_ms = spec.preemption.min_runtime_ms
    return JobClass(
        tenant=tenant,
        resources=spec.resources,
        topology=spec.topology,
        residency=asked_of(spec),
        priority=spec.priority,
        time_limit_bucket_ms=bucket_ms(spec.time_limit_ms),
        preemptible=spec.preemption.allowed,
        min_runtime_ms=bucket_ms(least_ms) if least_ms > 0 else 0,
        grace_ms=grace_bucket_ms(spec.preemption.grace_ms),
        apart=_apart(spec),
    )


def of_service(job_class: JobClass, service: JobId) -> JobClass:
    """The class of the replicas of `service`, which is of `job_class`."""
    if job_class.apart is None:
        return job_class
    return replace(job_class, apart=replace(job_class.apart, service=service))


def _apart(spec: JobSpec) -> Apart | None:
    """How replicas are spread; of which service, only their own class says (`of_service`)."""
    spread = spec.service.spread if spec.service is not None else None
    if spread is None:
        return None
    return Apart(NO_SERVICE, spread.over, spread.mode is TopologyMode.REQUIRED)


def bucket_ms(time_limit_ms: int) -> int:
    """The bucket that `time_limit_ms` falls into: the shortest that is no shorter."""
    step = BUCKET_MS_MIN
    while step * 2 * BUCKETS_PER_DOUBLING <= time_limit_ms:
        step *= 2
    return max(BUCKET_MS_MIN, -(-time_limit_ms // step) * step)


def grace_bucket_ms(grace_ms: int) -> int:
    """The bucket that `grace_ms` falls into; none is none."""
    bucket = GRACE_MS_MIN if grace_ms > 0 else 0
    while bucket < grace_ms:
        bucket *= 2
    return bucket


def ends_by_ms(job_class: JobClass, placed_at_ms: int) -> int:
    """When a job placed at `placed_at_ms` will have run into its time limit."""
    return placed_at_ms + job_class.time_limit_bucket_ms
