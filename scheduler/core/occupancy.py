"""Who is on a node, what that leaves free, and who else may join them.

The sharing rule, in one place: a job that shares with nobody has the node to itself; a job that
shares inside its tenant has only jobs of its own organisation beside it; jobs of different
organisations meet only where every one of them said `any`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

from scheduler.core.asks import Shape, cpu_milli_on, memory_bytes_on
from scheduler.model.fleet import Isolation, Node, NodeReport
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.residency import NodeSharing

View = NewType("View", str)
"""A set of nodes that the same jobs may join; a node is in up to two."""

EMPTY = View("empty")
CLOSED = View("closed")
OPEN = View("open")


ALONE_MAX = 65_536
"""Organisations whose views are remembered."""


def org_view(organisation: TenantPath) -> View:
    """The view of nodes that hold jobs of `organisation` only."""
    return View(f"org:{organisation}")


@dataclass(slots=True)
class Occupant:
    """A job's part of one node. Never changed: a frozen one costs the planner 2 µs more."""

    job: JobId
    gpu_mask: int
    shape: Shape
    sharing: NodeSharing
    organisation: TenantPath
    until_ms: int
    """When its time limit ends it at the latest."""


def may_join(
    sharing: NodeSharing, organisation: TenantPath, occupants: Collection[Occupant]
) -> bool:
    """Whether a job of `organisation` may be on a node beside `occupants`."""
    if not occupants:
        return True
    if sharing is NodeSharing.ANY and all(o.sharing is NodeSharing.ANY for o in occupants):
        return True
    return sharing in (NodeSharing.TENANT, NodeSharing.ANY) and all(
        o.organisation == organisation and o.sharing in (NodeSharing.TENANT, NodeSharing.ANY)
        for o in occupants
    )


def joinable_views(sharing: NodeSharing, organisation: TenantPath) -> tuple[View, ...]:
    """The views whose nodes a job may join: `may_join` as sets, those in use first."""
    match sharing:
        case NodeSharing.TENANT:
            return (org_view(organisation), EMPTY)
        case NodeSharing.ANY:
            return (org_view(organisation), OPEN, EMPTY)
        case NodeSharing.NONE:
            return (EMPTY,)
        case NodeSharing.UNSPECIFIED:
            return ()


def views_of(occupants: Collection[Occupant]) -> tuple[View, ...]:
    """The views that a node with `occupants` is in."""
    if not occupants:
        return _NOBODY
    found: tuple[View, ...] | None = None
    for occupant in occupants:
        alone = alone_views(occupant.sharing, occupant.organisation)
        if found is None or found == alone:
            found = alone
        else:
            found = tuple(view for view in found if view in alone)
    return found or (CLOSED,)


@lru_cache(maxsize=ALONE_MAX)
def alone_views(sharing: NodeSharing, organisation: TenantPath) -> tuple[View, ...]:
    """The views of a node on which only such jobs are. With several kinds: what all have."""
    match sharing:
        case NodeSharing.TENANT:
            return (org_view(organisation),)
        case NodeSharing.ANY:
            return (org_view(organisation), OPEN)
        case NodeSharing.NONE | NodeSharing.UNSPECIFIED:
            return (CLOSED,)


_NOBODY = (EMPTY,)


class Lane:
    """The ready nodes of one GPU class and view at one site, by how many GPUs are free.

    `masks[n]` is the set of nodes with n free. `sites[n]` has this site's bit while that set is
    not empty: the same list serves the lanes of all sites, so that one AND finds the sites.
    """

    __slots__ = ("masks", "site_bit", "sites")

    def __init__(self, gpus_max: int) -> None:
        self.masks = [0] * (gpus_max + 1)
        self.sites = [0] * (gpus_max + 1)
        self.site_bit = 0

    def put(self, free: int, bit: int) -> None:
        """Adds the node `bit` with `free` GPUs free."""
        if not self.masks[free]:
            self.sites[free] |= self.site_bit
        self.masks[free] |= bit

    def drop(self, free: int, bit: int) -> None:
        """Takes the node `bit` away from those with `free` GPUs free."""
        self.masks[free] &= ~bit
        if not self.masks[free]:
            self.sites[free] &= ~self.site_bit

    def at_least(self, free: int) -> int:
        """The nodes with `free` GPUs free or more."""
        mask = 0
        for nodes in self.masks[free:]:
            mask |= nodes
        return mask


