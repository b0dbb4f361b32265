"""A node that a test reads again and again: what it says, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.node.collectors.readings import (
    EthernetPort,
    Gpu,
    Missing,
    NvLinks,
    RdmaPort,
    Readings,
    System,
    Telemetry,
    XidEvent,
)
from agent.node.faults import FaultLog, absorb, boot
from agent.node.health import Health
from agent.node.verdict import Memory, Verdict, judge

POLL_MS = 10_000
OK, DEGRADED, UNKNOWN, FAILED = Health.OK, Health.DEGRADED, Health.UNKNOWN, Health.FAILED
GPU = Gpu(
    0,
    "GPU-0",
    temperature_c=40,
    temperature_max_c=87,
    memory_temperature_c=50,
    memory_temperature_max_c=95,
    energy_mj=5_000_000,
    clock_events=1,
    ecc_volatile_corrected=0,
    ecc_volatile_uncorrected=0,
    remapped_uncorrectable=0,
    remap_pending=False,
    remap_failed=False,
    pcie_replays=0,
    pcie_generation=5,
    pcie_width=16,
    recovery_action=0,
    nvlinks=NvLinks(18, 18, 0, 0, 0, 0xFFF, 0xFFF),
)
OTHER = replace(GPU, index=1, uuid="GPU-1")
PORT = RdmaPort("mlx5_0", 1, "InfiniBand", 4, 5, 400_000, {"symbol_error": 0, "link_downed": 0})
ETHERNET = EthernetPort("eth0", True, 100_000, {"carrier_changes": 2})
SYSTEM = System(1 << 40, 1 << 39, 0, 1 << 40)


@dataclass
class Node:
    """A node that is read every POLL_MS."""

    gpus: tuple[Gpu, ...] = (GPU, OTHER)
    ports: tuple[RdmaPort, ...] = (PORT,)
    ethernet: tuple[EthernetPort, ...] = (ETHERNET,)
    system: System = SYSTEM
    missing: Missing | None = None
    log: FaultLog = field(default_factory=lambda: FaultLog("boot-1"))
    memory: Memory = field(default_factory=Memory)
    now_ms: int = 1_000_000

    def poll(self, *events: tuple[str, int], after_ms: int = POLL_MS) -> Verdict:
        """One more reading, with (GPU, XID) reported before it."""
        self.now_ms += after_ms
        reported = tuple(XidEvent(gpu, xid, self.now_ms) for gpu, xid in events)
        readings = Readings(
            self.now_ms,
            self.now_ms,
            Telemetry.NVML,
            self.gpus,
            self.missing,
            reported,
            "999",
            self.ports,
            self.ethernet,
            self.system,
        )
        self.log = absorb(self.log, readings)
        self.memory, found = judge(self.memory, self.log, readings)
        return found

    def polls(self, count: int) -> Verdict:
        """Several readings; the last verdict."""
        return [self.poll() for _ in range(count)][-1]

    def minutes(self, count: int) -> Verdict:
        """A reading a minute; the last verdict."""
        return [self.poll(after_ms=60_000) for _ in range(count)][-1]

    def gpu(self, **changes: object) -> None:
        """The first GPU reads otherwise from now on."""
        self.gpus = (replace(self.gpus[0], **changes), *self.gpus[1:])  # type: ignore[arg-type]

    def nvlinks(self, **changes: object) -> None:
        links = self.gpus[0].nvlinks
        assert links is not None
        self.gpu(nvlinks=replace(links, **changes))  # type: ignore[arg-type]

    def count(self, **counters: int) -> None:
        """The port's counters are so from now on."""
        (port,) = self.ports
        self.ports = (replace(port, counters={**port.counters, **counters}),)

    def reboot(self, boot_id: str) -> None:
        """Another boot: the agent begins with nothing but its log."""
        self.log, self.memory = boot(self.log, boot_id), Memory()


def codes(found: Verdict) -> list[str]:
    return [finding.code for finding in found.findings]


def well() -> Node:
    """A node that is well, and was read a few times."""
    node = Node()
    assert node.polls(3).health is OK
    return node
