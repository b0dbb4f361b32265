"""What a node says of itself."""

from pathlib import Path

import pytest

from agent.node import telemetry
from sovapi.v1 import common_pb2 as common


def test_without_gpus_logical_ones_stand_in_and_the_report_says_so(tmp_path: Path) -> None:
    found = telemetry.gpus("exch-a", "n01", 2, driver=tmp_path / "none")
    assert found == telemetry.Gpus(("SIM-exch-a-n01-0", "SIM-exch-a-n01-1"), "simulated")


def test_real_gpus_outweigh_logical_ones(tmp_path: Path) -> None:
    for number in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "information").write_text(f"Model: X\nGPU UUID: \t GPU-{number[5]}\n")
    found = telemetry.gpus("exch-a", "n01", 8, driver=tmp_path)
    assert (len(found.uuids), found.telemetry) == (2, "none")


def test_a_node_reports_what_it_has(tmp_path: Path) -> None:
    gpus = telemetry.gpus("exch-a", "n01", 1, driver=tmp_path / "none")
    report = telemetry.report("n01", gpus, "pidns", tmp_path)
    assert report.slot == "n01"
    assert report.boot_id
    assert report.isolation == common.ISOLATION_PIDNS
    assert report.cpu_milli >= 1000
    assert report.memory_bytes > 0


def test_a_node_without_room_for_logs_takes_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "SPOOL_FREE_BYTES_MIN", 1 << 62)
    report = telemetry.report("n01", telemetry.Gpus((), "none"), "uid", tmp_path)
    assert report.health == common.HEALTH_FAILED
    assert "bytes free" in report.health_detail


def test_a_node_whose_spool_is_gone_takes_no_work(tmp_path: Path) -> None:
    report = telemetry.report("n01", telemetry.Gpus((), "none"), "uid", tmp_path / "gone")
    assert report.health == common.HEALTH_FAILED


def test_an_isolation_level_nobody_knows_isolates_nothing() -> None:
    assert telemetry.isolation_level("perfect") == common.ISOLATION_UNSPECIFIED
