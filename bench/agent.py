"""What a node agent costs: share of a core, resident memory, and how long a scrape takes.

The real program with its real certificates, connected to a real site-side server, with eight
simulated GPUs and ten ports, read at the default interval and scraped every few seconds. A second
agent reads eight GPUs of a stub of NVIDIA's library instead, through the process that real nodes
have: its figures (`nvml_...`) count that process too, and the stub's own work with it. Memory is
what both hold together: pages of the interpreter's file are there once, whoever maps them.

Yardstick, in the same run: a server that answers the same bytes over the same mutual TLS, from
memory. Each scrape is a connection of its own, handshake included: a monitor that keeps its
connection pays less.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import yaml

from agent.node.clock import wall_ms
from agent.node.facts import NodeFacts, write_facts
from agent.site import events as ev
from agent.site.nodelink import NodeLinkServer
from bench.record import Result
from sovapi.v1.identity_pb2 import JoinRequest, JoinResponse, RenewRequest, RenewResponse
from sovshared import pki, spiffe
from sovshared.monitoring import served
from tests.agent.node.stub.library import Stub, build
from tests.agent.node.sysfs_tree import Sysfs
from tests.shared.ca import TestCa

RUNS = 5
GPUS, PORTS = 8, 10
SETTLE_S, WINDOW_S = 15.0, 20.0
SCRAPES_A_WINDOW = 4
SCRAPES = 300
HOUR_MS = 3_600_000
SITE, SLOT = "bench-site", "n01"
DOMAIN = spiffe.DEFAULT_TRUST_DOMAIN


class _NoAuthority:
    """Certificates of a bench are not renewed."""

    async def join(self, request: JoinRequest) -> JoinResponse:
        raise AssertionError(f"nobody joins a bench: {request.name}")

    async def renew(self, request: RenewRequest) -> RenewResponse:
        raise AssertionError(f"a bench is too short to renew: {len(request.csr_der)} bytes")


def run(data: Path | None) -> Result:
    """The bench. It needs no data."""
    del data
    root = Path(tempfile.mkdtemp(prefix="sovb-"))
    try:
        return asyncio.run(_measure(root))
    finally:
        shutil.rmtree(root, ignore_errors=True)


async def _measure(root: Path) -> Result:
    ca = TestCa()
    pki.save(root / "monitor", ca.issue(f"spiffe://{DOMAIN}/monitor/bench"))
    async with _agent(root / "a", ca, {"logical_gpus": GPUS}) as (pid, port):
        simulated = await _figures(pid, port, root)
        page = await asyncio.to_thread(_scrape, port, root)
        own_ms = await asyncio.to_thread(_scrapes_ms, port, root)
    credentials = root / "a" / "credentials"
    async with served("127.0.0.1:0", credentials, DOMAIN, lambda: page) as echo_port:
        assert echo_port is not None
        echo_ms = await asyncio.to_thread(_scrapes_ms, echo_port, root)
    figures: dict[str, int | float] = {
        **simulated,
        "scrape_p99_ms": round(_p99(own_ms), 2),
        "scrape_p50_ms": round(statistics.median(own_ms), 2),
        "page_bytes": len(page),
    }
    if shutil.which("gcc") is not None:
        (root / "stub").mkdir()
        stub = Stub(build(root / "stub"), gpus=GPUS)
        async with _agent(root / "b", ca, {"nvml_library": str(stub.library)}) as (pid, port):
            found = await _figures(pid, port, root)
        figures |= {f"nvml_{name}": value for name, value in found.items()}
    return Result(
        bench="agent",
        figures=figures,
        yardstick={
            "echo_p99_ms": round(_p99(echo_ms), 2),
            "echo_p50_ms": round(statistics.median(echo_ms), 2),
        },
        ratios={"echo_to_scrape": round(statistics.median(echo_ms) / statistics.median(own_ms), 3)},
        runs=RUNS,
    )


@contextlib.asynccontextmanager
async def _agent(
    root: Path, ca: TestCa, settings: dict[str, object]
) -> AsyncGenerator[tuple[int, int]]:
    """A node agent and its site's side of the link; its pid, and the port of its metrics."""
    names = {"site": spiffe.site_agent(SITE), "credentials": spiffe.node_agent(SITE, SLOT)}
    for folder, name in names.items():
        dns = spiffe.server_dns_name(name, DOMAIN)
        own = ca.issue(
            name.uri(DOMAIN),
            dns=(dns,) if dns else (),
            from_ms=wall_ms() - HOUR_MS,
            until_ms=wall_ms() + 7 * 24 * HOUR_MS,
        )
        pki.save(root / folder, own)
    sysfs = Sysfs(root / "sys")
    for number in range(PORTS):
        sysfs.port(f"mlx5_{number}")
    (root / "spool").mkdir()
    facts = NodeFacts(
        site=SITE,
        slot=SLOT,
        trust=str(root / "credentials" / pki.TRUST_FILE),
        spool=str(root / "spool"),
        address="127.0.0.1",
        runtime_dir=sys.prefix,
        checkpoint_root=str(root),
        hide=(),
        level="none",
    )
    write_facts(root / "facts.json", facts)

    def emit(event: ev.Event) -> None:
        if isinstance(event, ev.NodePinged):
            link.order(ev.SendPong(event.slot, event.sequence, {}))

    link = NodeLinkServer(site=SITE, trust_domain=DOMAIN, emit=emit, authority=_NoAuthority())
    site_port = await link.start(root / "site", "127.0.0.1:0", None)
    metrics = _free_port()
    told = {
        "site": SITE,
        "slot": SLOT,
        "endpoint": f"127.0.0.1:{site_port}",
        "credentials": str(root / "credentials"),
        "facts": str(root / "facts.json"),
        "sysfs_root": str(sysfs.root),
        "metrics_listen": f"127.0.0.1:{metrics}",
        "log_level": "WARNING",
        **settings,
    }
    (root / "settings.yaml").write_text(yaml.safe_dump(told))
    command = [sys.executable, "-m", "agent", "node", "--config", str(root / "settings.yaml")]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield process.pid, metrics
    finally:
        process.terminate()
        await process.wait()
        await link.stop()


