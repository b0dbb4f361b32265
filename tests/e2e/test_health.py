"""Hardware that breaks under running jobs: the verdict, whose job moves, and whose does not.

Two nodes of the cluster get GPUs from a stub of NVIDIA's library and ports from a sysfs of ours;
everything else is as always.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from agent.node.spool import Cause, Phase
from deploy.local.layout import SiteLayout
from sovapi.v1 import common_pb2
from sovctl.client import Job
from tests.agent.node.rig import wait_until
from tests.agent.node.stub.library import Stub, build
from tests.agent.node.sysfs_tree import Sysfs
from tests.e2e.local import LIFE, LONDON, World
from tests.e2e.monitoring import Monitor

POLL_MS = 1_000
POLLS_MAX = 3
PORTS = ("mlx5_0", "mlx5_1")


@dataclass
class Hardware:
    """One node's, to be broken."""

    world: World
    site: SiteLayout
    slot: str
    stub: Stub
    sysfs: Sysfs
    metrics: str

    @property
    def name(self) -> str:
        return f"node-{self.site.id}-{self.slot}"

    @property
    def settings(self) -> Path:
        return self.site.node_dir(self.slot) / "settings.yaml"

    def start(self) -> None:
        """The node's agent, told where its hardware is."""
        self.world.cluster.daemons.stop(self.world.cluster.daemons.get(self.name))
        given = cast("dict[str, Any]", yaml.safe_load(self.settings.read_text()))
        given |= {
            "nvml_library": str(self.stub.library),
            "sysfs_root": str(self.sysfs.root),
            "poll_interval_ms": POLL_MS,
            "metrics_listen": self.metrics,
        }
        self.settings.write_text(yaml.safe_dump(given))
        command = ["agent", "node", "--config", str(self.settings)]
        self.world.cluster.daemons.start(self.name, command)

    def clear(self) -> None:
        """An operator states that the node is as it should be."""
        self.stub.values = {k: v for k, v in self.stub.values.items() if k[0] == "*"}
        self.stub.set()
        for port in PORTS:
            self.sysfs.port(port)
        command = ["agent", "clear-faults", "--config", str(self.settings), "--reason", "repaired"]
        subprocess.run([sys.executable, "-m", *command], check=True, timeout=60)

    def restore(self) -> None:
        """The agent as it was."""
        self.world.cluster.daemons.stop(self.world.cluster.daemons.get(self.name))
        shutil.rmtree(self.site.node_dir(self.slot) / "health", ignore_errors=True)
        self.world.cluster.start_node_agent(self.site, self.slot)

    def told(self) -> tuple[common_pb2.Health, str]:
        """What the control plane knows of it."""
        nodes = {node.id: node for node in self.world.operator.nodes(self.site.id)}
        node = nodes[f"{self.site.id}/{self.slot}"]
        return node.health, node.health_detail

    def until(self, health: common_pb2.Health, code: str = "") -> None:
        """Until the control plane knows it to be so."""
        wait_until(
            lambda: self.told()[0] == health and code in self.told()[1],
            f"{self.slot} {common_pb2.Health.Name(health)} {code}; it is {self.told()}",
        )


@pytest.fixture(scope="module")
def hardware(
    shared_world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Hardware]]:
    world = shared_world
    site = world.site(LONDON)
    made: dict[str, Hardware] = {}
    try:
        for slot, gpus in site.slots:
            root = tmp_path_factory.mktemp(slot)
            sysfs = Sysfs(root / "sys")
            for port in PORTS:
                sysfs.port(port)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                address = f"127.0.0.1:{probe.getsockname()[1]}"
            stub = Stub(build(root), gpus=gpus)
            made[slot] = Hardware(world, site, slot, stub, sysfs, address)
            made[slot].start()
        for one in made.values():
            one.until(common_pb2.HEALTH_OK)
        yield made
    finally:
        for one in made.values():
            one.restore()
        for one in made.values():
            one.until(common_pb2.HEALTH_OK)


FAULTS: dict[str, tuple[Callable[[Hardware], None], str]] = {
    "an XID": (lambda node: node.stub.xid(1, 79), "XID_79 GPU-stub-1"),
    "ECC": (lambda node: node.stub.set(gpu0__ecc__1__0=1), "ECC_UNCORRECTED GPU-stub-0"),
    "an NVLink": (lambda node: node.stub.set(gpu2__link__5=0), "NVLINK_DOWN GPU-stub-2"),
    "an IB port": (lambda node: node.sysfs.down("mlx5_1"), "PORT_DOWN mlx5_1/1"),
}


