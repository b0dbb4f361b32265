"""What the writer remembers of nodes and classes, in the form in which placements are held against
them (`standing`, `mirror`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from scheduler.core.asks import Ask
from scheduler.core.occupancy import NodeRecord, Occupant
from scheduler.core.ranking import Rooms
from scheduler.model.fleet import CpuArch, Interconnect, Node, NodeReport
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, TenantPath, site_of
from scheduler.model.reasons import Denial
from scheduler.model.residency import Requirement

Suit = tuple[GpuClass, int, CpuArch, tuple[Interconnect, ...]]
"""All of a node's declaration that tells whether it suits a class, and what it is charged."""


@dataclass(slots=True)
class Group:
    """A class of jobs as placements are checked by it."""

    tenant: TenantPath
    time_limit_bucket_ms: int
    ask: Ask
    requirement: Requirement
    requirement_number: int
    milli_on: dict[tuple[GpuClass, int], int | Denial] = field(default_factory=lambda: {})
    """What a node of a kind (its number) is charged for a GPU class, or why it does not suit; that
    never changes."""


class KnownNode(NodeRecord):
    """A node with who is on it, and what is true of it for as long as it is remembered: a report or
    a declaration that changes it has it forgotten."""

    __slots__ = ("is_ready", "kind_number", "site")

    def __init__(
        self,
        node: Node,
        report: NodeReport | None,
        occupants: dict[JobId, Occupant],
        rooms: Rooms,
        kind_number: int,
    ) -> None:
        super().__init__(node, report, occupants, rooms)
        self.site: SiteId = site_of(node.id)
        self.is_ready = self.ready()
        self.kind_number = kind_number


@dataclass(slots=True)
class Known:
    """Nodes that were asked about, the rooms that they share, and the kinds they are of."""

    records: dict[NodeId, KnownNode] = field(default_factory=lambda: {})
    rooms: Rooms = field(default_factory=Rooms)
    kinds: dict[Suit, int] = field(default_factory=lambda: {})

    def add(
        self, node: Node, report: NodeReport | None, occupants: dict[JobId, Occupant]
    ) -> KnownNode:
        """Remembers a node, and who is on it."""
        suit = node.gpu_class, node.gpus, node.cpu_arch, node.interconnects
        number = self.kinds.setdefault(suit, len(self.kinds))
        known = self.records[node.id] = KnownNode(node, report, occupants, self.rooms, number)
        return known

    def bound(self) -> None:
        """Forgets rooms that no node is in, where they have become many."""
        if self.rooms.is_crowded():
            self.rooms.keep_only({each.left.room.number for each in self.records.values()})
