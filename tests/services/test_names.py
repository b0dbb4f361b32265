"""Boards and rules ask for metrics that the programs have; the kept boards are the built ones."""

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from agent.node.collectors.readings import Telemetry
from agent.node.exporter import Exporter, Identity
from agent.node.watch import HealthWatch, Sources
from agent.site import exporter as site_exporter
from agent.site.machine import Standing
from deploy.grafana.boards import BOARDS
from deploy.grafana.build import FOLDER, texts
from deploy.grafana.model import DATASOURCE
from scheduler.runtime.figures import FiguresCollector
from scheduler.runtime.telemetry import Metrics
from sovshared.metrics_page import MetricsPage
from tests.services.prometheus import TEMPLATES
from tests.shared.ca import TestCa

NAME = re.compile(r"(?<![\w$\"'])(sov_[a-z0-9_]+|(?:site|sov):[a-z0-9_]+:[a-z0-9_]+)")
SUFFIXES = ("_bucket", "_count", "_sum")


def asked(expressions: Iterable[str]) -> set[str]:
    """The metrics that expressions name."""
    return {name for expression in expressions for name in NAME.findall(expression)}


def scheduler_names() -> set[str]:
    """What the control plane has, with the series of its histograms."""
    metrics = Metrics("0")
    metrics.registry.register(FiguresCollector())
    names: set[str] = set()
    for family in metrics.registry.collect():
        match family.type:
            case "counter":
                names.add(f"{family.name}_total")
            case "histogram":
                names |= {f"{family.name}{suffix}" for suffix in SUFFIXES}
            case _:
                names.add(family.name)
    return names


async def agent_names(folder: Path, patch: pytest.MonkeyPatch) -> set[str]:
    """What site agents and node agents have, whether or not there is such hardware here."""
    names: set[str] = set()
    family = MetricsPage.family

    def told(page: MetricsPage, name: str, *rest: object) -> None:
        names.add(name)
        family(page, name, *rest)  # pyright: ignore[reportArgumentType]

    patch.setattr(MetricsPage, "family", told)
    facts = TestCa().control_plane().facts()
    site_exporter.page("s", "0", Standing(True, {}, {}), facts, lambda: None, {})
    watch = HealthWatch(
        Sources(
            telemetry=Telemetry.SIMULATED,
            interval_ms=100,
            spool=folder,
            state_dir=folder / "health",
            logical=("SIM-0",),
        )
    )
    running = asyncio.create_task(watch.run(lambda: None))
    while watch.latest is None:  # noqa: ASYNC110 (only changes of the verdict are told)
        await asyncio.sleep(0.01)
    Exporter(Identity("s", "n", "0"), watch, lambda: facts).page()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return names


def rules(file: str) -> list[dict[str, str]]:
    groups = yaml.safe_load((TEMPLATES / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def test_every_metric_that_is_asked_for_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {rule["record"] for rule in rules("recording_rules.yml")}
    known = scheduler_names() | await agent_names(tmp_path, monkeypatch) | recorded
    expressions = [rule["expr"] for f in ("recording_rules.yml", "alerts.yml") for rule in rules(f)]
    expressions += [query for board in BOARDS.values() for _, query in board.queries()]
    expressions += [variable.query for board in BOARDS.values() for variable in board.variables]
    assert asked(expressions) - known == set()
    assert asked(['sum(sov_no_such_thing{a="sov_b"}) / site:none:sum']) - known == {
        "sov_no_such_thing",
        "site:none:sum",
    }


async def test_agents_and_control_plane_share_no_name_but_those_of_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = await agent_names(tmp_path, monkeypatch)
    assert hardware & scheduler_names() == {
        "sov_certificate_lifetime_seconds",
        "sov_certificate_not_after_timestamp_seconds",
    }


def test_the_kept_boards_are_those_that_are_built() -> None:
    built = dict(texts())
    assert {path: path.read_text() for path in built} == built
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(BOARDS)


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_a_board_is_sound(name: str) -> None:
    board = json.loads((FOLDER / name).read_text())
    assert board["schemaVersion"] == 41
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24
    used = {
        found for p in panels for t in p["targets"] for found in re.findall(r"\$(\w+)", t["expr"])
    }
    assert used == {variable["name"] for variable in board["templating"]["list"]}


def test_the_provisioned_datasource_is_the_one_that_boards_name() -> None:
    provisioning = FOLDER.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "sov.yml").read_text())[
        "datasources"
    ]
    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "sov.yml").read_text())["providers"]
    assert provider["type"] == "file"
