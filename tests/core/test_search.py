"""What a search finds beside what it may not have."""

from __future__ import annotations

from scheduler.core.planner import plan
from scheduler.model.job import TopologyLevel
from scheduler.model.residency import NodeSharing
from tests.core.builders import NOW_MS, fleet_of, job_class, node, queued, tenant


def test_whole_nodes_that_quota_allows_are_found_beside_larger_ones() -> None:
    """Work that shares with nobody is charged whole nodes: a leaf of large ones may cost too much
    where one of small ones does not."""
    large = [node("london", f"a{n}", gpus=8, leaf="l0") for n in range(2)]
    small = [node("london", f"b{n}", gpus=4, leaf="l1") for n in range(2)]
    tenants = (tenant("trust-a", limit=8), tenant("trust-a/radiology"))
    fleet = fleet_of(nodes=[*large, *small], tenants=tenants)
    gang = job_class(gpus=1, nodes=2, sharing=NodeSharing.NONE, within=TopologyLevel.LEAF)
    fleet.apply(queued(1, gang))
    assert [placed.gpu_milli for placed in plan(fleet, NOW_MS).placements] == [8000]
