"""A job: what was asked for, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from scheduler.model.fleet import CpuArch, Interconnect
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId, TenantPath
from scheduler.model.mig import milli_of
from scheduler.model.reasons import Reason
from scheduler.model.residency import Requirement
from scheduler.model.service import Service
from scheduler.model.topology import Topology as Topology
from scheduler.model.topology import TopologyLevel as TopologyLevel
from scheduler.model.topology import TopologyMode as TopologyMode


class JobKind(IntEnum):
    """What sort of work it is."""

    UNSPECIFIED = 0
    BATCH = 1
    SERVICE = 2
    RAY = 3


class JobState(IntEnum):
    """Where a job is in its life; `core/lifecycle.py` has the table of moves."""

    UNSPECIFIED = 0
    QUEUED = 1
    PLACED = 2
    STARTING = 3
    RUNNING = 4
    PREEMPTING = 5
    CANCELLING = 6
    LOST = 7
    SUCCEEDED = 8
    FAILED = 9
    CANCELLED = 10


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
HOLDS_NODES = frozenset(
    {
        JobState.PLACED,
        JobState.STARTING,
        JobState.RUNNING,
        JobState.PREEMPTING,
        JobState.CANCELLING,
        JobState.LOST,
    }
)
"""States whose placement still counts against capacity and quota: LOST too, until it is fenced."""


class Priority(IntEnum):
    """Priority classes; a higher one goes first inside a project."""

    UNSPECIFIED = 0
    SPOT = 1
    NORMAL = 2
    HIGH = 3


class OnPartition(IntEnum):
    """What becomes of running work when its site cannot reach the control plane."""

    UNSPECIFIED = 0
    KEEP = 1
    REQUEUE = 2


@dataclass(frozen=True, slots=True)
class Resources:
    """The shape of a job. Zero CPU or memory means: in proportion to the GPUs."""

    nodes: int = 1
    gpus_per_node: int = 1
    gpu_classes: tuple[GpuClass, ...] = ()
    gpu_share_milli: int = 1000
    """Of its one GPU; several are whole. See `milli_each`."""
    mig_profile: str = ""
    """Of its one GPU an instance that is cut so (`mig`); empty: no part of one that is cut."""
    max_nodes: int = 0
    cpu_arch: CpuArch = CpuArch.ANY
    tasks_per_node: int = 1
    tasks_per_gpu: bool = False
    cpu_milli_per_node: int = 0
    memory_bytes_per_node: int = 0
    interconnect: Interconnect = Interconnect.ANY

    def milli_each(self) -> int:
        """What a job takes of each of its GPUs: a share or an instance of one, or whole ones."""
        if self.mig_profile:
            return milli_of(self.mig_profile)
        return self.gpu_share_milli if self.gpus_per_node == 1 else 1000


@dataclass(frozen=True, slots=True)
class DatasetMount:
    """An input from the catalogue."""

    dataset: str
    mount: str


@dataclass(frozen=True, slots=True)
class DatasetOutput:
    """An output into the catalogue; `from_path` is relative to the working directory."""

    dataset: str
    from_path: str


@dataclass(frozen=True, slots=True)
class SignalBeforeEnd:
    """A signal sent some time before the time limit."""

    signal: str
    before_ms: int


@dataclass(frozen=True, slots=True)
class Preemption:
    """Whether and how a job may be preempted."""

    allowed: bool = True
    grace_ms: int = 30_000
    min_runtime_ms: int = 0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often an attempt may be followed by another, by whose fault it ended."""

    hardware: int = 3
    application: int = 0


@dataclass(frozen=True, slots=True)
class JobArray:
    """Many tasks from one job."""

    count: int
    max_running: int = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job that must have reached a state first."""

    job: str
    state: JobState


@dataclass(frozen=True, slots=True)
class Awaited:
    """A job that a queued one waits for, and the state that it must have reached."""

    job: JobId
    state: JobState


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks of an array, or replicas of a service, by where they are. `queued` counts those without
    a row too. `total` is how many there are to be; of a service, others may be over."""

    total: int
    queued: int = 0
    live: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    ready: int | None = None
    """Of a service: replicas that do their work. None: it is an array."""

    def begun(self) -> bool:
        """Whether any of it is under way; of an array, or was."""
        return self.queued < self.total if self.ready is None else self.live > 0


DEFAULT_TIME_LIMIT_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class JobSpec:
    """All that a tenant asks for. `env` and `secrets` are sorted pairs."""

    name: str
    project: TenantPath
    command: tuple[str, ...]
    residency: Requirement
    kind: JobKind = JobKind.BATCH
    bundle_digest: str = ""
    env: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    image: str = ""
    egress: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    topology: Topology = field(default_factory=Topology)
    inputs: tuple[DatasetMount, ...] = ()
    outputs: tuple[DatasetOutput, ...] = ()
    priority: Priority = Priority.NORMAL
    time_limit_ms: int = DEFAULT_TIME_LIMIT_MS
    signal_before_end: SignalBeforeEnd | None = None
    preemption: Preemption = field(default_factory=Preemption)
    retries: Retries = field(default_factory=Retries)
    on_partition: OnPartition = OnPartition.KEEP
    array: JobArray | None = None
    service: Service | None = None
    depends_on: tuple[Dependency, ...] = ()
    max_path_latency_us: int = 0
    key_ticket: bytes = b""
    """The tenant's word, to its key service, that this work is its own; opaque here."""


