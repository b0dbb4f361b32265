"""What a node tells Prometheus: the newest snapshot as a page of metrics, made once a reading.

Names are those of the health reference. Hardware series carry site, node and the device, never a
job or a tenant. Nothing here decides anything: health travels to the control plane by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.node import xids
from agent.node.collectors import nvml_encoding
from agent.node.collectors.readings import Gpu, RdmaPort, System
from agent.node.health import Health
from agent.node.verdict import PCIE_GTS_TENTHS, Finding
from agent.node.watch import HealthWatch, Snapshot
from sovshared.metrics_page import MetricsPage, hundredths, thousandths
from sovshared.pki import CertificateFacts

CLOCK_EVENTS = {
    "idle": 0x1,
    "app_clocks": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}
PORT_COUNTERS = {
    "link_downed": "link_downed",
    "link_error_recovery": "link_error_recovery",
    "symbol_error": "symbol_errors",
    "port_rcv_errors": "receive_errors",
    "port_rcv_remote_physical_errors": "receive_remote_physical_errors",
    "port_rcv_constraint_errors": "receive_constraint_errors",
    "port_xmit_constraint_errors": "transmit_constraint_errors",
    "port_xmit_discards": "transmit_discards",
    "port_xmit_wait": "transmit_wait",
    "excessive_buffer_overrun_errors": "buffer_overrun_errors",
    "local_link_integrity_errors": "link_integrity_errors",
    "VL15_dropped": "vl15_dropped",
    "port_rcv_packets": "receive_packets",
    "port_xmit_packets": "transmit_packets",
}
WORD_BYTES = 4
"""port_rcv_data and port_xmit_data count words of four bytes (InfiniBand specification)."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who tells."""

    site: str
    slot: str
    version: str


