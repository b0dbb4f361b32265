"""A real Prometheus discovers and scrapes a real control plane and real agents' exporters over
mutual TLS, and every query of every board answers while jobs run.
"""

import asyncio
import shutil
import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent import __main__ as agent
from agent.node.collectors.readings import Telemetry
from agent.node.exporter import Exporter, Identity
from agent.node.watch import HealthWatch, Sources
from agent.site import exporter as site_exporter
from agent.site.machine import Standing
from deploy.grafana import answers
from deploy.grafana.answers import Span
from deploy.grafana.show import draw_all
from sovapi.v1 import (
    common_pb2,
    fleet_pb2,
    fleet_pb2_grpc,
    jobs_pb2,
    sitelink_pb2,
    tenants_pb2,
    tenants_pb2_grpc,
)
from sovshared import pki, spiffe
from sovshared.monitoring import served
from tests.api import control_plane as control_plane_module
from tests.api import world
from tests.api.control_plane import TRUST_DOMAIN, ControlPlane
from tests.api.world import ADA, FORECAST, LONDON, MAX, OLGA, RADIOLOGY, WAIT_S, FakeSite
from tests.services import prometheus
from tests.services.chromium import faults_of
from tests.services.prometheus import Prometheus

SLOTS = ("n01", "n02")
GPUS = 4
POLL_S = 0.5
MINUTE_S = 60
WAIT_POLLS = 300
COUNTED = {
    'sov_tenant_gpus_allocated{tenant="trust-a/radiology", gpu_class="H100"}': 6,
    'sov_tenant_pending_gpus{tenant="met-lab/forecast", gpu_class="*"}': 4,
    'sov_jobs{state="running"}': 1,
    "sum(sov_jobs_waiting)": 1,
    "site:gpus_allocated:sum": 6,
    "sov_site_power_watts / sov_site_power_limit_watts": 0.0112,
    "sov_site_breaker_open": 0,
}
"""What there is once `work` was taken in: six GPUs run, four are asked for and do not fit."""
MONITOR = spiffe.parse_path("/monitor/prometheus")
NOBODY, STRANGER = "nobody", "stranger"

