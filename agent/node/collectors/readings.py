"""Readings of a node's hardware: integers with their units in the name; None is *cannot tell*.

A reading that a device does not support is None, never 0: zero errors is a claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Telemetry(StrEnum):
    """Where the GPU readings of a node come from."""

    NVML = "nvml"
    SIMULATED = "simulated"
    """There is no GPU: logical ones stand in, and nothing was measured."""
    NONE = "none"


class SourceFault(StrEnum):
    """Why a source has no readings now."""

    LIBRARY_MISSING = "NVML_LIBRARY_MISSING"
    LIBRARY_UNFIT = "NVML_LIBRARY_UNFIT"
    """The library lacks what we need, or does not fit the driver."""
    NOT_ANSWERING = "NVML_NOT_ANSWERING"
    FAILED = "NVML_FAILED"


@dataclass(frozen=True, slots=True)
class Missing:
    """A source that could not be read, and its own words."""

    fault: SourceFault
    detail: str


@dataclass(frozen=True, slots=True)
class XidEvent:
    """The driver reported an error of this number. `at_ms` is UTC, for windows of hours."""

    gpu: str
    xid: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class NvLinks:
    """The NVLinks of one GPU, summed: one series a link would count everything twice."""

    active: int
    present: int
    replays: int | None = None
    recoveries: int | None = None
    crc_errors: int | None = None
    effective_ber: int | None = None
    """The worst link's, as NVML encodes it: mantissa in bits 8-11, negative exponent in 0-7."""
    symbol_ber: int | None = None


@dataclass(frozen=True, slots=True)
class Fabric:
    """An NVLink fabric as one GPU sees it. `state` 3: it has joined."""

    state: int
    status: int
    summary: int
    mask: int
    cluster_uuid: str
    clique: int


NO_PROFILE = "none"


@dataclass(frozen=True, slots=True, order=True)
class MigDevice:
    """One instance of a GPU that is cut by MIG. `profile`: 1g.10gb, or `NO_PROFILE` when nobody can
    be given it."""

    profile: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    index: int
    uuid: str
    lost: bool = False
    """It is enumerated and does not answer any more."""
    model: str = ""
    serial: str = ""
    pci_bus_id: str = ""
    vbios: str = ""
    temperature_c: int | None = None
    temperature_max_c: int | None = None
    memory_temperature_c: int | None = None
    memory_temperature_max_c: int | None = None
    power_mw: int | None = None
    power_limit_mw: int | None = None
    energy_mj: int | None = None
    """Since the driver was loaded or the GPU was reset."""
    utilisation_percent: int | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    sm_clock_mhz: int | None = None
    clock_events: int | None = None
    ecc_volatile_corrected: int | None = None
    ecc_volatile_uncorrected: int | None = None
    ecc_aggregate_corrected: int | None = None
    ecc_aggregate_uncorrected: int | None = None
    remapped_correctable: int | None = None
    remapped_uncorrectable: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    pcie_replays: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    recovery_action: int | None = None
    nvlinks: NvLinks | None = None
    fabric: Fabric | None = None
    mig: tuple[MigDevice, ...] = ()
    """Its instances, sorted; none: it is whole."""


@dataclass(frozen=True, slots=True)
class RdmaPort:
    """One port of an RDMA device. `state_id` 4: active; `physical_state_id` 5: link up."""

    device: str
    port: int
    link_layer: str
    state_id: int | None
    physical_state_id: int | None
    rate_mbit: int | None
    counters: Mapping[str, int] = field(default_factory=dict[str, int])
    hw_counters: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def name(self) -> str:
        """Such as `mlx5_0/1`."""
        return f"{self.device}/{self.port}"


@dataclass(frozen=True, slots=True)
class EthernetPort:
    """One network interface of real hardware."""

    name: str
    up: bool | None
    speed_mbit: int | None
    counters: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class System:
    """The machine itself. `spool_free_bytes` None: the spool's file system does not answer."""

    memory_total_bytes: int
    memory_available_bytes: int
    load_milli: int
    spool_free_bytes: int | None
    spool_detail: str = ""


@dataclass(frozen=True, slots=True)
class GpuReadings:
    """All GPUs at one moment, and the errors the driver reported since the moment before."""

    gpus: tuple[Gpu, ...]
    xids: tuple[XidEvent, ...] = ()
    driver: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """A whole node at one moment. `at_ms` is on the boot-time clock, `wall_ms` is UTC."""

    at_ms: int
    wall_ms: int
    telemetry: Telemetry
    gpus: tuple[Gpu, ...] = ()
    gpus_missing: Missing | None = None
    xids: tuple[XidEvent, ...] = ()
    driver: str = ""
    ports: tuple[RdmaPort, ...] = ()
    ethernet: tuple[EthernetPort, ...] = ()
    system: System | None = None


def gpu_readings_to_plain(readings: GpuReadings) -> dict[str, Any]:
    """As JSON can hold it."""
    return asdict(readings)


def gpu_readings_from_plain(plain: Mapping[str, Any]) -> GpuReadings:
    """What `gpu_readings_to_plain` made, typed again. Raises KeyError or TypeError on else."""
    return GpuReadings(
        gpus=tuple(_gpu(entry) for entry in plain["gpus"]),
        xids=tuple(XidEvent(**entry) for entry in plain["xids"]),
        driver=plain["driver"],
    )


def _gpu(plain: Mapping[str, Any]) -> Gpu:
    told = dict(plain)
    nvlinks, fabric, mig = told.pop("nvlinks"), told.pop("fabric"), told.pop("mig")
    return Gpu(
        **told,
        nvlinks=NvLinks(**nvlinks) if nvlinks is not None else None,
        fabric=Fabric(**fabric) if fabric is not None else None,
        mig=tuple(MigDevice(**device) for device in mig),
    )
