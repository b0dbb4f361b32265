"""What a node says of itself: its boot, its GPUs, what it can hold, and whether it is well.

Without GPUs the configured number of logical ones stands in, and the report says `simulated`; with
GPUs their UUIDs come from the driver's own files. Everything else is read from the machine itself.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from agent.node.clock import boot_id
from sovapi.v1 import common_pb2 as common
from sovapi.v1.sitelink_pb2 import NodeReport

GPUS_MAX = 64
SPOOL_FREE_BYTES_MIN = 256 * 1024 * 1024  # With less, new ranks could not even keep their logs.
DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")
ARCHITECTURES = {
    "x86_64": common.CPU_ARCH_AMD64,
    "amd64": common.CPU_ARCH_AMD64,
    "aarch64": common.CPU_ARCH_ARM64,
    "arm64": common.CPU_ARCH_ARM64,
}


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs of a node by UUID, in the order of their indices, and who says so."""

    uuids: tuple[str, ...]
    telemetry: str


def gpus(site: str, slot: str, logical: int, driver: Path = DRIVER_GPUS) -> Gpus:
    """The machine's GPUs; `logical` ones where it has none."""
    found = [_uuid(folder / "information") for folder in sorted(driver.glob("*"))]
    if real := tuple(uuid for uuid in found if uuid)[:GPUS_MAX]:
        return Gpus(real, "none")  # They are known; nothing reads their health yet.
    names = tuple(f"SIM-{site}-{slot}-{index}" for index in range(min(logical, GPUS_MAX)))
    return Gpus(names, "simulated")


def report(slot: str, known: Gpus, isolation: str, spool: Path) -> NodeReport:
    """The node's word on itself, now."""
    health, detail = _health(spool)
    return NodeReport(
        slot=slot,
        boot_id=boot_id(),
        gpu_uuids=known.uuids,
        health=health,
        health_detail=detail,
        isolation=isolation_level(isolation),
        telemetry=known.telemetry,
        cpu_arch=ARCHITECTURES.get(platform.machine().lower(), common.CPU_ARCH_UNSPECIFIED),
        cpu_milli=1000 * len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
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


def _uuid(information: Path) -> str:
    """The UUID in one of the NVIDIA driver's files; empty when there is none."""
    try:
        lines = information.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == "GPU UUID"), "")


def _health(spool: Path) -> tuple[common.Health, str]:
    try:
        disk = os.statvfs(spool)
    except OSError as error:
        return common.HEALTH_FAILED, f"spool: {error.strerror}"
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < SPOOL_FREE_BYTES_MIN:
        detail = f"spool: {free_bytes} bytes free, needed {SPOOL_FREE_BYTES_MIN}"
        return common.HEALTH_FAILED, detail
    return common.HEALTH_OK, ""
