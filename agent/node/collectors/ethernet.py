"""Network interfaces of real hardware, from `<root>/class/net`: those that have a device."""

from __future__ import annotations

from pathlib import Path

from agent.node.collectors import sysfs
from agent.node.collectors.readings import EthernetPort

PORTS_MAX = 64
STATISTICS = ("rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped")
STATES = {"up": True, "down": False, "lowerlayerdown": False}


def read(root: Path) -> tuple[EthernetPort, ...]:
    """Every interface, by name."""
    found = [
        _port(entry)
        for entry in sysfs.children(root / "class" / "net")
        if (entry / "device").exists()
    ]
    return tuple(found[:PORTS_MAX])


def _port(entry: Path) -> EthernetPort:
    speed = sysfs.number(entry / "speed")
    read = {name: sysfs.number(entry / "statistics" / name) for name in STATISTICS}
    read["carrier_changes"] = sysfs.number(entry / "carrier_changes")
    return EthernetPort(
        name=entry.name,
        up=STATES.get(sysfs.text(entry / "operstate") or ""),
        speed_mbit=speed if speed is not None and speed > 0 else None,
        counters={name: value for name, value in read.items() if value is not None},
    )
