"""The way into a rank that runs: its process and its namespaces, found by what its shim recorded.

Only where ranks are isolated. There a process that enters is killed by the kernel when the rank
ends, whatever it did meanwhile; at `none` nothing would tie it. Standard library only: the program
that enters loads this.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from agent.node import confine
from agent.node.clock import boot_id, start_ticks

MAKER_PID_INSIDE = 2
"""In the rank's namespace: the init, which is 1, starts it before anything else."""
ENVIRONMENT_BYTES_MAX = 4 * 1024 * 1024


class NoEntry(Exception):
    """There is no way in; `reason` is a stable code, the message says why."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """A rank that has become its program. The handles stay that process's, and its init's."""

    pid: int
    handle: int
    init_handle: int
    spec: dict[str, Any]

    def environment(self) -> dict[str, str]:
        """What the rank was started with, its secrets included; what is ours as we gave it."""
        with open(f"/proc/{self.pid}/environ", "rb") as file:
            words = file.read(ENVIRONMENT_BYTES_MAX).split(b"\0")
        pairs = (os.fsdecode(word).partition("=") for word in words if b"=" in word)
        return {name: value for name, _, value in pairs} | self.spec["env"]


@contextlib.contextmanager
def entered(home: str) -> Generator[Entry]:
    """The rank of this spool directory, for as long as the block lasts. Raises NoEntry."""
    spec, started = _document(home, "spec.json"), _document(home, "started.json")
    if not started.get("init_pid") or started.get("boot_id") != boot_id():
        raise NoEntry("ILLEGAL_TRANSITION", "the rank does not run")
    if spec["isolation"] == "none":
        found = "its node isolates ranks at none, allowed pidns and uid"
        raise NoEntry("ISOLATION", f"a rank is entered only where it is isolated: {found}")
    with contextlib.ExitStack() as handles:

        def handle(pid: int) -> int:
            try:
                opened = os.pidfd_open(pid)
            except ProcessLookupError:
                raise NoEntry("ILLEGAL_TRANSITION", "the rank is over") from None
            handles.callback(os.close, opened)
            return opened

        init: int = started["init_pid"]
        init_handle = handle(init)
        if start_ticks(init) != started["init_ticks"]:
            raise NoEntry("ILLEGAL_TRANSITION", "the rank is over")
        rank = _program_below(init)
        ticks = start_ticks(rank) if rank is not None else None
        # Until then it is still being given its namespaces, its limits and its user.
        if rank is None or ticks is None:
            raise NoEntry("UNAVAILABLE", "the rank is only just starting, or ending")
        rank_handle = handle(rank)
        if start_ticks(rank) != ticks:
            raise NoEntry("ILLEGAL_TRANSITION", "the rank is over")
        yield Entry(rank, rank_handle, init_handle, spec)


def _document(home: str, name: str) -> dict[str, Any]:
    try:
        with open(os.path.join(home, name), encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        raise NoEntry("ILLEGAL_TRANSITION", "the rank does not run") from None


def _program_below(init: int) -> int | None:
    """What the rank's program runs as: the init's first child, which makes everything ready, or the
    one child of that (`program.py`). It is one once it is no copy of the init any more."""
    found = sorted(confine.processes().items())
    if not (copy := _read(init, "cmdline")):
        return None  # It is ending: its memory goes before those below it do.
    for pid, (parent, _) in found:
        if parent == init and _pid_inside(pid) == MAKER_PID_INSIDE:
            below = [child for child, (its_parent, _) in found if its_parent == pid]
            return next((p for p in (pid, *below) if _read(p, "cmdline") not in (copy, b"")), None)
    return None


def _pid_inside(pid: int) -> int:
    """A process's number in its own namespace."""
    for line in _read(pid, "status").splitlines():
        words = line.split()
        if words[:1] == [b"NSpid:"]:
            return int(words[-1])
    return 0


def _read(pid: int, name: str) -> bytes:
    """A file of a process; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
