"""Which class a job belongs to: what decides where and when it may run, and nothing else."""

from __future__ import annotations

from scheduler.model.ids import TenantPath
from scheduler.model.job import JobSpec
from scheduler.model.plan import JobClass

BUCKET_MS_MIN = 60_000
"""The shortest time-limit bucket. Each is twice the one before, and holds limits up to its own
length: a few dozen cover a month, and a job never outlives its bucket."""


def class_of(spec: JobSpec, tenant: TenantPath) -> JobClass:
    """The class of a job of `tenant` as `spec` asks for it."""
    return JobClass(
        tenant=tenant,
        resources=spec.resources,
        topology=spec.topology,
        residency=spec.residency,
        priority=spec.priority,
        time_limit_bucket_ms=bucket_ms(spec.time_limit_ms),
        preemptible=spec.preemption.allowed,
    )


def bucket_ms(time_limit_ms: int) -> int:
    """The bucket that `time_limit_ms` falls into: the shortest that is no shorter."""
    bucket = BUCKET_MS_MIN
    while bucket < time_limit_ms:
        bucket *= 2
    return bucket
