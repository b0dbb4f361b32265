"""Faults that the driver reports: what each asks for, how long it stays, and what clears it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.node import xids
from agent.node.fault_file import FaultFile, ask_to_clear
from agent.node.faults import FaultLog
from agent.node.health import Health
from agent.node.xids import DAY_MS, Action
from tests.agent.node.reading import DEGRADED, FAILED, OK, OTHER, Node, codes, well


@pytest.fixture
def node() -> Node:
    return well()


EXPECTED = {
    Action.APP: OK,
    Action.IGNORE: OK,
    Action.WATCH: OK,
    Action.RESET: FAILED,
    Action.REBOOT: FAILED,
    Action.RESET_WHEN_IDLE: DEGRADED,
    Action.INSPECT: DEGRADED,
    Action.READ_RECOVERY_ACTION: OK,
}


@pytest.mark.parametrize("number", sorted(xids.XIDS))
def test_every_xid_has_the_verdict_of_its_class(node: Node, number: int) -> None:
    found = node.poll(("GPU-0", number))
    assert found.health is EXPECTED[xids.of(number).action]
    if found.health is not OK:
        assert codes(found) == [f"XID_{number}"]
        assert codes(node.polls(100)) == [f"XID_{number}"], "it stays"


@pytest.mark.parametrize(
    ("action", "numbers"),
    [
        (Action.RESET, (46, 48, 62, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158)),
        (Action.REBOOT, (79, 151)),
        (Action.INSPECT, (54, 78)),
        (Action.RESET_WHEN_IDLE, (63,)),
        (Action.APP, (13, 31, 32, 39, 40, 41, 43, 69, 72, 75, 77, 85, 94, 126, 135, 137)),
        (Action.WATCH, (44, 92, 121)),
        (Action.IGNORE, (45, 106, 107)),
        (Action.READ_RECOVERY_ACTION, (144, 150, 154, 163, 166, 167, 169, 171, 172)),
    ],
    ids=lambda value: value.name if isinstance(value, Action) else "",
)
def test_the_table_agrees_with_the_classes(action: Action, numbers: tuple[int, ...]) -> None:
    assert {xids.of(number).action for number in numbers} == {action}


def test_an_unlisted_xid_is_left_to_the_gpu_and_closes_the_node_where_it_cannot_say() -> None:
    node = Node()
    assert node.poll(("GPU-0", 61)).health is OK
    node.gpu(recovery_action=None)
    found = node.poll(("GPU-0", 61))
    assert (found.health, codes(found)) == (DEGRADED, ["XID_61"])


def test_an_error_of_no_known_gpu_counts_for_the_node() -> None:
    node = Node()
    found = node.poll(("", 79))
    assert (found.health, found.findings[0].subject) == (FAILED, "")


@pytest.mark.parametrize(("number", "cleared"), [(48, True), (63, True), (79, False), (54, False)])
def test_a_reset_of_the_gpu_clears_what_asked_for_one(
    node: Node, number: int, *, cleared: bool
) -> None:
    before = node.poll(("GPU-0", number)).health
    node.gpu(energy_mj=1_000)
    assert node.poll().health is (OK if cleared else before)


def test_a_reset_of_another_gpu_clears_nothing(node: Node) -> None:
    node.poll(("GPU-0", 48))
    node.gpus = (node.gpus[0], replace(OTHER, energy_mj=1))
    assert node.poll().health is FAILED


@pytest.mark.parametrize(("number", "cleared"), [(48, True), (63, True), (79, True), (54, False)])
def test_a_reboot_clears_what_asked_for_one(node: Node, number: int, *, cleared: bool) -> None:
    before = node.poll(("GPU-0", number)).health
    node.reboot("boot-1")
    assert node.poll().health is before, "an agent that starts again clears nothing"
    node.reboot("boot-2")
    assert node.poll().health is (OK if cleared else before)


@pytest.mark.parametrize(
    ("number", "health", "action"),
    [
        (74, FAILED, Action.INSPECT),
        (79, FAILED, Action.INSPECT),
        (110, FAILED, Action.REBOOT),
        (119, FAILED, Action.REBOOT),
        (13, DEGRADED, Action.DIAG),
        (31, DEGRADED, Action.DIAG),
    ],
)
def test_an_error_that_comes_again_asks_for_more(
    node: Node, number: int, health: Health, action: Action
) -> None:
    node.poll(("GPU-0", number))
    found = node.poll(("GPU-0", number), after_ms=DAY_MS - 1)
    assert found.health is health
    assert action in {fault.action for fault in node.log.latched}


def test_an_error_that_comes_again_after_a_day_does_not(node: Node) -> None:
    node.poll(("GPU-0", 13))
    assert node.poll(("GPU-0", 13), after_ms=DAY_MS + 1).health is OK


def test_a_fault_of_the_job_on_several_gpus_is_the_jobs(node: Node) -> None:
    node.poll(("GPU-0", 31), ("GPU-1", 31))
    assert node.poll(("GPU-0", 31), ("GPU-1", 31)).health is OK


def test_what_still_asks_after_two_reboots_needs_a_person(node: Node) -> None:
    for number in (1, 2):
        node.reboot(f"boot-{number}")
        assert node.poll(("GPU-0", 48), after_ms=2 * DAY_MS).health is FAILED
    node.reboot("boot-3")
    assert node.poll().health is OK
    node.poll(("GPU-0", 48))
    node.reboot("boot-4")
    assert codes(node.poll()) == ["XID_48"], "only a person clears it now"


def test_a_storm_of_errors_is_remembered_within_bounds(node: Node) -> None:
    for _ in range(200):
        node.poll(*[("GPU-0", number) for number in range(1, 90)])
    assert len(node.log.history) <= 2 * 90
    assert len(node.log.latched) <= len(xids.XIDS)


# What outlasts an agent.


def test_the_log_is_kept_and_an_operator_clears_it(node: Node, tmp_path: Path) -> None:
    node.poll(("GPU-0", 79))
    file = FaultFile(tmp_path / "health")
    file.save(node.log)
    assert file.load("boot-1", 0) == node.log
    assert file.cleared(node.log) is None
    ask_to_clear(tmp_path / "health", "card replaced")
    cleared = file.cleared(node.log)
    assert cleared == FaultLog("boot-1")
    assert file.cleared(node.log) is None, "a word is used once"
    assert file.load("boot-1", 0) == FaultLog("boot-1")


def test_a_new_node_has_an_empty_log(tmp_path: Path) -> None:
    assert FaultFile(tmp_path / "none").load("boot-1", 0) == FaultLog("boot-1")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_log_that_cannot_be_read_closes_the_node(tmp_path: Path, content: str) -> None:
    (tmp_path / "faults.json").write_text(content)
    node = Node(log=FaultFile(tmp_path).load("boot-1", 0))
    found = node.poll()
    assert (found.health, codes(found)) == (DEGRADED, ["XID_0"])
    assert "record of earlier faults was lost" in found.detail()


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_an_operators_word_needs_a_reason(tmp_path: Path, reason: str) -> None:
    with pytest.raises(ValueError, match="reason: found"):
        ask_to_clear(tmp_path, reason)
