"""What the end-to-end tests of a session share: one real Ray cell of two nodes, and one whole local
cluster. Each is started when a test first asks for it, and always stopped.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.node.facts import NodeFacts, write_facts
from agent.node.spool import Phase, Spool
from deploy.local.cluster import OPERATOR, local_cluster
from deploy.local.layout import default_root
from deploy.local.ray_cell import CellNode, RayCell
from sovctl.async_client import join
from sovctl.link import load_trust
from sovshared import pki
from tests.agent.node.rig import LEVELS, wait_until
from tests.e2e.granting import GRANTING, SITE
from tests.e2e.local import RUNTIME_GRACE_MS, World, free_ports
from tests.e2e.monitoring import Monitor

SLOTS = ("n0", "n1")
GPUS = 4


@dataclass(frozen=True, slots=True)
class LocalCell:
    """A running cell and what its nodes keep."""

    cell: RayCell
    root: Path

    def spool(self, slot: str) -> Spool:
        """The spool of a node."""
        return Spool(self.root / slot / "spool")


@pytest.fixture(scope="session")
def ray_cell() -> Iterator[LocalCell]:
    """The cell; whatever still runs in its spools at the end is stopped with it."""
    root = Path(tempfile.mkdtemp(prefix="sov-"))
    root.chmod(0o711)
    subnet = 1 + os.getpid() % 254
    nodes: list[CellNode] = []
    for number, slot in enumerate(SLOTS, 1):
        (root / slot).mkdir(mode=0o711)
        facts = NodeFacts(
            site=SITE,
            slot=slot,
            trust=str(GRANTING.trust(root / slot / "trust.pem")),
            spool=str(root / slot / "spool"),
            address=f"127.0.{subnet}.{number}",
            runtime_dir="/usr",
            checkpoint_root=str(root / "checkpoints"),
            hide=(str(root / "ray"),),
            level=LEVELS[-1],
        )
        write_facts(root / slot / "facts.json", facts)
        nodes.append(CellNode(slot, GPUS, root / slot / "facts.json"))
    made = LocalCell(RayCell(root / "ray", nodes, subnet=subnet), root)
    made.cell.start()
    try:
        yield made
    finally:
        made.cell.stop()
        for slot in SLOTS:
            spool = made.spool(slot)
            for status in spool.known():
                wait_until(
                    lambda spool=spool, key=status.key: spool.stop(key, 0).phase is Phase.OVER,
                    f"the end of {status.key}",
                )
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def running_world() -> Iterator[World]:
    """The cluster of the demo: three sites, two tenants, an operator."""
    base = default_root().parent
    root = Path(tempfile.mkdtemp(prefix="sove-", dir=base))
    with free_ports() as port:
        cluster = local_cluster(root, port, lambda _text: None, RUNTIME_GRACE_MS)
        try:
            cluster.up()
            made = World(cluster)
            yield made
            made.close()
        finally:
            cluster.down()
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def monitor(running_world: World, tmp_path_factory: pytest.TempPathFactory) -> Monitor:
    """A Prometheus of the session's own, with an identity from the cluster's CA."""
    world, name = running_world, "/monitor/e2e"
    context = world.cluster.context(OPERATOR)
    token = world.operator.create_join_token(name).token
    trust = load_trust(str(Path(context.credentials) / pki.TRUST_FILE))
    joined = asyncio.run(join(context, trust, name, token))
    kept = tmp_path_factory.mktemp("monitor")
    pki.save(kept, joined.identity)
    return Monitor(kept)


@pytest.fixture(scope="module")
def shared_world(running_world: World) -> Iterator[World]:
    """The cluster, for what a file's tests share; the file leaves no job behind."""
    yield running_world
    running_world.end_all()


@pytest.fixture
def world(running_world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """The cluster; a test that fails leaves no job behind either."""
    yield running_world
    if request.session.testsfailed:
        running_world.end_all()
