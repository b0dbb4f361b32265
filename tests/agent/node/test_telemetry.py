"""What a node says of itself."""

from pathlib import Path

from agent.node import telemetry
from agent.node.collectors.readings import Telemetry
from agent.node.health import Health
from agent.node.verdict import Finding, Verdict
from sovapi.v1 import common_pb2 as common

WELL = Verdict(Health.OK)
LOGICAL = telemetry.Gpus(telemetry.logical_gpus("exch-a", "n01", 2), Telemetry.SIMULATED)


def test_without_gpus_logical_ones_stand_in_and_the_report_says_so(tmp_path: Path) -> None:
    assert telemetry.source("", 2, driver=tmp_path / "none") is Telemetry.SIMULATED
    report = telemetry.report("n01", LOGICAL, "none", WELL)
    assert list(report.gpu_uuids) == ["SIM-exch-a-n01-0", "SIM-exch-a-n01-1"]
    assert report.telemetry == "simulated"


def test_real_gpus_outweigh_logical_ones(tmp_path: Path) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    assert telemetry.source("", 8, driver=tmp_path) is Telemetry.NVML


def test_a_library_that_was_named_is_asked(tmp_path: Path) -> None:
    assert telemetry.source("/opt/libnvidia-ml.so.1", 8, driver=tmp_path) is Telemetry.NVML


def test_a_node_without_any_gpu_has_no_telemetry(tmp_path: Path) -> None:
    assert telemetry.source("", 0, driver=tmp_path / "none") is Telemetry.NONE


def test_a_node_reports_what_it_has() -> None:
    report = telemetry.report("n01", LOGICAL, "pidns", WELL)
    assert report.slot == "n01"
    assert report.boot_id
    assert report.isolation == common.ISOLATION_PIDNS
    assert report.cpu_milli >= 1000
    assert report.memory_bytes > 0
    assert (report.health, report.health_detail) == (common.HEALTH_OK, "")


def test_a_report_carries_the_verdict_and_why() -> None:
    found = Finding("GPU_LOST", Health.FAILED, "GPU-1", "it does not answer the driver")
    report = telemetry.report("n01", LOGICAL, "uid", Verdict(Health.FAILED, (found,)))
    assert report.health == common.HEALTH_FAILED
    assert report.health_detail == "GPU_LOST GPU-1: it does not answer the driver"


def test_every_health_has_a_value_on_the_wire() -> None:
    assert set(telemetry.HEALTH) == set(Health)


def test_an_isolation_level_nobody_knows_isolates_nothing() -> None:
    assert telemetry.isolation_level("perfect") == common.ISOLATION_UNSPECIFIED
