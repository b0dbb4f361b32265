"""A whole local cluster as the end-to-end tests see it: asked as tenants ask, and broken from
outside, with a supervisor that starts again what was killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from agent.node.spool import Phase, RankStatus, Spool
from deploy.local.cluster import MET_LAB, OPERATOR, TRUST_A, Cluster
from deploy.local.layout import SiteLayout
from sovctl import Client, JobInfo, JobSpec, Preemption, Residency, Resources
from sovctl.client import Job
from tests.agent.node.rig import running, wait_until

LONDON, SLOUGH, NARVIK = "exch-london-1", "hall-slough-1", "narvik-1"
GB = "either in GB"
LIVE = ("QUEUED", "PLACED", "STARTING", "RUNNING", "CANCELLING", "PREEMPTING", "LOST")
END_S = 90
PORT_FIRST, PORTS_EACH, PORT_BLOCKS = 8_100, 20, 50
RUNTIME_GRACE_MS = 3_000
HERE = {
    LONDON: Residency(),
    NARVIK: Residency(jurisdictions=("NO",), tolerate_foreign_compulsion=("GB",)),
    GB: Residency(tolerate_foreign_compulsion=("US",)),
}
"""Residency that only one of the sites can meet; or either one in the UK."""

# A job that says what it does, where the test can see it, and waits to be told to go on. Its
# checkpoint directory is on its node, so each rank of a gang has one of its own; names with a dot
# are no checkpoints, and stay there.
LIFE = """
exec 2>/dev/null
say() { echo "$1 $SOV_ATTEMPT $RANK $(date +%s%3N)" >> "$SOV_CHECKPOINT_DIR/.life"; }
wait_for() { until [ -e "$SOV_CHECKPOINT_DIR/.$1" ]; do sleep 0.05; done; }
trap 'say term; echo terminating; wait_for finish; say end; echo "last line"; exit 7' TERM
say start
echo "first line of rank $RANK"
wait_for go
say end
echo "last line"
[ "$RANK" != 0 ] || exit ${CODE:-0}
"""
_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a job did, as it wrote it down itself."""

    what: str
    attempt: int
    rank: int
    at_ms: int


