"""The two processes below a shim: the **init** and the **rank**, born before it is known whose.

All that takes long and needs no spec is done when a cradle is made: both are forked, the init is
PID 1 of its namespace, the rank leads a session of its own. Then they wait: for the rank's spool
directory, which the shim says once the start is recorded, or for the end of the shim, which is
theirs too. Mount namespaces are made after that word and not ahead, so that a rank sees what is
mounted when it starts.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable
from typing import Any, NoReturn

from agent.node import confine

FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)
HOME_BYTES_MAX = 4096


class Cradle:
    """An init and a rank that wait. Made by a single-threaded process that has FORWARDED blocked.

    `output` ends when nobody writes the rank's log any more; `report` has a line of JSON on how the
    rank ended or why it never ran.
    """

    def __init__(self, level: str, foreign: Iterable[int]) -> None:
        """`foreign`: descriptors of ours that those below must not hold open."""
        if level == "none":
            confine.adopt_orphans()
        else:
            confine.own_pids()
        self.level = level
        go_read, self._go = os.pipe()
        self.output, output_write = os.pipe()
        self.report, report_write = os.pipe()
        self.init = os.fork()
        if self.init == 0:
            for fd in (self._go, self.output, self.report, *foreign):
                os.close(fd)
            _run_init(level, go_read, output_write, report_write)
        for fd in (go_read, output_write, report_write):
            os.close(fd)
        os.set_blocking(self.output, False)
        self.pidfd = os.pidfd_open(self.init)

    def go(self, home: str) -> None:
        """Let the rank of this spool directory run."""
        os.write(self._go, os.fsencode(home))
        os.close(self._go)

    def give_up(self) -> None:
        """Let nothing run: both end."""
        os.close(self._go)


def _tell(report: int, doc: dict[str, Any]) -> None:
    """A line for the shim. Rank and init both may write; the first line counts."""
    os.write(report, json.dumps(doc).encode() + b"\n")


def _run_init(level: str, go: int, output: int, report: int) -> NoReturn:
    """The init: starts the rank, passes signals on, reaps."""
    try:
        confine.die_with_parent()
        os.setsid()
        if level == "none":
            confine.adopt_orphans()
        session_read, session_write = os.pipe()
        born_read, born_write = os.pipe()
        rank = os.fork()
        if rank == 0:
            for fd in (go, session_read, born_write):
                os.close(fd)
            _run_rank(level, born_read, output, report, session_write)
        for fd in (output, session_write, born_read):
            os.close(fd)
        os.read(session_read, 1)  # Before that its session does not exist, and a signal is lost.
        if not (home := os.read(go, HOME_BYTES_MAX)):  # The shim gave up, or died: nothing may run.
            os._exit(0)
        if level != "none":
            confine.own_mounts()
        for number in FORWARDED:
            signal.signal(number, lambda got, _: confine.send_session(rank, got))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.write(born_write, home)
        os.close(born_write)
    except OSError as error:
        _tell(report, {"failed": f"isolation {level}: {error}"})
        os._exit(1)
    _reap_until_over(rank, report)


def _reap_until_over(rank: int, report: int) -> NoReturn:
    """Wait for the rank, reaping strays; end with it. In a namespace the kernel then kills the
    rest.
    """
    while True:
        pid, status = os.wait()
        if pid == rank:
            _tell(report, {"status": status})
            os._exit(0)


def _run_rank(level: str, born: int, output: int, report: int, own_session: int) -> NoReturn:
    """The rank's process up to its exec. A failed set-up is reported; a failed exec is an exit."""
    step = "rank set-up"
    try:
        if level == "none":
            confine.die_with_parent()
        os.setsid()
        os.write(own_session, b"s")
        if not (home := os.read(born, HOME_BYTES_MAX)):
            os._exit(0)
        with open(os.path.join(os.fsdecode(home), "spec.json"), encoding="utf-8") as file:
            spec: dict[str, Any] = json.load(file)
        step = f"isolation {level}"
        _isolate(level, spec)
        step = "rank set-up"
        for number in (*FORWARDED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.umask(spec.get("umask", 0o077))
        confine.limit_resources(spec)
        if level == "uid":
            confine.drop_privileges(spec)
        os.chdir(spec["cwd"])
    except (OSError, ValueError, KeyError) as error:
        _tell(report, {"failed": f"{step}: {error}"})
        os._exit(125)
    try:
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 (no shell: it is the point)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        os.write(2, f"sov: cannot run {spec['argv'][0]!r}: {why}\n".encode())
        os._exit(127 if isinstance(error, (FileNotFoundError, NotADirectoryError)) else 126)


def _isolate(level: str, spec: dict[str, Any]) -> None:
    """The view of the world that the level promises, as it is mounted now."""
    if level != "none":
        confine.own_mounts()
    if level == "uid":
        confine.hide(spec.get("hide", []), [spec["cwd"], *spec.get("keep", [])])
