"""Starts and stops the programs of a local cluster, and remembers which they are.

What is stopped is only ever what a state file names, and only while the process that has that
number is the very one that was started: its start time is compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.node.spool_files import start_ticks

STOP_S = 15
LOG_TAIL_BYTES = 3000


class DaemonError(Exception):
    """A program did not do what a local cluster needs of it; the message holds its own words."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program that was started. `ticks` (its start time) tells it from a later one."""

    name: str
    pid: int
    ticks: int

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return start_ticks(self.pid) == self.ticks


class Daemons:
    """The programs of one cluster, by name, with their logs, in one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def start(self, name: str, command: Sequence[str]) -> Daemon:
        """Starts `command` detached from this terminal; its output goes to a log of its name."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.log(name), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={"PATH": os.defpath, "HOME": str(self.root)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ticks = start_ticks(process.pid)
        if ticks is None:
            raise DaemonError(f"{name} ended at once: {self.tail(name)}")
        daemon = Daemon(name, process.pid, ticks)
        state = self.root / f"{name}.json"
        part = state.with_suffix(".part")
        part.write_text(json.dumps(asdict(daemon)))
        part.rename(state)
        return daemon

    def known(self) -> tuple[Daemon, ...]:
        """Every program that was started here and not stopped, by name."""
        found: list[Daemon] = []
        for path in sorted(self.root.glob("*.json")):
            with contextlib.suppress(ValueError, TypeError):
                found.append(Daemon(**json.loads(path.read_text())))
        return tuple(found)

    def get(self, name: str) -> Daemon:
        """The program of this name."""
        for daemon in self.known():
            if daemon.name == name:
                return daemon
        raise DaemonError(f"no program called {name!r} was started here")

    def log(self, name: str) -> Path:
        """Where a program's output goes."""
        return self.root / f"{name}.log"

    def tail(self, name: str) -> str:
        """The end of a program's output."""
        text = self.log(name).read_bytes()[-LOG_TAIL_BYTES:] if self.log(name).exists() else b""
        return text.decode(errors="replace")

    def stop(self, *daemons: Daemon) -> None:
        """SIGTERM to each, SIGKILL to those that do not heed it, and wait for all of them."""
        for daemon in daemons:
            _signal(daemon, signal.SIGTERM)
        if not _gone(daemons, STOP_S):
            for daemon in daemons:
                _signal(daemon, signal.SIGKILL)
            if not _gone(daemons, STOP_S):
                raise DaemonError(f"did not end: {[d.name for d in daemons if d.alive()]}")
        for daemon in daemons:
            (self.root / f"{daemon.name}.json").unlink(missing_ok=True)


def _signal(daemon: Daemon, number: int) -> None:
    if daemon.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, number)


def _gone(daemons: Sequence[Daemon], within_s: float) -> bool:
    give_up_at = time.monotonic() + within_s
    while any(daemon.alive() for daemon in daemons):
        if time.monotonic() > give_up_at:
            return False
        for daemon in daemons:  # Ours are children of this process until they are reaped.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(daemon.pid, os.WNOHANG)
        time.sleep(0.05)
    return True
