"""Sites, nodes and their GPUs: what was declared, and what was last reported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from scheduler.model.ids import GpuClass, NodeId, SiteId
from scheduler.model.mig import MigInstance
from scheduler.model.residency import Fact, NodeFact, Party


class Isolation(IntEnum):
    """How well a node keeps jobs apart. Ordered; zero satisfies nothing."""

    UNSPECIFIED = 0
    NONE = 1
    PIDNS = 2
    UID = 3
    CONTAINER = 4


class Health(IntEnum):
    """Whether new work may start on a node: only on OK."""

    UNSPECIFIED = 0
    OK = 1
    DEGRADED = 2
    FAILED = 3
    UNKNOWN = 4


class CpuArch(IntEnum):
    """Instruction set of a node's CPUs; ANY in requests only."""

    UNSPECIFIED = 0
    AMD64 = 1
    ARM64 = 2
    ANY = 3


class Interconnect(IntEnum):
    """How nodes talk to each other; ANY in requests only."""

    UNSPECIFIED = 0
    ANY = 1
    ETHERNET = 2
    ROCE = 3
    INFINIBAND = 4
    NVLINK = 5


class SiteStatus(IntEnum):
    """Whether a declared site exists yet. Only ACTIVE sites hold work."""

    UNSPECIFIED = 0
    ACTIVE = 1
    PLANNED = 2
    ON_HOLD = 3


@dataclass(frozen=True, slots=True)
class SiteProfile:
    """What is said of a site and decides nothing: no verdict and no placement reads it.

    Roles are names; the facts of the same names say whose law reaches them. `assumed` names the
    parts of the declaration that nobody stated.
    """

    landlord: str = ""
    facility_operator: str = ""
    service_operator: str = ""
    offtaker: str = ""
    cooling: str = ""
    pue_milli: int | None = None
    note: str = ""
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteEnergy:
    """What energy costs at a site, and what is emitted for it: who says so, and since when."""

    carbon_g_per_kwh: int
    """CO2e."""
    price_pence_per_mwh: int
    source: str
    observed_at_ms: int


@dataclass(frozen=True, slots=True)
class Site:
    """A site as declared, and whether an operator lets new work in."""

    id: SiteId
    status: SiteStatus
    facts: tuple[Fact, ...]
    parents: tuple[Party, ...]
    display_name: str = ""
    min_isolation: Isolation = Isolation.UNSPECIFIED
    power_cap_w: int | None = None
    cordoned: bool = False
    profile: SiteProfile = SiteProfile()
    energy: SiteEnergy | None = None
    """None: nobody says; other sites are liked better where work fits at several alike."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as declared. `cordoned` is the operator's word, not the hardware's."""

    id: NodeId
    pod: str
    leaf: str
    nvlink_domain: str
    gpu_class: GpuClass
    gpus: int
    cpu_arch: CpuArch
    cpu_milli: int
    memory_bytes: int
    interconnects: tuple[Interconnect, ...]
    cordoned: bool = False
    base_w: int | None = None
    """What it draws beside its GPUs; None: assumed after their model, as is `gpu_w`."""
    gpu_w: int | None = None
    """The most that each of its GPUs draws."""
    facts: tuple[NodeFact, ...] = ()
    """What is known of it now, by others than those who declared it."""
    mig: tuple[MigInstance, ...] = ()
    """How its GPUs are cut, sorted; none of them: whole."""
    nvlink_spares: int = 0
    """How many nodes of its NVLink domain are kept free for those of it that break."""

    def refuted(self) -> bool:
        """Whether what is known speaks against it: no work is put on such a node."""
        return bool(self.facts) and any(fact.refutes() for fact in self.facts)


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a verifier on a node said of its GPUs: PASSED, FAILED, or NONE: it could not say."""

    verdict: str
    detail: str
    evidence_digest: str
    observed_at_ms: int


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node last said of itself. A node that never reported has none: UNKNOWN."""

    node: NodeId
    boot_id: str
    gpus: int
    health: Health
    health_detail: str
    isolation: Isolation
    telemetry: str
    runtime_alive: bool
    agent_connected: bool
    agent_version: str = ""
    gpu_uuids: tuple[str, ...] = ()
    """With `boot_id` the node's incarnation; `gpus` is how many there are."""
    cpu_arch: CpuArch = CpuArch.UNSPECIFIED
    cpu_milli: int = 0
    memory_bytes: int = 0
    metrics_address: str = ""
    """HOST:PORT where monitors scrape its agent."""
    attestation: Attestation | None = None
    """None: it runs no verifier."""
    mig: tuple[MigInstance, ...] = ()
    """How its GPUs are cut, sorted."""

    def ready(self) -> bool:
        """Whether new work may start here."""
        return self.health is Health.OK and self.runtime_alive and self.agent_connected


@dataclass(frozen=True, slots=True)
class SiteContact:
    """The control plane's view of a site's session."""

    site: SiteId
    connected: bool
    generation: int
    acked_generation: int
    agent_version: str = ""
    incarnation: str = ""
    metrics_address: str = ""
