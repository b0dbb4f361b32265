"""Keeps one rank: owns its process tree, its log, its limits and the record of its end.

Forked by the nursery, or started through `COMMAND` with `python -I -S`, an empty environment and
the rank's spool directory as HOME (see `spool.py`, which owns the layout). Beside its neighbours
it imports only the standard library, so it starts fast. It is single-threaded: PR_SET_PDEATHSIG
fires when the parent *thread* ends.

Three processes: the **shim** (own session, detached from whoever started it), the **init** below it
(PID 1 of its namespace at `pidns` and `uid`, a child subreaper at `none`) and the **rank**. The tie
is cut upwards and kept downwards: nothing that kills the starter reaches the rank, and whatever
ends the shim or the init ends the whole tree, `setsid` children included. At `none` a killed shim
may leave processes behind; `spool.py` finds them by SOV_RANK_DIR.

The end is recorded as `code` (it exited) or `signal` (a signal ended it), never both; both are null
when the rank never ran. A program that cannot be executed is code 127 (not found) or 126, with a
line in the log. `cause` says why it ended: exit, stop, fence, lease, time_limit or infrastructure.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from agent.node import confine
from agent.node.clock import boot_id, boot_ms, start_ticks, wall_ms
from agent.node.rank_record import (
    LOG_LIMIT_BYTES,
    Log,
    claim_start,
    record_end,
    reserve_record,
)

COMMAND = (  # Run with -c; the arguments are the directory that holds this package, and HOME.
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from agent.node.shim import main; main(sys.argv[2])"
)
READ_BYTES = 64 * 1024
DRAIN_READS = 16  # Log reads in one turn of the loop: a chatty rank must not delay its own end.
LAST_READS = 1024  # No writer is left: the pipe ends long before that.
ORDER_BYTES = 4096
TURN_MS = 1000  # The longest sleep: poll does not count suspended time, the lease does.
GPU_LOCK_WAIT_MS = 3000  # A killed predecessor lets go of its GPU a moment after its record.
KILL_POLL_S = 0.02
KILL_AGAIN_MS = 50

FORWARDED = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)


def run_rank(spec: dict[str, Any], output: int, report: int, own_session: int) -> NoReturn:
    """The rank's process up to its exec. A failed set-up is reported; a failed exec is an exit."""
    try:
        os.setsid()
        os.write(own_session, b"s")
        for number in (*FORWARDED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.umask(spec.get("umask", 0o077))
        confine.limit_resources(spec)
        if spec["isolation"] == "uid":
            confine.drop_privileges(spec)
        elif spec["isolation"] == "none":
            confine.die_with_parent()
        os.chdir(spec["cwd"])
    except (OSError, ValueError, KeyError) as error:
        tell(report, {"failed": f"rank set-up: {error}"})
        os._exit(125)
    try:
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 (no shell: it is the point)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        os.write(2, f"sov: cannot run {spec['argv'][0]!r}: {why}\n".encode())
        os._exit(127 if isinstance(error, (FileNotFoundError, NotADirectoryError)) else 126)


def tell(report: int, doc: dict[str, Any]) -> None:
    """A line for the shim. Rank and init both may write; the first line counts."""
    os.write(report, json.dumps(doc).encode() + b"\n")


def reap_until_over(rank: int, report: int) -> NoReturn:
    """Wait for the rank, reaping strays; end with it. In a namespace the kernel then kills the
    rest.
    """
    while True:
        pid, status = os.wait()
        if pid == rank:
            tell(report, {"status": status})
            os._exit(0)


def run_init(spec: dict[str, Any], go: int, output: int, report: int) -> NoReturn:
    """The init below the shim: prepares the view of the world, starts the rank, passes signals
    on.
    """
    try:
        confine.die_with_parent()
        if os.read(go, 1) != b"g":  # The shim died before it recorded us: nothing may run.
            os._exit(0)
        os.setsid()
        if spec["isolation"] == "none":
            confine.adopt_orphans()
        else:
            confine.own_mounts()
        if spec["isolation"] == "uid":
            confine.hide(spec.get("hide", []), [spec["cwd"], *spec.get("keep", [])])
        session_read, session_write = os.pipe()
        rank = os.fork()
    except (OSError, KeyError) as error:
        tell(report, {"failed": f"isolation {spec['isolation']}: {error}"})
        os._exit(1)
    if rank == 0:
        run_rank(spec, output, report, session_write)
    os.close(output)
    os.close(session_write)
    os.read(session_read, 1)  # Before that the rank's session does not exist, and a signal is lost.
    for number in FORWARDED:
        signal.signal(number, lambda got, _: confine.send_session(rank, got))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    reap_until_over(rank, report)


class Shim:
    """The loop of one rank, from go to record."""

    def __init__(self, spec: dict[str, Any], ctl: socket.socket) -> None:
        self.spec = spec
        self.ctl = ctl
        self.cause = "exit"
        self.kill_at: int | None = None
        self.log = Log(spec.get("log_limit_bytes", LOG_LIMIT_BYTES))
        self.lease_until: int | None = spec.get("lease_until_ms")
        self.end_at: int | None = None
        self.warn_at: int | None = None
        self.init = 0
        self.reported = b""
        self.started: dict[str, Any] = {}

    def launch(self, ready: int) -> bool:
        """Fork the init, record it durably, and only then let it run. False: the key was given
        up.
        """
        if self.spec["isolation"] == "none":
            confine.adopt_orphans()
        else:
            confine.own_pids()
        go_read, go_write = os.pipe()
        self.output, output_write = os.pipe()
        self.report, report_write = os.pipe()
        self.init = os.fork()
        if self.init == 0:
            for fd in (go_write, self.output, self.report, ready):
                os.close(fd)
            run_init(self.spec, go_read, output_write, report_write)
        for fd in (go_read, output_write, report_write):
            os.close(fd)
        os.set_blocking(self.output, False)
        self.pidfd = os.pidfd_open(self.init)
        now = boot_ms()
        if self.lease_until is not None and now >= self.lease_until:
            raise TimeoutError("its lease lapsed before it could start")
        self.started = {"started_boot_ms": now, "started_wall_ms": wall_ms()}
        if (limit := self.spec.get("time_limit_ms")) is not None:
            self.end_at = now + limit
            if (before := self.spec.get("signal_before_end")) is not None:
                self.warn_at = max(now, self.end_at - before["before_ms"])
        shim = {"shim_pid": os.getpid(), "shim_ticks": start_ticks(os.getpid())}
        init = {"init_pid": self.init, "init_ticks": start_ticks(self.init)}
        run = claim_start({"boot_id": boot_id(), **shim, **init, **self.started})
        if run:
            os.write(go_write, b"g")
        os.close(go_write)
        return run

    def watch(self) -> None:
        """Until the init is gone: keep the log, obey orders, keep the limits."""
        events = select.poll()
        for fd in (self.output, self.pidfd, self.ctl.fileno()):
            events.register(fd, select.POLLIN)
        while True:
            timers = [
                at
                for at in (self.lease_until, self.end_at, self.warn_at, self.kill_at)
                if at is not None
            ]
            wait = max(0, min([TURN_MS, *(at - boot_ms() for at in timers)]))
            ready = {fd for fd, _ in events.poll(wait)}
            if self.pidfd in ready:  # First: what ended by itself was not stopped.
                return
            if self.ctl.fileno() in ready:
                self.obey(self.ctl.recv(ORDER_BYTES))
            if self.output in ready and not self.read_log(DRAIN_READS):
                events.unregister(self.output)
            self.keep_limits(boot_ms())

    def read_log(self, reads: int) -> bool:
        """Take what the pipe holds; False at its end."""
        for _ in range(reads):
            try:
                chunk = os.read(self.output, READ_BYTES)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self.log.add(chunk)
        return True

    def obey(self, message: bytes) -> None:
        """One order: renew the lease, or stop. What is not understood is ignored."""
        try:
            order = json.loads(message)
            if order["op"] == "lease" and self.lease_until is not None:
                self.lease_until = max(self.lease_until, int(order["until_ms"]))
            elif order["op"] == "stop":
                self.end(
                    "fence" if order.get("cause") == "fence" else "stop", int(order["grace_ms"])
                )
        except (ValueError, KeyError, TypeError):
            return

    def keep_limits(self, now: int) -> None:
        """Act on whatever is due: the warning, the time limit, the lease, the end of the grace."""
        if self.warn_at is not None and now >= self.warn_at:
            self.warn_at = None
            confine.send(self.init, int(self.spec["signal_before_end"]["signal"]))
        if self.lease_until is not None and now >= self.lease_until:
            # From the lapse on, not from now: we may have slept, and nobody waits for longer.
            self.end("lease", self.lease_until + self.spec["grace_ms"] - now)
        if self.end_at is not None and now >= self.end_at:
            self.end("time_limit", self.spec["grace_ms"])
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = now + KILL_AGAIN_MS  # Whatever was being born meanwhile is next.
            self.kill_all()

    def end(self, cause: str, grace_ms: int) -> None:
        """TERM to the rank's session and the clock of its grace; a later order may only shorten
        it.
        """
        kill_at = boot_ms() + max(0, grace_ms)
        if self.cause == "exit":
            self.cause = cause
            self.lease_until = self.end_at = self.warn_at = None
            self.kill_at = kill_at
            if grace_ms > 0:
                confine.send(self.init, signal.SIGTERM)
        elif self.kill_at is not None:
            self.kill_at = min(self.kill_at, kill_at)

    def kill_all(self) -> None:
        """SIGKILL for the whole tree; at `none` without the init, which tells how the rank
        ended.
        """
        whole = self.spec["isolation"] != "none"
        for pid in [self.init] if whole else confine.descendants(self.init):
            confine.send(pid, signal.SIGKILL)

    def abort(self) -> None:
        """End the tree after an error of our own."""
        if self.init:
            self.kill_all()
            confine.send(self.init, signal.SIGKILL)
            self.reap()

    def reap(self) -> None:
        """Wait for the init, and for all that outlived it.

        PID 1 is reaped only after its whole namespace is gone. At `none` what outlived the rank is
        now ours, as its subreaper, and is killed here.
        """
        os.waitpid(self.init, 0)
        self.init = 0  # From here on its number may be another's.
        while self.spec["isolation"] == "none" and (below := confine.descendants(os.getpid())):
            for pid in below:
                confine.send(pid, signal.SIGKILL)
            time.sleep(KILL_POLL_S)
            self.read_log(DRAIN_READS)
            reap_strays()

    def finish(self) -> dict[str, Any]:
        """Reap the tree, close the log, and say how it ended."""
        self.reap()
        self.read_log(LAST_READS)
        self.log.close()
        said = os.read(self.report, ORDER_BYTES)
        answer: dict[str, Any] = json.loads(said.splitlines()[0]) if said else {}
        ended = {
            **self.started,
            "ended_boot_ms": boot_ms(),
            "ended_wall_ms": wall_ms(),
            "boot_id": boot_id(),
        }
        if "failed" in answer:
            return {
                "code": None,
                "signal": None,
                "cause": "infrastructure",
                "detail": answer["failed"],
                **ended,
            }
        code = (
            os.waitstatus_to_exitcode(answer["status"]) if "status" in answer else -signal.SIGKILL
        )
        number = {"code": code, "signal": None} if code >= 0 else {"code": None, "signal": -code}
        return {**number, "cause": self.cause, **ended}


def reap_strays() -> None:
    """Reap whatever was handed to us."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def lock_gpus(spec: dict[str, Any]) -> list[int]:
    """Hold a lock per GPU: Ray counts GPUs, only this knows which. A taken one is an OSError."""
    held: list[int] = []
    for index in spec.get("gpus", []):
        folder = os.path.join("..", "gpu")
        os.makedirs(folder, 0o700, exist_ok=True)
        fd = os.open(os.path.join(folder, f"{index}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        give_up_at = boot_ms() + GPU_LOCK_WAIT_MS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if boot_ms() >= give_up_at:
                    raise OSError(errno.EBUSY, f"GPU {index} is held by another rank") from None
                time.sleep(KILL_POLL_S)
        held.append(fd)
    return held


def keep_rank(ready: int) -> None:
    """Everything from the claim of the key to its record. Only one process ever gets past the
    bind.
    """
    ctl = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        ctl.bind("ctl")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return  # The key was claimed before: it ran, runs, or was given up.
        raise
    shim, locks = None, []
    try:
        reserve_record()
        with open("spec.json", encoding="utf-8") as file:
            spec = json.load(file)
        locks = lock_gpus(spec)
        shim = Shim(spec, ctl)
        if not shim.launch(ready):
            return  # Whoever gave the key up has recorded its end.
        os.close(ready)
        shim.watch()
        record = shim.finish()
    except Exception as error:  # Whatever went wrong, the tree ends and the end is recorded.
        now = {"ended_boot_ms": boot_ms(), "ended_wall_ms": wall_ms(), "boot_id": boot_id()}
        why = f"shim: {type(error).__name__}: {error}"
        record = {"code": None, "signal": None, "cause": "infrastructure", "detail": why, **now}
        if shim is not None:
            shim.abort()
            record |= shim.started
    # Before the record: who reads it may start the next rank on these GPUs at once.
    for fd in locks:
        os.close(fd)
    record_end(record)


def main(home: str) -> None:
    """Detach, keep the rank, leave. The first process stays until the rank is running or will
    not.
    """
    ready_read, ready_write = os.pipe()
    if os.fork():
        os.close(ready_write)
        os.read(ready_read, 1)
        return
    os.close(ready_read)
    detached(home, ready_write)


def detached(home: str, ready: int) -> None:
    """Keep the rank in a session of its own. Closes `ready` when it runs; our end closes it too."""
    os.setsid()
    confine.usual_priority()
    os.umask(0o077)
    # Blocked for good in the shim (a host going down tells everybody to stop: the rank decides),
    # and in the init until its handlers stand.
    signal.pthread_sigmask(signal.SIG_SETMASK, FORWARDED)
    os.chdir(home)
    keep_rank(ready)
