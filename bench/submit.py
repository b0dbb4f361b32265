"""Submissions a second, each durable before its answer: in batches, in a stream, one by one.

The real control plane as a process of its own, SQLite on disk, mutual TLS, a fleet of many sites
declared. None of its sites is connected, so that every job stays queued: the queue grows through
the whole bench, and the planner follows it and plans anew after every commit. Clients are another
process; all three, and the planner, share the cores there are, so CPU-seconds stand beside rates.

Yardstick, in the same run: an echo server (`submit_echo`) to which the same clients send messages
of the same kind over the same kind of connection, turn by turn with the control plane. And, as the
floor of what keeping a job costs, that echo with the rows of each job on disk before its answer:
whoever keeps what we promise cannot come nearer to the echo than `rows_to_echo`, on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from bench import submit_load
from bench.record import Number, Result
from bench.submit_load import Found, Order
from scheduler.api import state as state_module
from sovapi.v1 import (
    common_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    tenants_pb2,
    tenants_pb2_grpc,
)
from sovshared import spiffe
from tests.api import control_plane as control_plane_module
from tests.api.control_plane import ControlPlane

RUNS = 5
SITES, NODES_PER_SITE = 43, 8
ALL_KEYS = (
    *("country", "landlord", "facility_operator", "service_operator"),
    *("support_desk", "key_custodian", "sinks"),
)
OBSERVED_AT_MS = 1_760_000_000_000
QUEUED_MAX = 1_000_000
CALL_S = 60
USER = spiffe.tenant_user("bench", "ada")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to submit."""

    name: str
    jobs: int
    batch: int


KINDS = (
    Kind("batched", 20_000, 10),
    Kind("streamed", 10_000, 1),
    Kind("single", 4_000, 0),
)


class Server(NamedTuple):
    """Who is asked."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of one kind against one server; CPU-seconds of the server and of the planner."""

    found: Found
    server_cpu_s: float
    planner_cpu_s: float


def run(data: Path | None) -> Result:
    """The bench. It needs no data."""
    del data
    root = Path(tempfile.mkdtemp(prefix="sovb-"))
    try:
        with _control_plane(root) as plane:
            asyncio.run(_declare(plane))
            with _echo(plane) as echo, _echo(plane, root / "rows.db") as least:
                return _measure(plane, echo, least)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _measure(plane: ControlPlane, echo_server: Server, rows_server: Server) -> Result:
    own: dict[Kind, list[Turn]] = {kind: [] for kind in KINDS}
    echo: dict[Kind, list[Turn]] = {kind: [] for kind in KINDS}
    rows: dict[Kind, list[Turn]] = {kind: [] for kind in KINDS}
    served = (
        (echo, echo_server),
        (rows, rows_server),
        (own, Server(plane.process.pid, plane.main_port)),
    )
    for number in range(1, RUNS + 1):
        for at, kind in enumerate(KINDS):
            for turns, server in served:
                turns[kind].append(_turn(plane, kind, number * 10 + at, server))
    figures: dict[str, Number] = {}
    yardstick: dict[str, Number] = {}
    ratios: dict[str, Number] = {}
    for kind in KINDS:
        rate, most, least = (_rate(kind, turns[kind]) for turns in (own, echo, rows))
        figures[f"{kind.name}_jobs_per_s"] = round(rate)
        figures[f"{kind.name}_server_cpu_us"] = _cpu_us(kind, [t.server_cpu_s for t in own[kind]])
        figures[f"{kind.name}_planner_cpu_us"] = _cpu_us(kind, [t.planner_cpu_s for t in own[kind]])
        figures[f"{kind.name}_client_cpu_us"] = _cpu_us(kind, [t.found.cpu_s for t in own[kind]])
        yardstick[f"{kind.name}_echo_per_s"] = round(most)
        yardstick[f"{kind.name}_echo_cpu_us"] = _cpu_us(kind, [t.server_cpu_s for t in echo[kind]])
        ratios[f"{kind.name}_ratio_to_echo"] = round(rate / most, 3)
        yardstick[f"{kind.name}_rows_per_s"] = round(least)
        yardstick[f"{kind.name}_rows_cpu_us"] = _cpu_us(kind, [t.server_cpu_s for t in rows[kind]])
        yardstick[f"{kind.name}_rows_to_echo"] = round(least / most, 3)
    figures["single_p50_ms"] = _median([t.found.p50_ms for t in own[KINDS[2]]])
    figures["single_p99_ms"] = _median([t.found.p99_ms for t in own[KINDS[2]]])
    yardstick["single_echo_p99_ms"] = _median([t.found.p99_ms for t in echo[KINDS[2]]])
    yardstick["single_rows_p99_ms"] = _median([t.found.p99_ms for t in rows[KINDS[2]]])
    ratios["ratio_to_echo"] = min(ratios.values())
    return Result("submit", figures, yardstick, ratios, RUNS)


