"""A real Prometheus on a port of its own, configured by the template that operators fill in."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import service

TEMPLATES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
READY_S_MAX = 120
STOP_S_MAX = 60
POLL_S = 0.2
REQUEST_S_MAX = 30


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression answers now."""
        return self._get("query", {"query": expression})["result"]

    def targets(self) -> list[dict[str, Any]]:
        """Everything that is scraped."""
        return self._get("targets", {"state": "active"})["activeTargets"]

    def _get(self, what: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=REQUEST_S_MAX) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]


def configuration(control: str, credentials: Path, trust_domain: str) -> dict[str, Any]:
    """The template, filled in, scraping every second."""
    text = (TEMPLATES / "prometheus.yml").read_text()
    for name, value in (
        ("CONTROL", control),
        ("CREDENTIALS", str(credentials)),
        ("TRUST_DOMAIN", trust_domain),
    ):
        text = text.replace(name, value)
    filled = yaml.safe_load(text)
    filled["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    filled["rule_files"] = [str(TEMPLATES / name) for name in filled["rule_files"]]
    for job in filled["scrape_configs"]:
        for discovery in job.get("http_sd_configs", ()):
            discovery["refresh_interval"] = "1s"
    return filled


@contextmanager
def running(folder: Path, config: Mapping[str, Any], port: int) -> Generator[Prometheus]:
    """Runs a server with `config`, which promtool must find well."""
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    promtool = service("promtool", "prometheus")
    checked = subprocess.run(
        [promtool, "check", "config", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                service("prometheus", "prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    made = Prometheus(f"http://127.0.0.1:{port}")
    try:
        _wait_ready(made, process, folder / "prometheus.log")
        yield made
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


def _wait_ready(made: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + READY_S_MAX
    while True:
        try:
            with urllib.request.urlopen(f"{made.url}/-/ready", timeout=REQUEST_S_MAX) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(POLL_S)
