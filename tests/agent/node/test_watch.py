"""The watch as the agent runs it: real readings, the fault log, and what is scraped over mTLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.node import fault_file
from agent.node.collectors.readings import Telemetry
from agent.node.exporter import Exporter, Identity
from agent.node.health import Health
from agent.node.watch import HealthWatch, Sources
from sovshared import pki
from sovshared.monitoring import served
from tests.agent.node.rig import DEADLINE_S
from tests.agent.node.stub.library import LINKS, Stub, build
from tests.agent.node.sysfs_tree import Sysfs
from tests.shared.ca import TestCa

INTERVAL_MS = 100
DOMAIN = "sov.example"
NODE_DNS = "n01.example"
LABELS_OF_WORK = {"job", "tenant", "job_id", "project"}


class Machine:
    """A node with stub GPUs and ports of our own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sysfs = Sysfs(root / "sys")
        self.sysfs.port("mlx5_0")
        self.sysfs.interface("eth0")
        (root / "spool").mkdir()
        self.stub: Stub | None = None

    def sources(self, telemetry: Telemetry = Telemetry.SIMULATED) -> Sources:
        return Sources(
            telemetry=telemetry,
            interval_ms=INTERVAL_MS,
            spool=self.root / "spool",
            state_dir=self.root / "health",
            logical=("SIM-0", "SIM-1"),
            nvml_library=str(self.stub.library) if self.stub is not None else "",
            sysfs_root=self.sysfs.root,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def with_gpus(machine: Machine) -> Machine:
    machine.stub = Stub(build(machine.root))
    return machine


@contextlib.asynccontextmanager
async def watching(
    sources: Sources, changed: Callable[[], None] = lambda: None
) -> AsyncGenerator[HealthWatch]:
    watch = HealthWatch(sources)
    task = asyncio.create_task(watch.run(changed))
    try:
        yield watch
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.02)
    raise AssertionError(f"did not come: {what()}")


async def health(watch: HealthWatch, wanted: Health, code: str = "") -> None:
    """Until the verdict is this."""
    await until(
        lambda: watch.verdict().health is wanted and code in watch.verdict().detail(), watch.verdict
    )


async def test_logical_gpus_are_well_and_labelled(machine: Machine) -> None:
    told: list[int] = []
    async with watching(machine.sources(), lambda: told.append(1)) as watch:
        assert watch.verdict().health is Health.UNKNOWN
        await health(watch, Health.OK)
        assert watch.gpu_uuids() == ("SIM-0", "SIM-1")
        await until(lambda: told == [1], lambda: told)


async def test_power_is_known_for_as_long_as_it_is_read(with_gpus: Machine) -> None:
    stub = with_gpus.stub
    assert stub is not None
    async with watching(with_gpus.sources(Telemetry.NVML)) as watch:
        assert watch.gpu_watts() is None
        stub.set(gpu0__power=250_900, gpu1__power=300_000)
        await until(lambda: watch.gpu_watts() == 550, watch.gpu_watts)
        stub.set(all__hang_ms=3_600_000)
        await health(watch, Health.UNKNOWN, "NVML_NOT_ANSWERING")
        assert watch.gpu_watts() is None


async def test_what_is_broken_is_told_once_and_outlasts_the_agent(with_gpus: Machine) -> None:
    stub, told = with_gpus.stub, list[int]()
    assert stub is not None
    sources = with_gpus.sources(Telemetry.NVML)
    async with watching(sources, lambda: told.append(1)) as watch:
        await health(watch, Health.OK)
        assert watch.gpu_uuids() == ("GPU-stub-0", "GPU-stub-1")
        stub.xid(1, 48)
        await health(watch, Health.FAILED, "XID_48 GPU-stub-1")
        await another(watch)
        before = len(told)
        await another(watch)
        await another(watch)
        assert len(told) == before
    stub.values.pop("node.event.1")
    stub.set()
    async with watching(sources) as watch:
        await health(watch, Health.FAILED, "XID_48 GPU-stub-1")
        fault_file.ask_to_clear(sources.state_dir, "GPU replaced")
        await health(watch, Health.OK)


