"""What the driver's error numbers (XIDs) mean, and what each asks for.

The facts are NVIDIA's XID catalogue of 2025-10-29, the words are ours. Where the catalogue offers
no action the class is our judgement (health.md, section 3). A number that is not here is watched,
and the GPU's own recovery action decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What an XID asks for."""

    APP = "restart_app"
    """The job's own fault, or one that ends with it: the node is well."""
    IGNORE = "ignore"
    WATCH = "watch"
    RESET = "reset_gpu"
    """The GPU is unfit until it is reset; its work cannot be trusted."""
    RESET_WHEN_IDLE = "reset_when_idle"
    REBOOT = "restart_node"
    INSPECT = "inspect"
    """A person acts."""
    DIAG = "run_diagnostics"
    READ_RECOVERY_ACTION = "read_recovery_action"
    """The GPU says itself what it needs: NVML field 230."""


@dataclass(frozen=True, slots=True)
class Xid:
    """One error number."""

    action: Action
    meaning: str


@dataclass(frozen=True, slots=True)
class Escalation:
    """After `times` of an XID within `window_ms` on one GPU it asks for `action`.

    `alone`: only where no other GPU of the node met it meanwhile; on several it is the job.
    """

    times: int
    window_ms: int
    action: Action
    alone: bool = False


DAY_MS = 24 * 3600 * 1000
REBOOTS_MAX = 2
"""gpud: what still asks for a reset or reboot after two reboots needs a person."""
RECORD_LOST = 0
"""No XID: the record of earlier faults could not be read."""

ESCALATIONS: dict[int, Escalation] = {
    13: Escalation(2, DAY_MS, Action.DIAG, alone=True),
    31: Escalation(2, DAY_MS, Action.DIAG, alone=True),
    74: Escalation(2, DAY_MS, Action.INSPECT),
    79: Escalation(2, DAY_MS, Action.INSPECT),
    110: Escalation(2, DAY_MS, Action.REBOOT),
    119: Escalation(2, DAY_MS, Action.REBOOT),
    120: Escalation(2, DAY_MS, Action.REBOOT),
}
"""health.md, section 3, escalation."""


def code(number: int) -> str:
    """The name of an error: those of switches have five digits."""
    return f"SXID_{number}" if number >= SXID_FIRST else f"XID_{number}"


def of(number: int) -> Xid:
    """What a number means; an unlisted one is READ_RECOVERY_ACTION, of a switch INSPECT."""
    if number >= SXID_FIRST:
        return _of_switch(number)
    if number == RECORD_LOST:
        return Xid(Action.INSPECT, "the record of earlier faults was lost")
    return XIDS.get(number, Xid(Action.READ_RECOVERY_ACTION, "an error that is not listed"))


def _of_switch(number: int) -> Xid:
    for first, last, known in SXIDS:
        if first <= number <= last:
            return known
    return Xid(Action.INSPECT, "an NVSwitch error that is not listed")


_A = Action
SXID_FIRST = 10_000
_FATAL = Xid(_A.RESET, "fatal NVSwitch error: its GPUs and switches are to be reset")
_HARMLESS = Xid(_A.WATCH, "NVSwitch error that asks for nothing")
_PEER = Xid(_A.APP, "access through an NVSwitch to what is not mapped")
SXIDS = (
    (10_003, 10_003, _FATAL),
    (10_004, 10_005, Xid(_A.WATCH, "NVSwitch temperature")),
    (11_004, 11_004, _PEER),
    (11_012, 11_012, _HARMLESS),
    (11_021, 11_023, _HARMLESS),
    (12_020, 12_020, _FATAL),
    (12_021, 12_021, _HARMLESS),
    (12_023, 12_023, _HARMLESS),
    (12_028, 12_028, _PEER),
    (15_008, 15_008, _HARMLESS),
    (15_011, 15_011, _HARMLESS),
    (19_084, 19_084, _FATAL),
    (19_000, 19_099, _HARMLESS),
    (20_001, 20_001, _HARMLESS),
    (20_012, 20_012, Xid(_A.INSPECT, "NVSwitch link to be checked")),
    (20_034, 20_034, Xid(_A.INSPECT, "NVSwitch link down: its mechanics to be checked")),
    (22_003, 22_003, _FATAL),
    (22_011, 22_011, _FATAL),
    (22_013, 22_013, _HARMLESS),
    (23_001, 23_017, _FATAL),
    (24_001, 24_003, _HARMLESS),
)
"""Of NVSwitches, first to last number; the first row that fits counts (health.md, section 3)."""