class Exporter:
    """Makes the page, and keeps it until there is another reading."""

    def __init__(
        self, who: Identity, watch: HealthWatch, certificate: Callable[[], CertificateFacts]
    ) -> None:
        self._who = who
        self._watch = watch
        self._certificate = certificate
        self._made_of: Snapshot | None = None
        self._page = b""

    def page(self) -> bytes:
        """The page of now."""
        latest = self._watch.latest
        if latest is None or latest is not self._made_of or not self._page:
            self._page, self._made_of = self._make(latest), latest
        return self._page

    def _make(self, latest: Snapshot | None) -> bytes:
        page = MetricsPage({"site": self._who.site, "node": self._who.slot})
        info = {"telemetry": self._watch.telemetry.value, "version": self._who.version}
        if latest is not None:
            info["driver"] = latest.readings.driver
        page.family("sov_node_info", "gauge", "This node and its agent", [(info, 1)])
        facts = self._certificate()
        own = (
            (
                "not_after_timestamp_seconds",
                "When the agent's certificate ends",
                facts.not_after_ms,
            ),
            ("lifetime_seconds", "Its whole life", facts.not_after_ms - facts.not_before_ms),
        )
        for name, text, value_ms in own:
            page.family(f"sov_certificate_{name}", "gauge", text, [({}, value_ms // 1000)])
        if latest is None:
            return page.text()
        _node(page, latest, self._watch.nvml_restarts)
        _gpus(page, latest)
        _nvlinks(page, latest)
        _ports(page, latest)
        _system(page, latest.readings.system)
        return page.text()


def _node(page: MetricsPage, latest: Snapshot, restarts: int) -> None:
    readings, verdict, totals = latest.readings, latest.verdict, latest.totals
    page.family(
        "sov_agent_last_collection_timestamp_seconds",
        "gauge",
        "When all of the hardware was last read",
        [({}, thousandths(totals.complete_at_ms))],
    )
    page.family("sov_agent_collections_total", "counter", "Readings", [({}, totals.readings)])
    page.family(
        "sov_agent_nvml_restarts_total",
        "counter",
        "Processes that read GPUs and had to be started anew",
        [({}, restarts)],
    )
    page.family(
        "sov_node_health",
        "gauge",
        "The verdict on the node: 1 at its state",
        [({"state": h.name.lower()}, int(h is verdict.health)) for h in Health],
    )
    page.family(
        "sov_node_finding",
        "gauge",
        "What is wrong: 1 a finding",
        [(_finding(found), 1) for found in verdict.findings],
    )
    severities = {Health.FAILED: "fatal", Health.DEGRADED: "degraded", Health.UNKNOWN: "unknown"}
    page.family(
        "sov_node_faults_total",
        "counter",
        "Findings that appeared",
        [({"severity": name}, totals.faults.get(h, 0)) for h, name in severities.items()],
    )
    visible = [gpu for gpu in readings.gpus if not gpu.lost]
    page.family("sov_node_gpus_visible", "gauge", "GPUs that answer", [({}, len(visible))])
    expected = latest.log.expected.gpus
    page.family("sov_node_gpus_expected", "gauge", "GPUs it once had", [({}, expected)])
    fabric = int(any(gpu.fabric is not None for gpu in visible))
    page.family("sov_node_nvlink_fabric", "gauge", "It is part of a fabric", [({}, fabric)])


def _finding(found: Finding) -> dict[str, str]:
    return {"code": found.code, "subject": found.subject, "severity": found.health.name.lower()}


GpuValue = Callable[[Gpu], int | str | None]
GPU_GAUGES: tuple[tuple[str, str, GpuValue], ...] = (
    ("temperature_celsius", "Temperature", lambda g: g.temperature_c),
    ("temperature_max_celsius", "Its limit", lambda g: g.temperature_max_c),
    ("memory_temperature_celsius", "Of its memory", lambda g: g.memory_temperature_c),
    ("power_watts", "Power drawn", lambda g: thousandths(g.power_mw)),
    ("power_limit_watts", "Power allowed", lambda g: thousandths(g.power_limit_mw)),
    ("utilization_ratio", "Share of time in use", lambda g: hundredths(g.utilisation_percent)),
    ("memory_used_bytes", "Memory in use", lambda g: g.memory_used_bytes),
    ("memory_total_bytes", "Memory", lambda g: g.memory_total_bytes),
    ("sm_clock_hertz", "Clock", lambda g: _times(g.sm_clock_mhz, 1_000_000)),
    ("recovery_action", "What it asks for; 0: nothing", lambda g: g.recovery_action),
    ("row_remap_pending", "A row waits for a reset", lambda g: _flag(g.remap_pending)),
    ("row_remap_failed", "A row could not be remapped", lambda g: _flag(g.remap_failed)),
    ("pcie_link_gts", "Transfers a second and lane, 10^9", lambda g: _gts(g.pcie_generation)),
    ("pcie_link_width", "Lanes", lambda g: g.pcie_width),
    ("lost", "It does not answer the driver", lambda g: int(g.lost)),
)
GPU_COUNTERS: tuple[tuple[str, str, GpuValue], ...] = (
    ("energy_joules", "Energy since its driver was loaded", lambda g: thousandths(g.energy_mj)),
    ("pcie_replays", "Transfers repeated", lambda g: g.pcie_replays),
)


def _gpus(page: MetricsPage, latest: Snapshot) -> None:
    gpus = latest.readings.gpus
    page.family("sov_gpu_info", "gauge", "Which GPU it is", [(_identity(gpu), 1) for gpu in gpus])
    for name, text, value in GPU_GAUGES:
        page.family(f"sov_gpu_{name}", "gauge", text, [(_gpu(g), value(g)) for g in gpus])
    for name, text, value in GPU_COUNTERS:
        samples = [(_gpu(g), value(g)) for g in gpus]
        page.family(f"sov_gpu_{name}_total", "counter", text, samples)
    page.family(
        "sov_gpu_ecc_errors_total",
        "counter",
        "Memory errors",
        [({**_gpu(g), "kind": k, "scope": s}, value) for g in gpus for k, s, value in _ecc(g)],
    )
    page.family(
        "sov_gpu_rows_remapped_total",
        "counter",
        "Rows of memory replaced",
        [
            sample
            for g in gpus
            for sample in (
                ({**_gpu(g), "kind": "corrected"}, g.remapped_correctable),
                ({**_gpu(g), "kind": "uncorrected"}, g.remapped_uncorrectable),
            )
        ],
    )
    page.family(
        "sov_gpu_clock_event",
        "gauge",
        "Why its clock is held",
        [
            ({**_gpu(g), "reason": reason}, int(bool(g.clock_events & bit)))
            for g in gpus
            if g.clock_events is not None
            for reason, bit in CLOCK_EVENTS.items()
        ],
    )
    index = {gpu.uuid: str(gpu.index) for gpu in gpus}
    page.family(
        "sov_gpu_xid_errors_total",
        "counter",
        "Errors that the driver reported, of GPUs and of NVSwitches",
        [
            (
                {
                    "gpu": index.get(uuid, uuid),
                    "xid": str(xid),
                    "action": xids.of(xid).action.value,
                },
                count,
            )
            for (uuid, xid), count in sorted(latest.totals.xids.items())
        ],
    )


def _nvlinks(page: MetricsPage, latest: Snapshot) -> None:
    gpus = [gpu for gpu in latest.readings.gpus if gpu.nvlinks is not None]
    links = [(gpu, gpu.nvlinks) for gpu in gpus if gpu.nvlinks is not None]
    expected = latest.log.expected.nvlinks
    page.family(
        "sov_gpu_nvlinks_active", "gauge", "Links up", [(_gpu(g), n.active) for g, n in links]
    )
    page.family(
        "sov_gpu_nvlinks_expected",
        "gauge",
        "Links that were up once",
        [(_gpu(g), expected.get(g.uuid, 0)) for g, _ in links],
    )
    rates = {
        "effective": [(_gpu(g), n.effective_ber) for g, n in links],
        "symbol": [(_gpu(g), n.symbol_ber) for g, n in links],
    }
    for name, told in rates.items():
        page.family(
            f"sov_gpu_nvlink_{name}_ber",
            "gauge",
            f"The worst link's {name} bit error rate",
            [(own, nvml_encoding.as_text(rate)) for own, rate in told if rate is not None],
        )
    page.family(
        "sov_gpu_nvlink_errors_total",
        "counter",
        "Errors of all its links",
        [
            ({**_gpu(g), "kind": kind}, value)
            for g, n in links
            for kind, value in (
                ("replay", n.replays),
                ("recovery", n.recoveries),
                ("crc", n.crc_errors),
            )
        ],
    )
    fabrics = [(gpu, gpu.fabric) for gpu in latest.readings.gpus if gpu.fabric is not None]
    page.family(
        "sov_gpu_fabric_state",
        "gauge",
        "3: it has joined",
        [(_gpu(g), f.state) for g, f in fabrics],
    )
    page.family(
        "sov_gpu_fabric_health_summary",
        "gauge",
        "1 healthy, 2 unhealthy, 3 limited",
        [(_gpu(g), f.summary) for g, f in fabrics],
    )


def _ports(page: MetricsPage, latest: Snapshot) -> None:
    ports, expected = latest.readings.ports, latest.log.expected
    port_gauges: tuple[tuple[str, str, Callable[[RdmaPort], int | None]], ...] = (
        ("sov_rdma_port_state_id", "4: active", lambda p: p.state_id),
        ("sov_rdma_port_physical_state_id", "5: link up", lambda p: p.physical_state_id),
        ("sov_rdma_port_expected", "It was active once", lambda p: int(p.name in expected.ports)),
        (
            "sov_rdma_port_rate_bytes_per_second",
            "Its speed",
            lambda p: _times(p.rate_mbit, 125_000),
        ),
    )
    for name, text, value in port_gauges:
        page.family(name, "gauge", text, [(_port(p), value(p)) for p in ports])
    for counter, name in PORT_COUNTERS.items():
        samples = [(_port(p), p.counters.get(counter)) for p in ports]
        page.family(f"sov_rdma_{name}_total", "counter", f"Its {counter}", samples)
    for counter, name in (("port_rcv_data", "receive"), ("port_xmit_data", "transmit")):
        samples = [(_port(p), _times(p.counters.get(counter), WORD_BYTES)) for p in ports]
        page.family(f"sov_rdma_{name}_bytes_total", "counter", f"From {counter}", samples)
    page.family(
        "sov_rdma_hw_counter_total",
        "counter",
        "Counters of the device's own",
        [
            ({**_port(p), "counter": name}, value)
            for p in ports
            for name, value in sorted(p.hw_counters.items())
        ],
    )
    interfaces = latest.readings.ethernet
    page.family(
        "sov_ethernet_up",
        "gauge",
        "It has a carrier",
        [({"device": p.name}, _flag(p.up)) for p in interfaces],
    )
    page.family(
        "sov_ethernet_counter_total",
        "counter",
        "Counters of the interface",
        [
            ({"device": p.name, "counter": name}, value)
            for p in interfaces
            for name, value in sorted(p.counters.items())
        ],
    )


def _system(page: MetricsPage, system: System | None) -> None:
    if system is None:
        return
    told: Iterable[tuple[str, str, int | str | None]] = (
        ("memory_total_bytes", "Memory", system.memory_total_bytes),
        ("memory_available_bytes", "Memory that can be had", system.memory_available_bytes),
        ("load1", "Load of the last minute", thousandths(system.load_milli)),
        ("spool_free_bytes", "Room in the spool's file system", system.spool_free_bytes),
    )
    for name, text, value in told:
        page.family(f"sov_node_{name}", "gauge", text, [({}, value)])


def _gpu(gpu: Gpu) -> dict[str, str]:
    return {"gpu": str(gpu.index)}


def _identity(gpu: Gpu) -> dict[str, str]:
    clique = f"{gpu.fabric.cluster_uuid}.{gpu.fabric.clique}" if gpu.fabric is not None else ""
    return {
        **_gpu(gpu),
        "uuid": gpu.uuid,
        "serial": gpu.serial,
        "pci_bus_id": gpu.pci_bus_id,
        "model": gpu.model,
        "vbios": gpu.vbios,
        "clique": clique,
    }


def _ecc(gpu: Gpu) -> Iterable[tuple[str, str, int | None]]:
    yield "corrected", "volatile", gpu.ecc_volatile_corrected
    yield "uncorrected", "volatile", gpu.ecc_volatile_uncorrected
    yield "corrected", "aggregate", gpu.ecc_aggregate_corrected
    yield "uncorrected", "aggregate", gpu.ecc_aggregate_uncorrected


def _port(port: RdmaPort) -> dict[str, str]:
    return {"device": port.device, "port": str(port.port)}


def _gts(generation: int | None) -> str | None:
    tenths = PCIE_GTS_TENTHS.get(generation or 0)
    return None if tenths is None else f"{tenths // 10}.{tenths % 10}"


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


def _flag(value: bool | None) -> int | None:
    return None if value is None else int(value)
