"""Faults that outlast what caused them, and what a node is known to have: kept across restarts.

A fault that the driver reported stays until what clears it has happened (health.md, section 3): a
reset of the GPU, a reboot of the node, or an operator's word. A GPU was reset, or its driver loaded
anew, when its energy counter is lower than before. What is expected of a node is what it once had:
links, ports and GPUs that were never there are not missed, and those that were stay expected until
an operator says otherwise.

All of it is values; `fault_file` keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent.node import xids
from agent.node.collectors.readings import Gpu, Readings, XidEvent
from agent.node.health import Health
from agent.node.xids import Action

LATCHED_MAX = 256
HISTORY_MAX = 1024
SAME_MAX = 2
"""Of one error on one GPU in one boot, the newest so many are remembered: no rule counts more."""

CLEARED_BY_RESET = frozenset({Action.RESET, Action.RESET_WHEN_IDLE, Action.READ_RECOVERY_ACTION})
CLEARED_BY_REBOOT = CLEARED_BY_RESET | {Action.REBOOT}
"""INSPECT and DIAG end by an operator's word only."""

_HEALTH = {
    Action.RESET: Health.FAILED,
    Action.REBOOT: Health.FAILED,
    Action.RESET_WHEN_IDLE: Health.DEGRADED,
    Action.DIAG: Health.DEGRADED,
    Action.INSPECT: Health.DEGRADED,
    Action.READ_RECOVERY_ACTION: Health.DEGRADED,
}


@dataclass(frozen=True, slots=True)
class Latched:
    """A fault that stays. `gpu` is a UUID; empty: the driver did not say which."""

    gpu: str
    xid: int
    action: Action
    health: Health
    at_ms: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Seen:
    """An error that the driver reported, in which boot."""

    gpu: str
    xid: int
    at_ms: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What the node once had."""

    gpus: int = 0
    nvlinks: Mapping[str, int] = field(default_factory=dict[str, int])
    ports: frozenset[str] = frozenset()
    ethernet: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FaultLog:
    """Everything about a node's faults that must not be forgotten."""

    boot_id: str
    latched: tuple[Latched, ...] = ()
    history: tuple[Seen, ...] = ()
    energy_mj: Mapping[str, int] = field(default_factory=dict[str, int])
    expected: Expected = Expected()


def boot(log: FaultLog, boot_id: str) -> FaultLog:
    """The log at the start of an agent: a boot later, what a reboot clears is cleared."""
    if log.boot_id == boot_id:
        return log
    kept = tuple(fault for fault in log.latched if fault.action not in CLEARED_BY_REBOOT)
    return replace(log, boot_id=boot_id, latched=kept, energy_mj={})


def clear(log: FaultLog) -> FaultLog:
    """An operator's word that the node is as it should be: nothing of before counts."""
    return FaultLog(log.boot_id)


def absorb(log: FaultLog, readings: Readings) -> FaultLog:
    """What these readings add, and what they show to be cleared."""
    log = _without_reset_gpus(log, readings.gpus)
    by_uuid = {gpu.uuid: gpu for gpu in readings.gpus}
    for event in readings.xids:
        log = _report(log, event, by_uuid.get(event.gpu))
    return replace(log, expected=_learn(log.expected, readings))


def _without_reset_gpus(log: FaultLog, gpus: tuple[Gpu, ...]) -> FaultLog:
    now = {gpu.uuid: gpu.energy_mj for gpu in gpus if gpu.energy_mj is not None}
    reset = {uuid for uuid, energy in now.items() if energy < log.energy_mj.get(uuid, 0)}
    kept = tuple(
        fault
        for fault in log.latched
        if fault.gpu not in reset or fault.action not in CLEARED_BY_RESET
    )
    return replace(log, latched=kept, energy_mj={**log.energy_mj, **now})


def _report(log: FaultLog, event: XidEvent, gpu: Gpu | None) -> FaultLog:
    """One reported error: remembered, and latched when it asks for something."""
    seen = Seen(event.gpu, event.xid, event.at_ms, log.boot_id)
    history = _remember(log.history, seen)
    first = xids.of(event.xid).action
    action = _escalated(first, seen, history)
    log = replace(log, history=history)
    if (
        action is Action.READ_RECOVERY_ACTION
        and gpu is not None
        and gpu.recovery_action is not None
    ):
        return log  # The GPU says what it needs, with every reading.
    if action not in _HEALTH or len(log.latched) >= LATCHED_MAX:
        return log
    health = max(_HEALTH[action], _HEALTH.get(first, Health.OK))
    fault = Latched(event.gpu, event.xid, action, health, event.at_ms, log.boot_id)
    same = (fault.gpu, fault.xid, fault.action)
    if any((old.gpu, old.xid, old.action) == same for old in log.latched):
        return log
    return replace(log, latched=(*log.latched, fault))


def _remember(history: tuple[Seen, ...], seen: Seen) -> tuple[Seen, ...]:
    alike = [
        old
        for old in history
        if (old.gpu, old.xid, old.boot_id) == (seen.gpu, seen.xid, seen.boot_id)
    ]
    dropped = frozenset(alike[: max(0, len(alike) - SAME_MAX + 1)])
    return (*(old for old in history if old not in dropped), seen)[-HISTORY_MAX:]


def _escalated(action: Action, seen: Seen, history: tuple[Seen, ...]) -> Action:
    """What an error asks for, given what came before it."""
    same = [old for old in history if old.xid == seen.xid]
    mine = [old for old in same if old.gpu == seen.gpu]
    boots = {old.boot_id for old in mine}
    if action in (Action.RESET, Action.REBOOT) and len(boots) > xids.REBOOTS_MAX:
        return Action.INSPECT
    rule = xids.ESCALATIONS.get(seen.xid)
    if rule is None:
        return action
    recent = [old for old in mine if seen.at_ms - old.at_ms <= rule.window_ms]
    others = [
        old for old in same if old.gpu != seen.gpu and seen.at_ms - old.at_ms <= rule.window_ms
    ]
    if len(recent) < rule.times or (rule.alone and others):
        return action
    return rule.action


def _learn(expected: Expected, readings: Readings) -> Expected:
    answering = [gpu for gpu in readings.gpus if not gpu.lost]
    nvlinks = dict(expected.nvlinks)
    for gpu in answering:
        if gpu.nvlinks is not None and gpu.nvlinks.active > nvlinks.get(gpu.uuid, 0):
            nvlinks[gpu.uuid] = gpu.nvlinks.active
    active = {port.name for port in readings.ports if port.state_id == 4}
    up = {port.name for port in readings.ethernet if port.up}
    return Expected(
        gpus=max(expected.gpus, len(answering)),
        nvlinks=nvlinks,
        ports=expected.ports | active,
        ethernet=expected.ethernet | up,
    )