async def test_a_switchs_fatal_error_fails_the_node_until_somebody_mends_it(
    with_gpus: Machine,
) -> None:
    said = with_gpus.root / "kmsg"
    said.touch()
    sources = replace(with_gpus.sources(Telemetry.NVML), kernel_log=said)
    fatal = "6,1,2,-;nvidia-nvswitch0: SXid (PCI:0000:84:00.0): 12020, Fatal, Link 32 egress\n"
    async with watching(sources) as watch:
        await health(watch, Health.OK)
        with said.open("a") as log:
            log.write(fatal)
            log.write(fatal.replace("84:00", "85:00"))
        await health(watch, Health.FAILED, "SXID_12020 nvswitch 0000:84:00.0")
        found = samples(exporter(watch).page())
    told = {"node": "n01", "site": "exch-a", "xid": "12020", "action": "reset_gpu"}
    for address in ("0000:84:00.0", "0000:85:00.0"):
        labels = frozenset({**told, "gpu": f"nvswitch {address}"}.items())
        assert found[("sov_gpu_xid_errors_total", labels)] == 1
    async with watching(sources) as watch:  # It outlasts the agent, though nobody says it again.
        await health(watch, Health.FAILED, "SXID_12020")
        fault_file.ask_to_clear(sources.state_dir, "baseboard replaced")
        await health(watch, Health.OK)


async def test_ports_and_gpus_are_judged_together(with_gpus: Machine) -> None:
    stub = with_gpus.stub
    assert stub is not None
    async with watching(with_gpus.sources(Telemetry.NVML)) as watch:
        await health(watch, Health.OK)
        with_gpus.sysfs.down("mlx5_0")
        await health(watch, Health.FAILED, "PORT_DOWN mlx5_0/1")
        stub.set(gpu0__link__4=0)
        await health(watch, Health.FAILED, f"{LINKS - 1} of {LINKS} links")


async def test_gpus_that_hang_leave_ports_watched(with_gpus: Machine) -> None:
    stub = with_gpus.stub
    assert stub is not None
    async with watching(with_gpus.sources(Telemetry.NVML)) as watch:
        await health(watch, Health.OK)
        stub.set(all__hang_ms=3_600_000)
        await health(watch, Health.UNKNOWN, "NVML_NOT_ANSWERING")
        assert watch.gpu_uuids() == ("GPU-stub-0", "GPU-stub-1")
        with_gpus.sysfs.down("mlx5_0")
        await health(watch, Health.FAILED, "PORT_DOWN")
        assert watch.latest is not None
        complete = watch.latest.totals.complete_at_ms
        assert watch.latest.readings.wall_ms > complete > 0


async def test_files_that_hang_are_unknown_and_are_not_piled_up(machine: Machine) -> None:
    async with watching(machine.sources()) as watch:
        await health(watch, Health.OK)
        state = machine.sysfs.root / "class" / "infiniband" / "mlx5_0" / "ports" / "1" / "state"
        state.unlink()
        os.mkfifo(state)  # Whoever opens it to read waits for a writer.
        await health(watch, Health.UNKNOWN, "files could not be read")
        seen = watch.latest
        await asyncio.sleep(0)
        writer = await asyncio.to_thread(os.open, state, os.O_RDWR)
        os.write(writer, b"4: ACTIVE\n")
        state.unlink()
        state.write_text("4: ACTIVE\n")
        os.close(writer)
        await health(watch, Health.OK)
        assert watch.latest is not seen


async def another(watch: HealthWatch) -> None:
    """Until there is another reading, and so all is done that followed from the last one."""
    seen = watch.latest
    await until(lambda: watch.latest is not seen, lambda: "another reading")


# What monitors see.


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample, parsed by Prometheus's own client."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def exporter(watch: HealthWatch) -> Exporter:
    facts = TestCa().control_plane().facts()
    return Exporter(Identity("exch-a", "n01", "1.0"), watch, lambda: facts)


