"""RDMA ports, InfiniBand and RoCE alike, from `<root>/class/infiniband`.

Devices in `exclude` are not touched at all: reading counters of restricted functions makes their
driver flood the kernel log.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agent.node.collectors import sysfs
from agent.node.collectors.readings import RdmaPort

PORTS_MAX = 64
COUNTERS = (
    "VL15_dropped",
    "excessive_buffer_overrun_errors",
    "link_downed",
    "link_error_recovery",
    "local_link_integrity_errors",
    "port_rcv_constraint_errors",
    "port_rcv_data",
    "port_rcv_errors",
    "port_rcv_packets",
    "port_rcv_remote_physical_errors",
    "port_xmit_constraint_errors",
    "port_xmit_data",
    "port_xmit_discards",
    "port_xmit_packets",
    "port_xmit_wait",
    "symbol_error",
)
HW_COUNTERS = (
    "implied_nak_seq_err",
    "local_ack_timeout_err",
    "np_cnp_sent",
    "np_ecn_marked_roce_packets",
    "out_of_sequence",
    "packet_seq_err",
    "req_transport_retries_exceeded",
    "rnr_nak_retry_err",
    "roce_adp_retrans",
    "roce_adp_retrans_to",
    "roce_slow_restart",
    "roce_slow_restart_cnps",
    "roce_slow_restart_trans",
    "rp_cnp_handled",
    "rp_cnp_ignored",
    "rx_icrc_encapsulated",
)


def read(root: Path, exclude: Iterable[str] = ()) -> tuple[RdmaPort, ...]:
    """Every port, by device and number."""
    skipped = frozenset(exclude)
    found: list[RdmaPort] = []
    for device in sysfs.children(root / "class" / "infiniband"):
        if device.name in skipped:
            continue
        ports = [entry for entry in sysfs.children(device / "ports") if entry.name.isdigit()]
        found.extend(_port(device.name, entry) for entry in sorted(ports, key=_number))
    return tuple(found[:PORTS_MAX])


def _number(port: Path) -> int:
    return int(port.name)


def _port(device: str, port: Path) -> RdmaPort:
    return RdmaPort(
        device=device,
        port=_number(port),
        link_layer=sysfs.text(port / "link_layer") or "",
        state_id=sysfs.leading_number(port / "state"),
        physical_state_id=sysfs.leading_number(port / "phys_state"),
        rate_mbit=_rate_mbit(sysfs.text(port / "rate")),
        counters=_counters(port / "counters", COUNTERS),
        hw_counters=_counters(port / "hw_counters", HW_COUNTERS),
    )


def _counters(folder: Path, names: tuple[str, ...]) -> dict[str, int]:
    read = ((name, sysfs.number(folder / name)) for name in names)
    return {name: value for name, value in read if value is not None}


def _rate_mbit(rate: str | None) -> int | None:
    """From `400 Gb/sec (4X NDR)` or `2.5 Gb/sec (1X SDR)`."""
    whole, _, part = (rate or "").partition(" ")[0].partition(".")
    if not whole.isdigit() or (part and not part.isdigit()):
        return None
    return int(whole) * 1000 + int((part + "000")[:3])
