"""Starting shims and gates: the one way in which a rank's processes come to be."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from io import FileIO
from pathlib import Path

from agent.node import gate, nursery, shim
from agent.node.spool import Phase, RankStatus, Spool
from agent.node.spool_files import put

LEVELS = ("none", "pidns", "uid")  # The isolation a shim can give, weakest first.
START_S = 20
PACKAGE = str(Path(__file__).resolve().parents[2])
PYTHON = (sys.executable, "-I", "-S", "-c")
SAID_BYTES_MAX = 4096
SHIM, GATE = 0, 1  # The lines of a nursery.


def run_shim(spool: Spool, key: str) -> None:
    """Start a shim for a key whose gate is open; back when the rank runs, or never will.

    A second shim for one key is harmless: only the first to bind its socket goes on.
    """
    _run([shim.COMMAND, PACKAGE, str(spool.home(key))])


class GateFailed(Exception):
    """A gate cannot be; the message says why."""


class Nursery:
    """Starts shims of one level, and gates, without waiting for them to be made: `run_shim` again,
    through a process that keeps spare ones.

    Thread-safe. That process may be killed at any moment: what it was to be is then started as
    `run_shim` does, and the next order starts another nursery.
    """

    def __init__(self, level: str, spool: Spool) -> None:
        self._level = level
        self._spool = spool
        self._lock = threading.Lock()
        self._lines: tuple[socket.socket, socket.socket] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that keeps spares, once there is one."""
        return self._process.pid if self._process is not None else None

    def run_shim(self, key: str) -> RankStatus:
        """Start a shim for a key whose gate is open; how it is when the rank runs, or never
        will.
        """
        if self._order(SHIM, self._spool.home(key)) == shim.RUNS:
            return RankStatus(key, Phase.RUNNING)  # Who wants to know more looks into the spool.
        status = self._spool.status(key)
        if status.phase is Phase.STARTING:  # Nobody has even tried.
            run_shim(self._spool, key)
            status = self._spool.status(key)
        return status

    def run_gate(self, folder: Path, plan: Mapping[str, object]) -> None:
        """Start the gate of an attempt in its `folder`; back when it stands. Once, whoever asks."""
        folder.mkdir(mode=0o711, exist_ok=True)
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / "gate").exists():
                return  # It stands, or is gone for good: an attempt has one on each node.
            put(folder, "gate.json", plan)
            said = self._order(GATE, folder)
            if not said and not (folder / "gate").exists():  # Nobody has even tried.
                said = _run_gate(folder)
        if said != gate.STANDS:
            raise GateFailed(said.decode(errors="replace") or "it ended before it stood")

    def warm_up(self) -> None:
        """Have the process before the first order, which then need not wait for it."""
        with self._lock, contextlib.suppress(OSError):
            self._start()

    def close(self) -> None:
        """End the process; the shims live on."""
        with self._lock:
            self._drop()

    def _order(self, kind: int, folder: Path) -> bytes:
        """Tell the process, and wait until the writing end of the pipe is closed everywhere; what
        came through it.
        """
        with _pipe() as (reading, writing):
            with self._lock:
                self._send(kind, os.fsencode(folder), writing.fileno())
            writing.close()
            return _all_of(reading)

    def _send(self, kind: int, folder: bytes, writing: int) -> None:
        """One order, to a new process if the old one does not take it."""
        for _ in range(2):
            try:
                line = self._start()[kind]
                socket.send_fds(line, [folder], [writing])
            except OSError:
                self._drop()
            else:
                return

    def _start(self) -> tuple[socket.socket, socket.socket]:
        if self._lines is not None:
            return self._lines
        shims, for_shims = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gates, for_gates = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with for_shims, for_gates:
            theirs = (for_shims.fileno(), for_gates.fileno())
            made = (*map(str, theirs), self._level, str(self._spool.rooms))
            self._process = subprocess.Popen(
                [*PYTHON, nursery.COMMAND, PACKAGE, *made],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=theirs,
                start_new_session=True,
            )
        for line in (shims, gates):
            line.settimeout(START_S)
        self._lines = (shims, gates)
        return self._lines

    def _drop(self) -> None:
        for line in self._lines or ():
            line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._lines = self._process = None


def _run_gate(folder: Path) -> bytes:
    """Start one that nobody made ahead; what it says of itself."""
    with _pipe() as (reading, writing):
        told = writing.fileno()
        _run([gate.COMMAND, PACKAGE, str(folder), str(told)], pass_fds=(told,))
        writing.close()
        return _all_of(reading)


def _run(command: Sequence[str], *, pass_fds: Sequence[int] = ()) -> None:
    """A program of ours that sees nothing of ours, until its first process ends."""
    quiet = subprocess.DEVNULL
    subprocess.run(
        [*PYTHON, *command],
        env={},
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        timeout=START_S,
        check=True,
        pass_fds=pass_fds,
    )


@contextlib.contextmanager
def _pipe() -> Generator[tuple[FileIO, FileIO]]:
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as out, open(writing, "wb", 0) as into:
        yield out, into


def _all_of(reading: FileIO) -> bytes:
    """What is said before all ends of a pipe for saying it are closed, or START_S are over."""
    said, give_up_at = b"", time.monotonic() + START_S
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    while waiting.poll(max(0.0, give_up_at - time.monotonic()) * 1000):
        if not (part := reading.read(SAID_BYTES_MAX)):
            break
        said += part
    return said