async def test_the_page_says_what_was_read(with_gpus: Machine) -> None:
    stub = with_gpus.stub
    assert stub is not None
    stub.set(gpu1__ecc__0__0=5, **{f"gpu0__field__220__{link}": 0x30C for link in range(LINKS)})
    async with watching(with_gpus.sources(Telemetry.NVML)) as watch:
        await until(lambda: len(watch.gpu_uuids()) == 2, watch.verdict)
        stub.xid(1, 79)
        await health(watch, Health.FAILED, "XID_79")
        found = samples(exporter(watch).page())

    def at(name: str, **labels: str) -> float:
        return found[(name, frozenset({"site": "exch-a", "node": "n01", **labels}.items()))]

    assert at("sov_node_info", telemetry="nvml", version="1.0", driver="999.stub") == 1
    assert at("sov_gpu_temperature_celsius", gpu="0") == 40
    assert at("sov_gpu_power_watts", gpu="0") == 70.5
    assert at("sov_gpu_energy_joules_total", gpu="0") == 1000
    assert at("sov_gpu_utilization_ratio", gpu="0") == 0.07
    assert at("sov_gpu_ecc_errors_total", gpu="1", kind="corrected", scope="volatile") == 5
    assert at("sov_gpu_xid_errors_total", gpu="1", xid="79", action="restart_node") == 1
    assert at("sov_gpu_recovery_action", gpu="0") == 0
    assert at("sov_gpu_pcie_link_gts", gpu="0") == 32
    assert at("sov_gpu_nvlinks_active", gpu="0") == LINKS
    assert at("sov_gpu_nvlinks_expected", gpu="0") == LINKS
    assert at("sov_gpu_nvlink_effective_ber", gpu="0") == 3e-12
    assert at("sov_gpu_clock_event", gpu="0", reason="idle") == 1
    assert at("sov_gpu_clock_event", gpu="0", reason="hw_thermal") == 0
    assert at("sov_node_gpus_visible") == at("sov_node_gpus_expected") == 2
    assert at("sov_node_health", state="failed") == 1
    assert at("sov_node_health", state="ok") == 0
    assert at("sov_node_faults_total", severity="fatal") >= 1
    port = {"device": "mlx5_0", "port": "1"}
    assert at("sov_rdma_port_state_id", **port) == 4
    assert at("sov_rdma_port_expected", **port) == 1
    assert at("sov_rdma_port_rate_bytes_per_second", **port) == 50e9
    assert at("sov_rdma_link_downed_total", **port) == 0
    assert at("sov_rdma_symbol_errors_total", **port) == 0
    assert at("sov_rdma_hw_counter_total", counter="roce_slow_restart", **port) == 0
    assert at("sov_agent_last_collection_timestamp_seconds") > 1.6e9


async def test_no_hardware_series_names_a_job_or_a_tenant(machine: Machine) -> None:
    async with watching(machine.sources()) as watch:
        await health(watch, Health.OK)
        page = exporter(watch).page()
    assert b'telemetry="simulated"' in page
    for family in text_string_to_metric_families(page.decode()):
        assert family.name.startswith("sov_")
        assert family.documentation
        for sample in family.samples:
            assert not LABELS_OF_WORK & set(sample.labels)
            assert {"site", "node"} <= set(sample.labels)


async def test_a_page_is_made_once_a_reading_and_before_the_first(machine: Machine) -> None:
    assert b"sov_node_info" in exporter(HealthWatch(machine.sources())).page()
    async with watching(machine.sources()) as watch:
        await health(watch, Health.OK)
        made = exporter(watch)
        assert made.page() is made.page()


# Who may scrape.


def scrape(port: int, ca: TestCa, who: str | None, root: Path, path: str = "/metrics") -> str:
    """What a client of that name gets: status and first line; raises where TLS refuses it."""
    context = ssl.create_default_context(cadata=ca.trust_pem.decode())
    if who is not None:
        uri = who if who.startswith("spiffe:") else f"spiffe://{DOMAIN}{who}"
        pki.save(root / "client", ca.issue(uri))
        context.load_cert_chain(root / "client" / pki.IDENTITY_FILE)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=NODE_DNS) as secured,
    ):
        secured.sendall(f"GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: secured.recv(65_536), b"")).decode()
    if not answer:
        raise ConnectionError("the server hung up")
    head, _, body = answer.partition("\r\n\r\n")
    return f"{head.split(' ')[1]} {body.splitlines()[0]}"


async def test_a_node_serves_its_page_to_monitors_and_nobody_else(tmp_path: Path) -> None:
    ca = TestCa()
    uri = f"spiffe://{DOMAIN}/site/exch-a/node/n01"
    pki.save(tmp_path / "node", ca.issue(uri, dns=(NODE_DNS,)))
    page = b"the page\n"
    async with served("127.0.0.1:0", tmp_path / "node", DOMAIN, lambda: page) as port:

        async def ask(who: str, path: str = "/metrics", by: TestCa = ca) -> str:
            assert port is not None
            return await asyncio.to_thread(scrape, port, by, who, tmp_path, path)

        assert await ask("/monitor/prometheus") == "200 the page"
        assert await ask("/monitor/prometheus", "/sd/agents") == "404 /metrics"
        assert await ask("/operator/olga") == "403 /operator/olga is no monitor"


async def test_a_node_that_is_not_to_be_scraped_listens_nowhere(tmp_path: Path) -> None:
    async with served(None, tmp_path, DOMAIN, bytes) as port:
        assert port is None
