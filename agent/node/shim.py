"""Keeps one rank: owns its process tree, its log, its limits and the record of its end.

Made ahead by the nursery, or started through `COMMAND` with `python -I -S`, an empty environment
and the rank's spool directory as HOME (see `spool.py`, which owns the layout). Beside its
neighbours it imports only the standard library, so it starts fast. It is single-threaded:
PR_SET_PDEATHSIG fires when the parent *thread* ends.

Three processes: the **shim** (own session, detached from whoever started it), the **init** below it
(PID 1 of its namespace at `pidns` and `uid`, a child subreaper at `none`) and the **rank**, which
in a namespace has its program below it (`program.py`). The tie is cut upwards and kept downwards:
nothing that kills the starter reaches the rank, and whatever ends the shim or the init ends the
whole tree, `setsid` children included. At `none` a killed shim may leave processes behind;
`spool.py` finds them by SOV_RANK_DIR.

The end is recorded as `code` (it exited) or `signal` (a signal ended it), never both; both are null
when the rank never ran. A program that cannot be executed is code 127 (not found) or 126, with a
line in the log. `cause` says why it ended: exit, stop, fence, lease, time_limit or infrastructure.
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
from pathlib import Path
from typing import Any

from agent.node import confine, image_view, overlay
from agent.node.clock import boot_id, boot_ms, wall_ms
from agent.node.cradle import FORWARDED, Cradle
from agent.node.data_store import OutputFailed, Store
from agent.node.gpu_shares import lock_gpus
from agent.node.network import SHARED, Namespace, Stay
from agent.node.rank_record import (
    LOG_LIMIT_BYTES,
    Log,
    Room,
    claim_start,
    record_end,
    reserve_record,
    write_outputs,
)

COMMAND = (  # Run with -c; the arguments are the directory that holds this package, and HOME.
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from agent.node.shim import main; main(sys.argv[2])"
)
RUNS = b"runs"
"""Said to whoever waits for a rank that was let go."""
READ_BYTES = 64 * 1024
DRAIN_READS = 16  # Log reads in one turn of the loop: a chatty rank must not delay its own end.
LAST_READS = 1024  # No writer is left: the pipe ends long before that.
ORDER_BYTES = 4096
TURN_MS = 1000  # The longest sleep: poll does not count suspended time, the lease does.
KILL_POLL_S = 0.02
KILL_AGAIN_MS = 50
OUTPUT_FAILED_CODE = os.EX_IOERR  # Of a rank that exited well and left not what it was to leave.
DENIED = "\n[sov: {} attempts to reach what the job's `egress` does not list were denied]\n"


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
        self.network: Namespace | None = None
        self.stay: Stay | None = None

    def launch(self, cradle: Cradle, room: Room | None) -> bool:
        """Record what waits in the cradle durably, and only then let it run. False: the key was
        given up.
        """
        if cradle.level != self.spec["isolation"]:
            raise ValueError(f"isolation {self.spec['isolation']}: this shim's is {cradle.level}")
        self.init, self.pidfd = cradle.init, cradle.pidfd
        self.output, self.report = cradle.output, cradle.report
        self.network = cradle.network if self.spec.get("network") != SHARED else None
        self.stay = Stay(gate) if (gate := self.spec.get("gate")) else None
        if meeting := self.spec.get("overlay"):
            assert self.network is not None, "an overlay is of a network of its own"
            overlay.make(meeting, self.network)
        now = boot_ms()
        if self.lease_until is not None and now >= self.lease_until:
            raise TimeoutError("its lease lapsed before it could start")
        self.started = {"started_boot_ms": now, "started_wall_ms": wall_ms()}
        if (limit := self.spec.get("time_limit_ms")) is not None:
            self.end_at = now + limit
            if (before := self.spec.get("signal_before_end")) is not None:
                self.warn_at = max(now, self.end_at - before["before_ms"])
        key = os.path.basename(os.getcwd())
        run = claim_start({"key": key, **cradle.keepers, **self.started}, room)
        if run:
            cradle.go()
        else:
            cradle.give_up()
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
        egress = self.egress()
        self.log.close()
        said = os.read(self.report, ORDER_BYTES)
        answer: dict[str, Any] = json.loads(said.splitlines()[0]) if said else {}
        ended = {
            **self.started,
            "ended_boot_ms": boot_ms(),
            "ended_wall_ms": wall_ms(),
            "boot_id": boot_id(),
            **egress,
        }
        if "failed" in answer and self.cause == "exit":  # Else we broke into its set-up ourselves.
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

    def egress(self) -> dict[str, Any]:
        """What is recorded of the rank's way out, told in its log too; nothing where it had the
        node's network, or could have gone back there.
        """
        if self.network is None or self.spec["isolation"] != "uid":
            return {}
        told = {"denied": self.network.denied()} if self.stay is None else self.stay.told()
        if told is None:
            return {}
        if told["denied"]:
            self.log.add(DENIED.format(told["denied"]).encode())
        return {"egress": told}


def leave_outputs(spec: dict[str, Any]) -> dict[str, Any]:
    """Take what the rank leaves into the site's store; what its record says of that.

    What the job did not write as it said is the job's failure, and its code says so.
    """
    key = os.path.basename(os.getcwd())
    try:
        taken = Store(Path(spec["data_store"])).take(key, spec["cwd"], spec["outputs"])
    except OutputFailed as failed:
        return {"code": OUTPUT_FAILED_CODE, "detail": str(failed)}
    write_outputs(taken)
    return {"outputs": len(taken)}


def reap_strays() -> None:
    """Reap whatever was handed to us."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def read_spec() -> dict[str, Any]:
    """What is to run here, as the executor put it down."""
    with open("spec.json", encoding="utf-8") as file:
        return json.load(file)


def keep_rank(
    ready: int,
    *,
    spec: dict[str, Any] | None = None,
    cradle: Cradle | None = None,
    room: Room | None = None,
) -> None:
    """Everything from the claim of the key to its record. Only one process ever gets past the
    bind. A `spec` that was not read before is read, without a `cradle`, whose rank is getting
    ready, one is made, and without room for the record of the start.
    """
    try:
        _keep_rank(ready, spec, cradle, room)
    finally:
        if room is not None:
            room.leave()


def _keep_rank(
    ready: int, spec: dict[str, Any] | None, cradle: Cradle | None, room: Room | None
) -> None:
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
        spec = spec or read_spec()
        locks = lock_gpus(spec)
        locks += image_view.hold(spec)
        shim = Shim(spec, ctl)
        if cradle is None:
            cradle = Cradle(spec["isolation"], (ready,))
            cradle.meet(os.getcwd())
        if not shim.launch(cradle, room):
            return  # Whoever gave the key up has recorded its end.
        with contextlib.suppress(OSError):  # Whoever waited may be gone.
            os.write(ready, RUNS)
        os.close(ready)
        shim.watch()
        record = shim.finish()
        if record["cause"] == "exit" and record["code"] == 0 and spec.get("outputs"):
            record |= leave_outputs(spec)
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
    detach()
    os.chdir(home)
    keep_rank(ready_write)


def detach() -> None:
    """Be a session of one's own, as no starter's signals, priority and files shall tell."""
    os.setsid()
    confine.usual_priority()
    os.umask(0o077)
    # Blocked for good in the shim (a host going down tells everybody to stop: the rank decides),
    # and in the init until its handlers stand.
    signal.pthread_sigmask(signal.SIG_SETMASK, FORWARDED)
