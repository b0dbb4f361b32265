"""The table of what is outside, against what the code sets and what the sources name."""

from __future__ import annotations

import configparser
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.settings import NodeSettings
from deploy.local import ray_cell
from deploy.local.ray_cell import CellNode, RayCell
from scheduler.control.outside import PROGRAMS
from scheduler.model.outside import Contact, Setting

ROOT = Path(__file__).parents[2]
SOURCES = ("agent", "deploy", "scheduler", "sovctl", "proto/sovshared")
URL = re.compile(r"https?://([a-z0-9.-]*[a-z0-9])")
IDENTIFIERS = {
    "in-toto.io",
    "json-schema.org",
    "sovereign-compute.example",
}
"""Hosts in names that nobody ever connects to."""
CITED = [
    pytest.param(setting, id=f"{each.name}: {setting.name}")
    for each in PROGRAMS
    for setting in each.settings
]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], dict[str, str]]:
    """Arguments and environment with which the local cluster starts Ray; nothing is started."""
    seen: list[tuple[list[str], dict[str, str]]] = []

    class Recorded:
        def __init__(self, command: Sequence[str], *, env: dict[str, str], **_: Any) -> None:
            seen.append((list(command), env))

        def wait(self, timeout: float) -> int:
            return 0

    monkeypatch.setattr(ray_cell.subprocess, "Popen", Recorded)
    # A cell's root must be short: its sockets are below it.
    monkeypatch.chdir(tmp_path)
    nodes = [CellNode(slot, 1, tmp_path / f"{slot}.json") for slot in ("n01", "n02")]
    RayCell(Path("cell"), nodes, subnet=77).start()
    (head, environment), (worker, other) = seen
    flags = {_flag(argument) for argument in worker}
    shared = {name for name, value in environment.items() if other.get(name) == value}
    return (
        [argument for argument in head if _flag(argument) in flags],
        {name: environment[name] for name in shared},
    )


def _flag(argument: str) -> str:
    return argument.partition("=")[0]


@pytest.mark.parametrize("setting", CITED)
def test_every_setting_that_is_cited_is_set(
    setting: Setting, launch: tuple[list[str], dict[str, str]]
) -> None:
    arguments, environment = launch
    text = (ROOT / setting.file).read_text()
    if setting.file.endswith("ray_cell.py"):
        if setting.name.startswith("--"):
            assert setting.name in map(_flag, arguments)
        else:
            assert environment[setting.name] == setting.value
    elif setting.file.endswith(".ini"):
        ini = configparser.ConfigParser()
        ini.read_string(text)
        section, _, key = setting.name.partition(".")
        assert ini[section][key] == setting.value
    else:
        installs = [line for line in text.splitlines() if "pip install" in line]
        assert installs
        assert all(setting.name in line or "--no-deps" in line for line in installs)


def test_the_ray_driver_gets_the_same(tmp_path: Path) -> None:
    cell = RayCell(Path("r"), [CellNode("n01", 1, tmp_path / "facts")], subnet=77)
    assert cell.driver_environment()["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_is_blocked_says_by_what_and_no_name_is_there_twice() -> None:
    for each in PROGRAMS:
        assert bool(each.settings) or each.state is not Contact.BLOCKED, each.name
        assert each.detail, each.name
        assert not (each.needed and each.state is Contact.BLOCKED), each.name
    assert len({each.name for each in PROGRAMS}) == len(PROGRAMS)


def test_nvidias_attestation_is_called_only_where_a_nodes_settings_name_it() -> None:
    done = subprocess.run(
        ["grep", "-rlE", "nvattest|nv_attestation", *SOURCES, "--include=*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert sorted(done.stdout.split()) == [
        "agent/node/attestation.py",
        "agent/settings.py",
        "scheduler/control/outside.py",
    ]
    assert NodeSettings.model_fields["attest_program"].default == ""
    (entry,) = (each for each in PROGRAMS if each.name == "nvidia-attestation")
    assert "attest_program" in entry.detail


def test_every_address_in_the_sources_is_in_the_table() -> None:
    known = {host for each in PROGRAMS for host in each.hosts}
    named = {
        (host, str(path.relative_to(ROOT)))
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        for host in URL.findall(path.read_text())
    }
    assert {
        each
        for each in named
        if each[0] not in known | IDENTIFIERS and not each[0].startswith(("127.", "localhost"))
    } == set()
    assert any(host in IDENTIFIERS for host, _ in named)