XIDS: dict[int, Xid] = {
    8: Xid(_A.APP, "channel idle timeout"),
    11: Xid(_A.APP, "bad command stream (missing hardware method)"),
    13: Xid(_A.APP, "graphics engine exception"),
    14: Xid(_A.WATCH, "reserved code"),
    25: Xid(_A.APP, "illegal notify in command stream"),
    31: Xid(_A.APP, "GPU memory page fault"),
    32: Xid(_A.APP, "corrupt command stream at push-buffer DMA"),
    37: Xid(_A.WATCH, "unimplemented firmware method"),
    38: Xid(_A.WATCH, "context-switch firmware watchdog timeout"),
    39: Xid(_A.APP, "copy engine 0 fault"),
    40: Xid(_A.APP, "copy engine 1 fault"),
    41: Xid(_A.APP, "copy engine 2 fault"),
    43: Xid(_A.APP, "channel reset, GPU stopped processing"),
    44: Xid(_A.WATCH, "fault during context switch"),
    45: Xid(_A.IGNORE, "preemptive channel clean-up"),
    46: Xid(_A.RESET, "GPU timeout"),
    48: Xid(_A.RESET, "double-bit ECC error"),
    54: Xid(_A.INSPECT, "auxiliary power not connected"),
    60: Xid(_A.APP, "video processor (SEC2) exception"),
    62: Xid(_A.RESET, "internal power-management controller halt"),
    63: Xid(_A.RESET_WHEN_IDLE, "row-remap event recorded"),
    64: Xid(_A.RESET, "row-remap failed"),
    66: Xid(_A.WATCH, "illegal register access by driver"),
    67: Xid(_A.WATCH, "illegal access by driver, check failed"),
    68: Xid(_A.APP, "video decoder 0 exception"),
    69: Xid(_A.APP, "graphics class error"),
    70: Xid(_A.APP, "copy engine 3 fault"),
    71: Xid(_A.APP, "copy engine 4 fault"),
    72: Xid(_A.APP, "copy engine 5 fault"),
    74: Xid(_A.RESET, "NVLink error"),
    75: Xid(_A.APP, "copy engine 6 fault"),
    76: Xid(_A.APP, "copy engine 7 fault"),
    77: Xid(_A.APP, "copy engine 8 fault"),
    78: Xid(_A.INSPECT, "vGPU failed to start"),
    79: Xid(_A.REBOOT, "GPU off the PCIe bus"),
    80: Xid(_A.APP, "push-buffer CRC mismatch"),
    82: Xid(_A.APP, "JPEG engine 0 error"),
    83: Xid(_A.APP, "video decoder 1 error"),
    84: Xid(_A.APP, "video decoder 2 error"),
    85: Xid(_A.APP, "copy engine 9 fault"),
    86: Xid(_A.APP, "optical-flow engine 0 exception"),
    88: Xid(_A.APP, "video decoder 3 error"),
    89: Xid(_A.APP, "video decoder 4 error"),
    92: Xid(_A.WATCH, "high single-bit ECC rate"),
    93: Xid(_A.WATCH, "InfoROM wear limit passed"),
    94: Xid(_A.APP, "contained memory error"),
    95: Xid(_A.RESET, "uncontained memory error"),
    96: Xid(_A.APP, "video decoder 5 error"),
    97: Xid(_A.APP, "video decoder 6 error"),
    98: Xid(_A.APP, "video decoder 7 error"),
    99: Xid(_A.APP, "JPEG engine 1 error"),
    100: Xid(_A.APP, "JPEG engine 2 error"),
    101: Xid(_A.APP, "JPEG engine 3 error"),
    102: Xid(_A.APP, "JPEG engine 4 error"),
    103: Xid(_A.APP, "JPEG engine 5 error"),
    104: Xid(_A.APP, "JPEG engine 6 error"),
    105: Xid(_A.APP, "JPEG engine 7 error"),
    106: Xid(_A.IGNORE, "management-bus test message"),
    107: Xid(_A.IGNORE, "management-bus silent test message"),
    108: Xid(_A.WATCH, "NVLink remote translation"),
    109: Xid(_A.RESET, "context-switch timeout"),
    110: Xid(_A.RESET, "security fault"),
    119: Xid(_A.RESET, "GPU system processor RPC timeout"),
    120: Xid(_A.RESET, "GPU system processor error"),
    121: Xid(_A.WATCH, "chip-to-chip link error"),
    126: Xid(_A.APP, "copy engine 10 fault"),
    127: Xid(_A.APP, "copy engine 11 fault"),
    128: Xid(_A.APP, "copy engine 12 fault"),
    129: Xid(_A.APP, "copy engine 13 fault"),
    130: Xid(_A.APP, "copy engine 14 fault"),
    131: Xid(_A.APP, "copy engine 15 fault"),
    132: Xid(_A.APP, "copy engine 16 fault"),
    133: Xid(_A.APP, "copy engine 17 fault"),
    134: Xid(_A.APP, "copy engine 18 fault"),
    135: Xid(_A.APP, "copy engine 19 fault"),
    136: Xid(_A.RESET, "NVLink training failed"),
    137: Xid(_A.APP, "NVLink privilege error"),
    139: Xid(_A.APP, "optical-flow engine 1 error"),
    140: Xid(_A.RESET, "unrecovered ECC error"),
    141: Xid(_A.WATCH, "CUDA fast-path error"),
    142: Xid(_A.WATCH, "video encoder 3 error"),
    143: Xid(_A.RESET, "GPU initialisation error"),
    144: Xid(_A.READ_RECOVERY_ACTION, "NVLink5 SAW error"),
    145: Xid(_A.READ_RECOVERY_ACTION, "NVLink5 RLW error"),
    146: Xid(_A.READ_RECOVERY_ACTION, "NVLink5 TLW error"),
    147: Xid(_A.READ_RECOVERY_ACTION, "NVLink5 TREX error"),
    148: Xid(_A.READ_RECOVERY_ACTION, "NVLink5 NVLPW_CTRL error"),
    149: Xid(_A.READ_RECOVERY_ACTION, "NVLink5 NETIR error"),
    150: Xid(_A.READ_RECOVERY_ACTION, "NVLink5 MSE error"),
    151: Xid(_A.REBOOT, "key rotation error"),
    152: Xid(_A.WATCH, "deep-learning accelerator SMMU error"),
    153: Xid(_A.WATCH, "deep-learning accelerator timeout"),
    154: Xid(_A.READ_RECOVERY_ACTION, "recovery action changed"),
    155: Xid(_A.RESET, "NVLink software-defined error"),
    156: Xid(_A.RESET, "resource retired"),
    157: Xid(_A.WATCH, "resource retirement failed"),
    158: Xid(_A.RESET, "GPU fatal timeout"),
    159: Xid(_A.WATCH, "coherent-interface non-data error"),
    160: Xid(_A.WATCH, "channel retired"),
    161: Xid(_A.WATCH, "channel retirement failed"),
    162: Xid(_A.IGNORE, "power smoothing re-engaged"),
    163: Xid(_A.READ_RECOVERY_ACTION, "power smoothing disengaged"),
    164: Xid(_A.WATCH, "power smoothing lifetime low"),
    165: Xid(_A.WATCH, "power smoothing lifetime used up"),
    166: Xid(_A.READ_RECOVERY_ACTION, "confidential traffic before NVLink encryption was ready"),
    167: Xid(_A.READ_RECOVERY_ACTION, "PCIe fatal timeout"),
    168: Xid(_A.WATCH, "reduced memory capacity (write-protected region)"),
    169: Xid(_A.READ_RECOVERY_ACTION, "SEC2 microcontroller halt"),
    170: Xid(_A.WATCH, "unexpected NVLink interrupt in confidential mode"),
    171: Xid(_A.READ_RECOVERY_ACTION, "uncorrectable DRAM error"),
    172: Xid(_A.READ_RECOVERY_ACTION, "uncorrectable SRAM error"),
}
