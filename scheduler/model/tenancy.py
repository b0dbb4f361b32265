"""The tenant tree and its quotas. Usage is never stored: it is derived from live placements."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scheduler.model.ids import GpuClass, TenantPath


class QueueOrder(IntEnum):
    """Order inside a project, after priority."""

    UNSPECIFIED = 0
    AGE = 1
    SHORTEST = 2


@dataclass(frozen=True, slots=True, order=True)
class GpuQuota:
    """Quota of one GPU class at one node of the tree; the class "*" stands for all together."""

    gpu_class: GpuClass
    guarantee_milli: int = 0
    limit_milli: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """One node of the tree. A child's path starts with its parent's."""

    path: TenantPath
    weight: int = 1
    quotas: tuple[GpuQuota, ...] = ()
    queue_order: QueueOrder = QueueOrder.AGE
    max_queued_jobs: int = 100_000
    display_name: str = ""
