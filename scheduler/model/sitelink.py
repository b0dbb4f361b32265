"""What the control plane wants of a site, and what a site says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scheduler.model.fleet import Isolation, NodeReport
from scheduler.model.ids import AttemptKey
from scheduler.model.job import DatasetOutput, NodePlacement, RankStatus, SignalBeforeEnd
from scheduler.model.reasons import Reason
from scheduler.model.residency import Requirement


class DesiredAction(IntEnum):
    """What should become of an attempt at its site."""

    UNSPECIFIED = 0
    RUN = 1
    STOP = 2
    FORGET = 3


@dataclass(frozen=True, slots=True)
class LaunchInput:
    """A version of a dataset in the site's store, and where ranks see it."""

    dataset: str
    version: str
    mount: str


@dataclass(frozen=True, slots=True)
class Launch:
    """All that a site is told about a job: neither its name nor its tenant."""

    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    bundle_digest: str
    nodes: tuple[NodePlacement, ...]
    tasks_per_node: int
    gpus_per_node: int
    gpu_share_milli: int
    time_limit_ms: int
    stop_grace_ms: int
    signal_before_end: SignalBeforeEnd | None
    leased: bool
    min_isolation: Isolation
    residency: Requirement
    policy_revision: int
    controlling_stake_milli_percent: int
    secrets: tuple[tuple[str, str], ...] = ()
    image: str = ""
    egress: tuple[str, ...] = ()
    """host:port that its processes may reach."""
    grant: bytes = b""
    inputs: tuple[LaunchInput, ...] = ()
    outputs: tuple[DatasetOutput, ...] = ()
    sealed_secrets: tuple[tuple[str, bytes], ...] = ()
    key_ticket: bytes = b""
    mig_profile: str = ""
    """Of the one unit on each node: an instance that is cut so."""
    ray: bool = False
    """Its ranks make a Ray cluster of their own, and the command runs on rank 0."""


@dataclass(frozen=True, slots=True)
class DesiredAttempt:
    """An outbox row: absolute, the newest generation says all. `launch` None for FORGET."""

    key: AttemptKey
    generation: int
    action: DesiredAction
    stop_grace_ms: int = 0
    stop_reason: str = ""
    launch: Launch | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """Every outbox row of a site with a generation in (from, to]; from 0: everything.

    `rows_total`: this is a part, and so many rows have all parts together; 0: it is all.
    """

    epoch: int
    from_generation: int
    to_generation: int
    attempts: tuple[DesiredAttempt, ...]
    rows_total: int = 0


class AttemptPhase(IntEnum):
    """Where an attempt is, as its site knows it."""

    UNSPECIFIED = 0
    ACCEPTED = 1
    STARTING = 2
    RUNNING = 3
    STOPPING = 4
    ENDED = 5
    REFUSED = 6
    FAILED_TO_START = 7
    LOST = 8


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """A site's full word on one attempt. From ENDED on, nothing of it runs any more."""

    key: AttemptKey
    phase: AttemptPhase
    ranks: tuple[RankStatus, ...] = ()
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SiteReport:
    """What a site reports; `full` when it is all that the site knows."""

    epoch: int
    generation: int
    attempts: tuple[AttemptReport, ...]
    nodes: tuple[NodeReport, ...]
    full: bool
