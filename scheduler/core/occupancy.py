"""Who is on a node, what that leaves free, and who else may join them.

The sharing rule, in one place: a job that shares with nobody has the node to itself; a job that
shares inside its tenant has only jobs of its own organisation beside it; jobs of different
organisations meet only where every one of them said `any`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, NewType

from scheduler.core.asks import Shape
from scheduler.core.ranking import Rooms
from scheduler.core.rooms import Left, NodeKind
from scheduler.core.units import capacity_of
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


_NOBODY: tuple[View, ...] = (EMPTY,)


class Lane:
    """The nodes of one GPU class and view at one site, by the room they are in.

    `sites[room]` has this site's bit while `masks[room]` is not empty: the same dictionary serves
    the lanes of all sites, so that one AND finds the sites. Neither has a room that nobody is in.
    """

    __slots__ = ("masks", "site_bit", "sites")

    def __init__(self) -> None:
        self.masks: dict[int, int] = {}
        self.sites: dict[int, int] = {}
        self.site_bit = 0

    def put(self, room: int, bit: int) -> None:
        """Adds the node `bit`, which is in `room`."""
        nodes = self.masks.get(room, 0)
        if not nodes:
            self.sites[room] = self.sites.get(room, 0) | self.site_bit
        self.masks[room] = nodes | bit

    def drop(self, room: int, bit: int) -> None:
        """Takes the node `bit` away from those in `room`."""
        nodes = self.masks[room] & ~bit
        if nodes:
            self.masks[room] = nodes
        else:
            del self.masks[room]
            self._leave(room)

    def shift(self, before: int, after: int, bit: int) -> None:
        """The node `bit` went from one room to another."""
        if before == after:
            return
        masks = self.masks
        nodes = masks[before] & ~bit
        if nodes:
            masks[before] = nodes
        else:
            del masks[before]
            self._leave(before)
        nodes = masks.get(after, 0)
        if not nodes:
            sites = self.sites
            sites[after] = sites.get(after, 0) | self.site_bit
        masks[after] = nodes | bit

    def _leave(self, room: int) -> None:
        """This site has no node in `room` any more."""
        left = self.sites[room] & ~self.site_bit
        if left:
            self.sites[room] = left
        else:
            del self.sites[room]

    def all(self) -> int:
        """Every node here."""
        mask = 0
        for nodes in self.masks.values():
            mask |= nodes
        return mask


class End(NamedTuple):
    """A moment at which somebody on a node is over at the latest; and what all who are over by
    then give back: GPUs, CPU and memory."""

    at_ms: int
    gpu_mask: int
    cpu_milli: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Ends:
    """When those on a node are over, one after the other, at the latest."""

    in_turn: tuple[End, ...]
    alike: Occupant | None
    """One of them, where all are of one organisation and share alike."""

    @staticmethod
    def of(record: NodeRecord) -> Ends:
        """Those of the occupants of `record`. A GPU that several share is free with the last."""
        staying = sorted(record.occupants.values(), key=_latest_first)
        kinds = {(o.sharing, o.organisation) for o in staying}
        alike = staying[0] if len(kinds) == 1 else None
        found: list[End] = []
        gpu_mask, cpu_milli, memory_bytes = 0, 0, 0
        while staying:
            next_to = staying.pop()
            if next_to.shape.share_milli == 1000 or not any(
                other.gpu_mask == next_to.gpu_mask for other in staying
            ):
                gpu_mask |= next_to.gpu_mask
            freed_milli, freed_bytes = record.kind.cost(next_to.shape)
            cpu_milli += freed_milli
            memory_bytes += freed_bytes
            found.append(End(next_to.until_ms, gpu_mask, cpu_milli, memory_bytes))
        return Ends(tuple(found), alike)


class Span(NamedTuple):
    """When the first and the last of those on a node are over at the latest; 0 where nobody is."""

    first_ms: int
    last_ms: int
    is_mixed: bool
    """They are of several organisations, or do not share alike."""


def span_of(occupants: Collection[Occupant]) -> Span:
    """What `Span` says of `occupants`."""
    first_ms = last_ms = 0
    one: Occupant | None = None
    is_mixed = False
    for each in occupants:
        until_ms = each.until_ms
        if one is None:
            one, first_ms, last_ms = each, until_ms, until_ms
            continue
        if until_ms > last_ms:
            last_ms = until_ms
        elif until_ms < first_ms:
            first_ms = until_ms
        if each.organisation != one.organisation or each.sharing is not one.sharing:
            is_mixed = True
    return Span(first_ms, last_ms, is_mixed)


def _latest_first(occupant: Occupant) -> tuple[int, JobId]:
    return -occupant.until_ms, occupant.job


class NodeRecord:
    """A declared node, its last report, what is left of it, and for whom. Changed by `fleet` and by
    the plan that is being made alone."""

    __slots__ = (
        "at",
        "capacity_mask",
        "kind",
        "known_ends",
        "known_span",
        "laned",
        "lanes",
        "left",
        "node",
        "occupants",
        "report",
        "room",
        "rooms",
        "views",
    )  # fmt: skip

    def __init__(
        self,
        node: Node,
        report: NodeReport | None,
        occupants: dict[JobId, Occupant],
        rooms: Rooms | None = None,
    ) -> None:
        self.node = node
        self.report = report
        self.occupants = occupants
        self.rooms = rooms or Rooms()
        self.kind: NodeKind = self.rooms.kind_of(node)
        # Where the index has this node: its position, its lanes and its room in them.
        self.at = 0
        self.lanes: list[Lane] = []
        self.laned: tuple[View, ...] = ()
        self.room = 0
        self.views: tuple[View, ...] = _NOBODY
        # What `ends` and `span` found; nothing when somebody came or went since.
        self.known_ends: Ends | None = None
        self.known_span: Span | None = None
        self.capacity_mask = 0
        self.recount()

    def recount(self) -> None:
        """Derives what is free from the declaration, the report and the occupants.

        Capacity in use is what is declared and reported, see `units`.
        """
        self.capacity_mask = capacity_of(self.node, self.report)
        used = 0
        shared: dict[int, int] = {}
        cpu_free_milli, memory_free_bytes = self.node.cpu_milli, self.node.memory_bytes
        for occupant in self.occupants.values():
            used |= occupant.gpu_mask
            share_milli = occupant.shape.share_milli
            if share_milli < 1000 and occupant.gpu_mask:
                gpu = occupant.gpu_mask.bit_length() - 1
                shared[gpu] = shared.get(gpu, 1000) - share_milli
            cpu_milli, memory_bytes = self.kind.cost(occupant.shape)
            cpu_free_milli -= cpu_milli
            memory_free_bytes -= memory_bytes
        partial = tuple(
            sorted((m, gpu) for gpu, m in shared.items() if m > 0 and self.capacity_mask >> gpu & 1)
        )
        free_mask = self.capacity_mask & ~used
        self.left = self.rooms.left(
            self.kind, free_mask, partial, cpu_free_milli, memory_free_bytes
        )
        self.views = views_of(self.occupants.values())
        self.known_ends = self.known_span = None

    def add(self, occupant: Occupant) -> None:
        """Puts `occupant` here; equal to a recount with it."""
        self.show(occupant)
        after = self.left.without(occupant.shape, occupant.gpu_mask)
        alone = alone_views(occupant.sharing, occupant.organisation)
        self.take(self.rooms.left(self.kind, *after), alone)

    def take(self, after: Left, alone: tuple[View, ...]) -> None:
        """Somebody came, and this is left. `alone` are the views of a node that only it is on."""
        self.left = after
        if self.views is _NOBODY:
            self.views = alone
        elif self.views is not alone and self.views != alone:
            self.views = tuple(view for view in self.views if view in alone) or (CLOSED,)

    def remove(self, occupant: Occupant) -> None:
        """Takes `occupant` away."""
        self.hide(occupant.job)
        self.recount()

    def show(self, occupant: Occupant) -> None:
        """Puts `occupant` in the list of those here; what is left is as before."""
        self.occupants[occupant.job] = occupant
        self.known_ends = self.known_span = None

    def hide(self, job: JobId) -> None:
        """Takes a job off that list."""
        del self.occupants[job]
        self.known_ends = self.known_span = None

    def ends(self) -> Ends:
        """When those here are over at the latest. Remembered."""
        if self.known_ends is None:
            self.known_ends = Ends.of(self)
        return self.known_ends

    def span(self) -> Span:
        """From when to when those here are over at the latest. Remembered."""
        if self.known_span is None:
            self.known_span = span_of(self.occupants.values())
        return self.known_span

    def ready(self) -> bool:
        """Whether new work may start here at all."""
        return self.report is not None and self.report.ready() and not self.node.cordoned

    def is_declared_like(self, node: Node) -> bool:
        """Whether `node` is declared alike, whatever is known of it and whoever closed it."""
        own = self.node
        return own is node or replace(own, cordoned=node.cordoned, facts=node.facts) == node

    def isolation(self) -> Isolation | None:
        """What was reported of it; None before a first report."""
        return self.report.isolation if self.report is not None else None

    def isolated(self, least: Isolation) -> bool:
        """Whether the reported isolation suffices. What is not reported is not judged here:
        such a node is not ready."""
        return self.report is None or self.report.isolation >= least
