"""A node's agent gets its settings whole, from the process that it was before."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent.node.facts import NodeFacts
from agent.node_program import expiry_of, left, told_by
from agent.settings import NodeSettings, SettingsInvalid, load, plain, scraped_at
from tests.agent.test_settings import FILE

ALL = """
join_endpoint: 127.0.0.1:7444
logical_gpus: 3
state_dir: /var/lib/sov/health
poll_interval_ms: 500
nvml_library: /opt/other/libnvidia-ml.so
sysfs_root: /elsewhere
rdma_exclude: mlx5_7
kernel_log: /elsewhere/kmsg
checkpoint_keep_ms: 5000
checkpoint_store_bytes_max: 30
checkpoint_node_bytes_max: 1000
location_listen: 0.0.0.0:7466
location_key: /var/lib/sov/location.pem
metrics_listen: 0.0.0.0:9445
metrics_address: n01.example:9445
log_level: DEBUG
"""


def test_every_setting_arrives_as_it_was_checked(tmp_path: Path) -> None:
    for text in (FILE, FILE + ALL):
        file = tmp_path / "node.yaml"
        file.write_text(text)
        settings = load(NodeSettings, file, {})
        arrived = asdict(told_by(left(plain(settings))))
        assert arrived == dict(settings) | {"metrics_address": scraped_at(settings)}


def test_the_limits_of_the_store_of_checkpoints_are_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(FILE + ALL)
    config = told_by(left(plain(load(NodeSettings, file, {}))))
    own, store = tmp_path / "own", tmp_path / "store"
    facts = NodeFacts(
        site="x",
        slot="n",
        trust="t",
        spool="s",
        address="127.0.0.1",
        runtime_dir="r",
        checkpoint_root=str(own),
    )
    for folder in (own, store):
        for job in ("old", "small", "newer"):
            (folder / job).mkdir(parents=True)
            (folder / job / "w").write_bytes(b"w" * 20)
    over = {"old": 5_000, "small": 4_000, "newer": 3_999}
    (mine,) = expiry_of(config, facts).stores  # Its site has none.
    assert mine.expire(over) == ["old"]
    mine, shared = expiry_of(config, replace(facts, checkpoint_store=str(store))).stores
    assert mine.expire(over) == []
    assert shared.expire(over) == ["old", "small"]


def test_limits_of_the_store_that_cannot_be_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(FILE + "checkpoint_keep_ms: -1\ncheckpoint_store_bytes_max: much\n")
    with pytest.raises(SettingsInvalid) as refused:
        load(NodeSettings, file, {})
    for name in ("checkpoint_keep_ms", "checkpoint_store_bytes_max"):
        assert name in str(refused.value)


def test_a_node_agent_that_cannot_start_says_why_and_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(FILE.replace("/var/lib/sov", str(tmp_path)))
    command = [sys.executable, "-m", "agent", "node", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sov-agent: ")
    assert str(tmp_path / "facts.json") in ended.stderr
    assert "Traceback" not in ended.stderr
