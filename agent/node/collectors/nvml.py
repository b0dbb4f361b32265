"""GPUs through NVML. Any call may hang inside the driver: only `nvml_child` uses this.

What a GPU does not support is None. A GPU that the driver calls lost is reported as lost, and
counts as present: that it was there is the point.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

from agent.node.collectors import nvml_mig
from agent.node.collectors.nvml_encoding import worst_ber
from agent.node.collectors.nvml_fields import LOST, FieldQuery
from agent.node.collectors.pynvml_alone import nv
from agent.node.collectors.readings import (
    Fabric,
    Gpu,
    GpuReadings,
    Missing,
    NvLinks,
    SourceFault,
    XidEvent,
)

GPUS_MAX = 64
LINKS_MAX = 36
LINKS_LOOK_READS = 60
"""How often to look for links that were not there: one may come up late."""
XIDS_A_READ_MAX = 1024
"""One GPU in a storm must not keep the others from being read."""
FIELD_MEMORY_TEMPERATURE, FIELD_RECOVERY_ACTION = 82, 230
FIELDS_A_LINK = {"replays": 161, "recoveries": 162, "crc": 163, "effective": 220, "symbol": 222}


T = TypeVar("T")


class NvmlUnusable(Exception):
    """NVML cannot be used now; `missing` says why."""

    def __init__(self, missing: Missing) -> None:
        super().__init__(missing.detail)
        self.missing = missing


class Nvml:
    """An open NVML. `library`: a path; "" is the driver's own."""

    def __init__(self, library: str) -> None:
        try:
            if library:
                nv.nvmlLib = ctypes.CDLL(library)
            nv.nvmlInit()
            self.driver = str(nv.nvmlSystemGetDriverVersion())
            self._handles = _handles()
            self._events = self._watch()
        except OSError as error:
            missing = Missing(SourceFault.LIBRARY_MISSING, f"{library}: {error}")
            raise NvmlUnusable(missing) from error
        except nv.NVMLError as error:
            raise NvmlUnusable(_missing(error)) from error
        self._uuids: dict[int, str] = {}
        self._known: dict[int, Gpu] = {}
        self._links: dict[int, _Links] = {}
        self._reads = 0

    def read(self) -> tuple[Gpu, ...]:
        """Every GPU by index, or NvmlUnusable."""
        found: list[Gpu] = []
        if self._reads % LINKS_LOOK_READS == 0:
            self._links.clear()
        self._reads += 1
        try:
            if self._events is None:
                self._events = self._watch()
            for index, handle in enumerate(self._handles):
                gpu = _read(index, handle, self._known.get(index), self._links)
                self._known[index] = gpu
                self._uuids[_address(handle)] = gpu.uuid
                found.append(gpu)
        except nv.NVMLError as error:
            raise NvmlUnusable(_missing(error)) from error
        return tuple(found)

    def wait(self, timeout_ms: int, wall_ms: Callable[[], int]) -> tuple[XidEvent, ...]:
        """The errors that the driver reports within `timeout_ms`; returns at the first batch."""
        found: list[XidEvent] = []
        while self._events is not None and len(found) < XIDS_A_READ_MAX:
            try:
                event = nv.nvmlEventSetWait_v2(self._events, 0 if found else timeout_ms)
            except nv.NVMLError as error:
                if error.value in LOST:
                    self._events = None  # The next read watches those that still answer.
                elif error.value != nv.NVML_ERROR_TIMEOUT:
                    raise NvmlUnusable(_missing(error)) from error
                break
            if event.eventType & nv.nvmlEventTypeXidCriticalError:
                uuid = self._uuids.get(_address(event.device), "")
                found.append(XidEvent(uuid, int(event.eventData), wall_ms()))
        return tuple(found)

    @property
    def watches(self) -> bool:
        """Whether `wait` can wait: some GPU supports events."""
        return self._events is not None

    def readings(self, xids: tuple[XidEvent, ...]) -> GpuReadings:
        """A read of everything, with these errors."""
        return GpuReadings(self.read(), xids, self.driver)

    def _watch(self) -> Any:
        events = nv.nvmlEventSetCreate()
        wanted = nv.nvmlEventTypeXidCriticalError
        registered = [_registered(h, wanted, events) for h in self._handles if h is not None]
        if any(registered):
            return events
        nv.nvmlEventSetFree(events)
        return None


def _registered(handle: Any, wanted: int, events: Any) -> bool:
    """Whether the GPU lets us wait for its errors; one that is lost does not."""
    try:
        nv.nvmlDeviceRegisterEvents(handle, wanted, events)
    except nv.NVMLError as error:
        if error.value in _ABSENT | LOST:
            return False
        raise
    return True


