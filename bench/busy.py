"""A nation at work, in a store: every GPU in use, and a queue that is far longer than the fleet.

What runs was placed together, a leaf at a time, so that leaves come free together when its time
limits end it; how much is left of them is spread over `LIMITS_END_OVER` turns. What waits is of
many kinds: sizes, gangs, limits, CPU and priorities, drawn from a seed. Work of the lowest priority
may be preempted, and none of it runs at the beginning.
"""

from __future__ import annotations

import itertools
import random  # noqa: TID251 (drawn from a stated seed)
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.stored import FILL_BATCH, declare, queued_row
from bench.worlds import H200, HOUR_MS, NOW_MS, Shape, fleet_changes
from scheduler.core.classes import class_of
from scheduler.model.ids import AttemptKey, JobId, NodeId, TenantPath, site_of
from scheduler.model.job import (
    JobSpec,
    NodePlacement,
    Placement,
    Preemption,
    Priority,
    Resources,
    Topology,
    TopologyLevel,
)
from scheduler.model.plan import JobClass, NodeChanged, Plan
from scheduler.model.residency import Requirement
from scheduler.store.apply import apply_plan
from scheduler.store.store import Store

SEED = 42
TURN_MS = 60_000
LIMITS_END_OVER = 200
"""Turns over which all that runs at the beginning meets its limit: half of a percent a turn."""
LIMIT_MS = 4 * HOUR_MS
"""Of what runs at the beginning: more than LIMITS_END_OVER turns."""
GANG_PERCENT = 2
ON_NODES = ((1,) * 8, (1,) * 8, (1, 1, 2, 4))
"""How the GPUs of a node of eight are shared out, node after node: 20 jobs on 24 GPUs."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is of everything."""

    shape: Shape = field(default_factory=Shape)
    tenants: int = 50
    kinds: int = 2_200
    queued: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs that are alike: as people write them, and as the planner sees them."""

    spec: JobSpec
    job_class: JobClass


def kinds(size: Size) -> list[Kind]:
    """As many classes of work as `size` says, those that can be run at the beginning first."""
    draw = random.Random(SEED)
    found = {
        kind.job_class: kind
        for tenant in range(size.tenants)
        for gpus in (1, 2, 4)
        for kind in (_kind(tenant, Resources(gpus_per_node=gpus), LIMIT_MS),)
    }
    while len(found) < size.kinds:
        kind = _drawn(draw, len(found) % size.tenants)
        found.setdefault(kind.job_class, kind)
    return list(found.values())


def fill(store: Store, size: Size) -> list[Kind]:
    """The whole fleet full, and the queue behind it; the kinds of work there are."""
    found = kinds(size)
    changes = list(fleet_changes(size.shape, size.tenants))
    declare(store, changes)
    nodes = [NodeId(change.id) for change in changes if isinstance(change, NodeChanged)]
    _run(store, size, nodes, found)
    numbers = iter(range(size.queued))
    while part := list(itertools.islice(numbers, FILL_BATCH)):
        with store.transaction() as txn:
            specs = [txn.jobs.put_spec(kind.spec) for kind in found]
            for number in part:
                at = number % len(found)
                # The whole queue came over a day, in the order of its numbers.
                waited_ms = (size.queued - number) * 24 * HOUR_MS // size.queued
                queued_row(txn, found[at].job_class, specs[at], NOW_MS - waited_ms)
    return found


def _run(store: Store, size: Size, nodes: Sequence[NodeId], found: Sequence[Kind]) -> None:
    """Fills the nodes, a leaf of one tenant at a time."""
    leaf = size.shape.nodes_per_leaf
    leaves = [nodes[first : first + leaf] for first in range(0, len(nodes), leaf)]
    order = list(range(len(leaves)))
    random.Random(SEED).shuffle(order)
    for number, members in enumerate(leaves):
        left_ms = TURN_MS * (1 + order[number] * LIMITS_END_OVER // len(leaves))
        placed_at_ms = NOW_MS - LIMIT_MS + left_ms
        of_tenant = 3 * (number % size.tenants)
        of_three = found[of_tenant : of_tenant + 3]
        by_gpus = {kind.spec.resources.gpus_per_node: kind for kind in of_three}
        with store.transaction() as txn:
            specs = {gpus: txn.jobs.put_spec(kind.spec) for gpus, kind in by_gpus.items()}
            placements = [
                _placed(
                    queued_row(txn, by_gpus[gpus].job_class, specs[gpus], placed_at_ms).id,
                    node,
                    mask,
                    gpus,
                )
                for node, gpus, mask in _parts(members)
            ]
            applied = apply_plan(txn, Plan(0, 1, tuple(placements)), placed_at_ms)
            assert not applied.stale, applied.stale[0]


def _parts(nodes: Sequence[NodeId]) -> Iterator[tuple[NodeId, int, int]]:
    """Nodes in full: so many GPUs of each, and which."""
    for node, counts in zip(nodes, itertools.cycle(ON_NODES), strict=False):
        first = 0
        for gpus in counts:
            yield node, gpus, ((1 << gpus) - 1) << first
            first += gpus


def _placed(job: JobId, node: NodeId, mask: int, gpus: int) -> Placement:
    part = (NodePlacement(node, mask),)
    return Placement(AttemptKey(job, 1), site_of(node), H200, part, 1000 * gpus)


def _drawn(draw: random.Random, tenant: int) -> Kind:
    hours = draw.choice((1, 2, 4, 8, 12, 24, 48))
    priority = draw.choice((Priority.SPOT, *[Priority.NORMAL] * 8, Priority.HIGH))
    if draw.randrange(100) < GANG_PERCENT:
        resources = Resources(nodes=draw.choice((2, 4, 8, 16)), gpus_per_node=8)
        level = draw.choice((TopologyLevel.LEAF, TopologyLevel.POD))
        return _kind(tenant, resources, hours * HOUR_MS, priority, Topology(level))
    gpus = draw.choice((1, 1, 1, 2, 2, 4, 4, 8))
    # Nothing said is in proportion; or half of that, or a quarter.
    cpu_milli = gpus * draw.choice((0, 0, 8_000, 4_000))
    resources = Resources(gpus_per_node=gpus, cpu_milli_per_node=cpu_milli)
    return _kind(tenant, resources, hours * HOUR_MS, priority)


def _kind(
    tenant: int,
    resources: Resources,
    limit_ms: int,
    priority: Priority = Priority.NORMAL,
    topology: Topology | None = None,
) -> Kind:
    spec = JobSpec(
        name="train",
        project=TenantPath(f"tenant-{tenant}"),
        command=("python", "train.py"),
        residency=Requirement(("GB",)),
        resources=resources,
        topology=topology or Topology(),
        priority=priority,
        time_limit_ms=limit_ms,
        preemption=Preemption(allowed=priority is Priority.SPOT),
    )
    return Kind(spec, class_of(spec, spec.project))
