"""What a job's process can see and reach at level `uid`, told by a job that tries everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sovapi.v1 import common_pb2
from tests.agent.node.rig import needs_root
from tests.e2e.local import LIFE, LONDON, World

pytestmark = needs_root
INTRUDER_S = 40

# Tries to read each path it is given, and says what it is and sees.
PROBE = """
import json, os, socket, sys
paths, host, port = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def attempt(path):
    try:
        if os.path.isdir(path):
            return sorted(os.listdir(path))
        with open(path, "rb") as file:
            return file.read(20).decode("latin-1") or "nothing"
    except OSError as error:
        return type(error).__name__
def become_root():
    try:
        os.setuid(0)
    except OSError as error:
        return type(error).__name__
    return "root"
def connect():
    try:
        with socket.create_connection((host, port), 5):
            return "connected"
    except OSError as error:
        return type(error).__name__
print(json.dumps({
    "read": {path: attempt(path) for path in paths},
    "environment": sorted(os.environ),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "uid": os.getuid(),
    "groups": os.getgroups(),
    "root": become_root(),
    "ray": connect(),
}))
"""
# Dials a cell as a Ray client would, and does what a tenant must not: run something there.
INTRUDER = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("inside", ray.get(ray.remote(num_cpus=0)(lambda: 1).remote(), timeout=20))
"""


@pytest.fixture(scope="module")
def found(shared_world: World) -> dict[str, Any]:
    """What the probe says, while another tenant's job runs beside it on the node."""
    world = shared_world
    other = world.run(LIFE, env={"SECRET": "of another"})
    world.until_said(other, "start")
    attempt = other.refresh().attempt
    assert attempt is not None
    (node,) = attempt.nodes
    slot = node.rpartition("/")[2]
    host, _, port = world.cluster.cell(world.site(LONDON)).address.rpartition(":")
    job = world.ada.submit(
        {
            "name": "probe",
            "command": ["python3", "-c", PROBE, json.dumps(paths(world, other.id)), host, port],
            "resources": {"gpus_per_node": 1},
        }
    )
    info = world.end(job)
    said = world.log(job).decode()
    world.tell(other, "go")
    world.end(other)
    assert info.state == "SUCCEEDED", said
    assert info.attempt is not None
    assert info.attempt.nodes == (f"{LONDON}/{slot}",)
    return json.loads(said)


def paths(world: World, other: str) -> list[str]:
    """All that is none of a job's business."""
    site = world.site(LONDON)
    found = [site.ray_root / "token", site.ray_root, site.ray_root / "t", site.agent_dir]
    found += [site.agent_dir / "settings.yaml", site.agent_dir / "credentials"]
    for slot, _ in site.slots:
        node = site.node_dir(slot)
        found += [node, node / "credentials", node / "spool", node / "settings.yaml"]
        found += [node / "checkpoints", node / "checkpoints" / other]
        found += [node / "spool" / f"{other}.1.0" / name for name in ("", "log", "spec.json")]
        found += [node / "spool" / f"{other}.1.0" / "work", node / "spool" / "archive"]
    layout = world.cluster.layout
    found += [layout.control_dir, layout.credentials_dir, layout.daemons_dir, layout.root]
    found += [layout.control_dir / "store.db", world.cluster.sovctl_config]
    return sorted(str(path) for path in found)


def test_nothing_of_the_system_or_of_others_can_be_read(found: dict[str, Any]) -> None:
    refused = {"PermissionError", "FileNotFoundError"}
    leaks: dict[str, object] = {
        path: what
        for path, what in found["read"].items()
        # A directory that was covered shows nothing, or the stand-ins that lead to one's own.
        if what != [] and (isinstance(what, list) or what not in refused)
    }
    assert leaks == {}


def test_the_environment_is_made_from_nothing(found: dict[str, Any]) -> None:
    names = set(found["environment"])
    assert not {name for name in names if name.startswith("RAY")}
    known = {"PATH", "HOME", "LANG", "PYTHONUNBUFFERED", "CUDA_VISIBLE_DEVICES", "LC_CTYPE"}
    torch = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"}
    known |= torch | {"MASTER_ADDR", "MASTER_PORT", "NVIDIA_VISIBLE_DEVICES"}
    assert {name for name in names - known if not name.startswith("SOV_")} == set()


def test_it_sees_its_own_processes_and_is_nobody(found: dict[str, Any]) -> None:
    # Init, who made the program ready and waits for it, and the program.
    assert found["processes"] == [1, 2, 3]
    assert found["uid"] >= 200_000
    assert found["groups"] == []
    assert found["root"] == "PermissionError"


def test_rays_port_is_not_in_its_network(found: dict[str, Any]) -> None:
    assert found["ray"] in ("ConnectionRefusedError", "OSError")


def test_who_reaches_rays_port_without_its_token_gets_nothing_done(
    world: World, tmp_path: Path
) -> None:
    """A second line, for jobs that have their node's network."""
    cell = world.cluster.cell(world.site(LONDON))
    tokens = [cell.token.read_text(), "", "0" * 64]
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(done, cell.address, tmp_path, token) for token in tokens]
    right, none, wrong = (answer.result() for answer in asked)
    assert "inside 1" in right
    assert "inside" not in none
    assert "inside" not in wrong


def done(address: str, folder: Path, token: str) -> str:
    """What a Ray client with this token brings about."""
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    env = {"PATH": os.defpath, "HOME": str(folder), "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", INTRUDER, address],
            env={**env, **mode},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INTRUDER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return run.stdout


def test_the_level_is_a_fact_of_the_node_and_shown(world: World) -> None:
    assert {node.isolation for node in world.operator.nodes()} == {common_pb2.ISOLATION_UID}
    shown = world.sovctl("operator", "nodes")
    assert shown.returncode == 0
    assert " uid " in shown.stdout