def _handles() -> list[Any]:
    """Every GPU's handle by index; None for one that is lost already."""
    return [_handle(index) for index in range(min(nv.nvmlDeviceGetCount(), GPUS_MAX))]


def _handle(index: int) -> Any:
    try:
        return nv.nvmlDeviceGetHandleByIndex(index)
    except nv.NVMLError as error:
        if error.value in LOST:
            return None
        raise


def _address(handle: Any) -> int:
    return 0 if handle is None else ctypes.cast(handle, ctypes.c_void_p).value or 0


def _missing(error: Any) -> Missing:
    fault = {
        nv.NVML_ERROR_LIBRARY_NOT_FOUND: SourceFault.LIBRARY_MISSING,
        nv.NVML_ERROR_FUNCTION_NOT_FOUND: SourceFault.LIBRARY_UNFIT,
        nv.NVML_ERROR_LIB_RM_VERSION_MISMATCH: SourceFault.LIBRARY_UNFIT,
        nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: SourceFault.LIBRARY_UNFIT,
    }.get(error.value, SourceFault.FAILED)
    return Missing(fault, str(error))


_ABSENT = frozenset(
    {
        nv.NVML_ERROR_NOT_SUPPORTED,
        nv.NVML_ERROR_INVALID_ARGUMENT,
        nv.NVML_ERROR_NO_PERMISSION,
        nv.NVML_ERROR_NOT_FOUND,
        nv.NVML_ERROR_FUNCTION_NOT_FOUND,
        nv.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        nv.NVML_ERROR_NO_DATA,
        nv.NVML_ERROR_NOT_READY,
        nv.NVML_ERROR_CORRUPTED_INFOROM,
        nv.NVML_ERROR_UNKNOWN,
    }
)
"""A value that this GPU, or this driver, does not give. Other errors concern more than it."""


