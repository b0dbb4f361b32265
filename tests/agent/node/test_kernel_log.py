"""NVSwitch errors out of the kernel's log: only new ones, never waiting, whatever the log holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.node import xids
from agent.node.collectors.kernel_log import EVENTS_MAX, READ_BYTES, KernelLog
from agent.node.collectors.readings import XidEvent
from agent.node.xids import Action

NOW_MS = 1_700_000_000_000
FATAL = "6,1,2,-;nvidia-nvswitch0: SXid (PCI:0000:84:00.0): 12020, Fatal, Link 32 egress error\n"


@pytest.fixture(params=["file", "pipe"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "kmsg"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(FATAL)  # Said before anybody looked.
    return path


def test_what_is_said_after_the_first_look_is_told_once(log: Path) -> None:
    reader = KernelLog(log)
    assert reader.read(NOW_MS) == ()
    with log.open("a") as writer:
        writer.write("6,9,2,-;NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.\n")
        writer.write(FATAL + FATAL.replace("12020", "20034")[:-9])
        writer.flush()
        told = reader.read(NOW_MS)
        assert told == (XidEvent("nvswitch 0000:84:00.0", 12020, NOW_MS),)
        writer.write("\n")
        writer.flush()
        assert [event.xid for event in reader.read(NOW_MS)] == [20034]
    assert reader.read(NOW_MS) == ()
    reader.close()


def test_a_log_that_cannot_be_read_says_nothing_until_it_can(tmp_path: Path) -> None:
    reader = KernelLog(tmp_path / "kmsg")
    assert reader.read(NOW_MS) == ()
    os.mkfifo(tmp_path / "kmsg")
    assert reader.read(NOW_MS) == ()
    with (tmp_path / "kmsg").open("w") as writer:
        writer.write(FATAL)
        writer.flush()
        assert len(reader.read(NOW_MS)) == 1
    reader.close()


def test_a_flood_and_a_line_without_end_are_bounded(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.touch()
    reader = KernelLog(log)
    reader.read(NOW_MS)
    with log.open("a") as writer:
        writer.write(FATAL * (2 * EVENTS_MAX) + "x" * (4 * READ_BYTES))
    assert len(reader.read(NOW_MS)) == EVENTS_MAX
    with log.open("a") as writer:
        writer.write("\n" + FATAL)
    assert len(reader.read(NOW_MS)) == 1
    reader.close()


@pytest.mark.parametrize(
    ("number", "action"),
    [
        pytest.param(12020, Action.RESET, id="always fatal"),
        pytest.param(23017, Action.RESET, id="fatal by range"),
        pytest.param(19084, Action.RESET, id="fatal amid harmless ones"),
        pytest.param(19085, Action.WATCH, id="asks for nothing"),
        pytest.param(12028, Action.APP, id="the job's own"),
        pytest.param(20034, Action.INSPECT, id="a link"),
        pytest.param(29999, Action.INSPECT, id="not listed"),
    ],
)
def test_each_number_asks_for_what_its_maker_says(number: int, action: Action) -> None:
    assert xids.of(number).action is action
    assert xids.code(number) == f"SXID_{number}"
