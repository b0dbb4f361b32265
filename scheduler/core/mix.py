"""What is usually asked for, learned from what waits and runs: the placement score rests on it.

Once a day a plan says what the mix of requests is, and the writer stores it: a fact like others,
because a mix that followed each submission would have every node scored anew each time, and one
that a planner kept to itself would not outlive it. What was learned before counts for as much as
what is seen now, so a quiet night does not make a workload forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from scheduler.core.asks import Ask
from scheduler.core.fleet import FleetState
from scheduler.core.press import live_by_class, pressed
from scheduler.model.ids import GpuClass
from scheduler.model.plan import MixChanged, MixEntry

LEARN_EVERY_MS = 24 * 3_600_000
JOBS_MIN = 100
"""With fewer jobs with GPUs there is no mix to speak of; nothing is learned then."""
ENTRIES_MAX = 512
"""The requests with most GPUs are kept."""
PPM = 1_000_000

_Kind: TypeAlias = tuple[int, int, int, int, tuple[GpuClass, ...]]


def learned(fleet: FleetState, now_ms: int) -> MixChanged | None:
    """The mix as it is to be from now on; None while it is not time to learn."""
    before = fleet.usual
    if before.learned_at_ms and now_ms < before.learned_at_ms + LEARN_EVERY_MS:
        return None
    if len(fleet.live) + sum(map(len, fleet.classes.values())) < JOBS_MIN:
        return None
    seen: dict[_Kind, int] = {}
    jobs = 0
    for ask, count in _jobs(fleet):
        if ask.shape.gpus and not ask.shape.profile:  # Instances are no room for others.
            jobs += count
            kind = _kind_of(ask)
            seen[kind] = seen.get(kind, 0) + count * ask.nodes
    if jobs < JOBS_MIN:
        return None
    shares = _ppm(seen)
    if before.mix:
        old = _ppm({_key(entry): entry.weight for entry in before.mix})
        shares = {
            kind: (shares.get(kind, 0) + old.get(kind, 0)) // 2
            for kind in (*old, *(kind for kind in shares if kind not in old))
        }
    weighty = sorted(shares, key=lambda kind: (-shares[kind] * kind[2] * kind[3], kind))
    kept = sorted(kind for kind in weighty[:ENTRIES_MAX] if shares[kind])
    entries = tuple(MixEntry(*kind, weight=shares[kind]) for kind in kept)
    return MixChanged(entries, now_ms, pressed(fleet, now_ms))


def _jobs(fleet: FleetState) -> Iterator[tuple[Ask, int]]:
    for waiting in fleet.classes.values():
        yield waiting.ask, len(waiting)
    for job_class, running in live_by_class(fleet):
        yield fleet.queued.ask_for(job_class), running


def _kind_of(ask: Ask) -> _Kind:
    shape = ask.shape
    return (
        shape.cpu_milli,
        shape.memory_bytes,
        shape.gpus,
        shape.share_milli,
        tuple(sorted(ask.gpu_classes)),
    )


def _key(entry: MixEntry) -> _Kind:
    return entry.cpu_milli, entry.memory_bytes, entry.gpus, entry.gpu_milli, entry.gpu_classes


def _ppm(counts: Mapping[_Kind, int]) -> dict[_Kind, int]:
    total = max(1, sum(counts.values()))
    return {kind: count * PPM // total for kind, count in counts.items()}
