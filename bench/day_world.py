"""What a day of the reference fleet is made of: sites, jobs and failures, from a stated seed.

The trace has times, sizes, tenants, priorities and the domain that each gang must be within. What
it lacks is drawn: the country of each site and the model of its GPUs, and for each job where it may
be, which model it needs, what it declares as its limit, how often it saves, and whether it is of
another kind (`day_kinds`).
"""

from __future__ import annotations

import random  # noqa: TID251 (drawn from a stated seed)
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import traces
from bench.country import BEGIN_MS, Work
from bench.day_kinds import LIMIT_MS_MAX, kind_of
from bench.worlds import Shape
from scheduler.model.fleet import CpuArch, Interconnect, Node, Site, SiteStatus
from scheduler.model.ids import GpuClass, SiteId, TenantPath, node_id
from scheduler.model.job import JobSpec, Priority, Resources, Topology, TopologyLevel
from scheduler.model.residency import (
    Assurance,
    Fact,
    FactKey,
    NodeSharing,
    Party,
    Policy,
    Requirement,
)

SEED = 42
HOUR_MS = 3_600_000
FAILURES_PER_1000_NODE_DAYS = 3.8
REPAIR_MS = 30 * 60_000
LIMIT_FACTORS = (1.1, 1.5, 3.0)
"""Limits that people declare, in multiples of what their work takes."""
SAVES_MS = (15 * 60_000, 30 * 60_000, 60 * 60_000)
MODELS = (GpuClass("H200"), GpuClass("B200"))
COUNTRIES = ("GB", "CA")
CAPPED_EVERY = 5
"""Every fifth site has a power cap, at which a tenth of its GPUs stay dark."""
DARK_PERCENT = 10
FILL_MS = 10 * 60_000
"""What runs when the day begins came evenly in the time before: no fleet fills in one moment."""
GPU_W, BASE_W = 1_000, 6_304
"""What each GPU and each node is declared to draw."""
LEVELS = {
    "node": TopologyLevel.NODE,
    "leaf": TopologyLevel.LEAF,
    "pod": TopologyLevel.POD,
    "cluster": TopologyLevel.SITE,
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """One job of the day. `at_ms` is of virtual time since FILL_MS before the day begins."""

    at_ms: int
    gpus: int
    """Of all its nodes, if it is elastic."""
    initial: bool
    spec: JobSpec
    runs_ms: int
    """On all its nodes."""
    saves_every_ms: int
    tasks: int = 1
    """How many such it is: tasks, or replicas."""

    def work(self) -> Work:
        """What it has to do, or each of its tasks."""
        return Work(self.spec, self.runs_ms, saves_every_ms=self.saves_every_ms)


@dataclass(frozen=True, slots=True)
class Outage:
    """A node that fails."""

    at_ms: int
    node: Node


@dataclass(frozen=True, slots=True)
class Day:
    """All of it."""

    sites: tuple[tuple[Site, tuple[Node, ...]], ...]
    arrivals: tuple[Arrival, ...]
    outages: tuple[Outage, ...]
    policy: Policy


def drawn(folder: Path, shape: Shape, hours: int, share_permille: int) -> Day:
    """The day, or its first `hours`; of the jobs so many in a thousand."""
    draw, other = random.Random(SEED), random.Random(SEED + 1)
    sites = tuple(_site(shape, pod) for pod in range(shape.pods))
    nodes = [node for _, own in sites for node in own]
    arrivals = traces.rows(
        traces.only(folder, "*jobs.csv.gz"),
        ("submit_s", "duration_s", "gpus", "tenant", "initial", "priority", "max_level"),
        lambda row: _arrival(row, draw, shape),
    )
    kept = [
        each
        for each in arrivals
        if draw.randrange(1000) < share_permille and each.at_ms < FILL_MS + hours * HOUR_MS
    ]
    kept = _filling([each for each in kept if each.initial]) + [
        _of_a_kind(each, other) for each in kept if not each.initial
    ]
    kept.sort(key=lambda each: each.at_ms)
    expected = FAILURES_PER_1000_NODE_DAYS * len(nodes) / 1000 * hours / 24
    failures = int(expected) + (draw.random() < expected % 1)
    outages = sorted(
        (
            Outage(FILL_MS + draw.randrange(hours * HOUR_MS), draw.choice(nodes))
            for _ in range(failures)
        ),
        key=lambda each: each.at_ms,
    )
    policy = Policy(allowed_jurisdictions=COUNTRIES)
    return Day(sites, tuple(kept), tuple(outages), policy)


def _filling(initial: Sequence[Arrival]) -> list[Arrival]:
    """What runs when the day begins, one after another: as much longer as it came sooner."""
    found: list[Arrival] = []
    for number, each in enumerate(initial):
        at_ms = FILL_MS * number // len(initial)
        found.append(replace(each, at_ms=at_ms, runs_ms=each.runs_ms + FILL_MS - at_ms))
    return found


def _of_a_kind(job: Arrival, draw: random.Random) -> Arrival:
    spec, runs_ms, tasks = kind_of(job.spec, job.runs_ms, draw)
    return replace(job, spec=spec, runs_ms=runs_ms, tasks=tasks)


def country_of(site: Site) -> str:
    """Where a site is."""
    return site.facts[0].values[0]


def powered_gpus(site: Site, nodes: Sequence[Node]) -> int:
    """How many of a site's GPUs may work at a time under its power cap."""
    gpus = sum(node.gpus for node in nodes)
    if site.power_cap_w is None:
        return gpus
    return min(gpus, (site.power_cap_w - len(nodes) * BASE_W) // GPU_W)


def _site(shape: Shape, pod: int) -> tuple[Site, tuple[Node, ...]]:
    """Every sixth is abroad; every third has the second model."""
    name, country = SiteId(f"site-{pod:02}"), COUNTRIES[pod % 6 == 5]
    model = MODELS[pod % 3 == 2]
    nodes = tuple(
        Node(
            node_id(name, f"l{leaf:02}n{slot:02}"), "p0", f"l{leaf:02}", "", model,
            shape.gpus_per_node, CpuArch.AMD64, 128_000, 2 * 1024**4, (Interconnect.INFINIBAND,),
            base_w=BASE_W, gpu_w=GPU_W,
        )
        for leaf in range(shape.leaves_per_pod)
        for slot in range(shape.nodes_per_leaf)
    )  # fmt: skip
    facts = tuple(_fact(key, country) for key in FactKey)
    full_w = len(nodes) * (BASE_W + shape.gpus_per_node * GPU_W)
    dark_w = len(nodes) * shape.gpus_per_node * GPU_W * DARK_PERCENT // 100
    cap_w = full_w - dark_w if pod % CAPPED_EVERY == CAPPED_EVERY - 1 else None
    parents = (Party("Exchange plc", country, 100_000),)
    return Site(name, SiteStatus.ACTIVE, facts, parents, power_cap_w=cap_w), nodes


def _fact(key: FactKey, country: str) -> Fact:
    values = {FactKey.ULTIMATE_PARENTS: (), FactKey.ACCREDITATION: ("OFFICIAL",)}
    values[FactKey.MARKINGS] = ()
    said = values.get(key, (country,))
    return Fact(key, said, Assurance.AUDITED, "auditor", BEGIN_MS - HOUR_MS)


def _arrival(row: dict[str, str], draw: random.Random, shape: Shape) -> Arrival:
    gpus, runs_ms = int(row["gpus"]), max(1_000, round(float(row["duration_s"]) * 1000))
    nodes = -(-gpus // shape.gpus_per_node)
    runs_ms = min(runs_ms, LIMIT_MS_MAX)
    limit_ms = min(LIMIT_MS_MAX, round(runs_ms * draw.choice(LIMIT_FACTORS)))
    abroad, picky = draw.randrange(4) == 0, draw.randrange(10)
    allowed = COUNTRIES if abroad else COUNTRIES[:1]
    spec = JobSpec(
        name=f"job-{row['job_id']}" if "job_id" in row else "job",
        project=TenantPath(f"{row['tenant']}/work"),
        command=("work",),
        residency=Requirement(allowed, node_sharing=NodeSharing.ANY),
        resources=Resources(
            nodes=nodes,
            gpus_per_node=-(-gpus // nodes),
            gpu_classes=(MODELS[picky],) if picky < len(MODELS) else (),
        ),
        topology=Topology(LEVELS[row["max_level"]]),
        priority=Priority(int(row["priority"]) + 1),
        time_limit_ms=max(60_000, limit_ms),
    )
    at_ms = FILL_MS + round(float(row["submit_s"]) * 1000)
    return Arrival(at_ms, gpus, row["initial"] == "1", spec, runs_ms, draw.choice(SAVES_MS))


def tenants_of(arrivals: Sequence[Arrival]) -> list[TenantPath]:
    """Every node of the tenant tree."""
    projects = {each.spec.project for each in arrivals}
    return sorted({TenantPath(p.partition("/")[0]) for p in projects} | projects)
