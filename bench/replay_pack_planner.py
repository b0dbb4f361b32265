"""The production planner as it packs: each request is a job of its own, planned when it arrives.

What is not placed by the plan after its arrival is dropped, as the published experiment has it.
What a placement holds is reckoned here, from what was asked: the planner's own word is not taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bench.policies.phi import mix_of
from bench.traces import GPU_MILLI, PackNode, PackRequest, PackTrace
from bench.worlds import NOW_MS, Shape, fleet_changes, node_of
from scheduler.core.classes import class_of
from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.model.ids import GpuClass, JobId, NodeId, TenantPath
from scheduler.model.job import JobSpec, JobState, Placement, Resources
from scheduler.model.plan import (
    Change,
    JobChanged,
    JobClass,
    LiveAttempt,
    MixChanged,
    QueuedJob,
    TenantsChanged,
)
from scheduler.model.residency import NodeSharing, Requirement
from scheduler.model.tenancy import Tenant

TENANT = TenantPath("everybody")
EMPTY = Shape(pods=1, leaves_per_pod=0, nodes_per_leaf=0, gpus_per_node=0)


class Held(NamedTuple):
    """A request that the planner placed."""

    job: JobId
    kind: int
    node: NodeId
    gpu_mask: int


class PlannerPlacer:
    """A fleet of the trace's nodes at one site, under the production planner."""

    def __init__(self, trace: PackTrace) -> None:
        self.trace = trace
        self.fleet = FleetState()
        self.sequence = 0
        self.jobs = 0
        self.classes = [class_of(_spec(kind), TENANT) for kind in trace.kinds]
        self._feed(_fleet(trace.nodes))
        self._feed([MixChanged(tuple(mix_of(trace)), NOW_MS)])
        # What is left of every GPU, and of every node's CPU and memory.
        self.free = {NodeId(_name(node)): [GPU_MILLI] * node.gpus for node in trace.nodes}
        self.rest = {
            NodeId(_name(node)): [node.cpu_milli, node.memory_bytes] for node in trace.nodes
        }

    def place(self, kind: int) -> Held | None:
        """One arrival, one plan."""
        self.jobs += 1
        job, now_ms = JobId(self.jobs), NOW_MS + self.jobs
        queued = QueuedJob(job, self.classes[kind], now_ms, 1)
        self._feed([JobChanged(job, queued, None)])
        # Nobody waits: no time passes in which a reservation would be made.
        made = plan(self.fleet, now_ms)
        if not made.placements:
            self._feed([JobChanged(job, None, None)])
            return None
        (placement,) = made.placements
        self._feed([JobChanged(job, None, _live(placement, self.classes[kind], now_ms))])
        held = Held(job, kind, placement.nodes[0].node, placement.nodes[0].gpu_mask)
        self._account(held, -1)
        return held

    def leave(self, token: Held) -> None:
        """The job ends."""
        self._feed([JobChanged(token.job, None, None)])
        self._account(token, 1)

    def _feed(self, changes: Iterable[Change]) -> None:
        self.sequence += 1
        self.fleet.apply_all(self.sequence, changes)

    def _account(self, held: Held, sign: int) -> None:
        """Takes or gives back, and checks that nothing is given twice."""
        asked = self.trace.kinds[held.kind]
        gpus = [at for at in range(held.gpu_mask.bit_length()) if held.gpu_mask >> at & 1]
        assert len(gpus) == asked.gpus, "as many GPUs as were asked for"
        for at in gpus:
            self.free[held.node][at] += sign * asked.gpu_milli
            assert 0 <= self.free[held.node][at] <= GPU_MILLI, "a GPU is given twice"
        rest = self.rest[held.node]
        rest[0] += sign * asked.cpu_milli
        rest[1] += sign * asked.memory_bytes
        assert min(rest) >= 0, "CPU or memory is given twice"


def _fleet(nodes: Iterable[PackNode]) -> Iterator[Change]:
    yield from fleet_changes(EMPTY, 0)
    yield TenantsChanged((Tenant(TENANT),))
    for node in nodes:
        yield node_of(
            NodeId(_name(node)),
            GpuClass(node.model),
            node.gpus,
            cpu_milli=node.cpu_milli,
            memory_bytes=node.memory_bytes,
        )


def _name(node: PackNode) -> str:
    return f"site-00/{node.name}"


def _spec(kind: PackRequest) -> JobSpec:
    resources = Resources(
        gpus_per_node=kind.gpus,
        gpu_classes=tuple(GpuClass(model) for model in kind.models),
        gpu_share_milli=kind.gpu_milli if kind.gpus else GPU_MILLI,
        # None at all would mean: in proportion to the GPUs.
        cpu_milli_per_node=max(1, kind.cpu_milli),
        memory_bytes_per_node=max(1, kind.memory_bytes),
    )
    residency = Requirement(("GB",), node_sharing=NodeSharing.ANY)
    return JobSpec("pod", TENANT, ("work",), residency, resources=resources)


def _live(placement: Placement, job_class: JobClass, now_ms: int) -> LiveAttempt:
    return LiveAttempt(placement, TENANT, job_class, JobState.RUNNING, now_ms, now_ms)
