"""A node's agent gets its settings whole, from the process that it was before."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from agent.node_program import left, told_by
from agent.settings import NodeSettings, load, plain, scraped_at
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


def test_a_node_agent_that_cannot_start_says_why_and_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(FILE.replace("/var/lib/sov", str(tmp_path)))
    command = [sys.executable, "-m", "agent", "node", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sov-agent: ")
    assert str(tmp_path / "facts.json") in ended.stderr
    assert "Traceback" not in ended.stderr