class RankPhase(IntEnum):
    """Where one process of an attempt is."""

    UNSPECIFIED = 0
    PREPARED = 1
    STARTING = 2
    RUNNING = 3
    OVER = 4


class RankCause(IntEnum):
    """Why a rank is over."""

    UNSPECIFIED = 0
    EXIT = 1
    STOP = 2
    LEASE = 3
    TIME_LIMIT = 4
    FENCE = 5
    NEVER_STARTED = 6
    LOST = 7
    INFRASTRUCTURE = 8


@dataclass(frozen=True, slots=True)
class EgressUse:
    """What went to and came from one destination of a job's `egress`."""

    connections: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RankEgress:
    """What a rank's network let out, when it ended; ranks of an attempt on one node share one."""

    denied: int = 0
    """Connections and datagrams that found no way out."""
    uses: tuple[EgressUse, ...] = ()
    """In the order of the job's `egress`."""


@dataclass(frozen=True, slots=True)
class WrittenOutput:
    """Files that are in the site's store as a version of a dataset."""

    dataset: str
    digest: str
    """SHA-256 of the listing of the files; its hexadecimal part names the version."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RankStatus:
    """One process of an attempt as its site last reported it."""

    rank: int
    node: NodeId
    phase: RankPhase
    exit_code: int | None = None
    signal: int = 0
    cause: RankCause = RankCause.UNSPECIFIED
    started_at_ms: int = 0
    ended_at_ms: int = 0
    log_bytes: int = 0
    detail: str = ""
    checkpoint_at_ms: int = 0
    """By its node's clock, when the newest checkpoint was written; 0: none that was seen."""
    egress: RankEgress | None = None
    """None while it runs, and where nothing kept it from what its node reaches."""
    outputs: tuple[WrittenOutput, ...] = ()


class NodePlacement(NamedTuple):
    """A node of a placement and the units taken on it: bit i is GPU i, and from the number of the
    node's GPUs on its instances in their order (`mig`)."""

    node: NodeId
    gpu_mask: int

    def gpu_indices(self) -> tuple[int, ...]:
        """The units' indices, ascending."""
        return tuple(i for i in range(self.gpu_mask.bit_length()) if self.gpu_mask >> i & 1)


class Placement(NamedTuple):
    """Where an attempt runs: one site, its nodes in rank order. A tuple, as its parts are: a plan
    makes tens of thousands and sends them, at a third of what frozen dataclasses cost."""

    key: AttemptKey
    site: SiteId
    gpu_class: GpuClass
    nodes: tuple[NodePlacement, ...]
    gpu_milli: int
    """What the placement is charged: whole nodes where the job does not share them."""


class Attempt(NamedTuple):
    """One try at running a job. A tuple: a thousand end at once, each read and told anew."""

    key: AttemptKey
    site: SiteId
    state: JobState
    placement: Placement
    ranks: tuple[RankStatus, ...] = ()
    reason: Reason | None = None
    message: str = ""
    country: str = ""
    placed_at_ms: int = 0
    started_at_ms: int = 0
    ended_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store holds it; `attempts` oldest first. `spec` may be erased: None."""

    id: JobId
    tenant: TenantPath
    owner: str
    name: str
    state: JobState
    spec: JobSpec | None
    spec_digest: str
    submitted_at_ms: int
    attempts: tuple[Attempt, ...] = ()
    reason: Reason | None = None
    message: str = ""
    ended_at_ms: int = 0
    exit_code: int | None = None
    cancel_requested: bool = False
    not_before_ms: int = 0
    """A requeued job backs off until then."""
    held: bool = False
    """Queued, and not for the planner: it waits for other jobs, or is an array or a service."""
    array_id: JobId | None = None
    task: int | None = None
    """A task's array, or a replica's service, and its number there."""
    tasks: TaskCounts | None = None
    """Of an array, or of a service."""
    waits_for: tuple[Awaited, ...] = ()
    estimated_start_ms: int = 0
    """When it is thought to start, and when in nine cases of ten; 0: nobody said."""
    estimated_start_p90_ms: int = 0
    effective: Requirement | None = None
    """What must hold of a site, where what the job reads demands more than it asks for itself."""

    def shown_state(self) -> JobState:
        """What people are told: an array or service is stored as queued until all of it is over."""
        if self.tasks is None or self.state in TERMINAL:
            return self.state
        if self.cancel_requested:
            return JobState.CANCELLING
        return JobState.RUNNING if self.tasks.begun() else self.state
