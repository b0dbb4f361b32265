"""The two processes below a shim: the **init** and the **rank**, born before it is known whose.

All that takes long and needs no spec is done when a cradle is made: both are forked, the init is
PID 1 of its namespace, both are in a network of their own, the rank leads a session of its own.
Then the rank waits for two words of the shim. `meet` names its spool directory: it takes on the
view of the world, the limits and the user that the spec there says, while the shim records the
start. `go`, once that is durable, lets it run the program (`program.py`). Without them, or with the
end of the shim, it ends and has run nothing. Mount namespaces are made after the first word and not
ahead, so that a rank sees what is mounted when it starts.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterable
from typing import Any, NoReturn

from agent.node import confine, image_view, network, program
from agent.node.clock import SETTLED_S, boot_id, start_ticks
from agent.node.data_view import show
from agent.node.network import Namespace
from agent.node.secret_file import take_secrets
from agent.node.warmth import take_memory

FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)
HOME_BYTES_MAX = 4096
GO = b"go"


class Cradle:
    """An init and a rank that wait. Made by a single-threaded process that has FORWARDED blocked.

    `output` ends when nobody writes the rank's log any more; `report` has a line of JSON on how the
    rank ended or why it never ran; `keepers` are who keeps the rank, as its record names them.
    """

    def __init__(self, level: str, foreign: Iterable[int]) -> None:
        """`foreign`: descriptors of ours that those below must not hold open."""
        if level == "none":
            confine.adopt_orphans()
        else:
            confine.own_pids()
        self.network = None if level == "none" else Namespace()
        self.level = level
        inner = [] if self.network is None else self.network.descriptors()
        outside = [] if self.network is None else [self.network.outside]
        # Keeps its words apart, and tells each end when the other is gone.
        self._words, words = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.output, output_write = os.pipe()
        self.report, report_write = os.pipe()
        self.init = os.fork()
        if self.init == 0:
            for fd in (self._words.fileno(), self.output, self.report, *foreign, *inner):
                os.close(fd)
            _run_init(level, words.fileno(), output_write, report_write, outside)
        if self.network is not None:
            self.network.leave()
        words.close()
        for fd in (output_write, report_write):
            os.close(fd)
        os.set_blocking(self.output, False)
        self.pidfd = os.pidfd_open(self.init)
        self.keepers: dict[str, Any] = {
            "boot_id": boot_id(),
            "shim_pid": os.getpid(),
            "shim_ticks": start_ticks(os.getpid()),
            "init_pid": self.init,
            "init_ticks": start_ticks(self.init),
        }

    def meet(self, home: str) -> None:
        """Let the rank of this spool directory get ready."""
        self._say(os.fsencode(home))

    def go(self) -> None:
        """Let it run."""
        self._say(GO)
        self._words.close()

    def give_up(self) -> None:
        """Let nothing run: both end."""
        self._words.close()

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # It failed to get ready, and has reported so.
            self._words.send(word)


def _tell(report: int, doc: dict[str, Any]) -> None:
    """A line for the shim. Rank and init both may write; the first line counts."""
    os.write(report, json.dumps(doc).encode() + b"\n")


def _run_init(level: str, words: int, output: int, report: int, outside: list[int]) -> NoReturn:
    """The init: starts the rank, passes signals on, reaps. `outside`: leads to the node's network,
    where its own is another."""
    try:
        confine.die_with_parent()
        if not _is_read(report):  # The shim died before that held: nobody would end us with it.
            os._exit(0)
        os.setsid()
        if level == "none":
            confine.adopt_orphans()
        session_read, session_write = os.pipe()
        rank = os.fork()
        if rank == 0:
            os.close(session_read)
            _run_rank(level, words, output, report, session_write, outside)
        for fd in (words, output, session_write, *outside):
            os.close(fd)
        os.read(session_read, 1)  # Before that its session does not exist, and a signal is lost.
        _forward_signals(level, rank)
    except OSError as error:
        _tell(report, {"failed": f"isolation {level}: {error}"})
        os._exit(1)
    _reap_until_over(rank, report)


def _is_read(pipe: int) -> bool:
    """Whether somebody still holds the reading end: the shim does, for its life."""
    events = select.poll()
    events.register(pipe, 0)
    return not events.poll(0)


def _forward_signals(level: str, rank: int) -> None:
    """Pass on to the rank's session whatever comes. Who is in it is told by the namespace's own
    /proc, which few ever need: it is mounted for the first signal.
    """
    own_proc = level == "none"

    def forward(number: int, _: object) -> None:
        nonlocal own_proc
        with contextlib.suppress(OSError):  # The shim's SIGKILL, at the end, needs no /proc.
            if not own_proc:
                confine.own_mounts()
                own_proc = True
            confine.send_session(rank, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def _reap_until_over(rank: int, report: int) -> NoReturn:
    """Wait for the rank, reaping strays; end with it. In a namespace the kernel then kills the
    rest.
    """
    while True:
        pid, status = os.wait()
        if pid == rank:
            _tell(report, {"status": status})
            os._exit(0)


def _run_rank(
    level: str, words: int, output: int, report: int, own_session: int, outside: list[int]
) -> NoReturn:
    """The rank up to its program. A failed set-up is reported; a failed exec is an exit."""
    step = "rank set-up"
    try:
        if level == "none":
            confine.die_with_parent()
        os.setsid()
        os.write(own_session, b"s")  # Fails if the init died before that held.
        take_memory()
        if not (home := os.read(words, HOME_BYTES_MAX)):
            os._exit(0)
        os.chdir(home)
        with open("spec.json", encoding="utf-8") as file:
            spec: dict[str, Any] = json.load(file)
        if spec["isolation"] != level:  # The shim refuses it, and says so.
            os._exit(0)
        env = {**spec["env"], **take_secrets(spec)}
        step = f"isolation {level}"
        _isolate(level, spec, outside)
        step = "rank set-up"
        for number in (*FORWARDED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
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
    if os.read(words, len(GO)) != GO:
        os._exit(0)
    try:
        if level != "none":
            settled = time.monotonic() + SETTLED_S
            _tell(report, {"status": program.run(spec["argv"], env, FORWARDED)})
            time.sleep(max(0.0, settled - time.monotonic()))
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(spec["argv"][0], spec["argv"], env)  # noqa: S606 (no shell: it is the point)
    except (OSError, ValueError) as error:
        program.cannot_run(spec["argv"][0], error)


def _isolate(level: str, spec: dict[str, Any], outside: list[int]) -> None:
    """The view of the world that the level promises, as it is mounted now."""
    if spec.get("network") == network.SHARED:
        for namespace in outside:
            network.enter(namespace)
    elif gate := spec.get("gate"):
        network.enter_by(gate)
    if spec.get("image"):
        if level != "uid":
            raise OSError(errno.EPERM, "an image is the root of ranks of isolation uid alone")
        confine.own_mounts()
        image_view.enter(spec)
        return
    if level != "none":
        confine.own_mounts()
        show(spec.get("inputs", []), [spec["cwd"], *spec.get("keep", [])])
    if hosts := spec.get("hosts"):
        confine.mount(hosts, "/etc/hosts", None, confine.MS_BIND)
    if level == "uid":
        confine.hide(spec.get("hide", []), [spec["cwd"], *spec.get("keep", [])])