def slot_of(job: Job) -> str:
    attempt = job.refresh().attempt
    assert attempt is not None
    (node,) = attempt.nodes
    return node.rpartition("/")[2]


def failed_after(monitor: Monitor, node: Hardware, inject: Callable[[Hardware], None]) -> float:
    """Breaks a node; after at least how many readings its agent said so."""
    before = monitor.scrape(node.metrics)
    assert before["sov_node_health", "failed"] == 0
    inject(node)
    counts = [before["sov_agent_collections_total", node.slot]]

    def failed() -> bool:
        found = monitor.scrape(node.metrics)
        if found["sov_node_health", "failed"] == 1:
            return True
        counts.append(found["sov_agent_collections_total", node.slot])
        return False

    wait_until(failed, f"{node.slot} says that it failed")
    return counts[-1] + 1 - counts[0]


@pytest.mark.parametrize(("inject", "code"), FAULTS.values(), ids=FAULTS)
def test_the_job_on_broken_hardware_moves_and_others_stay(
    world: World,
    hardware: dict[str, Hardware],
    monitor: Monitor,
    inject: Callable[[Hardware], None],
    code: str,
) -> None:
    gpus = dict(world.site(LONDON).slots)["n01"]
    struck, spared = (world.run(LIFE, gpus=gpus, grace_s=600) for _ in range(2))
    for job in (struck, spared):
        world.until_said(job, "start")
    node, other = hardware[slot_of(struck)], hardware[slot_of(spared)]
    assert node is not other

    assert failed_after(monitor, node, inject) <= POLLS_MAX
    node.until(common_pb2.HEALTH_FAILED, code)
    info = world.until(struck, "is queued again", lambda info: info.state == "QUEUED")
    assert [attempt.reason for attempt in info.attempts] == ["NODE_FAILED"]
    assert code in info.attempts[0].message
    rank = world.rank(struck, LONDON, node.slot)
    assert (rank.phase, rank.cause) == (Phase.OVER, Cause.STOP)
    assert rank.signal == 9, "no grace: what a broken GPU still writes is not to be trusted"

    node.clear()
    node.until(common_pb2.HEALTH_OK)
    world.until_said(struck, "start", 2)
    assert struck.refresh().attempt is not None
    for job in (struck, spared):
        world.tell(job, "go")
        assert world.end(job).state == "SUCCEEDED"
    assert len(struck.refresh().attempts) == 2
    assert len(spared.refresh().attempts) == 1, "it was left alone"
    assert other.told()[0] == common_pb2.HEALTH_OK


def test_gpus_that_hang_take_no_new_work_and_what_runs_finishes(
    world: World, hardware: dict[str, Hardware]
) -> None:
    job = world.run(LIFE)
    world.until_said(job, "start")
    node = hardware[slot_of(job)]
    node.stub.set(all__hang_ms=3_600_000)
    node.until(common_pb2.HEALTH_UNKNOWN, "NVML_NOT_ANSWERING")
    gpus = dict(world.site(LONDON).slots)["n01"]
    next_job = world.run("exit 0", gpus=gpus)
    assert world.end(next_job).state == "SUCCEEDED"
    assert slot_of(next_job) != node.slot
    assert job.refresh().state == "RUNNING"
    world.tell(job, "go")
    assert world.end(job).state == "SUCCEEDED"
    node.stub.set(all__hang_ms=0)
    node.until(common_pb2.HEALTH_OK)


def test_a_site_agent_says_how_its_site_is(world: World, monitor: Monitor) -> None:
    job = world.run(LIFE)
    world.until_said(job, "start")
    address = world.site(LONDON).metrics
    wait_until(
        lambda: monitor.scrape(address)["sov_site_attempts", "running"] >= 1, "a running attempt"
    )
    found = monitor.scrape(address)
    assert found["sov_site_session_up", LONDON] == 1
    assert found["sov_site_driver_up", LONDON] == 1
    assert found["sov_site_nodes_executors_up", LONDON] == 2
    world.tell(job, "go")
    assert world.end(job).state == "SUCCEEDED"
