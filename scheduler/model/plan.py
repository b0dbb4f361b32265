"""What the planner eats and what it answers."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

from scheduler.model.fleet import Node, NodeReport, Site
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.job import (
    JobState,
    Placement,
    Priority,
    Resources,
    Topology,
)
from scheduler.model.reasons import Denial
from scheduler.model.residency import Policy, Requirement
from scheduler.model.tenancy import SettledUse, Tenant
from scheduler.model.topology import Apart
from scheduler.model.window import Window


@dataclass(frozen=True, slots=True)
class JobClass:
    """Queued jobs that are alike: what blocks one blocks all. Interned by the store."""

    tenant: TenantPath
    resources: Resources
    topology: Topology
    residency: Requirement
    priority: Priority
    time_limit_bucket_ms: int
    preemptible: bool
    min_runtime_ms: int = 0
    """Not preempted before it ran so long; rounded up, like the time limit."""
    grace_ms: int = 0
    """How long it may take to end when it is preempted; rounded up."""
    had_gpu_ms: int = 0
    """GPU time of earlier attempts, rounded down to a step, where ranks go by it; else 0."""
    apart: Apart | None = None
    """Its jobs are replicas of one service, and are to be apart."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that waits for a placement."""

    id: JobId
    job_class: JobClass
    submitted_at_ms: int
    next_attempt: int
    not_before_ms: int = 0


@dataclass(slots=True, unsafe_hash=True)
class LiveAttempt:
    """An attempt that holds nodes. Never changed: a frozen one costs the planner 1 µs more."""

    placement: Placement
    tenant: TenantPath
    job_class: JobClass
    state: JobState
    placed_at_ms: int
    started_at_ms: int = 0
    checkpoint_at_ms: int = 0
    """When its newest checkpoint was written, as its site told; 0: none that is known."""
    submitted_at_ms: int | None = None
    """When its job was submitted; None: when it was placed."""


# The change feed: what happened since a sequence number, absolute and in commit order. Applying
# all changes from 0 to an empty fleet rebuilds the planner's state.


@dataclass(frozen=True, slots=True)
class SiteChanged:
    """A site is now as said, or was removed (None)."""

    id: SiteId
    site: Site | None
    connected: bool


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A node is now as said; `node` None when it is no longer declared."""

    id: str
    node: Node | None
    report: NodeReport | None


@dataclass(frozen=True, slots=True)
class TenantsChanged:
    """The whole tenant tree is now this."""

    tenants: tuple[Tenant, ...]


@dataclass(frozen=True, slots=True)
class BudgetChanged:
    """What is settled of one tenant, GPU class and day is now this. After a `TenantsChanged`, all
    that its budgets may ask about is told again."""

    use: SettledUse


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The policy in force is now this."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class AgreementUsed:
    """What is used under an agreement is now this: milli-GPUs held now, and by day, the newest
    last, what is reserved by what runs and was charged to what is over."""

    name: str
    gpu_milli: int
    spent_gpu_ms: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job is now queued, live, or (both None) neither. Never both.

    `job_class` spares a search for one that is neither.
    """

    id: JobId
    queued: QueuedJob | None
    live: LiveAttempt | None
    job_class: JobClass | None = None


@dataclass(frozen=True, slots=True)
class QueueLoaded:
    """Jobs of one class that wait for their first attempt, ids ascending, with submission times.

    Equal to a `JobChanged` for each. Arrays are of 64-bit numbers ("q").
    """

    job_class: JobClass
    ids: array[int]
    submitted_at_ms: array[int]


@dataclass(frozen=True, slots=True)
class MixEntry:
    """One kind of request, by one node's part of it, and how often it is asked for.

    No class named: any will do. No CPU or memory: in proportion to the GPUs.
    """

    cpu_milli: int
    memory_bytes: int
    gpus: int
    gpu_milli: int
    gpu_classes: tuple[GpuClass, ...]
    weight: int


@dataclass(frozen=True, slots=True)
class SitePress:
    """How sought after a site's GPUs of one class are: what may be asked of each of them, less what
    may be of each of that class anywhere, in millionths of what is asked of a GPU on average."""

    site: SiteId
    gpu_class: GpuClass
    ppm: int


@dataclass(frozen=True, slots=True)
class MixChanged:
    """What is usually asked for is now this, as learned at a moment (0: never): what free capacity
    is worth follows from it, and which sites are sought after."""

    mix: tuple[MixEntry, ...] = ()
    learned_at_ms: int = 0
    press: tuple[SitePress, ...] = ()


