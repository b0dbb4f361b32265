"""The rules and the configuration are what Prometheus takes, and do what their tests say."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from agent.__main__ import parser
from tests.conftest import service
from tests.services.prometheus import TEMPLATES

RULES = ("recording_rules.yml", "alerts.yml")
DOCS = TEMPLATES.parents[1] / "docs"


def promtool(*arguments: str, folder: Path = TEMPLATES) -> subprocess.CompletedProcess[str]:
    command = [service("promtool", "prometheus"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("check", "config", "--syntax-only", "prometheus.yml"), id="configuration"),
        pytest.param(("check", "rules", *RULES), id="rules"),
        pytest.param(("test", "rules", "rules_test.yml"), id="tests of the rules"),
    ],
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_says_something_else_fails_its_test(tmp_path: Path) -> None:
    for file in TEMPLATES.glob("*.yml"):
        text = file.read_text().replace("sov_gpu_nvlinks_active > 0", "sov_gpu_nvlinks_active > 9")
        (tmp_path / file.name).write_text(text)
    done = promtool("test", "rules", "rules_test.yml", folder=tmp_path)
    assert done.returncode != 0
    assert "NvlinkDown" in done.stderr


def test_every_alert_has_a_test() -> None:
    groups = yaml.safe_load((TEMPLATES / "alerts.yml").read_text())["groups"]
    tests = yaml.safe_load((TEMPLATES / "rules_test.yml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test.get("alert_rule_test", ())
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for group in groups for rule in group["rules"]}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    groups = yaml.safe_load((TEMPLATES / "alerts.yml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    explained = (DOCS / "operations.md").read_text()
    for alert in alerts:
        assert set(alert["labels"]) == {"severity", "response"}, alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "runbook_url"}
        assert f"`{alert['labels']['response']}`" in explained, alert["labels"]["response"]
    names = [alert["alert"] for alert in alerts]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in names)


def test_the_command_of_the_timer_is_one_that_there_is() -> None:
    unit = (TEMPLATES / "sov-renew.service").read_text()
    found = re.search(r"^ExecStart=\S+/sov-agent (.*)$", unit, re.MULTILINE)
    assert found is not None
    options = parser().parse_args(found[1].split())
    assert options.command == "renew"
    assert options.credentials in unit.split("ReadWritePaths=")[1]
