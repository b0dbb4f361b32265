"""The bench runner says what it measured, enforces its floors, and writes what it promised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import LIMITS, main, misses
from bench.record import Result, write
from bench.worlds import NOW_MS, Shape, fleet_changes, loaded, queue, shape_from
from scheduler.core.planner import plan


def result(ratio: float) -> Result:
    return Result("plan", {"decisions_per_cpu_s": 7}, {"picks": 9}, {"ratio_to_bit_sets": ratio}, 5)


def test_a_ratio_below_its_floor_is_named() -> None:
    assert LIMITS.is_file()
    assert misses(result(1.0)) == []
    assert misses(result(0.0))[0].startswith("plan ratio_to_bit_sets: 0.0, floor ")


def test_what_is_written_has_figures_conditions_and_yardstick(tmp_path: Path) -> None:
    write([result(0.5)], tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["figures"] == {"decisions_per_cpu_s": 7, "ratio_to_bit_sets": 0.5}
    assert found["yardstick"] == {"picks": 9}
    assert found["conditions"]["runs"] == 5


def test_the_shape_of_the_fleet_is_read_from_a_topology_file(tmp_path: Path) -> None:
    stated = {"pods": 2, "leaves_per_pod": 3, "nodes_per_leaf": 4, "gpus_per_node": 8}
    (tmp_path / "dev_topology.json").write_text(json.dumps(stated))
    assert shape_from(tmp_path) == Shape(2, 3, 4, 8)


def test_the_topology_may_be_in_the_folder_of_its_data_set(tmp_path: Path) -> None:
    inside = tmp_path / "fleet120k_synthetic"
    inside.mkdir()
    stated = {"pods": 2, "leaves_per_pod": 3, "nodes_per_leaf": 4, "gpus_per_node": 8}
    (inside / "dev_topology.json").write_text(json.dumps(stated))
    assert shape_from(tmp_path) == Shape(2, 3, 4, 8)


def test_data_that_is_not_there_is_said_and_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "jct", "--data", str(tmp_path / "nowhere")])
    assert main() == 1
    assert "is not a directory; pass --data DIR" in capsys.readouterr().err


def test_the_bench_world_is_one_in_which_work_is_placed() -> None:
    fleet = loaded(fleet_changes(Shape(2, 2, 4, 8), tenants=5))
    fleet.apply_all(2, list(queue(1, 200, 50, 5, gang_percent=10)))
    made = plan(fleet, NOW_MS)
    assert made.placements
    assert any(len(placement.nodes) > 1 for placement in made.placements)