@dataclass(frozen=True, slots=True)
class RunLengths:
    """How long a project's work that declares no length is to be expected to go on, by the level of
    what it has run (`core/lengths`). `kind`: of so many GPUs, to the power of two; 0: of any."""

    kind: int
    ahead_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LengthsChanged:
    """What a project's own jobs tell of how long they run is now this, as learned at a moment."""

    tenant: TenantPath
    lengths: tuple[RunLengths, ...] = ()
    learned_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class WindowChanged:
    """A window of time is now as said, or is no more (None)."""

    id: str
    window: Window | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Nodes that are kept for a queued job, which can start there at `starts_at_ms` at the latest.

    Nobody else is placed there unless their time limit ends them before that.
    """

    job: JobId
    site: SiteId
    gpu_class: GpuClass
    nodes: tuple[NodeId, ...]
    starts_at_ms: int


@dataclass(frozen=True, slots=True)
class ReservationChanged:
    """What is kept for a job is now this, or nothing (None)."""

    job: JobId
    reservation: Reservation | None


@dataclass(frozen=True, slots=True)
class PlanKept:
    """Of the plan that the follower made last these jobs' placements were committed, as they were
    planned and when; nothing else became of them since."""

    jobs: tuple[JobId, ...]
    placed_at_ms: int


@dataclass(frozen=True, slots=True)
class PlanBorneOut:
    """Of a plan that the follower presumed to be committed these jobs' placements were: it was
    right, and nothing else became of them since."""

    plan: int
    jobs: tuple[JobId, ...]


@dataclass(frozen=True, slots=True)
class Underway:
    """A plan that is being committed, as of a moment, while the next one is made."""

    plan: int
    """Its number."""
    at_ms: int


Everywhere: TypeAlias = TenantsChanged | PolicyChanged | MixChanged | LengthsChanged
"""Changes that may matter to whatever waits."""

Told: TypeAlias = (
    SiteChanged
    | NodeChanged
    | BudgetChanged
    | AgreementUsed
    | WindowChanged
    | Everywhere
    | ReservationChanged
    | QueueLoaded
    | JobChanged
)
"""What is told in full: absolute, whoever hears it."""
Change: TypeAlias = Told | PlanKept | PlanBorneOut


@dataclass(frozen=True, slots=True)
class PlanBudget:
    """Most work for one plan, counted in decisions and never in time."""

    placements_max: int = 10_000
    attempts_max: int = 100_000


@dataclass(frozen=True, slots=True)
class Preempt:
    """An attempt to be ended so that another may start, or (None) its site draws less power."""

    victim: AttemptKey
    beneficiary: JobId | None
    detail: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a class of jobs stays queued: its decisive reason and everything found."""

    job_class: JobClass
    denials: tuple[Denial, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Placements to commit, in order. `sequence` is the change sequence it was planned on.

    `blocked` names the classes whose decisive reason is another than the plans before said: the
    others wait for what they waited for. `anew`: all are named, so nothing older counts.
    """

    sequence: int
    policy_revision: int
    placements: tuple[Placement, ...]
    preemptions: tuple[Preempt, ...] = ()
    blocked: tuple[Blocked, ...] = field(default=(), compare=False)
    emptied: tuple[JobClass, ...] = field(default=(), compare=False)
    """Classes in which nobody waited any more at some time since the plan before."""
    anew: bool = field(default=False, compare=False)
    reservations: tuple[Reservation, ...] = ()
    """New ones."""
    released: tuple[JobId, ...] = ()
    """Jobs for which nothing is kept any more."""
    may_grow: bool = field(default=False, compare=False)
    """Whether running elastic jobs may have more nodes later, though nothing changes till then."""
    mix: MixChanged | None = None
    """What is usually asked for, where it was time to learn that anew."""
    number: int = field(default=0, compare=False)
    """Tells the plans of one leader apart, so that whoever made it knows it again in what was
    committed; 0: nobody will."""

    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not self.placements and self.only_places()

    def only_places(self) -> bool:
        """Whether it changes nothing but where queued jobs are."""
        asked = self.preemptions or self.reservations or self.released
        return not asked and self.mix is None


@dataclass(frozen=True, slots=True)
class SiteReasons:
    """What stands between a job and one site. No denial: it would start there now."""

    site: SiteId
    permitted: bool
    denials: tuple[Denial, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job does not run, completely. `changes` are minimal sets that would unblock it."""

    summary: str
    sites: tuple[SiteReasons, ...]
    quota: tuple[Denial, ...]
    changes: tuple[tuple[Denial, ...], ...]
    queue_position: int
    would_run_at: SiteId | None = None
    estimated_start_ms: int = 0
    """When it is thought to start, and when in nine cases of ten; 0: no estimate."""
    estimated_start_p90_ms: int = 0
