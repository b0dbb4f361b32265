"""A real spool and real shims, without Ray; every process a test started ends with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.node.launcher import run_shim
from agent.node.spool import Phase, RankStatus, Rendezvous, Spool

DEADLINE_S = 60  # Generous: a busy machine may be slow, but nothing here waits for time to pass.
AS_ROOT = os.geteuid() == 0
LEVELS = ("none", "pidns", "uid") if AS_ROOT else ("none",)
needs_root = pytest.mark.skipif(not AS_ROOT, reason="namespaces and users need root")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Until `holds()`, or fail saying what did not come."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < give_up_at, f"{what}: did not happen in {DEADLINE_S} s"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def mark_of(key: str) -> str:
    """The mark of a rank of this very test run: another may use the same keys at the same time."""
    return f"{os.getpid()}#{key}"


def marked(mark: str) -> list[int]:
    """Processes with MARK=`mark` in their environment."""
    wanted = f"MARK={mark_of(mark)}".encode()
    found: list[int] = []
    for name in os.listdir("/proc"):
        if name.isdigit() and running(int(name)):
            try:
                if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
            except OSError:
                continue
    return found


class Site:
    """A spool and the ranks a test starts in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spool = Spool(root / "spool")

    def prepare(self, key: str, argv: list[str], level: str = "none", **more: object) -> Path:
        """Everything up to the gate; the rank's home."""
        self.spool.prepare(key, Rendezvous("127.0.0.1", 20_000))
        home = self.spool.home(key)
        uid = 250_000 if level == "uid" else None
        if uid is not None:
            os.chown(home / "work", uid, uid)
        spec: dict[str, object] = {
            "argv": argv,
            "env": {
                "PATH": "/usr/bin:/bin",
                "MARK": mark_of(key),
                "SOV_RANK_DIR": str(home.resolve()),
            },
            "cwd": str(home / "work"),
            "isolation": level,
            "uid": uid,
            "gid": uid,
            "grace_ms": 60_000,
            "hide": [str(self.spool.root)],
        }
        self.spool.write_spec(key, spec | more)
        return home

    def run_shim(self, key: str) -> None:
        """Start a shim for a key, as the executor does."""
        run_shim(self.spool, key)

    def start(self, key: str, argv: list[str], level: str = "none", **more: object) -> None:
        """Prepare, open the gate, run."""
        self.prepare(key, argv, level, **more)
        assert self.spool.open_gate(key)
        self.run_shim(key)

    def end(self, key: str) -> RankStatus:
        """Wait until a rank is over."""
        wait_until(lambda: self.spool.status(key).phase is Phase.OVER, f"the end of {key}")
        return self.spool.status(key)

    def log(self, key: str) -> str:
        """A rank's whole log."""
        return self.spool.read_log(key, 0, 1 << 20).data.decode()

    def wait_log(self, key: str, text: str) -> None:
        """Until the rank has written `text`."""
        wait_until(lambda: text in self.log(key), f"{text!r} in the log of {key}")
