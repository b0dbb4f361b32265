"""Starting a shim: the one way in which a rank's processes come to be."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from agent.node import gate, nursery, shim
from agent.node.spool import Phase, RankStatus, Spool
from agent.node.spool_files import put

LEVELS = ("none", "pidns", "uid")  # The isolation a shim can give, weakest first.
SHIM_START_S = 20
PACKAGE = str(Path(__file__).resolve().parents[2])


def run_shim(spool: Spool, key: str) -> None:
    """Start a shim for a key whose gate is open; back when the rank runs, or never will.

    A second shim for one key is harmless: only the first to bind its socket goes on.
    """
    command = [sys.executable, "-I", "-S", "-c", shim.COMMAND, PACKAGE, str(spool.home(key))]
    quiet = subprocess.DEVNULL
    subprocess.run(
        command, env={}, stdin=quiet, stdout=quiet, stderr=quiet, timeout=SHIM_START_S, check=True
    )


class GateFailed(Exception):
    """A gate cannot be; the message says why."""


def run_gate(folder: Path, plan: Mapping[str, object]) -> None:
    """Start the gate of an attempt in its `folder`; back when it stands. Once, whoever asks."""
    folder.mkdir(mode=0o711, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "gate").exists():
            return  # It stands, or is gone for good: an attempt has one on each node.
        put(folder, "gate.json", plan)
        command = [sys.executable, "-I", "-S", "-c", gate.COMMAND, PACKAGE, str(folder.resolve())]
        with open(folder / "trouble", "wb") as trouble:
            quiet = subprocess.DEVNULL
            ended = subprocess.run(
                command,
                env={},
                stdin=quiet,
                stdout=quiet,
                stderr=trouble,
                timeout=SHIM_START_S,
                check=False,
            )
        if ended.returncode:
            said = (folder / "trouble").read_text(errors="replace").splitlines()
            raise GateFailed(said[-1] if said else f"it ended with {ended.returncode}")


class Nursery:
    """Starts shims of one level without waiting for them: `run_shim` again, through a process that
    keeps spare ones.

    Thread-safe. That process may be killed at any moment: the shim of the moment is then started
    as `run_shim` does, and the next order starts another nursery.
    """

    def __init__(self, level: str, spool: Spool) -> None:
        self._level = level
        self._spool = spool
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that keeps spares, once there is one."""
        return self._process.pid if self._process is not None else None

    def run_shim(self, key: str) -> RankStatus:
        """Start a shim for a key whose gate is open; how it is when the rank runs, or never
        will.
        """
        self._order(self._spool.home(key))
        status = self._spool.status(key)
        if status.phase is Phase.STARTING:  # Nobody has even tried.
            run_shim(self._spool, key)
            status = self._spool.status(key)
        return status

    def warm_up(self) -> None:
        """Have the process before the first order, which then need not wait for it."""
        with self._lock, contextlib.suppress(OSError):
            self._start()

    def close(self) -> None:
        """End the process; the shims live on."""
        with self._lock:
            self._drop()

    def _order(self, home: Path) -> None:
        """Tell the process, and wait until the writing end of the pipe is closed everywhere."""
        reading, writing = os.pipe()
        try:
            with self._lock:
                self._send(os.fsencode(home.resolve()), writing)
            os.close(writing)
            writing = -1
            waiting = select.poll()
            waiting.register(reading, select.POLLIN)
            waiting.poll(SHIM_START_S * 1000)
        finally:
            for end in (reading, writing):
                if end >= 0:
                    os.close(end)

    def _send(self, home: bytes, writing: int) -> None:
        """One order, to a new process if the old one does not take it."""
        for _ in range(2):
            try:
                channel = self._start()
                socket.send_fds(channel, [home], [writing])
            except OSError:
                self._drop()
            else:
                return

    def _start(self) -> socket.socket:
        if self._channel is not None:
            return self._channel
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-S", "-c", nursery.COMMAND, PACKAGE]
        quiet = subprocess.DEVNULL
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), self._level, str(self._spool.rooms.resolve())],
                env={},
                cwd="/",
                stdin=quiet,
                stdout=quiet,
                stderr=quiet,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        ours.settimeout(SHIM_START_S)
        self._channel = ours
        return ours

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._channel = self._process = None