@dataclass(slots=True)
class World:
    """A running cluster, its people, and the means to break it."""

    cluster: Cluster
    ada: Client = field(init=False)
    grace: Client = field(init=False)
    operator: Client = field(init=False)

    def __post_init__(self) -> None:
        self.ada = Client(self.cluster.context(TRUST_A))
        self.grace = Client(self.cluster.context(MET_LAB))
        self.operator = Client(self.cluster.context(OPERATOR))

    def close(self) -> None:
        """Ends the clients' connections."""
        for client in (self.ada, self.grace, self.operator):
            client.close()

    def site(self, name: str) -> SiteLayout:
        """A site's directories and addresses."""
        return next(site for site in self.cluster.layout.sites if site.id == name)

    def spool(self, site: str, slot: str) -> Spool:
        """A node's spool."""
        return Spool(self.site(site).node_dir(slot) / "spool")

    # Jobs.

    def run(self, text: str, *, who: Client | None = None, **more: object) -> Job:
        """Submits a shell script as a job."""
        return (who or self.ada).submit(spec(text, **more))

    def until(self, job: Job, what: str, holds: Callable[[JobInfo], bool]) -> JobInfo:
        """Waits until something holds of a job."""
        wait_until(lambda: holds(job.refresh()), f"{job.id} {what}; it is {job.info}")
        return job.info

    def until_state(self, job: Job, state: str) -> JobInfo:
        """Waits until a job is in a state."""
        return self.until(job, state, lambda info: info.state == state)

    def end(self, job: Job) -> JobInfo:
        """The job when it is over."""
        return job.wait(END_S)

    def checkpoints(self, site: str, slot: str, job: Job) -> Path:
        """A job's checkpoint directory on a node."""
        return self.site(site).node_dir(slot) / "checkpoints" / job.id

    def tell(self, job: Job, word: str) -> None:
        """Makes the file that a LIFE job waits for, wherever it is."""
        attempt = job.refresh().attempt
        assert attempt is not None
        self.tell_all(job, attempt.site, [n.rpartition("/")[2] for n in attempt.nodes], word)

    def tell_all(self, job: Job, site: str, slots: Sequence[str], word: str) -> None:
        """The same, where it is known to be."""
        for slot in slots:
            (self.checkpoints(site, slot, job) / f".{word}").touch()

    def said(self, job: Job) -> list[Said]:
        """All that a LIFE job wrote down, on every node of every site, in order of time."""
        found: list[Said] = []
        for site in self.cluster.layout.sites:
            for slot, _ in site.slots:
                with contextlib.suppress(FileNotFoundError):
                    life = (self.checkpoints(site.id, slot, job) / ".life").read_text()
                    rows = [line.split() for line in life.splitlines()]
                    found += [Said(w, int(a), int(r), int(at)) for w, a, r, at in rows]
        return sorted(found, key=lambda one: one.at_ms)

    def until_said(self, job: Job, what: str, times: int = 1) -> list[Said]:
        """Waits until a LIFE job said it that often."""
        wait_until(
            lambda: sum(one.what == what for one in self.said(job)) >= times,
            f"{job.id}: {times} times {what!r}",
        )
        return [one for one in self.said(job) if one.what == what]

    def log(self, job: Job, rank: int = 0) -> bytes:
        """One rank's whole log."""
        return b"".join(chunk.data for chunk in job.logs(rank=rank))

    def rank(self, job: Job, site: str, slot: str, rank: int = 0, attempt: int = 1) -> RankStatus:
        """What a node's spool says of a rank."""
        return self.spool(site, slot).status(f"{job.id}.{attempt}.{rank}")

    def live(self) -> list[JobInfo]:
        """Every job that is not over."""
        clients = (self.ada, self.grace)
        return [info for client in clients for info in client.list(states=LIVE)]

    def end_all(self) -> None:
        """Ends what a test left behind, at once."""
        for client in (self.ada, self.grace):
            for info in client.list(states=LIVE):
                assert info.id is not None
                client.cancel(info.id, now=True)
        wait_until(lambda: not self.live(), "the end of what a test left behind")

    @contextlib.contextmanager
    def settled(self) -> Generator[None]:
        """Once no job is under way and the audit log stands still for a moment."""

        def still() -> bool:
            before = self.operator.checkpoint().tree_size
            return not self.live() and self.operator.checkpoint().tree_size == before

        self.cluster.wait_ready()
        wait_until(still, "nothing under way")
        yield

    # Programs and their ends.

    def pid(self, name: str) -> int:
        """The pid of a program: control, site-<site> or node-<site>-<slot>."""
        return self.cluster.daemons.get(name).pid

    def driver(self, site: str) -> int:
        """The pid of a site's Ray driver, once there is one."""
        return self._child(f"site-{site}", b"agent.site.ray_driver")

    def planner(self) -> int:
        """The pid of the planner's child process, once there is one."""
        return self._child("control", b"scheduler.runtime.planner_child")

    def executor(self, site: str, slot: str) -> int:
        """The pid of a node's executor, once there is one."""
        cell = self.cluster.cell(self.site(site))

        def look() -> list[int]:
            pids = [process.pid for process in cell.processes() if process.slot == slot]
            return [pid for pid in pids if b"ResidentExecutor" in cmdline(pid)]

        wait_until(lambda: len(look()) == 1, f"one executor on {site}/{slot}")
        return look()[0]

    def kill_control(self) -> None:
        """kill -9 of the control plane; its supervisor starts it again."""
        kill(self.pid("control"))
        self.cluster.start_control_plane()

    def kill_site_agent(self, site: str) -> None:
        """kill -9 of a site agent; its supervisor starts it again."""
        kill(self.pid(f"site-{site}"))
        self.cluster.start_site_agent(self.site(site))

    def kill_node_agent(self, site: str, slot: str) -> None:
        """kill -9 of a node agent; its supervisor starts it again."""
        kill(self.pid(f"node-{site}-{slot}"))
        self.cluster.start_node_agent(self.site(site), slot)

    def sovctl(self, who: str, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, as a person runs it."""
        return subprocess.run(
            [sys.executable, "-m", "sovctl", "--context", who, *words],
            env={**os.environ, "SOVCTL_CONFIG": str(self.cluster.sovctl_config)},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=END_S,
            check=False,
        )

    def _child(self, parent: str, mark: bytes) -> int:
        def look() -> list[int]:
            return [pid for pid in children(self.pid(parent)) if mark in cmdline(pid)]

        wait_until(lambda: len(look()) == 1, f"one {mark.decode()} below {parent}")
        return look()[0]


def spec(text: str, **more: object) -> JobSpec:
    """A shell script as a job of one GPU; `site`, `nodes`, `grace_s` and `gpus` shape it."""
    given = dict(more)
    made = {
        "name": given.pop("name", f"t{next(_names)}"),
        "command": ("/bin/sh", "-c", text),
        "resources": Resources(
            nodes=given.pop("nodes", 1),  # type: ignore[arg-type]
            gpus_per_node=given.pop("gpus", 1),  # type: ignore[arg-type]
        ),
        "residency": HERE[str(given.pop("site", LONDON))],
        "preemption": Preemption(grace=f"{given.pop('grace_s', 5)}s"),
    }
    return JobSpec(**{**made, **given})  # type: ignore[arg-type]


@contextlib.contextmanager
def stopped(*pids: int) -> Generator[None]:
    """These processes do nothing meanwhile. One that ends meanwhile is not minded."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone; what this process started is reaped."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not running(pid), f"the end of {pid}")
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def children(pid: int) -> list[int]:
    """The processes that a process started itself."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return sorted(found)


def cmdline(pid: int) -> bytes:
    """What a process was started as; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def bearing(mark: str) -> list[int]:
    """Live processes with `mark` in their arguments or environment, whatever became of them."""
    found: list[int] = []
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        with contextlib.suppress(OSError):
            texts = (Path(f"/proc/{name}/{file}").read_bytes() for file in ("cmdline", "environ"))
            if any(mark.encode() in text for text in texts) and running(int(name)):
                found.append(int(name))
    return found


def over(status: RankStatus) -> bool:
    """Whether a rank's end is in its spool."""
    return status.phase is Phase.OVER


@contextlib.contextmanager
def free_ports() -> Generator[int]:
    """The first of a block of ports that nobody listens on; ours alone while this lasts.

    Looking is not enough: of two test sessions that look at the same time both would find it free,
    and gRPC lets two servers listen on one port.
    """
    for number in range(PORT_BLOCKS):
        first = PORT_FIRST + PORTS_EACH * ((os.getpid() + number) % PORT_BLOCKS)
        with open(Path(tempfile.gettempdir()) / f"sov-e2e-{first}.lock", "w") as lock:
            if _locked(lock) and all(_is_free(first + port) for port in range(PORTS_EACH)):
                yield first
                return
    raise AssertionError(f"no free block of {PORTS_EACH} ports among {PORT_BLOCKS}")


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True
