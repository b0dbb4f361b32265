"""What attempts that are over have used, rebuilt from the audit log alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.tenancy import SettledUse
from scheduler.store.leaves import JOB_MOVED
from scheduler.store.records import AuditLeaf


def rebuild_usage(leaves: Iterable[AuditLeaf]) -> tuple[SettledUse, ...]:
    """One line for each tenant, GPU class and day on which anything was settled, sorted."""
    sums: dict[tuple[str, str, int], list[int]] = {}
    for leaf in leaves:
        if leaf.kind != JOB_MOVED:
            continue
        body: Mapping[str, Any] = json.loads(leaf.body)
        attempt: Mapping[str, Any] = body.get("attempt") or {}
        told: Mapping[str, Any] | None = attempt.get("settled")
        if told is None:
            continue
        line = sums.setdefault((body["tenant"], told["gpu_class"], told["day"]), [0, 0, 0])
        line[0] += told["charged_gpu_ms"]
        line[1] += told["refunded_gpu_ms"]
        line[2] += 1
    return tuple(
        SettledUse(TenantPath(tenant), GpuClass(gpu_class), day, *sums[tenant, gpu_class, day])
        for tenant, gpu_class, day in sorted(sums)
    )
