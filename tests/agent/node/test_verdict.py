"""From readings to a verdict: what each limit does, and what flickers not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.node import verdict as judging
from agent.node.collectors.readings import Fabric, Missing, NvLinks, SourceFault, System
from agent.node.health import Health
from agent.node.verdict import HOLD_MS, Verdict
from agent.node.windows import MARKS_MAX, Series, follow, rise
from tests.agent.node.reading import (
    DEGRADED,
    ETHERNET,
    FAILED,
    GPU,
    OK,
    PORT,
    SYSTEM,
    UNKNOWN,
    Node,
    codes,
    well,
)


@pytest.fixture
def node() -> Node:
    return well()


STATES = [
    ("ECC_UNCORRECTED", FAILED, {"ecc_volatile_uncorrected": 1}),
    ("ECC_CORRECTED", DEGRADED, {"ecc_volatile_corrected": 50_000_001}),
    ("ROW_REMAP_FAILED", FAILED, {"remap_failed": True}),
    ("ROW_REMAP_PENDING", DEGRADED, {"remap_pending": True}),
    ("ROWS_REMAPPED", DEGRADED, {"remapped_uncorrectable": 512}),
    ("TEMPERATURE", DEGRADED, {"temperature_c": 88}),
    ("MEMORY_TEMPERATURE", DEGRADED, {"memory_temperature_c": 96}),
    ("GPU_LOST", FAILED, {"lost": True}),
    ("RECOVERY_ACTION", FAILED, {"recovery_action": 1}),
    ("RECOVERY_ACTION", FAILED, {"recovery_action": 2}),
    ("RECOVERY_ACTION", DEGRADED, {"recovery_action": 3}),
    ("RECOVERY_ACTION", FAILED, {"recovery_action": 4}),
    ("RECOVERY_ACTION", FAILED, {"recovery_action": 99}),
    ("NVLINK_DOWN", FAILED, {"nvlinks": NvLinks(17, 18, 0, 0, 0)}),
    ("NVLINK_BER", FAILED, {"nvlinks": NvLinks(18, 18, 0, 0, 0, 0x20C)}),
    ("NVLINK_SYMBOL_BER", DEGRADED, {"nvlinks": NvLinks(18, 18, 0, 0, 0, None, 0x120)}),
    ("FABRIC_STATE", DEGRADED, {"fabric": Fabric(2, 0, 1, 0, "", 0)}),
    ("FABRIC_UNHEALTHY", FAILED, {"fabric": Fabric(3, 0, 2, 0, "", 0)}),
    ("FABRIC_LIMITED", DEGRADED, {"fabric": Fabric(3, 0, 3, 0, "", 0)}),
    ("FABRIC_LIMITED", DEGRADED, {"fabric": Fabric(3, 0, 1, 1 << 4, "", 0)}),
]


@pytest.mark.parametrize(
    ("code", "health", "change"), STATES, ids=[f"{c}-{n}" for n, (c, _, _) in enumerate(STATES)]
)
def test_a_state_of_a_gpu_has_its_verdict_within_three_readings(
    node: Node, code: str, health: Health, change: dict[str, object]
) -> None:
    node.gpu(**change)
    found = node.polls(3)
    assert (found.health, codes(found)) == (health, [code])
    assert found.findings[0].subject == "GPU-0"
    assert code in found.detail()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"ecc_volatile_corrected": 50_000_000}, id="corrected errors at the limit"),
        pytest.param({"remapped_uncorrectable": 511}, id="rows below the limit"),
        pytest.param({"temperature_c": 87, "memory_temperature_c": 95}, id="at its limits"),
        pytest.param({"temperature_c": 99, "temperature_max_c": None}, id="no limit is known"),
        pytest.param({"nvlinks": NvLinks(18, 18, 0, 0, 0, 0x10C)}, id="an error rate at the limit"),
        pytest.param({"fabric": Fabric(3, 0, 1, 0x51AA, "", 0)}, id="fabric well"),
        pytest.param({"clock_events": 0x4}, id="held by its power cap"),
        pytest.param(
            {"ecc_volatile_uncorrected": None, "recovery_action": None, "nvlinks": None},
            id="what it does not support",
        ),
    ],
)
def test_a_gpu_within_its_limits_is_well(node: Node, change: dict[str, object]) -> None:
    node.gpu(**change)
    assert node.polls(5) == Verdict(OK)


def test_one_odd_reading_of_a_link_or_port_is_not_believed(node: Node) -> None:
    node.nvlinks(active=17)
    node.ports = (replace(PORT, state_id=1),)
    assert node.poll().health is OK
    node.nvlinks(active=18)
    node.ports = (PORT,)
    assert node.polls(2).health is OK


def test_a_port_that_is_back_must_stay_back(node: Node) -> None:
    node.ports = (replace(PORT, state_id=1, physical_state_id=2),)
    found = node.polls(2)
    assert (found.health, codes(found)) == (FAILED, ["PORT_DOWN"])
    assert found.findings[0].subject == "mlx5_0/1"
    node.ports = (PORT,)
    assert node.poll().health is FAILED
    assert node.poll(after_ms=HOLD_MS).health is OK


def test_a_port_that_was_never_up_is_not_missed() -> None:
    node = Node(ports=(replace(PORT, state_id=1), replace(PORT, device="mlx5_1")))
    assert node.polls(5).health is OK
    node.ports = (replace(PORT, state_id=1), replace(PORT, device="mlx5_1", state_id=1))
    assert codes(node.polls(3)) == ["PORT_DOWN"]


def test_a_port_that_is_gone_is_missed_after_three_readings(node: Node) -> None:
    node.ports = ()
    assert node.polls(2).health is OK
    found = node.poll()
    assert (found.health, codes(found)) == (FAILED, ["PORT_GONE"])


def test_a_gpu_that_is_gone_is_missed(node: Node) -> None:
    node.gpus = (GPU,)
    found = node.polls(2)
    assert (found.health, codes(found)) == (FAILED, ["GPU_MISSING"])
    assert "found 1 GPUs, expected 2" in found.detail()


def test_an_interface_that_goes_down_degrades(node: Node) -> None:
    node.ethernet = (replace(ETHERNET, up=False),)
    found = node.polls(2)
    assert (found.health, codes(found)) == (DEGRADED, ["ETHERNET_DOWN"])


RISES = [
    (rule.code, rule.counter, rule.limit, rule.health)
    for rule in judging.PORT_RISES
    if rule.code != "PORT_FLAPPING"
]


@pytest.mark.parametrize(("code", "counter", "limit", "health"), RISES, ids=[r[0] for r in RISES])
def test_a_port_may_count_up_to_a_limit(
    code: str, counter: str, limit: int, health: Health
) -> None:
    node = Node()
    node.count(**{counter: 1_000})
    assert node.poll().health is OK, "what it counted before we came is not ours to judge"
    node.count(**{counter: 1_000 + limit})
    assert node.poll().health is OK
    node.count(**{counter: 1_001 + limit})
    found = node.poll()
    assert (found.health, codes(found)) == (health, [code])


def test_a_rate_is_judged_within_its_window(node: Node) -> None:
    for minute in range(20):
        node.count(symbol_error=30 * minute)
        found = node.poll(after_ms=60_000)
        assert found.health is (OK if 30 * minute <= 120 else FAILED)
    assert node.minutes(70).health is OK


def test_three_drops_of_a_port_in_twelve_hours_are_flapping(node: Node) -> None:
    for drop in (1, 2):
        node.count(link_downed=drop)
        assert codes(node.poll()) == ["PORT_LINK_DOWNED"]
        assert node.minutes(120).health is OK
    node.count(link_downed=3)
    assert "PORT_FLAPPING" in codes(node.poll())
    assert codes(node.minutes(120)) == ["PORT_FLAPPING"]
    assert node.minutes(12 * 60).health is OK


@pytest.mark.parametrize(
    ("counter", "by", "code", "health"),
    [
        pytest.param("replays", 1, "NVLINK_REPLAY", DEGRADED, id="replay"),
        pytest.param("recoveries", 1, "NVLINK_RECOVERY", DEGRADED, id="recovery"),
        pytest.param("crc_errors", 6_001, "NVLINK_CRC", FAILED, id="crc"),
    ],
)
def test_errors_of_nvlinks_count(
    node: Node, counter: str, by: int, code: str, health: Health
) -> None:
    node.nvlinks(**{counter: by})
    found = node.poll()
    assert (found.health, codes(found)) == (health, [code])


def test_a_gpu_slowed_by_hardware_most_of_the_time_degrades(node: Node) -> None:
    node.gpu(clock_events=0x40)
    assert node.polls(35).health is OK
    found = node.polls(2)
    assert (found.health, codes(found)) == (DEGRADED, ["HW_SLOWDOWN"])


def test_pcie_replays_are_judged_by_the_link(node: Node) -> None:
    assert judging.pcie_replays_a_minute_max(GPU) == 31
    gens = {3: 8, 4: 16, 5: 31, 6: 62}
    for generation, most in gens.items():
        assert judging.pcie_replays_a_minute_max(replace(GPU, pcie_generation=generation)) == most
    node.gpu(pcie_replays=310)
    assert node.poll().health is OK
    node.gpu(pcie_replays=311)
    assert codes(node.poll()) == ["PCIE_REPLAYS"]


def test_gpus_that_cannot_be_read_are_unknown_not_well(node: Node) -> None:
    node.missing = Missing(SourceFault.NOT_ANSWERING, "no reading for 3 intervals")
    found = node.poll()
    assert (found.health, codes(found)) == (UNKNOWN, ["NVML_NOT_ANSWERING"])
    node.missing = None
    assert node.poll().health is OK


def test_what_is_known_to_have_failed_outweighs_what_is_unknown(node: Node) -> None:
    assert node.poll(("GPU-0", 79)).health is FAILED
    node.missing = Missing(SourceFault.NOT_ANSWERING, "silent")
    found = node.poll()
    assert (found.health, codes(found)) == (FAILED, ["XID_79", "NVML_NOT_ANSWERING"])


@pytest.mark.parametrize(
    ("system", "health", "code"),
    [
        pytest.param(replace(SYSTEM, spool_free_bytes=1), DEGRADED, "SPOOL_FULL", id="full"),
        pytest.param(
            replace(SYSTEM, spool_free_bytes=None), UNKNOWN, "SPOOL_UNREADABLE", id="gone"
        ),
    ],
)
def test_a_node_without_a_good_spool_takes_no_work(
    node: Node, system: System, health: Health, code: str
) -> None:
    node.system = system
    found = node.poll()
    assert (found.health, codes(found)) == (health, [code])


# Windows.


@given(st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 50)), max_size=200))
def test_a_rise_is_never_understated_and_memory_is_bounded(
    steps: Sequence[tuple[int, int]],
) -> None:
    window_ms, now_ms, value = 10_000, 0, 7
    series: Series | None = follow(None, value, now_ms, window_ms)
    history = [(now_ms, value)]
    for after_ms, by in steps:
        now_ms, value = now_ms + after_ms, value + by
        series = follow(series, value, now_ms, window_ms)
        history.append((now_ms, value))
        assert len(series.marks) <= MARKS_MAX + 2
        inside = [then for at_ms, then in history if at_ms >= now_ms - window_ms]
        assert value - inside[0] <= rise(series)


def test_a_counter_that_was_set_back_rises_from_zero() -> None:
    series = follow(None, 1_000, 0, 10_000)
    series = follow(series, 3, 1_000, 10_000)
    assert rise(series) == 3
