"""What a node says of itself: its boot, its GPUs, what it can hold, and whether it is well.

Without GPUs the configured number of logical ones stands in, and the report says `simulated`.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from agent.node.clock import boot_id
from agent.node.collectors.readings import Telemetry
from agent.node.health import Health
from agent.node.instances import Placed
from agent.node.verdict import Verdict
from sovapi.v1 import common_pb2 as common
from sovapi.v1.sitelink_pb2 import NodeReport

GPUS_MAX = 64
DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
ARCHITECTURES = {
    "x86_64": common.CPU_ARCH_AMD64,
    "amd64": common.CPU_ARCH_AMD64,
    "aarch64": common.CPU_ARCH_ARM64,
    "arm64": common.CPU_ARCH_ARM64,
}


HEALTH = {
    Health.OK: common.HEALTH_OK,
    Health.DEGRADED: common.HEALTH_DEGRADED,
    Health.UNKNOWN: common.HEALTH_UNKNOWN,
    Health.FAILED: common.HEALTH_FAILED,
}


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs of a node by UUID, in the order of their indices, who says so, and how they are
    cut."""

    uuids: tuple[str, ...]
    telemetry: Telemetry
    mig: tuple[Placed, ...] = ()


def source(nvml_library: str, logical: int, driver: Path = DRIVER_GPUS) -> Telemetry:
    """Where to read GPUs: a machine that has some, or a library that was named, outweighs logical
    ones.
    """
    if nvml_library or any(driver.glob("*")):
        return Telemetry.NVML
    return Telemetry.SIMULATED if logical else Telemetry.NONE


def logical_gpus(site: str, slot: str, count: int) -> tuple[str, ...]:
    """The UUIDs of GPUs that stand in for real ones."""
    return tuple(f"SIM-{site}-{slot}-{index}" for index in range(min(count, GPUS_MAX)))


def report(slot: str, known: Gpus, isolation: str, verdict: Verdict) -> NodeReport:
    """The node's word on itself, now."""
    return NodeReport(
        slot=slot,
        boot_id=boot_id(),
        gpu_uuids=known.uuids,
        health=HEALTH[verdict.health],
        health_detail=verdict.detail(),
        isolation=isolation_level(isolation),
        telemetry=known.telemetry,
        cpu_arch=ARCHITECTURES.get(platform.machine().lower(), common.CPU_ARCH_UNSPECIFIED),
        cpu_milli=1000 * len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        mig=[common.MigInstance(gpu=gpu, profile=device.profile) for gpu, device in known.mig],
    )


def isolation_level(name: str) -> common.Isolation:
    """The wire's value for a level of the shim's. An unknown one isolates nothing."""
    levels = {
        "none": common.ISOLATION_NONE,
        "pidns": common.ISOLATION_PIDNS,
        "uid": common.ISOLATION_UID,
        "container": common.ISOLATION_CONTAINER,
    }
    return levels.get(name, common.ISOLATION_UNSPECIFIED)
