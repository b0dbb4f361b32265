"""The verdict on a node: readings and memory in, health and reasons out. Pure.

Every limit is named here with its source; sections are of the health reference: [DCGM] DCGM 4.6
health watch, [gpud], [NVS] NVSentinel, [Meta], all in section 2; [ours] is our own judgement.
Where a source has WARN or "degraded", the node takes no new work (DEGRADED); where it has FAIL or
"fatal", its work is moved too (FAILED), except where a tenant alone could cause it.

Three kinds of condition keep a verdict from flickering. States (a port down) must be seen in
CONFIRM_POLLS readings in a row and are believed gone only after HOLD_MS without them. Rates are
rises within a window. Faults reported by the driver stay until they are cleared: `faults`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from agent.node import xids
from agent.node.collectors.nvml_encoding import exceeds_ber
from agent.node.collectors.readings import EthernetPort, Fabric, Gpu, RdmaPort, Readings
from agent.node.faults import FaultLog, Latched
from agent.node.health import Health
from agent.node.windows import Series, follow, rise

SECOND_MS, MINUTE_MS, HOUR_MS = 1_000, 60_000, 3_600_000
CONFIRM_POLLS = 2
"""[ours] One reading may meet a state half-way; two in a row leave a verdict within three."""
HOLD_MS = 2 * MINUTE_MS
"""[ours] A port that is back must stay back this long; section 8 waits as long for NVLinks."""

UNCORRECTED_ECC_MAX = 0
"""[DCGM] volatile double-bit errors > 0: FAIL."""
CORRECTED_ECC_MAX = 50_000_000
"""[Meta] corrected volatile errors above this are critical."""
REMAPPED_ROWS_MAX = 511
"""[DCGM] uncorrectable remapped rows >= 512: WARN."""
EFFECTIVE_BER_MAX = (1, 12)
"""[DCGM] NVLink effective bit error rate > 1e-12: FAIL."""
SYMBOL_BER_MAX = (15, 238)
"""[DCGM] any real symbol error. [ours] DEGRADED: correction may still hide it from the job."""
SLOWDOWN_WINDOW_MS = 10 * MINUTE_MS
SLOWDOWN_SHARE_PERCENT = 60
"""[gpud] hardware slowdown in 0.6 of the time over ten minutes."""
HW_SLOWDOWN_BITS = 0x8 | 0x40 | 0x80
"""Slowdown, thermal and power brake by hardware (section 4)."""
PCIE_WINDOW_MINUTES = 10
"""[DCGM] replays a minute above ceil(GT/s x 0.06 x lanes); section 8 waits ten minutes."""
PCIE_GTS_TENTHS = {1: 25, 2: 50, 3: 80, 4: 160, 5: 320, 6: 640}
FLAPS_MAX, FLAP_WINDOW_MS = 2, 12 * HOUR_MS
"""[gpud] three drops of a port in twelve hours: it flaps."""
CARRIER_CHANGES_MAX = 2
"""[NVS] carrier_changes > 2. [ours] within an hour."""
SPOOL_FREE_BYTES_MIN = 256 * 1024 * 1024
"""[ours] With less, new ranks could not even keep their logs."""
ACTIVE, FABRIC_JOINED = 4, 3
RECOVERY = {
    1: ("GPU reset", Health.FAILED),
    2: ("node reboot", Health.FAILED),
    3: ("drain of peer-to-peer", Health.DEGRADED),
    4: ("drain and reset", Health.FAILED),
    5: ("recovery of IMEX", Health.FAILED),
    6: ("bus reset", Health.FAILED),
    7: ("system reboot", Health.FAILED),
}
"""[DCGM] recovery action 1, 2, 4: FAIL; 3: WARN. Section 3: unknown ones count as a reboot."""
FINDINGS_TOLD_MAX = 8


@dataclass(frozen=True, slots=True)
class Rise:
    """More than `limit` within `window_ms` on one counter."""

    code: str
    counter: str
    limit: int
    window_ms: int
    health: Health


GPU_RISES = (
    # [DCGM] replay or recovery >= 1 in window: FAIL. [ours] DEGRADED, as the job went on.
    Rise("NVLINK_REPLAY", "replays", 0, 10 * MINUTE_MS, Health.DEGRADED),
    Rise("NVLINK_RECOVERY", "recoveries", 0, 10 * MINUTE_MS, Health.DEGRADED),
    # [DCGM] CRC >= 100/s: FAIL.
    Rise("NVLINK_CRC", "crc_errors", 100 * 60, MINUTE_MS, Health.FAILED),
)
PORT_RISES = (
    # [NVS] fatal on any rise.
    Rise("PORT_BUFFER_OVERRUN", "excessive_buffer_overrun_errors", 0, HOUR_MS, Health.FAILED),
    Rise("PORT_LINK_INTEGRITY", "local_link_integrity_errors", 0, HOUR_MS, Health.FAILED),
    # [NVS] symbol_error > 120/h (IBTA 1e-12): fatal.
    Rise("PORT_SYMBOL_ERRORS", "symbol_error", 120, HOUR_MS, Health.FAILED),
    # [NVS] fatal on any rise. [ours] DEGRADED: a job's own peer that is slow causes it.
    Rise("PORT_RNR_RETRIES", "rnr_nak_retry_err", 0, HOUR_MS, Health.DEGRADED),
    # [NVS] fatal on any rise. [ours] A port that is down is FAILED itself; one that came back
    # between two readings left its job alive.
    Rise("PORT_LINK_DOWNED", "link_downed", 0, HOUR_MS, Health.DEGRADED),
    Rise("PORT_FLAPPING", "link_downed", FLAPS_MAX, FLAP_WINDOW_MS, Health.DEGRADED),
    # [NVS] degraded, each a rate over a minute.
    Rise("PORT_LINK_RECOVERY", "link_error_recovery", 5, MINUTE_MS, Health.DEGRADED),
    Rise("PORT_RECEIVE_ERRORS", "port_rcv_errors", 10 * 60, MINUTE_MS, Health.DEGRADED),
    Rise("PORT_DISCARDS", "port_xmit_discards", 100 * 60, MINUTE_MS, Health.DEGRADED),
    Rise("PORT_ACK_TIMEOUTS", "local_ack_timeout_err", 60, MINUTE_MS, Health.DEGRADED),
    Rise("PORT_SLOW_RESTARTS", "roce_slow_restart", 10 * 60, MINUTE_MS, Health.DEGRADED),
)
ETHERNET_RISES = (
    Rise("ETHERNET_FLAPPING", "carrier_changes", CARRIER_CHANGES_MAX, HOUR_MS, Health.DEGRADED),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `subject` is a GPU's UUID, a port's name, or empty: the node.

    It counts once seen in `polls` readings in a row, and for `hold_ms` after it was last seen.
    """

    code: str
    health: Health
    subject: str
    detail: str
    polls: int = 1
    hold_ms: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a node is, and everything that says so, worst first."""

    health: Health
    findings: tuple[Finding, ...] = ()

    def detail(self) -> str:
        """One line for people."""
        told = [
            f"{f.code}{' ' + f.subject if f.subject else ''}: {f.detail}"
            for f in self.findings[:FINDINGS_TOLD_MAX]
        ]
        more = len(self.findings) - len(told)
        return "; ".join([*told, *([f"and {more} more"] if more else [])])


@dataclass(frozen=True, slots=True)
class Memory:
    """What a verdict needs of the readings before."""

    at_ms: int | None = None
    series: Mapping[tuple[str, str], Series] = field(default_factory=dict[tuple[str, str], Series])
    streaks: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    held: Mapping[tuple[str, str], tuple[Finding, int]] = field(
        default_factory=dict[tuple[str, str], tuple[Finding, int]]
    )


def judge(memory: Memory, log: FaultLog, readings: Readings) -> tuple[Memory, Verdict]:
    """The verdict on these readings, and what to remember of them. `log` has absorbed them."""
    series = dict(_follow_all(memory, readings))
    found = [
        *(_latched(fault) for fault in log.latched),
        *_node(log, readings),
        *(f for gpu in readings.gpus for f in _gpu(gpu, log.expected.nvlinks.get(gpu.uuid, 0))),
        *(f for p in readings.ports if p.name in log.expected.ports for f in _port(p)),
        *(f for p in readings.ethernet if p.name in log.expected.ethernet for f in _ethernet(p)),
        *_gone_ports(log, readings),
        *_risen(series, log, readings),
    ]
    memory = replace(memory, at_ms=readings.at_ms, series=series)
    memory, counted = _confirmed(memory, found, readings.at_ms)
    worst = max((finding.health for finding in counted), default=Health.OK)
    order = sorted(counted, key=lambda f: (-f.health, f.code, f.subject))
    return memory, Verdict(worst, tuple(order))


def _confirmed(memory: Memory, found: list[Finding], now_ms: int) -> tuple[Memory, list[Finding]]:
    """The findings that count: seen often enough, or held from before."""
    streaks: dict[tuple[str, str], int] = {}
    held = {key: entry for key, entry in memory.held.items() if entry[1] >= now_ms}
    for finding in found:
        key = (finding.code, finding.subject)
        streaks[key] = memory.streaks.get(key, 0) + 1
        if streaks[key] >= finding.polls or key in held:
            held[key] = (finding, now_ms + finding.hold_ms)
    return replace(memory, streaks=streaks, held=held), [entry[0] for entry in held.values()]


def _latched(fault: Latched) -> Finding:
    meaning = xids.of(fault.xid).meaning
    return Finding(xids.code(fault.xid), fault.health, fault.gpu, f"{meaning}; {fault.action}")


def _node(log: FaultLog, readings: Readings) -> Iterator[Finding]:
    missing, system = readings.gpus_missing, readings.system
    if missing is not None:
        yield Finding(missing.fault, Health.UNKNOWN, "", missing.detail)
    elif len(readings.gpus) < log.expected.gpus:
        detail = f"found {len(readings.gpus)} GPUs, expected {log.expected.gpus}"
        yield Finding("GPU_MISSING", Health.FAILED, "", detail, CONFIRM_POLLS)
    if system is None:
        return
    if system.spool_free_bytes is None:
        # It may be the file system that hangs: nothing could be fenced through it either.
        yield Finding("SPOOL_UNREADABLE", Health.UNKNOWN, "", system.spool_detail)
    elif system.spool_free_bytes < SPOOL_FREE_BYTES_MIN:
        detail = f"{system.spool_free_bytes} bytes free, needed {SPOOL_FREE_BYTES_MIN}"
        yield Finding("SPOOL_FULL", Health.DEGRADED, "", detail)


def _gpu(gpu: Gpu, links_expected: int) -> Iterator[Finding]:
    if gpu.lost:
        yield Finding("GPU_LOST", Health.FAILED, gpu.uuid, "it does not answer the driver")
        return
    yield from _memory_of(gpu)
    yield from _temperatures(gpu)
    if gpu.recovery_action:
        what, health = RECOVERY.get(
            gpu.recovery_action, (f"unknown action {gpu.recovery_action}", Health.FAILED)
        )
        yield Finding("RECOVERY_ACTION", health, gpu.uuid, f"the GPU asks for: {what}")
    if gpu.nvlinks is not None:
        links = gpu.nvlinks
        if links.active < links_expected:
            detail = f"{links.active} of {links_expected} links are active"
            yield Finding("NVLINK_DOWN", Health.FAILED, gpu.uuid, detail, CONFIRM_POLLS, HOLD_MS)
        if exceeds_ber(links.effective_ber, EFFECTIVE_BER_MAX):
            yield Finding(
                "NVLINK_BER", Health.FAILED, gpu.uuid, "effective BER > 1e-12", 1, HOLD_MS
            )
        if exceeds_ber(links.symbol_ber, SYMBOL_BER_MAX):
            yield Finding(
                "NVLINK_SYMBOL_BER", Health.DEGRADED, gpu.uuid, "symbol errors", 1, HOLD_MS
            )
    if gpu.fabric is not None:
        yield from _fabric(gpu.uuid, gpu.fabric)


def _memory_of(gpu: Gpu) -> Iterator[Finding]:
    if (gpu.ecc_volatile_uncorrected or 0) > UNCORRECTED_ECC_MAX:
        detail = f"{gpu.ecc_volatile_uncorrected} uncorrected errors"
        yield Finding("ECC_UNCORRECTED", Health.FAILED, gpu.uuid, detail)
    if (gpu.ecc_volatile_corrected or 0) > CORRECTED_ECC_MAX:
        detail = f"{gpu.ecc_volatile_corrected} corrected errors, allowed {CORRECTED_ECC_MAX}"
        yield Finding("ECC_CORRECTED", Health.DEGRADED, gpu.uuid, detail)
    if gpu.remap_failed:
        # [DCGM] FAIL; [gpud] to be returned to its maker.
        yield Finding("ROW_REMAP_FAILED", Health.FAILED, gpu.uuid, "a row could not be remapped")
    if gpu.remap_pending:
        # Section 3, XID 63: what runs may go on; reset when idle.
        detail = "a row is remapped at the next reset"
        yield Finding("ROW_REMAP_PENDING", Health.DEGRADED, gpu.uuid, detail)
    if (gpu.remapped_uncorrectable or 0) > REMAPPED_ROWS_MAX:
        detail = f"{gpu.remapped_uncorrectable} rows, allowed {REMAPPED_ROWS_MAX}"
        yield Finding("ROWS_REMAPPED", Health.DEGRADED, gpu.uuid, detail)


def _temperatures(gpu: Gpu) -> Iterator[Finding]:
    """[gpud] above the GPU's or its memory's maximum."""
    for code, value, limit in (
        ("TEMPERATURE", gpu.temperature_c, gpu.temperature_max_c),
        ("MEMORY_TEMPERATURE", gpu.memory_temperature_c, gpu.memory_temperature_max_c),
    ):
        if value is not None and limit is not None and value > limit:
            detail = f"{value} C, allowed {limit} C"
            yield Finding(code, Health.DEGRADED, gpu.uuid, detail, 1, HOLD_MS)


_MASK_BAD = {
    "bandwidth degraded": (0, 0x3, frozenset({1})),
    "route recovering": (2, 0x3, frozenset({1})),
    "route unhealthy": (4, 0x3, frozenset({1})),
    "access timeout": (6, 0x3, frozenset({1})),
    "configuration incorrect": (8, 0xF, frozenset(range(2, 16))),
    "no partition assigned": (12, 0x3, frozenset({2})),
    "fabric manager not connected": (14, 0x3, frozenset({2})),
}
"""Section 4: (shift, mask, bad values)."""


def _fabric(uuid: str, fabric: Fabric) -> Iterator[Finding]:
    """[gpud] alarms on each of these."""
    if fabric.state != FABRIC_JOINED:
        detail = f"state {fabric.state}, wanted {FABRIC_JOINED}"
        yield Finding("FABRIC_STATE", Health.DEGRADED, uuid, detail, CONFIRM_POLLS, HOLD_MS)
        return
    if fabric.status != 0 or fabric.summary == 2:
        detail = f"status {fabric.status}, summary {fabric.summary}"
        yield Finding("FABRIC_UNHEALTHY", Health.FAILED, uuid, detail, CONFIRM_POLLS, HOLD_MS)
    bad = [
        name
        for name, (shift, mask, values) in _MASK_BAD.items()
        if (fabric.mask >> shift) & mask in values
    ]
    if fabric.summary == 3 or bad:
        detail = ", ".join(bad) or "limited"
        yield Finding("FABRIC_LIMITED", Health.DEGRADED, uuid, detail, CONFIRM_POLLS, HOLD_MS)


def _port(port: RdmaPort) -> Iterator[Finding]:
    if port.state_id is not None and port.state_id != ACTIVE:
        # [NVS] port down: fatal.
        detail = f"state {port.state_id}, physical state {port.physical_state_id}"
        yield Finding("PORT_DOWN", Health.FAILED, port.name, detail, CONFIRM_POLLS, HOLD_MS)


def _ethernet(port: EthernetPort) -> Iterator[Finding]:
    if port.up is False:
        yield Finding(
            "ETHERNET_DOWN", Health.DEGRADED, port.name, "it was up before", CONFIRM_POLLS, HOLD_MS
        )


def _gone_ports(log: FaultLog, readings: Readings) -> Iterator[Finding]:
    """[NVS] a device that is gone for three readings: fatal."""
    for name in sorted(log.expected.ports - {port.name for port in readings.ports}):
        yield Finding("PORT_GONE", Health.FAILED, name, "it was active before", 3, HOLD_MS)


def _follow_all(memory: Memory, readings: Readings) -> Iterator[tuple[tuple[str, str], Series]]:
    """Every counter that some rule watches, one reading further."""
    now_ms, before = readings.at_ms, memory.series
    for subject, rises, counters in _counted(readings):
        for rule in rises:
            value, key = counters.get(rule.counter), (rule.code, subject)
            if value is not None:
                yield key, follow(before.get(key), value, now_ms, rule.window_ms)
    for gpu in readings.gpus:
        key = ("HW_SLOWDOWN", gpu.uuid)
        old = before.get(key)
        if gpu.clock_events is not None:
            slow = bool(gpu.clock_events & HW_SLOWDOWN_BITS)
            elapsed_ms = min(now_ms - old.at_ms, MINUTE_MS) if old is not None else 0
            total_ms = (old.value if old is not None else 0) + (elapsed_ms if slow else 0)
            yield key, follow(old, total_ms, now_ms, SLOWDOWN_WINDOW_MS)
        if gpu.pcie_replays is not None:
            key = ("PCIE_REPLAYS", gpu.uuid)
            window_ms = PCIE_WINDOW_MINUTES * MINUTE_MS
            yield key, follow(before.get(key), gpu.pcie_replays, now_ms, window_ms)


def _counted(readings: Readings) -> Iterator[tuple[str, tuple[Rise, ...], Mapping[str, int]]]:
    for gpu in readings.gpus:
        if (links := gpu.nvlinks) is not None:
            told = {
                "replays": links.replays,
                "recoveries": links.recoveries,
                "crc_errors": links.crc_errors,
            }
            yield gpu.uuid, GPU_RISES, {k: v for k, v in told.items() if v is not None}
    for port in readings.ports:
        yield port.name, PORT_RISES, {**port.counters, **port.hw_counters}
    for interface in readings.ethernet:
        yield interface.name, ETHERNET_RISES, interface.counters


def _risen(
    series: Mapping[tuple[str, str], Series], log: FaultLog, readings: Readings
) -> Iterator[Finding]:
    known = log.expected.ports | log.expected.ethernet | {gpu.uuid for gpu in readings.gpus}
    for subject, rises, _ in _counted(readings):
        if subject not in known:
            continue  # A port that was never up: nobody relies on it.
        for rule in rises:
            found = series.get((rule.code, subject))
            if found is not None and (risen := rise(found)) > rule.limit:
                detail = f"{rule.counter} rose by {risen}, allowed {rule.limit} in "
                detail += f"{rule.window_ms // SECOND_MS} s"
                yield Finding(rule.code, rule.health, subject, detail, 1, HOLD_MS)
    for gpu in readings.gpus:
        yield from _gpu_rates(gpu, series)


def _gpu_rates(gpu: Gpu, series: Mapping[tuple[str, str], Series]) -> Iterator[Finding]:
    slow = series.get(("HW_SLOWDOWN", gpu.uuid))
    if slow is not None and rise(slow) * 100 >= SLOWDOWN_WINDOW_MS * SLOWDOWN_SHARE_PERCENT:
        detail = f"slowed by hardware for {rise(slow) // SECOND_MS} s of ten minutes"
        yield Finding("HW_SLOWDOWN", Health.DEGRADED, gpu.uuid, detail, 1, HOLD_MS)
    replays, limit = series.get(("PCIE_REPLAYS", gpu.uuid)), pcie_replays_a_minute_max(gpu)
    if replays is None or limit is None:
        return
    if rise(replays) > limit * PCIE_WINDOW_MINUTES:
        detail = f"{rise(replays)} replays in ten minutes, allowed {limit} a minute"
        yield Finding("PCIE_REPLAYS", Health.DEGRADED, gpu.uuid, detail, 1, HOLD_MS)


def pcie_replays_a_minute_max(gpu: Gpu) -> int | None:
    """[DCGM] ceil(GT/s x 0.06 x lanes); None where the link is not known."""
    tenths = PCIE_GTS_TENTHS.get(gpu.pcie_generation or 0)
    if tenths is None or not gpu.pcie_width:
        return None
    return -(-tenths * 6 * gpu.pcie_width // 1000)
