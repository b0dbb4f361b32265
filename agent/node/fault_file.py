"""Keeps a node's fault log in a file, and takes an operator's word that its faults are gone.

The operator's word is a file of its own, CLEAR_FILE, that `sov-agent clear-faults` leaves beside
the log; the agent takes it up with its next reading. A log that cannot be read is itself a fault
that only an operator clears: what it held is not known.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent.node import xids
from agent.node.faults import Expected, FaultLog, Latched, Seen, boot, clear
from agent.node.health import Health
from agent.node.xids import Action
from sovshared.pki import write_private

LOG_FILE, CLEAR_FILE = "faults.json", "clear"
FILE_BYTES_MAX = 4 * 1024 * 1024
REASON_CHARACTERS_MAX = 500
FORMAT = 1

_log = logging.getLogger(__name__)


class FaultFile:
    """The fault log's directory. Every method may touch the disk."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOG_FILE
        self._clear = directory / CLEAR_FILE

    def load(self, boot_id: str, now_ms: int) -> FaultLog:
        """The log as this boot begins with it."""
        try:
            with self._path.open("rb") as file:
                plain = json.loads(file.read(FILE_BYTES_MAX))
            return boot(_from_plain(plain), boot_id)
        except FileNotFoundError:
            return FaultLog(boot_id)
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s cannot be read: %s", self._path, error)
            lost = Latched("", xids.RECORD_LOST, Action.INSPECT, Health.DEGRADED, now_ms, boot_id)
            return replace(FaultLog(boot_id), latched=(lost,))

    def save(self, log: FaultLog) -> None:
        """Durably, and all or nothing."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._path, json.dumps(_to_plain(log), separators=(",", ":")).encode())

    def cleared(self, log: FaultLog) -> FaultLog | None:
        """The log after an operator's word, if there is one; it is used up by that."""
        try:
            reason = self._clear.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        after = clear(log)
        self.save(after)
        self._clear.unlink(missing_ok=True)
        _log.warning("an operator cleared %d faults: %s", len(log.latched), reason.strip())
        return after


def ask_to_clear(directory: Path, reason: str) -> None:
    """An operator's word that the node is as it should be."""
    if not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
        found = f"found {len(reason)} characters, allowed 1 to {REASON_CHARACTERS_MAX}"
        raise ValueError(f"reason: {found}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(directory / CLEAR_FILE, reason.strip().encode())


def _to_plain(log: FaultLog) -> dict[str, Any]:
    expected = {
        **asdict(log.expected),
        "ports": sorted(log.expected.ports),
        "ethernet": sorted(log.expected.ethernet),
    }
    return {"format": FORMAT, **asdict(log), "expected": expected}


def _from_plain(plain: Mapping[str, Any]) -> FaultLog:
    if plain["format"] != FORMAT:
        raise ValueError(f"format: found {plain['format']!r}, allowed {FORMAT}")
    expected = plain["expected"]
    latched = [
        Latched(
            gpu=str(told["gpu"]),
            xid=int(told["xid"]),
            action=Action(told["action"]),
            health=Health(told["health"]),
            at_ms=int(told["at_ms"]),
            boot_id=str(told["boot_id"]),
        )
        for told in plain["latched"]
    ]
    return FaultLog(
        boot_id=str(plain["boot_id"]),
        latched=tuple(latched),
        history=tuple(Seen(**told) for told in plain["history"]),
        energy_mj={str(uuid): int(energy) for uuid, energy in plain["energy_mj"].items()},
        expected=Expected(
            gpus=int(expected["gpus"]),
            nvlinks={str(uuid): int(links) for uuid, links in expected["nvlinks"].items()},
            ports=frozenset(expected["ports"]),
            ethernet=frozenset(expected["ethernet"]),
        ),
    )
