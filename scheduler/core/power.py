"""What sites draw against what they may: a hard limit on new work, and who ends when it is lowered.

A node draws its base whether it works or not: all but its GPUs, busy CPUs included. Each GPU that a
job holds draws its most on top, for as long as the job holds it. That is the worst case: a site
that stays within its cap by these figures stays within it whatever the jobs do. What a declaration
does not say is assumed after the GPU's model (WATTS); a model that is not in the table is taken to
draw as much as the hungriest that is.

A cap that is lowered while work runs is met at once: attempts of the site are ended and queued
again until the rest is within it. Spot before normal before high; of one priority, those with the
least to lose first; and in the end those stay that turn out not to be too many. Whether a job lets
itself be preempted does not count here, nor its least runtime: a fuse asks for neither. Its grace
it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from scheduler.core.evictable import LEAVING, MAY_BE_ENDED, lost_gpu_ms
from scheduler.model.fleet import Node, Site
from scheduler.model.ids import GpuClass, JobId, SiteId
from scheduler.model.plan import LiveAttempt


@dataclass(frozen=True, slots=True)
class Watts:
    """What one GPU draws at most, and its part of everything else in its node."""

    gpu_w: int
    base_w_per_gpu: int


WATTS: Mapping[GpuClass, Watts] = MappingProxyType(
    {
        # After the makers' figures for whole systems of eight GPUs, or for racks of 72.
        GpuClass("L4"): Watts(72, 150),
        GpuClass("L40S"): Watts(350, 300),
        GpuClass("A100"): Watts(400, 412),
        GpuClass("H100"): Watts(700, 575),
        GpuClass("H200"): Watts(700, 575),
        GpuClass("GH200"): Watts(900, 300),
        GpuClass("MI300X"): Watts(750, 575),
        GpuClass("B200"): Watts(1000, 788),
        GpuClass("B300"): Watts(1400, 800),
        GpuClass("GB200"): Watts(1200, 634),
        GpuClass("GB300"): Watts(1400, 545),
    }
)
"""Assumed where a node's declaration does not say."""

WATTS_UNKNOWN = Watts(1400, 800)
BASE_W_NO_GPU = 800
"""A node without GPUs."""


def gpu_w(node: Node) -> int:
    """The most that one GPU of `node` draws."""
    if node.gpu_w is not None:
        return node.gpu_w
    return WATTS.get(node.gpu_class, WATTS_UNKNOWN).gpu_w


def base_w(node: Node) -> int:
    """What `node` draws beside its GPUs."""
    if node.base_w is not None:
        return node.base_w
    if not node.gpus:
        return BASE_W_NO_GPU
    return node.gpus * WATTS.get(node.gpu_class, WATTS_UNKNOWN).base_w_per_gpu


def drawn_w(milli: int, watts: int) -> int:
    """What so many milli-GPUs of `watts` each draw, rounded up."""
    return -(-milli * watts // 1000)


NOTHING_HELD: Mapping[GpuClass, int] = MappingProxyType({})


class Draws:
    """Milli-GPUs that are held at each site, by GPU class: what power follows from."""

    def __init__(self) -> None:
        self.held: dict[SiteId, dict[GpuClass, int]] = {}

    def at(self, site: SiteId) -> Mapping[GpuClass, int]:
        """What is held at `site`."""
        return self.held.get(site, NOTHING_HELD)

    def copied(self, sites: Iterable[SiteId]) -> Draws:
        """What is held at `sites`, to be changed without changing this."""
        copy = Draws()
        copy.held = {site: dict(self.held[site]) for site in sites if site in self.held}
        return copy

    def charge(self, site: SiteId, gpu_class: GpuClass, milli: int) -> None:
        """Adds `milli` to what is held; negative gives back."""
        line = self.held.get(site)
        if line is None:
            line = self.held[site] = {}
        line[gpu_class] = line.get(gpu_class, 0) + milli


@dataclass(frozen=True, slots=True)
class Cap:
    """A site that may draw so much, what its nodes draw anyway, and each of its GPUs."""

    cap_w: int
    base_w: int
    gpu_w: Mapping[GpuClass, int]

    def used_w(self, held: Mapping[GpuClass, int]) -> int:
        """What the site draws while so much is held there."""
        return self.base_w + sum(
            drawn_w(milli, self.gpu_w.get(name, WATTS_UNKNOWN.gpu_w))
            for name, milli in held.items()
        )

    def fits(self, held: Mapping[GpuClass, int], gpu_class: GpuClass, milli: int) -> bool:
        """Whether `milli` more of `gpu_class` may draw their most there."""
        more_w = drawn_w(milli, self.gpu_w.get(gpu_class, WATTS_UNKNOWN.gpu_w))
        return self.used_w(held) + more_w <= self.cap_w


def cap_of(site: Site, nodes: Iterable[Node]) -> Cap | None:
    """The cap of a site with `nodes`; None where there is none."""
    if site.power_cap_w is None:
        return None
    total_w, by_class = 0, dict[GpuClass, int]()
    for node in nodes:
        total_w += base_w(node)
        by_class[node.gpu_class] = max(by_class.get(node.gpu_class, 0), gpu_w(node))
    return Cap(site.power_cap_w, total_w, by_class)


def shed(cap: Cap, live: Iterable[LiveAttempt], now_ms: int) -> tuple[JobId, ...]:
    """Whom to end of the attempts at a site so that the rest is within its cap.

    Those who leave already are counted as gone; those out of sight cannot be asked.
    """
    held: dict[GpuClass, int] = {}
    asked: list[LiveAttempt] = []
    for attempt in live:
        if attempt.state in LEAVING:
            continue
        _hold(held, attempt, 1)
        if attempt.state in MAY_BE_ENDED:
            asked.append(attempt)
    asked.sort(key=lambda a: _worth(a, now_ms))
    chosen: list[LiveAttempt] = []
    for attempt in asked:
        if cap.used_w(held) <= cap.cap_w:
            break
        if attempt.placement.gpu_milli:
            _hold(held, attempt, -1)
            chosen.append(attempt)
    kept: list[LiveAttempt] = []
    for attempt in reversed(chosen):
        _hold(held, attempt, 1)
        if cap.used_w(held) > cap.cap_w:
            _hold(held, attempt, -1)
            kept.append(attempt)
    return tuple(attempt.placement.key.job for attempt in reversed(kept))


def _worth(attempt: LiveAttempt, now_ms: int) -> tuple[int, int, JobId]:
    priority = int(attempt.job_class.priority)
    return priority, lost_gpu_ms(attempt, now_ms), attempt.placement.key.job


def _hold(held: dict[GpuClass, int], attempt: LiveAttempt, sign: int) -> None:
    name = attempt.placement.gpu_class
    held[name] = held.get(name, 0) + sign * attempt.placement.gpu_milli
