"""What the planner would do under another tenant tree, or with another fleet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from scheduler.model.fleet import Node, Site
from scheduler.model.ids import GpuClass, JobId, SiteId, TenantPath
from scheduler.model.reasons import Denial
from scheduler.model.tenancy import Tenant


@dataclass(frozen=True, slots=True)
class OtherTenants:
    """The whole tenant tree, as asked about."""

    tenants: tuple[Tenant, ...]


@dataclass(frozen=True, slots=True)
class OtherFleet:
    """The whole fleet, as asked about: each site and its nodes. Cordons stay as they are."""

    sites: tuple[tuple[Site, tuple[Node, ...]], ...]


Other: TypeAlias = OtherTenants | OtherFleet


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
class Displaced:
    """What a tenant holds on nodes that the other fleet does not have, in GPU-milli of one class,
    and how much of that has room elsewhere at once, within the law it asked for."""

    tenant: TenantPath
    gpu_class: GpuClass
    held_milli: int
    placed_milli: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The next plan as things are, and as they would be."""

    now: Outcome
    then: Outcome
    displaced: tuple[Displaced, ...] = ()
    """By tenant and class; under another fleet alone."""
    nodes_assumed: int = 0
    """Nodes that are not there yet: taken to be healthy, and as declared."""
