"""A sysfs of our own: RDMA devices and network interfaces as files, to be changed by tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.node.collectors.ethernet import STATISTICS
from agent.node.collectors.infiniband import COUNTERS, HW_COUNTERS


@dataclass(frozen=True)
class Sysfs:
    """Below `root`, laid out as the kernel does."""

    root: Path

    def port(self, device: str, number: int = 1, *, layer: str = "InfiniBand") -> Path:
        """An active port whose counters are all 0."""
        port = self.root / "class" / "infiniband" / device / "ports" / str(number)
        for folder, names in (("counters", COUNTERS), ("hw_counters", HW_COUNTERS)):
            (port / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                (port / folder / name).write_text("0\n")
        (port / "link_layer").write_text(f"{layer}\n")
        (port / "rate").write_text("400 Gb/sec (4X NDR)\n")
        self.up(device, number)
        return port

    def up(self, device: str, number: int = 1) -> None:
        """The port is active."""
        self._state(device, number, "4: ACTIVE", "5: LinkUp")

    def down(self, device: str, number: int = 1) -> None:
        """The port is down, and says so once more in its counter."""
        self._state(device, number, "1: DOWN", "3: Disabled")
        self.add(device, "link_downed", 1, number)

    def add(self, device: str, counter: str, by: int, number: int = 1) -> None:
        """A counter rises."""
        port = self.root / "class" / "infiniband" / device / "ports" / str(number)
        folder = "counters" if counter in COUNTERS else "hw_counters"
        file = port / folder / counter
        file.write_text(f"{int(file.read_text()) + by}\n")

    def interface(self, name: str, *, state: str = "up", hardware: bool = True) -> Path:
        """A network interface."""
        entry = self.root / "class" / "net" / name
        (entry / "statistics").mkdir(parents=True, exist_ok=True)
        if hardware:
            (entry / "device").mkdir(exist_ok=True)
        for statistic in STATISTICS:
            (entry / "statistics" / statistic).write_text("7\n")
        (entry / "carrier_changes").write_text("2\n")
        (entry / "operstate").write_text(f"{state}\n")
        (entry / "speed").write_text("100000\n")
        return entry

    def _state(self, device: str, number: int, state: str, physical: str) -> None:
        port = self.root / "class" / "infiniband" / device / "ports" / str(number)
        (port / "state").write_text(f"{state}\n")
        (port / "phys_state").write_text(f"{physical}\n")