async def _figures(pid: int, port: int, root: Path) -> dict[str, float]:
    """Share of a core and memory, with a monitor that scrapes meanwhile."""
    while True:
        with contextlib.suppress(OSError):
            page = await asyncio.to_thread(_scrape, port, root)
            if b'state="ok"} 1' in page:
                break
        await asyncio.sleep(0.2)
    await asyncio.sleep(SETTLE_S)
    shares: list[float] = []
    for _ in range(RUNS):
        began_s, before_ns = time.monotonic(), _cpu_ns(pid)
        for _ in range(SCRAPES_A_WINDOW):
            await asyncio.sleep(WINDOW_S / SCRAPES_A_WINDOW)
            await asyncio.to_thread(_scrape, port, root)
        shares.append((_cpu_ns(pid) - before_ns) / 1e9 / (time.monotonic() - began_s))
    return {
        "cpu_share": round(statistics.median(shares), 5),
        "rss_mib": round(_resident_bytes(_family(pid)) / (1 << 20), 1),
    }


def _family(pid: int) -> list[int]:
    """A process and those it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _cpu_ns(pid: int) -> int:
    """Nanoseconds on a core, of every thread that lives."""
    return sum(
        int((task / "schedstat").read_text().split()[0])
        for one in _family(pid)
        for task in Path(f"/proc/{one}/task").iterdir()
    )


def _resident_bytes(pids: list[int]) -> int:
    """What processes hold together: a page of a file that several map is in memory once."""
    files: dict[str, int] = {}
    own_kib = 0
    for pid in pids:
        part, mapped_kib = "", 0
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):  # Addresses, rights, offset, device, inode, name.
                part = " ".join(words[2:5])
            elif words[0] == "Rss:":
                mapped_kib = int(words[1])
            elif words[0] == "Anonymous:":
                own_kib += int(words[1])
                files[part] = max(files.get(part, 0), mapped_kib - int(words[1]))
    return 1024 * (own_kib + sum(files.values()))


def _scrapes_ms(port: int, root: Path) -> list[float]:
    identity = _identity(root)
    return [_timed_ms(lambda: _scraped(port, identity)) for _ in range(SCRAPES)]


def _timed_ms(act: Callable[[], object]) -> float:
    began_ns = time.perf_counter_ns()
    act()
    return (time.perf_counter_ns() - began_ns) / 1e6


def _p99(values_ms: list[float]) -> float:
    return statistics.quantiles(values_ms, n=100)[98]


def _identity(root: Path) -> ssl.SSLContext:
    """A monitor's: read once, as monitors do."""
    context = ssl.create_default_context(cafile=str(root / "monitor" / pki.TRUST_FILE))
    context.check_hostname = False
    context.load_cert_chain(root / "monitor" / pki.IDENTITY_FILE)
    return context


def _scrape(port: int, root: Path) -> bytes:
    return _scraped(port, _identity(root))


def _connected(port: int) -> socket.socket:
    """As monitors connect: else a request waits for word that the handshake's end has arrived."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def _scraped(port: int, identity: ssl.SSLContext) -> bytes:
    with (
        _connected(port) as plain,
        identity.wrap_socket(plain) as secured,
    ):
        secured.sendall(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: secured.recv(1 << 20), b""))
    return answer.partition(b"\r\n\r\n")[2]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