def _turn(plane: ControlPlane, kind: Kind, seed: int, server: Server) -> Turn:
    pid = server.pid
    order = Order(server.port, str(plane.credentials(USER)), kind.jobs, kind.batch, seed)
    children = _children(pid)
    before_s, planner_before_s = _cpu_s([pid]), _cpu_s(children)
    answered = subprocess.run(
        [sys.executable, "-m", "bench.submit_load"],
        input=json.dumps(asdict(order)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Turn(
        Found(**json.loads(answered.stdout)),
        _cpu_s([pid]) - before_s,
        _cpu_s(children) - planner_before_s,
    )


def _rate(kind: Kind, turns: Sequence[Turn]) -> float:
    return statistics.median(kind.jobs / turn.found.seconds for turn in turns)


def _cpu_us(kind: Kind, spent_s: Sequence[float]) -> float:
    """Microseconds on a core for one job."""
    return round(statistics.median(spent_s) / kind.jobs * 1e6, 1)


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


@contextlib.contextmanager
def _control_plane(root: Path) -> Generator[ControlPlane]:
    yield from control_plane_module.running(root)


@contextlib.contextmanager
def _echo(plane: ControlPlane, file: Path | None = None) -> Generator[Server]:
    """An echo server with the control plane's own identity; it keeps rows in `file`, if given."""
    own = state_module.load(plane.directory / "state", spiffe.DEFAULT_TRUST_DOMAIN).server
    command = [sys.executable, "-m", "bench.submit_echo", str(own)]
    command += [] if file is None else [str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Server(process.pid, int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()


async def _declare(plane: ControlPlane) -> None:
    """A fleet in one country, and a tenant with many projects and no limits."""
    async with plane.channel_as(spiffe.operator("olga")) as channel:
        sites = [_site(f"site-{number:02}") for number in range(SITES)]
        await fleet_pb2_grpc.FleetServiceStub(channel).Apply(
            fleet_pb2.ApplyFleetRequest(sites=sites, reason="bench"), timeout=CALL_S
        )
        tree = [
            tenants_pb2.Tenant(
                path=path,
                weight=1,
                queue_order=tenants_pb2.QUEUE_ORDER_AGE,
                max_queued_jobs=QUEUED_MAX,
            )
            for path in ("bench", *submit_load.projects())
        ]
        await tenants_pb2_grpc.TenantServiceStub(channel).Apply(
            tenants_pb2.ApplyTenantsRequest(tenants=tree, reason="bench"), timeout=CALL_S
        )


def _site(name: str) -> fleet_pb2.SiteDeclaration:
    return fleet_pb2.SiteDeclaration(
        id=name,
        status=fleet_pb2.SITE_STATUS_ACTIVE,
        min_isolation=common_pb2.ISOLATION_NONE,
        facts=[
            *(_fact(key, "GB") for key in ALL_KEYS),
            _fact("accreditation", "OFFICIAL"),
            _fact("markings"),
            _fact("ultimate_parents"),
        ],
        nodes=[
            fleet_pb2.NodeDeclaration(
                slot=f"n{number:02}",
                pod="p1",
                leaf="l1",
                gpu_class="H200",
                gpus=8,
                cpu_arch=common_pb2.CPU_ARCH_AMD64,
                cpu_milli=128_000,
                memory_bytes=2 << 40,
                interconnects=[common_pb2.INTERCONNECT_INFINIBAND],
            )
            for number in range(NODES_PER_SITE)
        ],
    )


def _fact(key: str, *values: str) -> fleet_pb2.Fact:
    return fleet_pb2.Fact(
        key=key,
        values=values,
        assurance=common_pb2.ASSURANCE_AUDITED,
        asserted_by="bench",
        observed_at_ms=OBSERVED_AT_MS,
    )


def _children(pid: int) -> list[int]:
    return [
        int(word)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]


def _cpu_s(pids: Sequence[int]) -> float:
    """Seconds on a core of these processes."""
    return (
        sum(
            int((task / "schedstat").read_text().split()[0])
            for pid in pids
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
        / 1e9
    )
