"""A site as declared: its nodes in topology order, and sets of them as bits of one integer.

Bit i of every mask is the i-th node of `nodes`, ordered by pod, leaf, NVLink domain, id. So the
nodes of one domain lie side by side, and "which of them suit" is an AND.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from scheduler.core import asks
from scheduler.core.asks import Ask, Shape
from scheduler.model.fleet import Node
from scheduler.model.ids import GpuClass
from scheduler.model.job import TopologyLevel

LEVELS = (TopologyLevel.NVLINK, TopologyLevel.LEAF, TopologyLevel.POD, TopologyLevel.SITE)
"""The levels at which more than one node can be together, closest first."""


class Layout:
    """The declared nodes of one site. Immutable, but for memoised answers."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes: tuple[Node, ...] = tuple(sorted(nodes, key=topology_key))
        self.all = (1 << len(self.nodes)) - 1
        self.position = {node.id: at for at, node in enumerate(self.nodes)}
        self._alike = self._grouped()
        self.classes: tuple[GpuClass, ...] = tuple(sorted({node.gpu_class for node in self.nodes}))
        self.of_class = {name: self._of_kind(name, None) for name in self.classes}
        kinds = sorted({(node.gpu_class, node.gpus) for node in self.nodes})
        self.of_kind = {kind: self._of_kind(*kind) for kind in kinds}
        """By GPU class and GPUs a node."""
        self.domains = {level: self._domains(level) for level in LEVELS}
        self.widest = {
            level: max((mask.bit_count() for mask in masks), default=0)
            for level, masks in self.domains.items()
        }
        self.racks = tuple(self._racks())
        """The NVLink domains of which nodes are kept free, and of how many."""
        self._by_shape: dict[Shape, tuple[int, int, int]] = {}

    def suits(self, shape: Shape) -> tuple[int, int, int]:
        """Nodes whose architecture, interconnect and size suit `shape`, each by itself."""
        if shape not in self._by_shape:
            self._by_shape[shape] = (
                self._mask(lambda node: asks.suits_arch(shape, node)),
                self._mask(lambda node: asks.suits_interconnect(shape, node)),
                self._mask(lambda node: asks.suits_size(shape, node)),
            )
        return self._by_shape[shape]

    def required_domains(self, ask: Ask) -> tuple[int, ...]:
        """The sets of nodes of which one must hold the whole gang."""
        if ask.nodes == 1:
            return (self.all,)
        # No domain of one node holds a gang.
        return self.domains.get(ask.within, ())

    def kept_free(self) -> int:
        """The nodes that are kept free while all are well and empty: the last of each rack."""
        mask = 0
        for rack, count in self.racks:
            mask |= mask_of(list(bits(rack))[-count:])
        return mask

    def _racks(self) -> Iterator[tuple[int, int]]:
        for rack in self.domains[TopologyLevel.NVLINK]:
            count = max(self.nodes[at].nvlink_spares for at in bits(rack))
            if count:
                yield rack, count

    def _grouped(self) -> list[tuple[Node, int]]:
        """The nodes of each make, and one of them: what work asks of a node's declaration is the
        same for all of them."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for at, node in enumerate(self.nodes):
            size = node.gpu_class, node.gpus, node.cpu_milli, node.memory_bytes, node.mig
            make = *size, node.cpu_arch, node.interconnects
            groups.setdefault(make, []).append(at)
        return [(self.nodes[members[0]], mask_of(members)) for members in groups.values()]

    def _of_kind(self, gpu_class: GpuClass, gpus: int | None) -> int:
        """The nodes of that class, with so many GPUs, or with any number of them."""
        return self._mask(
            lambda node: node.gpu_class == gpu_class and (gpus is None or node.gpus == gpus)
        )

    def _mask(self, suits: Callable[[Node], bool]) -> int:
        """The nodes whose make `suits`."""
        mask = 0
        for node, alike in self._alike:
            if suits(node):
                mask |= alike
        return mask

    def _domains(self, level: TopologyLevel) -> tuple[int, ...]:
        members: dict[tuple[str, ...], list[int]] = {}
        for at, node in enumerate(self.nodes):
            members.setdefault(domain_of(node, level), []).append(at)
        return tuple(mask_of(members[key]) for key in sorted(members))


def topology_key(node: Node) -> tuple[str, str, str, str]:
    """Where `node` is in its site: neighbours sort side by side."""
    return (node.pod, node.leaf, node.nvlink_domain, node.id)


def domain_of(node: Node, level: TopologyLevel) -> tuple[str, ...]:
    """The domain of `node` at `level`, named from the site down.

    A node without an NVLink domain is one by itself: NVLink inside a node is not one to others.
    """
    match level:
        case TopologyLevel.SITE:
            return ()
        case TopologyLevel.POD:
            return (node.pod,)
        case TopologyLevel.LEAF:
            return (node.pod, node.leaf)
        case TopologyLevel.NVLINK if node.nvlink_domain:
            return (node.pod, node.leaf, node.nvlink_domain)
        case _:
            return (node.pod, node.leaf, node.nvlink_domain, node.id)


def mask_of(positions: Iterable[int]) -> int:
    """The set of `positions`."""
    mask = 0
    for at in positions:
        mask |= 1 << at
    return mask


def bits(mask: int) -> Iterator[int]:
    """The members of `mask`, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
