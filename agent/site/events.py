"""What the site machine is told, and what it asks for. Results of what it asked come as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agent.site.state import Archive, Journal, Release, StopRank
from sovapi.v1.nodelink_pb2 import SpoolReport
from sovapi.v1.sitelink_pb2 import Desired, Launch, NodeReport, SiteReport


@dataclass(frozen=True, slots=True)
class Connected:
    """The control plane has answered our hello."""

    heartbeat_interval_ms: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session with the control plane is over."""


@dataclass(frozen=True, slots=True)
class DesiredReceived:
    """The control plane's word on what should be."""

    desired: Desired


@dataclass(frozen=True, slots=True)
class HeartbeatAcked:
    """Our heartbeat of this number arrived. It gives a lease once we hold `generation`."""

    sequence: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class NodeConnected:
    """A node agent said hello. Its spool is not known before its first full report."""

    slot: str
    boot_id: str
    agent_version: str = ""


@dataclass(frozen=True, slots=True)
class NodeDisconnected:
    """A node agent's stream is over."""

    slot: str


@dataclass(frozen=True, slots=True)
class NodeReported:
    """A node agent's word on its node."""

    slot: str
    report: NodeReport


@dataclass(frozen=True, slots=True)
class SpoolReported:
    """A node agent's word on its spool."""

    slot: str
    report: SpoolReport


@dataclass(frozen=True, slots=True)
class NodePinged:
    """A node agent asks for how long leases last from now."""

    slot: str
    sequence: int


@dataclass(frozen=True, slots=True)
class RuntimeChanged:
    """Slots whose raylet answers; None: nobody can say."""

    alive: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class ReservationsSeen:
    """Attempts that hold a placement group; None: nobody can say."""

    keys: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class ReserveFinished:
    """A Reserve is over. However it ended, the attempt may hold its nodes."""

    key: str


@dataclass(frozen=True, slots=True)
class LaunchFinished:
    """What became of a Launch. `refused`: the guard, or a node, said no at the last moment, and
    why: a reason as it is reported; empty: nobody did."""

    key: str
    ok: bool
    detail: str = ""
    retryable: bool = True
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """What became of a Release."""

    key: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Persisted:
    """The journal of this version is durable."""

    version: int


@dataclass(frozen=True, slots=True)
class PersistFailed:
    """The journal of this version is not durable; the one before stands."""

    version: int
    detail: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = (
    Connected
    | Disconnected
    | DesiredReceived
    | HeartbeatAcked
    | NodeConnected
    | NodeDisconnected
    | NodeReported
    | SpoolReported
    | NodePinged
    | RuntimeChanged
    | ReservationsSeen
    | ReserveFinished
    | LaunchFinished
    | Released
    | Persisted
    | PersistFailed
    | Tick
)


@dataclass(frozen=True, slots=True)
class Persist:
    """Make this journal durable, then say Persisted or PersistFailed. One at a time."""

    version: int
    journal: Journal


@dataclass(frozen=True, slots=True)
class Reserve:
    """Hold the nodes of an attempt that will be launched once it is durable, then say
    ReserveFinished.

    It starts nothing, and the launch does it again where it failed or was forgotten.
    """

    key: str
    launch: Launch


@dataclass(frozen=True, slots=True)
class LaunchAttempt:
    """Fetch what it needs, ask the guard once more, launch, then say LaunchFinished.

    `lease_ms`: for how long its ranks may run from now on, unless renewed; None: no lease.
    `isolation`: the level of the weakest of its nodes.
    """

    key: str
    launch: Launch
    lease_ms: int | None
    isolation: int


@dataclass(frozen=True, slots=True)
class SendReport:
    """Tell the control plane."""

    report: SiteReport


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Tell the control plane we are here."""

    sequence: int


@dataclass(frozen=True, slots=True)
class SendPong:
    """Answer a node agent: how long each lease lasts from its ping on."""

    slot: str
    sequence: int
    lease_ms: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Note:
    """Something people should know; log it."""

    text: str


Instruction: TypeAlias = (
    Persist
    | Reserve
    | LaunchAttempt
    | Release
    | StopRank
    | Archive
    | SendReport
    | SendHeartbeat
    | SendPong
    | Note
)
