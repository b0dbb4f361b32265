"""What a service may ask for, each fault with its field's path; `admission_rules` has the rest."""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.model.job import JobKind, JobSpec
from scheduler.model.reasons import Denial, Reason
from scheduler.model.service import WITHOUT_END
from scheduler.model.topology import TopologyLevel, TopologyMode

REPLICAS_MAX = 5_000
"""Replicas of one service: each has a row, and all may be under way at once."""
RETRIES_MAX = 100
SPREAD_OVER = (TopologyLevel.NODE, TopologyLevel.LEAF, TopologyLevel.POD, TopologyLevel.SITE)
"""Levels whose domains fail apart."""


def service_faults(spec: JobSpec) -> Iterator[Denial]:
    """Everything wrong with a service, and what only services may ask for."""
    service = spec.service
    is_service = spec.kind is JobKind.SERVICE
    yield from _retries(spec, is_service=is_service)
    if service is None:
        if is_service:
            yield fault("service", "nothing", "how many replicas it has")
        return
    if not is_service:
        yield fault("service", f"one in a job of kind {spec.kind.name}", "kind SERVICE, or none")
    yield from replica_faults("service.replicas", service.replicas, least=1)
    if service.spread is not None:
        if service.spread.over not in SPREAD_OVER:
            allowed = ", ".join(level.name for level in SPREAD_OVER)
            yield fault("service.spread.over", service.spread.over.name, allowed)
        if service.spread.mode is TopologyMode.UNSPECIFIED:
            yield fault("service.spread.mode", "nothing", "REQUIRED, PREFERRED")
    if spec.array is not None:
        yield fault("array", "an array of a service", "array or replicas, not both")
    if spec.resources.max_nodes > spec.resources.nodes:
        found = f"{spec.resources.max_nodes}, of a service"
        yield fault("resources.max_nodes", found, "0: a service grows by its replicas")
    if spec.outputs:
        yield fault("outputs", "outputs of a service", "none: it is never done")


def replica_faults(field: str, replicas: int, *, least: int) -> Iterator[Denial]:
    """Whether a service may have so many replicas."""
    if not least <= replicas <= REPLICAS_MAX:
        yield fault(field, str(replicas), f"{least} to {REPLICAS_MAX}")


def _retries(spec: JobSpec, *, is_service: bool) -> Iterator[Denial]:
    least = WITHOUT_END if is_service else 0
    allowed = f"{least} to {RETRIES_MAX}"
    for name, found in (
        ("hardware", spec.retries.hardware),
        ("application", spec.retries.application),
    ):
        if not least <= found <= RETRIES_MAX:
            yield fault(f"retries.{name}", str(found), allowed)


def fault(field: str, found: str, allowed: str) -> Denial:
    """What is wrong with a field."""
    return Denial(Reason.INVALID_ARGUMENT, f"found {found}, allowed {allowed}", field)