class NodeRecord:
    """A declared node, its last report, and what is left of it. Changed by `fleet` alone."""

    __slots__ = (
        "at",
        "capacity_mask",
        "cpu_free_milli",
        "free",
        "free_mask",
        "lane_free",
        "lanes",
        "memory_free_bytes",
        "node",
        "occupants",
        "report",
        "views",
    )  # fmt: skip

    def __init__(
        self, node: Node, report: NodeReport | None, occupants: dict[JobId, Occupant]
    ) -> None:
        self.node = node
        self.report = report
        self.occupants = occupants
        # Where the index has this node: its position, its lanes and its place in them.
        self.at = 0
        self.lanes: list[Lane] = []
        self.lane_free = 0
        self.views = _NOBODY
        self.capacity_mask = 0
        self.free_mask = 0
        self.free = 0
        self.cpu_free_milli = 0
        self.memory_free_bytes = 0
        self.recount()

    def recount(self) -> None:
        """Derives what is free from the declaration, the report and the occupants.

        Capacity in use is what is declared and reported: of a node that reports fewer GPUs than
        it was declared with, the lowest indices count. Before a first report the declaration
        stands for the size; such a node is not ready and takes no work.
        """
        gpus = min(self.node.gpus, self.report.gpus) if self.report else self.node.gpus
        self.capacity_mask = (1 << gpus) - 1
        used = 0
        self.cpu_free_milli = self.node.cpu_milli
        self.memory_free_bytes = self.node.memory_bytes
        for occupant in self.occupants.values():
            used |= occupant.gpu_mask
            self.cpu_free_milli -= cpu_milli_on(occupant.shape, self.node)
            self.memory_free_bytes -= memory_bytes_on(occupant.shape, self.node)
        self.free_mask = self.capacity_mask & ~used
        self.free = self.free_mask.bit_count()
        self.views = views_of(self.occupants.values())

    def add(self, occupant: Occupant) -> None:
        """Puts `occupant` here; equal to a recount with it."""
        alone = alone_views(occupant.sharing, occupant.organisation)
        others, self.occupants[occupant.job] = bool(self.occupants), occupant
        if not others:
            self.views = alone
        elif self.views != alone:
            self.views = views_of(self.occupants.values())
        self.free_mask &= ~occupant.gpu_mask
        self.free = self.free_mask.bit_count()
        self.cpu_free_milli -= cpu_milli_on(occupant.shape, self.node)
        self.memory_free_bytes -= memory_bytes_on(occupant.shape, self.node)

    def remove(self, occupant: Occupant) -> None:
        """Takes `occupant` away; equal to a recount without it, as GPU masks are disjoint."""
        del self.occupants[occupant.job]
        self.views = views_of(self.occupants.values())
        self.free_mask |= occupant.gpu_mask & self.capacity_mask
        self.free = self.free_mask.bit_count()
        self.cpu_free_milli += cpu_milli_on(occupant.shape, self.node)
        self.memory_free_bytes += memory_bytes_on(occupant.shape, self.node)

    def ready(self) -> bool:
        """Whether new work may start here at all."""
        return self.report is not None and self.report.ready() and not self.node.cordoned

    def isolated(self, least: Isolation) -> bool:
        """Whether the reported isolation suffices. What is not reported is not judged here:
        such a node is not ready."""
        return self.report is None or self.report.isolation >= least

    def has_room(self, shape: Shape) -> bool:
        """Whether enough GPUs, CPU and memory are free for one rank group of `shape`."""
        return (
            shape.gpus <= self.free
            and cpu_milli_on(shape, self.node) <= self.cpu_free_milli
            and memory_bytes_on(shape, self.node) <= self.memory_free_bytes
        )
