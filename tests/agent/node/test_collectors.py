"""Ports and the machine itself, read from trees of files."""

from pathlib import Path

import pytest

from agent.node.collectors import ethernet, infiniband, nvml_encoding, simulated, system
from tests.agent.node.sysfs_tree import Sysfs


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path / "sys")


def test_a_port_is_read_with_its_counters(sysfs: Sysfs) -> None:
    sysfs.port("mlx5_0")
    sysfs.port("mlx5_1", layer="Ethernet")
    sysfs.add("mlx5_1", "symbol_error", 3)
    sysfs.add("mlx5_1", "roce_slow_restart", 4)
    first, second = infiniband.read(sysfs.root)
    assert (first.name, first.link_layer, first.rate_mbit) == ("mlx5_0/1", "InfiniBand", 400_000)
    assert (first.state_id, first.physical_state_id) == (4, 5)
    assert set(first.counters) == set(infiniband.COUNTERS)
    assert second.counters["symbol_error"] == 3
    assert second.hw_counters["roce_slow_restart"] == 4


def test_a_port_that_goes_down_says_so(sysfs: Sysfs) -> None:
    sysfs.port("mlx5_0")
    sysfs.down("mlx5_0")
    (port,) = infiniband.read(sysfs.root)
    assert (port.state_id, port.physical_state_id) == (1, 3)
    assert port.counters["link_downed"] == 1


def test_a_counter_that_cannot_be_read_is_not_zero(sysfs: Sysfs) -> None:
    port = sysfs.port("mlx5_0")
    (port / "counters" / "symbol_error").write_text("N/A (no PMA)\n")
    (port / "counters" / "link_downed").unlink()
    (found,) = infiniband.read(sysfs.root)
    assert not {"symbol_error", "link_downed"} & set(found.counters)


def test_an_excluded_device_is_not_touched(sysfs: Sysfs) -> None:
    sysfs.port("mlx5_0")
    port = sysfs.port("mlx5_1")
    for file in (port / "counters").iterdir():
        file.unlink()
        file.mkdir()  # Reading it would fail.
    assert [p.device for p in infiniband.read(sysfs.root, ["mlx5_1"])] == ["mlx5_0"]


def test_ports_come_by_number_and_odd_rates_are_read(sysfs: Sysfs) -> None:
    for number in (10, 2):
        port = sysfs.port("mlx5_0", number)
        (port / "rate").write_text("2.5 Gb/sec (1X SDR)\n")
    found = infiniband.read(sysfs.root)
    assert [(p.port, p.rate_mbit) for p in found] == [(2, 2_500), (10, 2_500)]


def test_a_machine_without_ports_has_none(sysfs: Sysfs) -> None:
    assert infiniband.read(sysfs.root) == ()
    assert ethernet.read(sysfs.root) == ()


def test_interfaces_of_real_hardware_are_read(sysfs: Sysfs) -> None:
    sysfs.interface("eth0")
    down = sysfs.interface("eth1", state="down")
    (down / "speed").write_text("-1\n")
    sysfs.interface("lo", state="unknown", hardware=False)
    first, second = ethernet.read(sysfs.root)
    assert (first.name, first.up, first.speed_mbit) == ("eth0", True, 100_000)
    assert first.counters["carrier_changes"] == 2
    assert (second.up, second.speed_mbit) == (False, None)


def test_the_machine_is_read(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\nHugePages: 2\n")
    (tmp_path / "loadavg").write_text("1.52 0.58 0.59 1/467 12345\n")
    found = system.read(tmp_path, proc=tmp_path)
    assert (found.memory_total_bytes, found.memory_available_bytes) == (1_024_000, 409_600)
    assert found.load_milli == 1_520
    assert found.spool_free_bytes is not None
    gone = system.read(tmp_path / "gone", proc=tmp_path)
    assert gone.spool_free_bytes is None
    assert gone.spool_detail


@pytest.mark.parametrize(
    ("rates", "worst"),
    [
        pytest.param([], None, id="none is supported"),
        pytest.param([0xFFF, 0xFFF], 0xFFF, id="no errors"),
        pytest.param([0xFFF, 0x10A, 0x20F], 0x10A, id="1e-10 is worse than 2e-15"),
        pytest.param([0x10B, 0xF0C], 0xF0C, id="15e-12 is worse than 1e-11"),
    ],
)
def test_the_worst_error_rate_counts(rates: list[int], worst: int | None) -> None:
    assert nvml_encoding.worst_ber(rates) == worst


def test_simulated_gpus_are_labelled_and_use_energy() -> None:
    early, late = (simulated.read(("SIM-1",), at_ms)[0] for at_ms in (1_000, 2_000))
    assert early.model == "simulated"
    assert early.energy_mj is not None
    assert late.energy_mj is not None
    assert late.energy_mj - early.energy_mj == simulated.POWER_IDLE_MW
