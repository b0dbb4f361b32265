"""Runs one command beside a rank: in its namespaces, as its user, with its environment and limits,
and never for longer than it.

Started by the node agent (`commands.py`) with a descriptor of its line to it. The first message on
the line is the plan, with three descriptors that become the command's. Then it says that the
command begins, or why there is none, and how it ended. When the agent lets go of the line, so when
its caller left or the agent died, the command is told to hang up and soon after killed.

The command is a process of the rank's namespace whose parent is outside: the kernel kills it with
the rank's init, and waits until this program has reaped it. So this does nothing but wait for it.
Standard library only, loaded before anything is entered.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import termios
import time
from typing import Any, NoReturn

from agent.node import bounds, confine, network, program
from agent.node.cradle import FORWARDED
from agent.node.entry import Entry, NoEntry, entered

COMMAND = (  # Run with -c; the directory that holds this package, and the descriptor of the line.
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from agent.node.visitor import main; main(int(sys.argv[2]))"
)
PLAN_BYTES_MAX = 192 * 1024
STREAMS = 3
HANG_UP_S = 2.0
"""From being told to hang up to being killed."""
INIT_ENDS_S = 2.0
"""Who was killed with its rank hears so once the init is gone, which is a moment later."""


def main(descriptor: int) -> None:
    """One command, from the plan to its end."""
    signal.pthread_sigmask(signal.SIG_SETMASK, FORWARDED)
    with socket.socket(fileno=descriptor) as line:
        try:
            said, streams, _, _ = socket.recv_fds(line, PLAN_BYTES_MAX, STREAMS)
            for kept in (descriptor, *streams):  # Not by the command.
                os.set_inheritable(kept, False)
            plan: dict[str, Any] = json.loads(said)
            with entered(plan["home"]) as entry:
                child = _start(entry, plan, streams, line)
                for stream in streams:
                    os.close(stream)
                _tell(line, _until_over(child, entry, line))
        except NoEntry as none:
            _tell(line, {"reason": none.reason, "failed": str(none)})
        except (OSError, ValueError, KeyError) as error:
            _tell(line, {"reason": "INTERNAL", "failed": f"{type(error).__name__}: {error}"})


def _tell(line: socket.socket, word: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # The agent is gone.
        line.send(json.dumps(word).encode())


def _start(entry: Entry, plan: dict[str, Any], streams: list[int], line: socket.socket) -> int:
    """The command's process, in the rank's namespace of processes."""
    env = entry.environment() | plan["env"]
    _enter(entry, confine.NEWPID)
    child = os.fork()
    if child == 0:
        _become(entry, plan, env, streams, line)
    return child


def _enter(entry: Entry, namespaces: int) -> None:
    confine.check(confine.LIBC.setns(entry.handle, namespaces), "enter the rank's namespaces")


def _become(
    entry: Entry, plan: dict[str, Any], env: dict[str, str], streams: list[int], line: socket.socket
) -> NoReturn:
    """Take on all that the rank has, in its order; then be the command."""
    spec, argv = entry.spec, plan["argv"]
    try:
        os.setsid()
        bounds.share(entry.pid)
        confine.usual_priority()
        if plan["tty"]:
            if spec.get("uid") is not None:
                os.fchown(streams[0], spec["uid"], spec["gid"])
            fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
        # From here on every name may be another's than ours: none is looked up before we are it.
        _enter(entry, confine.NEWNS | network.NEWNET)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for number in (*FORWARDED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.umask(spec.get("umask", 0o077))
        confine.limit_resources(spec)
        if spec["isolation"] == "uid":
            confine.drop_privileges(spec)
        confine.die_with_parent()
        os.chdir(spec["cwd"])
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    except (OSError, ValueError, KeyError) as error:
        _tell(line, {"reason": "INTERNAL", "failed": f"rank set-up: {error}"})
        os._exit(program.NOT_EXECUTABLE_CODE)
    _tell(line, {"begun": True})
    try:
        os.execvpe(argv[0], argv, env)  # noqa: S606 (no shell: it is the point)
    except (OSError, ValueError) as error:
        program.cannot_run(argv[0], error)


def _until_over(child: int, entry: Entry, line: socket.socket) -> dict[str, Any]:
    """Wait for the command, and end it when nobody is there for it; how it ended."""
    handle = os.pidfd_open(child)
    events = select.poll()
    for descriptor in (handle, line.fileno()):
        events.register(descriptor, select.POLLIN)
    kill_at: float | None = None
    while True:
        wait_s = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready = {fd for fd, _ in events.poll(None if wait_s is None else wait_s * 1000)}
        if handle in ready:
            break
        if line.fileno() in ready:
            events.unregister(line.fileno())
            _signal(child, signal.SIGHUP)
            kill_at = time.monotonic() + HANG_UP_S
        elif kill_at is not None and time.monotonic() >= kill_at:
            _signal(child, signal.SIGKILL)
            kill_at = None
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(handle)
    # As a shell tells it: 128 and the number of the signal.
    status = code if code >= 0 else 128 - code
    return {"status": status, "rank_over": code == -signal.SIGKILL and _is_over(entry)}


def _is_over(entry: Entry) -> bool:
    events = select.poll()
    events.register(entry.init_handle, select.POLLIN)
    return bool(events.poll(INIT_ENDS_S * 1000))


def _signal(child: int, number: int) -> None:
    """To the command and the processes of its group, which it leads once it has begun."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, number)
    confine.send(child, number)
