"""Builds the stub of libnvidia-ml, and writes the text file that drives it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import service

SOURCE = Path(__file__).with_name("nvml.c")
LINKS = 18  # As on an H100.
WELL: dict[str, int] = {
    "*.temperature": 40,
    "*.temperature_max": 87,
    "*.memory_temperature_max": 95,
    "*.field.82": 45,
    "*.power": 70_500,
    "*.power_limit": 700_000,
    "*.energy": 1_000_000,
    "*.utilisation": 7,
    "*.memory_total": 80 << 30,
    "*.memory_used": 1 << 30,
    "*.clock": 1980,
    "*.clock_events": 1,
    "*.ecc.0.0": 0,
    "*.ecc.1.0": 0,
    "*.ecc.0.1": 3,
    "*.ecc.1.1": 0,
    "*.remap.correctable": 0,
    "*.remap.uncorrectable": 0,
    "*.remap.pending": 0,
    "*.remap.failed": 0,
    "*.pcie.replays": 0,
    "*.pcie.generation": 5,
    "*.pcie.width": 16,
    "*.field.230": 0,
    **{f"*.link.{link}": 1 for link in range(LINKS)},
    **{f"*.field.{field}.{link}": 0 for field in (161, 162, 163) for link in range(LINKS)},
}


def build(folder: Path, *flags: str) -> Path:
    """The library, in `folder`, by the name that the real one has."""
    library = folder / "libnvidia-ml.so.1"
    compiler = service("gcc", "gcc")
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", *flags, "-o", str(library)]
    subprocess.run([*command, str(SOURCE), "-ldl"], check=True, timeout=60)
    return library


@dataclass
class Stub:
    """GPUs that say what a test wants. Changes are one rename: never half a file."""

    library: Path
    gpus: int = 2
    values: dict[str, int] = field(default_factory=lambda: dict(WELL))
    events: int = 0

    def __post_init__(self) -> None:
        self.set()

    def set(self, **values: int) -> None:
        """Change values; `gpu0__link__3=0` is `0.link.3 = 0`, `all__power=1` is `*.power = 1`."""
        for name, value in values.items():
            who, *rest = name.split("__")
            prefix = {"all": "*"}.get(who, who.removeprefix("gpu"))
            self.values[".".join((prefix, *rest))] = value
        lines = [
            f"{key} = {value}" for key, value in {**self.values, "node.gpus": self.gpus}.items()
        ]
        part = self.library.with_suffix(".part")
        part.write_text("\n".join(lines) + "\n")
        part.rename(self.library.with_name(self.library.name + ".txt"))

    def unset(self, prefix: str) -> None:
        """Values that the GPU does not support."""
        self.values = {k: v for k, v in self.values.items() if not k.startswith(prefix)}
        self.set()

    def xid(self, gpu: int, number: int) -> None:
        """The driver reports an error."""
        self.events += 1
        self.set(**{f"node__event__{self.events}": gpu * 1000 + number})
