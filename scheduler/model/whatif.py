"""What the planner would do under another tenant tree."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.model.ids import GpuClass, JobId, SiteId, TenantPath
from scheduler.model.reasons import Denial


@dataclass(frozen=True, slots=True)
class JobThere:
    """A job that would start at a site, or be ended there, and why it would be ended."""

    job: JobId
    tenant: TenantPath
    site: SiteId
    gpu_class: GpuClass
    gpu_milli: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class JobsWaiting:
    """Jobs that are alike and would wait."""

    tenant: TenantPath
    jobs: int
    nodes: int
    gpus_per_node: int
    denials: tuple[Denial, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one plan does with the queue. The lists are bounded, the counts are of all."""

    starts: tuple[JobThere, ...]
    reclaims: tuple[JobThere, ...]
    waits: tuple[JobsWaiting, ...]
    jobs_starting: int
    jobs_reclaimed: int
    jobs_waiting: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The next plan under the tree in force, and under the other one."""

    now: Outcome
    then: Outcome
