"""A Ray cluster for one exchange site, all its raylets on this machine.

Starts and stops Ray's processes and nothing else. Every process carries a mark in its environment
that names this cell and node; by it they are found again, also by another process, and only they
are ever stopped (`ray stop` would stop every Ray process of the machine). Shims carry no
environment, so they are never found: stopping a cell stops no tenant's work.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.node.facts import FACTS_VARIABLE
from agent.node.spool_files import start_ticks

NODES_MAX = 16
ROOT_BYTES_MAX = 36  # Ray's socket paths below it must stay within 107 bytes.
START_S = 120
HEAD_STARTS_MAX = 4
"""On a machine that reads Ray from a cold disk, the head's raylet may give up on a head that is
still starting: by the next time it is in memory."""
STOP_S = 30
STORE_BYTES = 80 * 1024 * 1024  # Ray's smallest comfortable object store; bundles pass in parts.
CPUS = 4  # Logical; nothing is placed by CPUs.
MARK = "SOV_RAY_NODE"

_SLOT = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

TUNING = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Executors are on the way of every launch; Ray would put its workers behind everybody else.
    "RAY_worker_niceness": "0",
}


class CellError(Exception):
    """The cell could not be started; the message holds Ray's own words."""


@dataclass(frozen=True, slots=True)
class CellNode:
    """One node of the cell: its label, its logical GPUs, the facts its executor reads."""

    slot: str
    gpus: int
    facts: Path


@dataclass(frozen=True, slots=True)
class RayTls:
    """Certificate, key and CA of Ray's own connections; valid for the cell's loopback addresses."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class RayProcess:
    """A process of the cell. `ticks` (its start time) tells it from a later one of that number."""

    pid: int
    ticks: int
    slot: str
    program: str


class RayCell:
    """One site's cell. The first node also runs the head; losing its raylet loses the cell."""

    def __init__(
        self, root: Path, nodes: Sequence[CellNode], *, subnet: int, tls: RayTls | None = None
    ) -> None:
        """`root`: a short path, made 0700. Node n listens on 127.0.`subnet`.n."""
        if not 1 <= len(nodes) <= NODES_MAX:
            raise ValueError(f"nodes: found {len(nodes)}, want 1 to {NODES_MAX}")
        if len({node.slot for node in nodes}) != len(nodes):
            raise ValueError("nodes: every slot must have its own name")
        for node in nodes:
            if not _SLOT.fullmatch(node.slot):
                raise ValueError(f"node {node.slot!r}: want up to 40 of a-z, 0-9 and '-'")
        if len(os.fsencode(root)) > ROOT_BYTES_MAX:
            raise ValueError(f"root {root}: want a path of at most {ROOT_BYTES_MAX} bytes")
        if not 1 <= subnet <= 254:
            raise ValueError(f"subnet: found {subnet}, want 1 to 254")
        self.root, self.nodes, self.tls = root, tuple(nodes), tls
        self._ips = {node.slot: f"127.0.{subnet}.{n}" for n, node in enumerate(nodes, 1)}
        self._head_port = 0

    @property
    def address(self) -> str:
        """Where the head answers."""
        return f"{self._ips[self.nodes[0].slot]}:{self._head_port}"

    @property
    def token(self) -> Path:
        """The file with the cell's token."""
        return self.root / "token"

    def address_of(self, slot: str) -> str:
        """The loopback address of a node."""
        return self._ips[slot]

    def start(self) -> None:
        """Start the head, then the other nodes one by one: several at once on a busy machine take
        longer than Ray waits for one. What fails is stopped again.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        if not self.token.exists():
            with open(
                os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
            ) as file:
                file.write(secrets.token_hex(32))
        try:
            self._start_head()
            for node in self.nodes[1:]:
                self._finish(node, self._begin(node))
        except BaseException:
            self.stop()
            raise
        self._write_state()

    def _start_head(self) -> None:
        head = self.nodes[0]
        for attempt in range(1, HEAD_STARTS_MAX + 1):
            self._head_port = _free_ports(self._ips[head.slot], 1)[0]
            try:
                self._finish(head, self._begin(head))
                return
            except CellError:
                if attempt == HEAD_STARTS_MAX:
                    raise
                self.stop()

    def start_node(self, slot: str) -> None:
        """Start one node's raylet again, under its label, after it was lost."""
        node = next(node for node in self.nodes if node.slot == slot)
        stop_processes([process for process in self.processes() if process.slot == slot])
        self._finish(node, self._begin(node))
        self._write_state()

    def stop(self) -> None:
        """Stop every process of the cell and wait for them."""
        stop_processes(self.processes())
        shutil.rmtree(self.root / "t", ignore_errors=True)
        (self.root / "state.json").unlink(missing_ok=True)

    def processes(self) -> list[RayProcess]:
        """Every live process of the cell, workers included."""
        return marked_processes(self.root)

    def pid(self, slot: str, program: str) -> int:
        """The pid of `gcs_server` or `raylet` of a node."""
        found = [p.pid for p in self.processes() if (p.slot, p.program) == (slot, program)]
        if len(found) != 1:
            raise CellError(f"{program} of {slot}: found {len(found)}, want 1")
        return found[0]

    def driver_environment(self) -> dict[str, str]:
        """All the environment a site driver of this cell needs."""
        return {"PATH": os.defpath, "HOME": str(self.root), **self._ray_environment()}

    def _ray_environment(self) -> dict[str, str]:
        env = {**TUNING, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}
        if self.tls is not None:
            env["RAY_USE_TLS"] = "1"
            env["RAY_TLS_SERVER_CERT"] = str(self.tls.certificate)
            env["RAY_TLS_SERVER_KEY"] = str(self.tls.key)
            env["RAY_TLS_CA_CERT"] = str(self.tls.ca)
        return env

    def _begin(self, node: CellNode) -> subprocess.Popen[str]:
        ip = self._ips[node.slot]
        ports = _free_ports(ip, 7)
        names = [
            "node-manager-port",
            "object-manager-port",
            "metrics-export-port",
            "runtime-env-agent-port",
            "dashboard-agent-listen-port",
            "dashboard-agent-grpc-port",
        ]
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start"),
            f"--node-ip-address={ip}",
            f"--num-cpus={CPUS}",
            f"--num-gpus={node.gpus}",
            f"--labels=node={node.slot}",
            f"--object-store-memory={STORE_BYTES}",
            "--disable-usage-stats",
            "--include-log-monitor=false",
            "--min-worker-port=0",
            "--max-worker-port=0",
            *(f"--{name}={port}" for name, port in zip(names, ports[1:], strict=True)),
        ]
        if node is self.nodes[0]:
            command += ["--head", f"--port={self._head_port}", "--include-dashboard=false"]
            command += [f"--temp-dir={self.root}/t", f"--ray-client-server-port={ports[0]}"]
        else:
            command.append(f"--address={self.address}")
        own = {MARK: f"{self.root}#{node.slot}", FACTS_VARIABLE: str(node.facts)}
        env = {**self.driver_environment(), **own}
        quiet = subprocess.DEVNULL
        with open(self.root / f"start-{node.slot}.log", "w") as log:
            return subprocess.Popen(
                command, env=env, stdin=quiet, stdout=log, stderr=log, text=True, process_group=0
            )

    def _finish(self, node: CellNode, start: subprocess.Popen[str]) -> None:
        try:
            code = start.wait(START_S)
        except subprocess.TimeoutExpired:
            start.kill()
            start.wait()
            code = None
        if code != 0:
            words = (self.root / f"start-{node.slot}.log").read_text(errors="replace")[-2000:]
            how = f"exit code {code}" if code is not None else f"no end in {START_S} s"
            raise CellError(f"raylet of {node.slot} did not start ({how}): {words}")

    def _write_state(self) -> None:
        state = {"address": self.address, "processes": [asdict(p) for p in self.processes()]}
        part = self.root / "state.part"
        part.write_text(json.dumps(state, indent=1))
        part.rename(self.root / "state.json")


