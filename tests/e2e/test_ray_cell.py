"""Ray cells: several at once, with and without TLS, and each stopped alone and whole."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.node.facts import NodeFacts, write_facts
from agent.node.spool import Phase, Spool
from agent.site.executor import (
    REASON_DRIVER,
    ExecutorUnavailable,
    LaunchOrder,
    RankOrder,
    RayDriverProcess,
)
from deploy.local.ray_cell import CellError, CellNode, RayCell, RayTls
from tests.agent.node.rig import running, wait_until
from tests.e2e.granting import GRANTING, SITE, granted

SUBNETS = (1 + (os.getpid() + 85) % 254, 1 + (os.getpid() + 170) % 254)


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sov-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def cell_at(root: Path, subnet: int, tls: RayTls | None = None) -> RayCell:
    root.mkdir(mode=0o711)
    spool, checkpoints = str(root / "spool"), str(root / "checkpoints")
    facts = NodeFacts(
        site=SITE,
        slot="n0",
        trust=str(GRANTING.trust(root / "trust.pem")),
        spool=spool,
        address=f"127.0.{subnet}.1",
        runtime_dir="/usr",
        checkpoint_root=checkpoints,
    )
    write_facts(root / "facts.json", facts)
    return RayCell(root / "ray", [CellNode("n0", 1, root / "facts.json")], subnet=subnet, tls=tls)


def certificates(folder: Path, ip: str) -> RayTls:
    """A CA and one certificate for `ip`, as short-lived as a test."""
    folder.mkdir(mode=0o700)
    now = datetime.datetime.fromtimestamp(folder.stat().st_mtime, datetime.UTC)
    until = now + datetime.timedelta(hours=1)
    names = {who: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, who)]) for who in ("ca", "me")}
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in names}
    for serial, who in enumerate(names, 1):
        made = (
            x509.CertificateBuilder()
            .subject_name(names[who])
            .issuer_name(names["ca"])
            .public_key(keys[who].public_key())
            .serial_number(serial)
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=who == "ca", path_length=None), critical=True)
        )
        if who == "me":
            addresses = [x509.IPAddress(ipaddress.ip_address(one)) for one in (ip, "127.0.0.1")]
            made = made.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        signed = made.sign(keys["ca"], hashes.SHA256())
        (folder / f"{who}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = keys[who].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{who}.key").write_bytes(plain)
    return RayTls(folder / "me.crt", folder / "me.key", folder / "ca.crt")


def one_rank(key: str, text: str) -> LaunchOrder:
    made = LaunchOrder(
        key=key,
        job_id=key.split(".")[0],
        attempt=1,
        ranks=(RankOrder(rank=0, node="n0", node_rank=0, local_rank=0, gpus=(0,)),),
        argv=("/bin/sh", "-c", text),
        env={},
        gpus_per_node=1,
        num_nodes=1,
        isolation="none",
        grace_ms=0,
    )
    return granted(made)


async def run_one(cell: RayCell, spool: Spool, key: str) -> int | None:
    """Launch one rank through the cell; its exit code."""
    config = {"address": cell.address}
    async with RayDriverProcess(config, environment=cell.driver_environment()) as driver:
        await driver.wait_ready()
        result = await driver.launch(one_rank(key, "exit 9"))
        assert result.ok, result
    wait_until(lambda: spool.status(f"{key}.0").phase is Phase.OVER, "the end of the rank")
    return spool.status(f"{key}.0").exit_code


async def test_two_cells_live_side_by_side_and_stopping_one_leaves_the_other(root: Path) -> None:
    first, second = (
        cell_at(root / name, subnet) for name, subnet in zip("ab", SUBNETS, strict=True)
    )
    try:
        first.start()
        second.start()
        assert first.token.read_text() != second.token.read_text()
        assert await run_one(first, Spool(root / "a" / "spool"), "job-a.1") == 9
        pids = [process.pid for process in first.processes()]
        stop = "import sys, pathlib; from deploy.local.ray_cell import stop_cell; "
        command = [sys.executable, "-c", stop + "stop_cell(pathlib.Path(sys.argv[1]))"]
        await asyncio.to_thread(subprocess.run, [*command, first.root], check=True)
        assert [pid for pid in pids if running(pid)] == []
        assert await run_one(second, Spool(root / "b" / "spool"), "job-b.1") == 9
    finally:
        first.stop()
        second.stop()
    assert second.processes() == []


async def test_losing_the_head_ends_the_driver_and_no_work(root: Path) -> None:
    cell = cell_at(root / "a", SUBNETS[0])
    spool = Spool(root / "a" / "spool")
    try:
        cell.start()
        config = {"address": cell.address}
        async with RayDriverProcess(config, environment=cell.driver_environment()) as driver:
            await driver.wait_ready()
            pid = driver.pid
            assert pid is not None
            assert (await driver.launch(one_rank("job-a.1", "sleep 1000"))).ok
            os.kill(cell.pid("n0", "gcs_server"), signal.SIGKILL)
            await asyncio.to_thread(wait_until, lambda: driver.pid != pid, "the driver's end")
            with pytest.raises(ExecutorUnavailable):
                await driver.nodes()
            result = await driver.launch(one_rank("job-b.1", "true"))
            assert (result.ok, result.reason, result.retryable) == (False, REASON_DRIVER, True)
            assert spool.status("job-a.1.0").phase is Phase.RUNNING
    finally:
        cell.stop()
        wait_until(lambda: spool.stop("job-a.1.0", 0).phase is Phase.OVER, "the end of the rank")


async def test_a_cell_with_tls_launches(root: Path) -> None:
    tls = certificates(root / "tls", f"127.0.{SUBNETS[0]}.1")
    cell = cell_at(root / "a", SUBNETS[0], tls)
    try:
        cell.start()
        assert await run_one(cell, Spool(root / "a" / "spool"), "job-a.1") == 9
    finally:
        cell.stop()


def test_a_cell_that_cannot_start_says_why_and_leaves_nothing(root: Path) -> None:
    cell = cell_at(root / "a", SUBNETS[0])
    bad = CellNode("n0", -1, root / "a" / "facts.json")
    broken = RayCell(cell.root, [bad], subnet=SUBNETS[0])
    with pytest.raises(CellError, match="did not start"):
        broken.start()
    assert broken.processes() == []


@pytest.mark.parametrize(
    ("slots", "subnet", "folder", "message"),
    [
        pytest.param([], 1, "r", "want 1 to 16", id="no nodes"),
        pytest.param(["a", "a"], 1, "r", "its own name", id="two nodes of one name"),
        pytest.param(["a/../b"], 1, "r", "want up to 40", id="a node whose name is a path"),
        pytest.param(["a"], 255, "r", "want 1 to 254", id="a subnet that is none"),
        pytest.param(["a"], 1, "r" * 90, "at most 36 bytes", id="a path too long for sockets"),
    ],
)
def test_a_cell_that_cannot_be_is_refused_at_once(
    slots: list[str], subnet: int, folder: str, message: str
) -> None:
    nodes = [CellNode(slot, 1, Path("/absent")) for slot in slots]
    with pytest.raises(ValueError, match=message):
        RayCell(Path("/tmp") / folder, nodes, subnet=subnet)
