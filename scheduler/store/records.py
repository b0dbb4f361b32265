"""Rows that the store hands out where the model has no noun: a declaration beside its report.

Those that are read and changed by thousands are tuples: a frozen dataclass costs several times as
much to make, and to make another of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from scheduler.model.fleet import Node, NodeReport, Site, SiteContact
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import JobState, NodePlacement, Placement
from scheduler.model.reasons import Reason
from scheduler.model.sitelink import DesiredAction


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """A declared node, what it last said, when, and why an operator closed it."""

    node: Node
    report: NodeReport | None
    reported_at_ms: int | None
    cordon_reason: str = ""


@dataclass(frozen=True, slots=True)
class SiteEntry:
    """A declared site and its session. `contact_at_ms` 0: it was never heard of."""

    site: Site
    contact: SiteContact
    contact_at_ms: int
    cordon_reason: str = ""


@dataclass(frozen=True, slots=True)
class SiteUse:
    """Attempts of one state that hold GPUs of one class at a site, and what they are charged."""

    site: SiteId
    gpu_class: GpuClass
    state: JobState
    attempts: int
    gpu_milli: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """An attempt that is being stopped, or is lost, and still holds `nodes`."""

    site: SiteId
    state: JobState
    reason: Reason | None
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class LiveUse:
    """An attempt that holds GPUs, as far as it costs something."""

    tenant: TenantPath
    class_id: int
    gpu_class: GpuClass
    gpu_milli: int
    placed_at_ms: int


class JobRow(NamedTuple):
    """The narrow row of a job: its state, and nothing that is only read to run it."""

    id: JobId
    class_id: int
    tenant: TenantPath
    owner: str
    name: str
    state: JobState
    submitted_at_ms: int
    next_attempt: int
    spec_digest: str
    spec_number: int
    """Where its specification is kept; jobs that are alike may share it."""
    leased: bool = False
    """Its attempts run under a lease: `on_partition: requeue`."""
    not_before_ms: int = 0
    reason: Reason | None = None
    message: str = ""
    ended_at_ms: int = 0
    exit_code: int | None = None
    cancel_requested: bool = False
    held: bool = False
    """Not for the planner: it waits for other jobs, or is an array or a service."""
    array_id: JobId | None = None
    task: int | None = None
    tasks: int = 0
    """Of an array: how many it has, how many of them have rows, how many may be under way. Of a
    service: how many replicas it began with, and how many ever had rows."""
    unfolded: int = 0
    running_max: int = 0
    replicas: int | None = None
    """Of a service: how many it is to have now. None: it is none."""


class Kept(NamedTuple):
    """A specification that is kept, as a job's row names it."""

    digest: str
    number: int


class Arrival(NamedTuple):
    """A job as it is let in when there is nothing particular about it: no array, no task of one,
    and nothing that it waits for. A tuple: they come by thousands."""

    id: JobId
    class_id: int
    tenant: TenantPath
    name: str
    leased: bool
    spec_digest: str
    spec_body: bytes


class JobStanding(NamedTuple):
    """What decides whether a job may be placed. A tuple: a plan reads thousands."""

    id: JobId
    class_id: int
    state: int
    next_attempt: int
    not_before_ms: int
    leased: bool
    cancel_requested: bool
    held: bool


class AttemptRow(NamedTuple):
    """The narrow row of an attempt. `live`: its placement still counts."""

    key: AttemptKey
    site: SiteId
    state: JobState
    live: bool
    leased: bool
    gpu_class: GpuClass
    gpu_milli: int
    country: str
    placed_at_ms: int
    started_at_ms: int = 0
    ended_at_ms: int = 0
    reason: Reason | None = None
    message: str = ""
    checkpoint_at_ms: int = 0
    """When it was last heard that there is a newer checkpoint, by our clock."""


class NewAttempt(NamedTuple):
    """An attempt that is about to be added; a tuple, because there are thousands in a plan."""

    tenant: TenantPath
    leased: bool
    country: str
    placement: Placement


class Footing(NamedTuple):
    """An attempt on one of its nodes: under which boot it was seen running, and whether it is
    proved that it does not run there any more (`gone`, by what)."""

    node: NodeId
    boot_id: str
    gone: Reason | None


@dataclass(frozen=True, slots=True)
class Occupant:
    """An attempt on a node, as far as its neighbours must know it."""

    key: AttemptKey
    tenant: TenantPath
    class_id: int
    placed: NodePlacement


class OutboxRow(NamedTuple):
    """What is desired of one attempt at its site."""

    site: SiteId
    key: AttemptKey
    generation: int
    action: DesiredAction
    grace_ms: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AuditLeaf:
    """An entry of the audit log."""

    index: int
    kind: str
    tenant: str
    job: JobId | None
    at_ms: int
    body: str
    salt: bytes
    leaf_hash: bytes