def stop_cell(root: Path) -> None:
    """Stop a cell that another process started: what its state file names, and what bears its
    mark.
    """
    processes = set(marked_processes(root))
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        state = json.loads((root / "state.json").read_text())
        processes |= {RayProcess(**row) for row in state["processes"]}
    stop_processes(sorted(processes, key=lambda process: process.pid))
    (root / "state.json").unlink(missing_ok=True)


def marked_processes(root: Path) -> list[RayProcess]:
    """Live processes that bear the mark of the cell at `root`."""
    wanted = f"{MARK}={root}#".encode()
    found: list[RayProcess] = []
    for name in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        with contextlib.suppress(OSError):
            variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            mark = next((line for line in variables if line.startswith(wanted)), None)
            ticks = start_ticks(int(name))
            if mark is not None and ticks is not None:
                program = Path(os.readlink(f"/proc/{name}/exe")).name
                slot = mark.rpartition(b"#")[2].decode()
                found.append(RayProcess(int(name), ticks, slot, program))
    return found


def stop_processes(processes: Sequence[RayProcess]) -> None:
    """SIGKILL these very processes and wait until they are gone. Ray keeps nothing that needs a
    farewell.
    """
    give_up_at = time.monotonic() + STOP_S
    for process in processes:
        if start_ticks(process.pid) == process.ticks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    while left := [p.pid for p in processes if start_ticks(p.pid) == p.ticks]:
        if time.monotonic() > give_up_at:
            raise CellError(f"processes {left} did not end in {STOP_S} s")
        time.sleep(0.05)


def _free_ports(ip: str, count: int) -> list[int]:
    """Ports that nobody listens on; all held at once, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((ip, 0))
        return [one.getsockname()[1] for one in sockets]
