"""Telemetry of logical GPUs: plausible, deterministic, and labelled as what it is everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from agent.node.collectors.readings import Gpu

IDLE_C, POWER_IDLE_MW, POWER_LIMIT_MW = 34, 72_000, 700_000
TEMPERATURE_MAX_C = 87
MEMORY_BYTES = 80 * 1024**3


def read(uuids: Sequence[str], at_ms: int) -> tuple[Gpu, ...]:
    """GPUs that are always well and idle. Energy follows from the power and the time."""
    return tuple(
        Gpu(
            index=index,
            uuid=uuid,
            model="simulated",
            temperature_c=IDLE_C + index % 3,
            temperature_max_c=TEMPERATURE_MAX_C,
            power_mw=POWER_IDLE_MW,
            power_limit_mw=POWER_LIMIT_MW,
            energy_mj=POWER_IDLE_MW * at_ms // 1000,
            utilisation_percent=0,
            memory_used_bytes=0,
            memory_total_bytes=MEMORY_BYTES,
            clock_events=1,
            ecc_volatile_corrected=0,
            ecc_volatile_uncorrected=0,
            ecc_aggregate_corrected=0,
            ecc_aggregate_uncorrected=0,
        )
        for index, uuid in enumerate(uuids)
    )