T = TypeVar("T")


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this file's own: it counts what is asked of it."""
    yield from control_plane_module.running(tmp_path_factory.mktemp("plane"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def until(look: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """What `look` sees once it is as wanted; what it saw last, when it never is."""
    seen = await asyncio.to_thread(look)
    for _ in range(WAIT_POLLS):
        if holds(seen):
            break
        await asyncio.sleep(POLL_S)
        seen = await asyncio.to_thread(look)
    return seen


async def declare(plane: ControlPlane) -> None:
    """A site with a power cap, and tenants with guarantees."""
    site = world.site(LONDON, "GB", len(SLOTS), GPUS)
    site.power_cap_w = 50_000
    quota = tenants_pb2.GpuQuota(gpu_class="H100", guarantee_milli=2000, limit_milli=8000)
    tree = [
        tenants_pb2.Tenant(
            path=path,
            weight=1,
            queue_order=tenants_pb2.QUEUE_ORDER_AGE,
            max_queued_jobs=100,
            quotas=[quota],
        )
        for path in ("met-lab", FORECAST, "trust-a", RADIOLOGY)
    ]
    async with plane.channel_as(OLGA) as olga:
        request = fleet_pb2.ApplyFleetRequest(sites=[site], reason="tests")
        await fleet_pb2_grpc.FleetServiceStub(olga).Apply(request, timeout=WAIT_S)
        tenants = tenants_pb2.ApplyTenantsRequest(tenants=tree, reason="tests")
        await tenants_pb2_grpc.TenantServiceStub(olga).Apply(tenants, timeout=WAIT_S)


@asynccontextmanager
async def scraped(credentials: Path, page: Callable[[], bytes]) -> AsyncGenerator[str]:
    """Serves a page as an agent does; its address."""
    async with served("127.0.0.1:0", credentials, TRUST_DOMAIN, page) as port:
        yield f"127.0.0.1:{port}"


@asynccontextmanager
async def node(plane: ControlPlane, slot: str, folder: Path) -> AsyncGenerator[str]:
    """What a node's agent runs to be watched, with simulated GPUs; its address."""
    credentials = plane.credentials(spiffe.node_agent(LONDON, slot))
    watch = HealthWatch(
        Sources(
            telemetry=Telemetry.SIMULATED,
            interval_ms=500,
            spool=folder,
            state_dir=folder / slot,
            logical=tuple(f"SIM-{slot}-{n}" for n in range(GPUS)),
        )
    )
    exporter = Exporter(Identity(LONDON, slot, "1"), watch, lambda: pki.load(credentials).facts())
    running = asyncio.create_task(watch.run(lambda: None))
    try:
        async with scraped(credentials, exporter.page) as address:
            yield address
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def fleet(plane: ControlPlane, folder: Path) -> AsyncGenerator[FakeSite]:
    """A connected site whose agents can all be scraped."""
    credentials = plane.credentials(spiffe.site_agent(LONDON))

    def page() -> bytes:
        standing = Standing(connected=True, attempts={}, nodes={})
        facts = pki.load(credentials).facts()
        return site_exporter.page(LONDON, "1", standing, facts, lambda: None, {})

    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(scraped(credentials, page))
        nodes = {s: await stack.enter_async_context(node(plane, s, folder)) for s in SLOTS}
        site = FakeSite(plane)
        stack.push_async_callback(site.close)
        await site.connect(metrics_address=address)
        reports = [
            sitelink_pb2.NodeReport(
                slot=slot,
                boot_id="b",
                gpu_uuids=[f"SIM-{slot}-{n}" for n in range(GPUS)],
                health=common_pb2.HEALTH_OK,
                isolation=common_pb2.ISOLATION_UID,
                cpu_arch=common_pb2.CPU_ARCH_AMD64,
                cpu_milli=64_000,
                memory_bytes=512 << 30,
                runtime_alive=True,
                agent_connected=True,
                metrics_address=at,
            )
            for slot, at in nodes.items()
        ]
        report = sitelink_pb2.SiteReport(
            epoch=site.epoch, generation=site.generation, nodes=reports, full=True
        )
        site.say(report=report)
        power = sitelink_pb2.SitePower(gpu_watts=GPUS * len(SLOTS) * 70, nodes=len(SLOTS))
        site.say(heartbeat=sitelink_pb2.Heartbeat(sequence=1, power=power))
        yield site


def configuration(plane: ControlPlane) -> dict[str, Any]:
    """The template, and two scrapers that must be refused: without a certificate, and with one of
    somebody who is no monitor."""
    control = f"127.0.0.1:{plane.metrics_port}"
    monitor = plane.credentials(MONITOR)
    config = prometheus.configuration(control, monitor, TRUST_DOMAIN)
    operator = plane.credentials(OLGA)
    scheduler = config["scrape_configs"][0]
    trust = {key: scheduler["tls_config"][key] for key in ("ca_file", "server_name")}
    identity = str(operator / pki.IDENTITY_FILE)
    config["scrape_configs"] += [
        {**scheduler, "job_name": NOBODY, "tls_config": trust},
        {
            **scheduler,
            "job_name": STRANGER,
            "tls_config": {**trust, "cert_file": identity, "key_file": identity},
        },
    ]
    return config


async def work(plane: ControlPlane, site: FakeSite) -> None:
    """One job that runs, one that has to wait, and one call that is refused."""
    async with plane.channel_as(ADA) as ada, plane.channel_as(MAX) as max_:
        job = await world.submit(ada, world.spec(nodes=2, gpus_per_node=3))
        row = await site.desires(job.id, sitelink_pb2.DESIRED_ACTION_RUN)
        site.report(world.started(row))
        await world.until(ada, job.id, jobs_pb2.JOB_STATE_RUNNING)
        await world.submit(max_, world.spec(project=FORECAST, nodes=2, gpus_per_node=2))


def health(server: Prometheus) -> dict[tuple[str, str, str], str]:
    """Health of every target, by job, site and node."""
    return {
        (
            found["labels"]["job"],
            found["labels"].get("site", ""),
            found["labels"].get("node", ""),
        ): (found["health"])
        for found in server.targets()
    }


def oldest_scrape_s(server: Prometheus) -> float:
    """When the agent or scheduler was scraped that was not for longest."""
    (found,) = server.query('min(timestamp(up{job=~"sov-.*"} == 1))')
    return float(found["value"][1])


def counted(server: Prometheus) -> dict[str, float]:
    """What the expressions of COUNTED answer."""
    answers = {query: server.query(query) for query in COUNTED}
    return {query: float(found[0]["value"][1]) for query, found in answers.items() if found}


def drawn(server: Prometheus, folder: Path) -> list[str]:
    """Draws both boards as `python -m deploy.grafana.show` does; the queries without an answer."""
    asked = answers.Prometheus(server.url)
    now_s = asked.time_s()
    made = draw_all(asked, Span(now_s - MINUTE_S, now_s), {}, folder)
    rows = [row for board in made.values() for row in board]
    return [f"{p.panel.title}: {expr}" for row in rows for p in row for expr in p.unanswered()]


def unreadable(folder: Path) -> dict[str, list[str]]:
    """What cannot be read on each page; nothing where there is no browser to ask."""
    chromium = shutil.which("chromium")
    pages = sorted(folder.glob("*.html")) if chromium else []
    return {p.name: faults for p in pages if (faults := faults_of(str(chromium), p, folder))}


async def test_everything_is_scraped_by_monitors_alone_and_every_panel_answers(
    plane: ControlPlane, tmp_path: Path
) -> None:
    await declare(plane)
    pages = tmp_path / "pages"
    pages.mkdir()
    wanted = {
        ("sov-scheduler", "", ""): "up",
        ("sov-agent", LONDON, ""): "up",
        **{("sov-agent", LONDON, slot): "up" for slot in SLOTS},
        (NOBODY, "", ""): "down",
        (STRANGER, "", ""): "down",
    }
    monitor = plane.credentials(MONITOR)
    async with fleet(plane, tmp_path) as site:
        with prometheus.running(tmp_path, configuration(plane), free_port()) as server:
            assert await until(lambda: health(server), lambda seen: seen == wanted) == wanted
            errors = {t["labels"]["job"]: t["lastError"] for t in server.targets()}
            # The handshake fails: there is no answer that could have a status.
            assert "HTTP status" not in errors[NOBODY]
            assert "HTTP status 403" in errors[STRANGER]
            await work(plane, site)
            seen = await until(lambda: counted(server), lambda seen: seen == COUNTED)
            assert seen == COUNTED
            assert await until(lambda: drawn(server, pages), lambda seen: not seen) == []
            assert {file.stem for file in pages.glob("*.html")} == {"fleet", "tenant"}
            assert not [file for file in pages.glob("*.html") if "No data" in file.read_text()]
            assert await asyncio.to_thread(unreadable, pages) == {}
            # Its identity is renewed beneath it, by the command of the timer: it is up as before.
            command = ["renew", "--endpoint", plane.endpoint, "--credentials", str(monitor)]
            before = pki.load(monitor).facts().serial
            assert await asyncio.to_thread(agent.main, [*command, "--now"]) == 0
            assert pki.load(monitor).facts().serial != before
            now_s = await asyncio.to_thread(lambda: answers.Prometheus(server.url).time_s())
            last = await until(lambda: oldest_scrape_s(server), lambda at: at > now_s + 2)
            assert last > now_s + 2
            assert await asyncio.to_thread(health, server) == wanted
            # Whose series it is was declared; what the agent says of it is dropped.
            (gpu,) = await asyncio.to_thread(
                server.query, 'sov_gpu_power_watts{site="exch-london-1", node="n01", gpu="0"}'
            )
            assert not {name for name in gpu["metric"] if name.startswith("exported_")}
            firing = await asyncio.to_thread(server.query, 'ALERTS{severity="critical"}')
            assert [found["metric"]["alertname"] for found in firing] == []
