"""The instances of GPUs that are cut by MIG: their numbers, and the names that CUDA has for them.

A job's placement names units of a node by number: first its GPUs, then its instances, sorted by
GPU and profile. Instances of one profile on one GPU are alike, so any order of theirs will do that
stays. The node agent, which sees them, leaves their names in a file beside the spool; executors
read it when a rank begins. It is believed for the boot in which it was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agent.node.clock import boot_id
from agent.node.collectors.readings import Gpu, MigDevice

FILE = "instances.json"
LOGICAL_MAX = 64

Placed = tuple[int, MigDevice]
"""The index of a GPU, and an instance on it."""


def placed(gpus: Iterable[Gpu]) -> tuple[Placed, ...]:
    """The instances of a node in the order of their numbers."""
    return tuple(sorted((gpu.index, device) for gpu in gpus for device in gpu.mig))


def logical(text: str, site: str, slot: str) -> tuple[Placed, ...]:
    """Instances that stand in for real ones: `0:7x1g.10gb,1:2x3g.40gb`.

    Raises:
        ValueError: it is written otherwise.
    """
    found: list[Placed] = []
    for part in filter(None, text.split(",")):
        gpu, _, cut = part.partition(":")
        count, times, profile = cut.partition("x")
        if not (gpu.isdecimal() and count.isdecimal() and times and profile):
            raise ValueError(f"found {part[:40]!r}, allowed GPU:NUMBERxPROFILE, as in 0:7x1g.10gb")
        if len(found) + int(count) > LOGICAL_MAX:
            raise ValueError(f"found more than {LOGICAL_MAX} instances, allowed {LOGICAL_MAX}")
        first = len(found)
        found += [
            (int(gpu), MigDevice(profile, f"MIG-SIM-{site}-{slot}-{gpu}-{first + n:02d}"))
            for n in range(int(count))
        ]
    return tuple(sorted(found))


class Names:
    """The file of names; written when they are other than before."""

    def __init__(self, spool: Path) -> None:
        self._file = spool / FILE
        self._written = ""

    def write(self, gpus: int, instances: Sequence[Placed]) -> None:
        """These are a node's instances, beside so many GPUs. Raises OSError."""
        units = {
            str(gpus + at): [device.profile, device.uuid]
            for at, (_, device) in enumerate(instances)
        }
        text = json.dumps({"boot_id": boot_id(), "units": units})
        if text == self._written or (not units and not self._file.exists()):
            return
        part = self._file.with_suffix(".part")
        part.write_text(text)
        os.replace(part, self._file)
        self._written = text


def name_of(spool: Path, unit: int, profile: str) -> str:
    """How CUDA calls an instance.

    Raises:
        LookupError: this node has no such instance now; the message says so.
    """
    try:
        known: dict[str, Any] = json.loads((spool / FILE).read_text())
        found, uuid = known["units"][str(unit)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LookupError(f"unit {unit} is no MIG instance of this node") from error
    if known.get("boot_id") != boot_id():
        raise LookupError("its MIG instances are not known since it was started")
    if found != profile or not uuid:
        raise LookupError(f"unit {unit} is a {found}, the job was given a {profile}")
    return str(uuid)
