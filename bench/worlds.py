"""A fleet and a queue of the size of a nation, made from a seed."""

from __future__ import annotations

import json
import random  # noqa: TID251 (drawn from a stated seed)
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scheduler.core.fleet import FleetState
from scheduler.model.fleet import (
    CpuArch,
    Health,
    Interconnect,
    Isolation,
    Node,
    NodeReport,
    Site,
    SiteStatus,
)
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, TenantPath, node_id, slot_of
from scheduler.model.job import Priority, Resources, Topology, TopologyLevel
from scheduler.model.plan import (
    Change,
    JobChanged,
    JobClass,
    NodeChanged,
    PolicyChanged,
    QueuedJob,
    SiteChanged,
    TenantsChanged,
)
from scheduler.model.residency import Assurance, Fact, FactKey, Policy, Requirement
from scheduler.model.tenancy import Tenant

NOW_MS = 1_800_000_000_000
FOLDER = "fleet120k_synthetic"
H200 = GpuClass("H200")
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the fleet is: pods are sites here, as in the trace."""

    pods: int = 30
    leaves_per_pod: int = 20
    nodes_per_leaf: int = 25
    gpus_per_node: int = 8


def shape_from(data: Path | None) -> Shape:
    """The shape in a topology file of the reference fleet's form, or that fleet's own."""
    if data is None:
        return Shape()
    where = data / FOLDER if (data / FOLDER).is_dir() else data
    stated = json.loads((where / "dev_topology.json").read_text())
    return Shape(
        stated["pods"], stated["leaves_per_pod"], stated["nodes_per_leaf"], stated["gpus_per_node"]
    )


def fleet_changes(shape: Shape, tenants: int) -> Iterator[Change]:
    """Every site connected, every node ready, a flat tree of tenants without limits."""
    yield PolicyChanged(Policy())
    yield TenantsChanged(tuple(Tenant(TenantPath(f"tenant-{n}")) for n in range(tenants)))
    facts = tuple(_fact(key) for key in FactKey)
    for pod in range(shape.pods):
        site = SiteId(f"site-{pod:02}")
        yield SiteChanged(site, Site(site, SiteStatus.ACTIVE, facts, ()), connected=True)
        for leaf in range(shape.leaves_per_pod):
            for slot in range(shape.nodes_per_leaf):
                name = node_id(site, f"l{leaf:02}n{slot:02}")
                yield node_of(name, H200, shape.gpus_per_node, leaf=f"leaf-{leaf:02}")


def queue(seed: int, jobs: int, classes: int, tenants: int, gang_percent: int) -> Iterator[Change]:
    """Jobs of 1 to 8 GPUs and gangs of 2 to 16 whole nodes, in at least so many classes."""
    draw = random.Random(seed)
    kinds: list[JobClass] = []
    for number in range(classes):
        gang = number % 100 < gang_percent
        nodes = draw.choice((2, 4, 8, 16)) if gang else 1
        gpus = 8 if gang else draw.choice((1, 1, 1, 2, 2, 4, 4, 8))
        level = draw.choice((TopologyLevel.LEAF, TopologyLevel.POD)) if gang else TopologyLevel.SITE
        kinds.append(
            JobClass(
                tenant=TenantPath(f"tenant-{number % tenants}"),
                resources=Resources(nodes=nodes, gpus_per_node=gpus),
                topology=Topology(level),
                residency=Requirement(("GB",)),
                priority=draw.choice((Priority.SPOT, Priority.NORMAL, Priority.HIGH)),
                time_limit_bucket_ms=HOUR_MS * (1 + number // tenants),
                preemptible=True,
            )
        )
    for number in range(jobs):
        queued = QueuedJob(JobId(number + 1), kinds[number % classes], NOW_MS - number, 1)
        yield JobChanged(queued.id, queued, None)


def loaded(changes: Iterator[Change]) -> FleetState:
    """The planner's state after these changes."""
    fleet = FleetState()
    fleet.apply_all(1, list(changes))
    return fleet


def _fact(key: FactKey) -> Fact:
    values = {FactKey.ACCREDITATION: "OFFICIAL", FactKey.ULTIMATE_PARENTS: ""}.get(key, "GB")
    return Fact(key, (values,) if values else (), Assurance.AUDITED, "bench", NOW_MS - HOUR_MS)


def node_of(
    name: NodeId,
    gpu_class: GpuClass,
    gpus: int,
    *,
    leaf: str = "leaf-00",
    cpu_milli: int = 128_000,
    memory_bytes: int = 2 * 1024**4,
) -> NodeChanged:
    """A node that is declared and ready."""
    node = Node(
        id=name,
        pod="pod-1",
        leaf=leaf,
        nvlink_domain=slot_of(name),
        gpu_class=gpu_class,
        gpus=gpus,
        cpu_arch=CpuArch.AMD64,
        cpu_milli=cpu_milli,
        memory_bytes=memory_bytes,
        interconnects=(Interconnect.INFINIBAND,),
    )
    report = NodeReport(
        node=name,
        boot_id="boot",
        gpus=gpus,
        health=Health.OK,
        health_detail="",
        isolation=Isolation.UID,
        telemetry="simulated",
        runtime_alive=True,
        agent_connected=True,
        cpu_arch=CpuArch.AMD64,
        cpu_milli=cpu_milli,
        memory_bytes=memory_bytes,
    )
    return NodeChanged(name, node, report)