def _optional(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except nv.NVMLError as error:
        if error.value in _ABSENT:
            return None
        raise


def _read(index: int, handle: Any, before: Gpu | None, links: dict[int, _Links]) -> Gpu:
    """One GPU. When it is lost, what it was called before."""
    try:
        if handle is not None:
            if index not in links:
                links[index] = _Links(handle)
            return _answering(index, handle, before, links[index])
    except nv.NVMLError as error:
        if error.value not in LOST:
            raise
    return Gpu(index, before.uuid if before is not None else f"lost-{index}", lost=True)


def _answering(index: int, handle: Any, before: Gpu | None, links: _Links) -> Gpu:
    known = before if before is not None and not before.lost else None
    memory = _optional(lambda: nv.nvmlDeviceGetMemoryInfo(handle))
    used = _optional(lambda: nv.nvmlDeviceGetUtilizationRates(handle))
    remapped = _optional(lambda: nv.nvmlDeviceGetRemappedRows(handle))
    fields = _ask(_OWN_FIELDS, handle, 2)
    uncorrected, corrected = nv.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, 0
    return Gpu(
        index=index,
        uuid=known.uuid if known else str(nv.nvmlDeviceGetUUID(handle)),
        model=known.model if known else str(nv.nvmlDeviceGetName(handle)),
        serial=known.serial if known else _word(lambda: nv.nvmlDeviceGetSerial(handle)),
        pci_bus_id=known.pci_bus_id if known else _pci(handle),
        vbios=known.vbios if known else _word(lambda: nv.nvmlDeviceGetVbiosVersion(handle)),
        temperature_c=_optional(lambda: nv.nvmlDeviceGetTemperature(handle, 0)),
        temperature_max_c=_limit(handle, nv.NVML_TEMPERATURE_THRESHOLD_GPU_MAX, known),
        memory_temperature_c=fields[0],
        memory_temperature_max_c=_limit(handle, nv.NVML_TEMPERATURE_THRESHOLD_MEM_MAX, known),
        power_mw=_optional(lambda: nv.nvmlDeviceGetPowerUsage(handle)),
        power_limit_mw=_optional(lambda: nv.nvmlDeviceGetEnforcedPowerLimit(handle)),
        energy_mj=_optional(lambda: nv.nvmlDeviceGetTotalEnergyConsumption(handle)),
        utilisation_percent=int(used.gpu) if used is not None else None,
        memory_used_bytes=int(memory.used) if memory is not None else None,
        memory_total_bytes=int(memory.total) if memory is not None else None,
        sm_clock_mhz=_optional(lambda: nv.nvmlDeviceGetClockInfo(handle, nv.NVML_CLOCK_SM)),
        clock_events=_optional(lambda: nv.nvmlDeviceGetCurrentClocksEventReasons(handle)),
        ecc_volatile_corrected=_ecc(handle, corrected, nv.NVML_VOLATILE_ECC),
        ecc_volatile_uncorrected=_ecc(handle, uncorrected, nv.NVML_VOLATILE_ECC),
        ecc_aggregate_corrected=_ecc(handle, corrected, nv.NVML_AGGREGATE_ECC),
        ecc_aggregate_uncorrected=_ecc(handle, uncorrected, nv.NVML_AGGREGATE_ECC),
        remapped_correctable=remapped[0] if remapped else None,
        remapped_uncorrectable=remapped[1] if remapped else None,
        remap_pending=bool(remapped[2]) if remapped else None,
        remap_failed=bool(remapped[3]) if remapped else None,
        pcie_replays=_optional(lambda: nv.nvmlDeviceGetPcieReplayCounter(handle)),
        pcie_generation=_optional(lambda: nv.nvmlDeviceGetCurrPcieLinkGeneration(handle)),
        pcie_width=_optional(lambda: nv.nvmlDeviceGetCurrPcieLinkWidth(handle)),
        recovery_action=fields[1],
        nvlinks=links.read(handle),
        fabric=_fabric(handle),
        mig=nvml_mig.devices(handle, _optional),
    )


def _word(call: Callable[[], object]) -> str:
    found = _optional(call)
    return "" if found is None else str(found)


def _pci(handle: Any) -> str:
    info = _optional(lambda: nv.nvmlDeviceGetPciInfo_v3(handle))
    if info is None:
        return ""
    found: bytes | str = info.busId
    return (found.decode("ascii", "replace") if isinstance(found, bytes) else found).lower()


def _limit(handle: Any, which: int, known: Gpu | None) -> int | None:
    """A temperature limit, asked for once."""
    if known is not None:
        memory = which == nv.NVML_TEMPERATURE_THRESHOLD_MEM_MAX
        return known.memory_temperature_max_c if memory else known.temperature_max_c
    return _optional(lambda: nv.nvmlDeviceGetTemperatureThreshold(handle, which))


def _ecc(handle: Any, kind: int, scope: int) -> int | None:
    return _optional(lambda: int(nv.nvmlDeviceGetTotalEccErrors(handle, kind, scope)))


_OWN_FIELDS = FieldQuery([(FIELD_MEMORY_TEMPERATURE, 0), (FIELD_RECOVERY_ACTION, 0)])


def _ask(query: FieldQuery, handle: Any, count: int) -> list[int | None]:
    """A query's values; all None from a driver that knows none of this."""
    return _optional(lambda: query.ask(handle)) or [None] * count


class _Links:
    """The NVLinks of one GPU. Which there are never changes; how they are does."""

    def __init__(self, handle: Any) -> None:
        found = [link for link in range(LINKS_MAX) if self._state(handle, link) is not None]
        self._links = found
        self._query = FieldQuery((f, link) for f in FIELDS_A_LINK.values() for link in found)

    def read(self, handle: Any) -> NvLinks | None:
        """How they are now; None when there is none."""
        links = self._links
        if not links:
            return None
        active = sum(1 for link in links if self._state(handle, link))
        values = _ask(self._query, handle, len(FIELDS_A_LINK) * len(links))
        told = {
            name: [v for v in values[at * len(links) : (at + 1) * len(links)] if v is not None]
            for at, name in enumerate(FIELDS_A_LINK)
        }
        return NvLinks(
            active=active,
            present=len(links),
            replays=sum(told["replays"]) if told["replays"] else None,
            recoveries=sum(told["recoveries"]) if told["recoveries"] else None,
            crc_errors=sum(told["crc"]) if told["crc"] else None,
            effective_ber=worst_ber(told["effective"]),
            symbol_ber=worst_ber(told["symbol"]),
        )

    @staticmethod
    def _state(handle: Any, link: int) -> Any:
        return _optional(lambda: nv.nvmlDeviceGetNvLinkState(handle, link))


def _fabric(handle: Any) -> Fabric | None:
    info = nv.c_nvmlGpuFabricInfo_v3_t()
    # It answers 0: that is not None.
    if _optional(lambda: nv.nvmlDeviceGetGpuFabricInfoV(handle, ctypes.byref(info))) is None:
        return None
    if info.state == nv.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED:
        return None
    return Fabric(
        state=int(info.state),
        status=int(info.status),
        summary=int(info.healthSummary),
        mask=int(info.healthMask),
        cluster_uuid=bytes(info.clusterUuid).hex(),
        clique=int(info.cliqueId),
    )
