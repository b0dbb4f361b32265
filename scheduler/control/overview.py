"""The fleet in sum, as of one moment: what operators look at first. Reads only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from scheduler.control.views import NodeView, SiteView, node_views, queued_gpus_milli
from scheduler.model.fleet import SiteStatus
from scheduler.model.ids import GpuClass, SiteId, site_of
from scheduler.model.job import JobState
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.store.records import NodeEntry, SiteEntry
from scheduler.store.store import Snapshot

UNFIT_MAX = 1_000
"""Unfit nodes named in one answer."""


@dataclass(slots=True)
class GpuUse:
    """The GPUs of one class at a site; nodes without any are under an empty class."""

    gpu_class: GpuClass
    nodes: int = 0
    nodes_ready: int = 0
    gpus: int = 0
    gpus_ready: int = 0
    used_milli: int = 0


@dataclass(slots=True)
class SiteOverview:
    """A site in sum. `moving` attempts hold nodes and do not run: not yet, or no longer."""

    site: SiteView
    gpus: tuple[GpuUse, ...]
    running: int
    moving: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The fleet in sum, and the nodes of active, connected sites that take no new work."""

    sites: tuple[SiteOverview, ...]
    jobs_queued: int
    gpus_queued_milli: int
    unfit: tuple[NodeView, ...]
    unfit_total: int


@dataclass(slots=True)
class _Sums:
    """What is counted of one site."""

    gpus: dict[GpuClass, GpuUse] = field(default_factory=dict[GpuClass, GpuUse])
    running: int = 0
    moving: int = 0

    def of(self, gpu_class: GpuClass) -> GpuUse:
        """The line of a class."""
        return self.gpus.setdefault(gpu_class, GpuUse(gpu_class))


def overview(read: Snapshot, *, unfit_max: int) -> Overview:
    """The fleet in sum; of the unfit nodes the first `unfit_max`, by id."""
    if not 0 <= unfit_max <= UNFIT_MAX:
        detail = f"found {unfit_max}, allowed 0 to {UNFIT_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "unfit_max"))
    entries = read.fleet.sites()
    # Of a site that is away, every node is: that is said once, by the site.
    heard = {
        entry.site.id
        for entry in entries
        if entry.site.status is SiteStatus.ACTIVE and entry.contact.connected
    }
    sums: defaultdict[SiteId, _Sums] = defaultdict(_Sums)
    unfit: list[NodeEntry] = []
    unfit_total = 0
    for entry in read.fleet.nodes():
        site = site_of(entry.node.id)
        fit = _count(sums[site], entry)
        if not fit and site in heard:
            unfit_total += 1
            if len(unfit) < unfit_max:
                unfit.append(entry)
    for use in read.attempts.live_by_site():
        there = sums[use.site]
        there.of(use.gpu_class).used_milli += use.gpu_milli
        if use.state is JobState.RUNNING:
            there.running += use.attempts
        else:
            there.moving += use.attempts
    queued = read.ledger().queued_jobs
    return Overview(
        sites=tuple(_site(entry, sums[entry.site.id]) for entry in entries),
        jobs_queued=sum(jobs for path, jobs in queued.items() if "/" not in path),
        gpus_queued_milli=queued_gpus_milli(read),
        unfit=node_views(read, unfit),
        unfit_total=unfit_total,
    )


def _count(sums: _Sums, entry: NodeEntry) -> bool:
    """Adds a node; whether it takes new work, as far as it is up to the node."""
    line = sums.of(entry.node.gpu_class)
    ready = entry.report is not None and entry.report.ready()
    line.nodes += 1
    line.gpus += entry.node.gpus
    if ready:
        line.nodes_ready += 1
        line.gpus_ready += entry.node.gpus
    return ready and not entry.node.cordoned and not entry.node.refuted()


def _site(entry: SiteEntry, sums: _Sums) -> SiteOverview:
    lines = [sums.gpus[name] for name in sorted(sums.gpus)]
    return SiteOverview(
        site=SiteView(
            entry=entry,
            nodes_total=sum(line.nodes for line in lines),
            nodes_ready=sum(line.nodes_ready for line in lines),
            gpus_total=sum(line.gpus for line in lines),
            gpus_used_milli=sum(line.used_milli for line in lines),
        ),
        gpus=tuple(lines),
        running=sums.running,
        moving=sums.moving,
    )
