"""What the writer remembers of nodes and classes, in the form in which placements are held against
them (`standing`, `mirror`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from scheduler.core.asks import Ask, Shape, suits_arch, suits_interconnect
from scheduler.core.occupancy import NodeRecord, Occupant, View, alone_views, joinable_views
from scheduler.core.ranking import Rooms
from scheduler.core.rooms import Left
from scheduler.model.fleet import CpuArch, Interconnect, Isolation, Node, NodeReport
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, TenantPath, site_of
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Requirement

Suit = tuple[GpuClass, int, CpuArch, tuple[Interconnect, ...]]
"""All of a node's declaration that tells whether it suits a class, and what it is charged."""


BEFORE_ALL = NodeId("")
STEPS_MAX = 2_000
"""What nodes have left after jobs of one shape, as far as it is remembered."""


@dataclass(slots=True)
class Steps:
    """What a node has left after a job of one shape took some of its GPUs, by what it had: nodes in
    the same state share it, so most of a plan's are known from others."""

    shape: Shape
    rooms: Rooms
    known: dict[tuple[Left, int], Left | None] = field(default_factory=lambda: {})

    def after(self, left: Left, gpu_mask: int) -> Left | None:
        """What is left once those GPUs, or its share of one, are taken; None: it cannot have them,
        or too little CPU or memory is free."""
        try:
            return self.known[left, gpu_mask]
        except KeyError:
            pass
        found = None
        if left.has_free(self.shape, gpu_mask) and left.holds(self.shape):
            found = self.rooms.left(left.room.kind, *left.without(self.shape, gpu_mask))
        if len(self.known) >= STEPS_MAX:
            self.known.clear()
        self.known[left, gpu_mask] = found
        return found


@dataclass(slots=True)
class Group:
    """A class of jobs as placements are checked by it."""

    tenant: TenantPath
    time_limit_bucket_ms: int
    ask: Ask
    requirement: Requirement
    requirement_number: int
    steps: Steps
    alone: tuple[View, ...] = ()
    """The views of a node that only it is on."""
    joinable: frozenset[View] = frozenset()
    """The views of nodes that it may join."""
    charges: dict[tuple[GpuClass, int], int | Denial] = field(default_factory=lambda: {})
    """What `milli_on` found, by GPU class and the number of a node's kind; that never changes."""

    def __post_init__(self) -> None:
        ask = self.ask
        self.alone = alone_views(ask.sharing, ask.organisation)
        self.joinable = frozenset(joinable_views(ask.sharing, ask.organisation))

    def milli_on(self, gpu_class: GpuClass, record: KnownNode) -> int | Denial:
        """What a node is charged for `gpu_class`, or why it does not suit."""
        kind = gpu_class, record.kind_number
        found = self.charges.get(kind)
        if found is None:
            found = self.charges[kind] = _milli_on(self.ask, gpu_class, record.node)
        return found


def _milli_on(ask: Ask, gpu_class: GpuClass, node: Node) -> int | Denial:
    if node.gpu_class != gpu_class or not ask.accepts(node.gpu_class):
        return Denial(Reason.GPU_CLASS, f"has {node.gpu_class}")
    if not suits_arch(ask.shape, node):
        return Denial(Reason.CPU_ARCH, f"is {node.cpu_arch.name}")
    if not suits_interconnect(ask.shape, node):
        return Denial(Reason.INTERCONNECT, "lacks the interconnect")
    return ask.milli_on(node.gpus)


class KnownNode(NodeRecord):
    """A node with who is on it, and what is true of it for as long as it is remembered: a report or
    a declaration that changes it has it forgotten."""

    __slots__ = ("is_ready", "isolation_level", "kind_number", "site")

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
        self.isolation_level = report.isolation if report is not None else Isolation.UNSPECIFIED
        self.kind_number = kind_number


Taken: TypeAlias = tuple[KnownNode, int, Left]
"""A node of a placement, the GPUs that it takes there, and what is left after that."""


@dataclass(slots=True)
class Known:
    """Nodes that were asked about, the rooms that they share, and the kinds they are of."""

    records: dict[NodeId, KnownNode] = field(default_factory=lambda: {})
    rooms: Rooms = field(default_factory=Rooms)
    kinds: dict[Suit, int] = field(default_factory=lambda: {})
    steps: dict[Shape, Steps] = field(default_factory=lambda: {})
    learned_to: NodeId | None = BEFORE_ALL
    """Up to which node all were asked about once, by id; None: all of them."""

    def add(
        self, node: Node, report: NodeReport | None, occupants: dict[JobId, Occupant]
    ) -> KnownNode:
        """Remembers a node, and who is on it."""
        suit = node.gpu_class, node.gpus, node.cpu_arch, node.interconnects
        number = self.kinds.setdefault(suit, len(self.kinds))
        known = self.records[node.id] = KnownNode(node, report, occupants, self.rooms, number)
        return known

    def steps_of(self, shape: Shape) -> Steps:
        """What jobs of a shape leave of nodes."""
        known = self.steps.get(shape)
        if known is None:
            known = self.steps[shape] = Steps(shape, self.rooms)
        return known

    def bound(self) -> None:
        """Forgets rooms that no node is in, where they have become many."""
        if self.rooms.is_crowded():
            for steps in self.steps.values():
                steps.known.clear()
            self.rooms.keep_only({each.left.room.number for each in self.records.values()})
