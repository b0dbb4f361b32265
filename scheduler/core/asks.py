"""What a class of jobs asks of a node and of a gang, taken apart once and used many times."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from scheduler.core.units import units_of
from scheduler.model.fleet import CpuArch, Interconnect, Node
from scheduler.model.ids import GpuClass, TenantPath, organisation_of
from scheduler.model.job import Resources, TopologyLevel, TopologyMode
from scheduler.model.mig import milli_of
from scheduler.model.plan import JobClass
from scheduler.model.residency import NodeSharing
from scheduler.model.topology import Apart

CPU_MILLI_MIN = 100
"""The least CPU that a job may ask of a node: with less left, a node takes nothing more."""

CPU_JOB_MILLI_DEFAULT = 1000
"""CPU of a job without GPUs that names no amount."""


WIDTHS_MAX = 8
"""Numbers of nodes that are tried for an elastic job."""

SHAPES_MAX = 65_536
"""Shapes of which there is one object only."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a node must be, whoever is on it. Zero CPU or memory: in proportion to the GPUs.

    Its hash is worked out once: the planner looks things up by shape all the time.
    """

    gpus: int
    cpu_milli: int
    memory_bytes: int
    cpu_arch: CpuArch
    interconnect: Interconnect
    share_milli: int = 1000
    """Of its one GPU, where that is shared; whole GPUs, or an instance, otherwise."""
    profile: str = ""
    """Of its one GPU an instance that is cut so."""
    hashed: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        parts = (self.gpus, self.cpu_milli, self.memory_bytes, self.share_milli, self.profile)
        object.__setattr__(self, "hashed", hash((parts, self.cpu_arch, self.interconnect)))

    def __hash__(self) -> int:
        return self.hashed

    def gpu_milli(self) -> int:
        """What it takes of a node's GPUs."""
        return self.gpus * (milli_of(self.profile) if self.profile else self.share_milli)

    def units(self) -> str:
        """What of GPUs it takes of a node, in words."""
        return f"1 MIG {self.profile}" if self.profile else f"{self.gpus} GPUs"


@dataclass(frozen=True, slots=True)
class Ask:
    """A class of jobs as the planner reads it."""

    nodes: int
    shape: Shape
    gpu_classes: tuple[GpuClass, ...]
    """Acceptable models; empty: any. The first named is taken where the score finds them alike."""
    within: TopologyLevel
    """The level that must hold; SITE always does."""
    prefer: TopologyLevel
    """The level that is liked; equal to `within` where it must hold."""
    sharing: NodeSharing
    organisation: TenantPath
    nodes_max: int = 0
    """An elastic job takes up to so many nodes where nobody waits for them; 0: `nodes`."""
    apart: Apart | None = None
    """It keeps away from others of its service."""

    def widths(self) -> tuple[int, ...]:
        """How many nodes it may have, ascending: of many numbers, few that are far apart."""
        more = self.nodes_max - self.nodes
        if more <= 0:
            return (self.nodes,)
        steps = min(more, WIDTHS_MAX - 1)
        return tuple(self.nodes + more * step // steps for step in range(steps + 1))

    def accepts(self, gpu_class: GpuClass) -> bool:
        """Whether the model will do."""
        return not self.gpu_classes or gpu_class in self.gpu_classes

    def milli_on(self, node_gpus: int) -> int:
        """What one node of `node_gpus` GPUs is charged: all of it where it is not shared."""
        return node_gpus * 1000 if self.sharing is NodeSharing.NONE else self.shape.gpu_milli()


def ask_of(job_class: JobClass) -> Ask:
    """The ask of `job_class`."""
    resources, topology = job_class.resources, job_class.topology
    level = topology.within if topology.within else TopologyLevel.SITE
    required = topology.mode is not TopologyMode.PREFERRED
    return Ask(
        nodes=max(1, resources.nodes),
        shape=_shape_of(resources),
        gpu_classes=resources.gpu_classes,
        within=level if required else TopologyLevel.SITE,
        prefer=level,
        sharing=job_class.residency.node_sharing,
        organisation=organisation_of(job_class.tenant),
        nodes_max=resources.max_nodes if resources.max_nodes > resources.nodes else 0,
        apart=job_class.apart,
    )


@lru_cache(maxsize=SHAPES_MAX)
def _shape_of(resources: Resources) -> Shape:
    return Shape(
        gpus=max(0, resources.gpus_per_node),
        cpu_milli=resources.cpu_milli_per_node,
        memory_bytes=resources.memory_bytes_per_node,
        cpu_arch=resources.cpu_arch,
        interconnect=resources.interconnect,
        share_milli=1000 if resources.mig_profile else resources.milli_each(),
        profile=resources.mig_profile,
    )


def cpu_milli_on(shape: Shape, node: Node) -> int:
    """CPU that a job of `shape` takes of `node`."""
    if shape.cpu_milli:
        return shape.cpu_milli
    if shape.gpus and node.gpus:
        return node.cpu_milli * shape.gpu_milli() // (node.gpus * 1000)
    return min(CPU_JOB_MILLI_DEFAULT, node.cpu_milli)


def memory_bytes_on(shape: Shape, node: Node) -> int:
    """Memory that a job of `shape` takes of `node`: in proportion to GPUs, or else to CPU."""
    if shape.memory_bytes:
        return shape.memory_bytes
    if shape.gpus and node.gpus:
        return node.memory_bytes * shape.gpu_milli() // (node.gpus * 1000)
    return node.memory_bytes * cpu_milli_on(shape, node) // max(1, node.cpu_milli)


def suits_arch(shape: Shape, node: Node) -> bool:
    """Whether the node's instruction set will do."""
    if shape.cpu_arch is CpuArch.UNSPECIFIED:
        return False
    return shape.cpu_arch in (CpuArch.ANY, node.cpu_arch)


def suits_interconnect(shape: Shape, node: Node) -> bool:
    """Whether the node is on the interconnect that is asked for."""
    if shape.interconnect is Interconnect.UNSPECIFIED:
        return False
    return shape.interconnect is Interconnect.ANY or shape.interconnect in node.interconnects


def suits_size(shape: Shape, node: Node) -> bool:
    """Whether the node, all of it free, is large enough."""
    return (
        shape.gpus <= units_of(node, shape.profile).bit_count()
        and cpu_milli_on(shape, node) <= node.cpu_milli
        and memory_bytes_on(shape, node) <= node.memory_bytes
    )
