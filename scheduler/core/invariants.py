"""What must hold of every plan and of every moment, checked from the facts alone.

Written without the planner's indices, bit sets and memories, and slower for it: the simulator and
the tests ask after every step. Each function answers with one sentence for each breach; none is
what it should be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scheduler.core.budgets import day_of, window
from scheduler.core.fleet import FleetState
from scheduler.core.residency import permits
from scheduler.core.spread_faults import spread_faults
from scheduler.model.fleet import (
    CpuArch,
    Interconnect,
    Isolation,
    Node,
    NodeReport,
    Site,
    SiteStatus,
)
from scheduler.model.ids import NodeId, SiteId, TenantPath, organisation_of, site_of
from scheduler.model.job import JobState, Placement, Resources, TopologyLevel, TopologyMode
from scheduler.model.plan import LiveAttempt, Plan
from scheduler.model.residency import (
    Assurance,
    Deny,
    FactKey,
    NodeFactKey,
    NodeSharing,
    Policy,
)
from scheduler.model.tenancy import Tenant


@dataclass(frozen=True, slots=True)
class World:
    """The facts that the checks read."""

    sites: Mapping[SiteId, Site]
    connected: frozenset[SiteId]
    nodes: Mapping[NodeId, Node]
    reports: Mapping[NodeId, NodeReport]
    tenants: Mapping[TenantPath, Tenant]
    policy: Policy


def world_of(fleet: FleetState) -> World:
    """The facts that a planner's state rests on."""
    return World(
        sites={name: site for name, (site, _) in fleet.sites.items()},
        connected=frozenset(name for name, (_, connected) in fleet.sites.items() if connected),
        nodes={name: record.node for name, record in fleet.nodes.items()},
        reports={
            name: record.report for name, record in fleet.nodes.items() if record.report is not None
        },
        tenants=fleet.tree.tenants,
        policy=fleet.policy,
    )


def check_plan(fleet: FleetState, plan: Plan, now_ms: int) -> tuple[str, ...]:
    """Everything wrong with `plan` on `fleet`, as it stands before the plan is committed."""
    world, faults = world_of(fleet), list[str]()
    new: list[LiveAttempt] = []
    seen = dict(fleet.live)
    waiting = {queued.id: queued for queued in fleet.queued.in_line()}
    for placement in plan.placements:
        job = placement.key.job
        queued = waiting.get(job)
        if queued is None or job in seen:
            faults.append(f"job {job} is placed but does not wait")
            continue
        if queued.next_attempt != placement.key.attempt:
            faults.append(f"job {job}: attempt {placement.key.attempt} is not the next")
        if queued.not_before_ms > now_ms:
            faults.append(f"job {job} is placed while it backs off")
        attempt = LiveAttempt(
            placement, queued.job_class.tenant, queued.job_class, JobState.PLACED, now_ms
        )  # fmt: skip
        seen[job] = attempt
        new.append(attempt)
    for attempt in new:
        faults += start_faults(world, attempt, now_ms)
    everything = [seen[job] for job in sorted(seen)]
    before = quota_faults(world, [fleet.live[job] for job in sorted(fleet.live)])
    # What was over its limit before, as limits may be lowered, is not this plan's doing.
    faults += [fault for fault in quota_faults(world, everything) if fault not in before]
    faults += budget_faults(fleet, new, now_ms)
    faults += spare_faults(world, fleet.live.values(), everything)
    faults += spread_faults(world.nodes, everything)
    return tuple(faults) + check_world(world, everything)


def check_world(world: World, live: Iterable[LiveAttempt]) -> tuple[str, ...]:
    """What must hold at any instant of the attempts that hold nodes, however the world turned.

    Quota and residency are not here: a limit may be lowered, a fact may expire while work runs.
    """
    attempts = sorted(live, key=lambda attempt: attempt.placement.key)
    faults: list[str] = []
    for attempt in attempts:
        faults += shape_faults(world, attempt)
    return (*faults, *capacity_faults(world, attempts), *sharing_faults(attempts))


def shape_faults(world: World, attempt: LiveAttempt) -> list[str]:
    """The gang is complete, at one site, on distinct nodes, with the GPUs it asked for."""
    placement, wanted = attempt.placement, attempt.job_class.resources
    name, faults = _name(placement), list[str]()
    nodes = [part.node for part in placement.nodes]
    if not wanted.nodes <= len(nodes) <= max(wanted.nodes, wanted.max_nodes):
        faults.append(f"{name} has {len(nodes)} nodes, asked for {wanted.nodes}")
    if len(set(nodes)) != len(nodes):
        faults.append(f"{name} has a node twice")
    if {site_of(node) for node in nodes} != {placement.site}:
        faults.append(f"{name} is not at one site, {placement.site}")
    for part in placement.nodes:
        if part.gpu_mask.bit_count() != wanted.gpus_per_node:
            faults.append(f"{name} has {part.gpu_mask.bit_count()} GPUs on {part.node}")
        node = world.nodes.get(part.node)
        if node is not None and not _had(node, wanted, part.gpu_indices()):
            faults.append(f"{name} has GPUs that {part.node} was not declared with")
        if node is not None and node.gpu_class != placement.gpu_class:
            faults.append(f"{name} is charged for {placement.gpu_class}, {part.node} is not that")
    charged = sum(
        1000 * world.nodes[part.node].gpus
        if _alone(attempt)
        else wanted.gpus_per_node * wanted.milli_each()
        for part in placement.nodes
        if part.node in world.nodes
    )
    if charged != placement.gpu_milli and all(node in world.nodes for node in nodes):
        faults.append(f"{name} is charged {placement.gpu_milli} milli, due {charged}")
    return faults


def _had(node: Node, wanted: Resources, units: tuple[int, ...]) -> bool:
    """Whether the node was declared with such units: GPUs that are not cut, or instances."""
    if wanted.mig_profile:
        profiles = {node.gpus + at: instance.profile for at, instance in enumerate(node.mig)}
        return all(profiles.get(unit) == wanted.mig_profile for unit in units)
    cut = {instance.gpu for instance in node.mig}
    return all(unit < node.gpus and unit not in cut for unit in units)


def start_faults(world: World, attempt: LiveAttempt, now_ms: int) -> list[str]:
    """What must hold when an attempt is placed, and need not for ever."""
    placement, faults = attempt.placement, list[str]()
    name, site = _name(placement), world.sites.get(placement.site)
    if site is None:
        return [f"{name} is at {placement.site}, which is not declared"]
    if site.status is not SiteStatus.ACTIVE or site.cordoned:
        faults.append(f"{name} is at {site.id}, which takes no work")
    if site.id not in world.connected:
        faults.append(f"{name} is at {site.id}, which is not connected")
    verdict = permits(attempt.job_class.residency, site, world.policy, now_ms)
    if isinstance(verdict, Deny):
        faults.append(f"{name} may not be at {site.id}: {verdict.denials[0].detail}")
    classes = attempt.job_class.resources.gpu_classes
    if classes and placement.gpu_class not in classes:
        faults.append(f"{name} is on {placement.gpu_class}, asked for {', '.join(classes)}")
    least = max(site.min_isolation, world.policy.min_isolation)
    for part in placement.nodes:
        faults += _node_faults(world, attempt, part.node, Isolation(least), part.gpu_mask)
        faults += _unknown_faults(world, attempt, part.node, now_ms)
    return faults + topology_faults(world, attempt)


def _node_faults(
    world: World, attempt: LiveAttempt, name: NodeId, least: Isolation, gpu_mask: int
) -> list[str]:
    node, report, wanted = (
        world.nodes.get(name),
        world.reports.get(name),
        attempt.job_class.resources,
    )
    if node is None or report is None:
        return [f"{_name(attempt.placement)} is on {name}, which is not declared and reported"]
    found = {
        "is not ready": not report.ready() or node.cordoned,
        "isolates too little": report.isolation < least,
        "reports fewer GPUs": bool((gpu_mask & (1 << node.gpus) - 1) >> report.gpus),
        "is cut otherwise": report.mig != node.mig
        and (bool(wanted.mig_profile) or any(gpu_mask >> cut.gpu & 1 for cut in report.mig)),
        "is of another architecture": wanted.cpu_arch not in (CpuArch.ANY, node.cpu_arch),
        "lacks the interconnect": wanted.interconnect is not Interconnect.ANY
        and wanted.interconnect not in node.interconnects,
    }
    return [
        f"{_name(attempt.placement)} is on {name}, which {what}" for what in found if found[what]
    ]


def _unknown_faults(world: World, attempt: LiveAttempt, name: NodeId, now_ms: int) -> list[str]:
    """Nothing that is known speaks against the node, and what work and policy ask is known."""
    node, site = world.nodes.get(name), world.sites[attempt.placement.site]
    facts = node.facts if node is not None else ()
    of = f"{_name(attempt.placement)} is on {name}, of which"
    faults = [f"{of} {fact.key} is {fact.values[0]}" for fact in facts if fact.refutes()]
    home = [fact.values for fact in site.facts if fact.key is FactKey.COUNTRY]
    for asked in (*world.policy.node_facts, *attempt.job_class.residency.node_facts):
        good = [
            fact
            for fact in facts
            if fact.key == asked.fact
            and fact.assurance >= max(asked.min_assurance, Assurance.DECLARED)
            and (fact.expires_at_ms is None or now_ms < fact.expires_at_ms)
            and (asked.max_age_ms is None or now_ms - fact.observed_at_ms <= asked.max_age_ms)
            and (fact.key is not NodeFactKey.LOCATION or [fact.values[1:]] == home)
        ]
        if len(good) != 1:
            faults.append(f"{of} {asked.fact} is not known well enough")
    return faults


def topology_faults(world: World, attempt: LiveAttempt) -> list[str]:
    """A required level holds: all nodes of the gang are in one domain of it."""
    topology, parts = attempt.job_class.topology, attempt.placement.nodes
    if topology.mode is TopologyMode.PREFERRED or len(parts) < 2:
        return []
    nodes = [world.nodes[part.node] for part in parts if part.node in world.nodes]
    ways: dict[TopologyLevel, set[tuple[str, ...]]] = {
        TopologyLevel.POD: {(node.pod,) for node in nodes},
        TopologyLevel.LEAF: {(node.pod, node.leaf) for node in nodes},
        TopologyLevel.NVLINK: {
            (node.pod, node.leaf, node.nvlink_domain or node.id) for node in nodes
        },
        TopologyLevel.NODE: {(node.id,) for node in nodes},
    }
    if len(ways.get(topology.within, ())) > 1:
        return [f"{_name(attempt.placement)} is not within one {topology.within.name}"]
    return []


def capacity_faults(world: World, live: Iterable[LiveAttempt]) -> list[str]:
    """No GPU is held twice, and no node's CPU or memory is promised beyond what there is."""
    held: dict[tuple[NodeId, int], tuple[str, int]] = {}
    cpu_milli: dict[NodeId, int] = {}
    memory_bytes: dict[NodeId, int] = {}
    faults: list[str] = []
    for attempt in live:
        name, wanted = _name(attempt.placement), attempt.job_class.resources
        for part in attempt.placement.nodes:
            for gpu in part.gpu_indices():
                who, milli = held.get((part.node, gpu), ("", 0))
                milli += 1000 if wanted.mig_profile else wanted.milli_each()
                if milli > 1000:
                    faults.append(f"{name} and {who} both hold GPU {gpu} of {part.node}")
                held[part.node, gpu] = name, milli
            cpu = cpu_milli.get(part.node, 0) + wanted.cpu_milli_per_node
            cpu_milli[part.node] = cpu
            memory = memory_bytes.get(part.node, 0) + wanted.memory_bytes_per_node
            memory_bytes[part.node] = memory
    for name in sorted(cpu_milli):
        node = world.nodes.get(name)
        if node is None:
            continue
        if cpu_milli[name] > node.cpu_milli or memory_bytes[name] > node.memory_bytes:
            faults.append(f"more CPU or memory of {name} is promised than it has")
    return faults


def sharing_faults(live: Iterable[LiveAttempt]) -> list[str]:
    """Who is on a node together may be: pair by pair."""
    on: dict[NodeId, list[LiveAttempt]] = {}
    for attempt in live:
        for part in attempt.placement.nodes:
            on.setdefault(part.node, []).append(attempt)
    return [
        f"{_name(one.placement)} and {_name(other.placement)} may not both be on {node}"
        for node in sorted(on)
        for at, one in enumerate(on[node])
        for other in on[node][at + 1 :]
        if not _may_meet(one, other)
    ]


def quota_faults(world: World, live: Iterable[LiveAttempt]) -> list[str]:
    """No limit and no borrow limit of any tenant or ancestor is exceeded."""
    attempts, faults = list(live), list[str]()
    for path in sorted(world.tenants):
        inside = [a for a in attempts if a.tenant == path or a.tenant.startswith(f"{path}/")]
        for quota in world.tenants[path].quotas:
            used = sum(
                attempt.placement.gpu_milli
                for attempt in inside
                if quota.gpu_class in ("*", attempt.placement.gpu_class)
            )
            if quota.limit_milli is not None and used > quota.limit_milli:
                faults.append(f"{path} on {quota.gpu_class}: {used} of {quota.limit_milli}")
            lent = quota.borrow_limit_milli
            if lent is not None and used > quota.guarantee_milli + lent:
                faults.append(f"{path} on {quota.gpu_class}: {used} with {lent} to borrow")
    return faults


def spare_faults(
    world: World, before: Iterable[LiveAttempt], after: Iterable[LiveAttempt]
) -> list[str]:
    """No more nodes of an NVLink domain are in use than are not to be kept free, but for those that
    were in use before."""
    racks: dict[tuple[str, ...], list[Node]] = {}
    for node in world.nodes.values():
        if node.nvlink_domain:
            rack = site_of(node.id), node.pod, node.leaf, node.nvlink_domain
            racks.setdefault(rack, []).append(node)
    was, now = ({p.node for a in live for p in a.placement.nodes} for live in (before, after))
    faults: list[str] = []
    for domain, nodes in sorted(racks.items()):
        most = len(nodes) - max(node.nvlink_spares for node in nodes)
        used = len({node.id for node in nodes} & now)
        if used > max(most, len({node.id for node in nodes} & was)):
            faults.append(f"{used} nodes of {'/'.join(domain)} are in use, of {most}")
    return faults


def budget_faults(fleet: FleetState, new: Iterable[LiveAttempt], now_ms: int) -> list[str]:
    """No budget bears new attempts whose whole time limits, with all that is spent, pass it."""
    day, faults, attempts = day_of(now_ms), list[str](), list(new)
    for path, tenant in fleet.tree.tenants.items():
        for budget in tenant.budgets:
            period = window(budget, day)
            of = budget.gpu_class
            added = sum(
                attempt.placement.gpu_milli * attempt.job_class.time_limit_bucket_ms // 1000
                for attempt in attempts
                if (attempt.tenant == path or attempt.tenant.startswith(f"{path}/"))
                and of in ("*", attempt.placement.gpu_class)
            )
            spent = sum(
                amount
                for (whose, gpu_class), days in fleet.book.facts().items()
                if (whose == path or whose.startswith(f"{path}/")) and of in ("*", gpu_class)
                for on, amount in days.items()
                if period is not None and period.has(on)
            )
            if period is not None and added and spent + added > budget.amount_gpu_ms:
                faults.append(f"{path}: {spent} and {added} of {budget.amount_gpu_ms} GPU-ms")
    return faults


def derived(fleet: FleetState) -> dict[str, object]:
    """All that a planner's state derives from its facts, comparable: an incremental state must
    equal one that was built from scratch."""
    fleet.settle()
    return {
        "usage": {
            (path, name): milli
            for path, line in fleet.usage.items()
            for name, milli in line.items()
            if milli
        },
        "spent": {key: dict(days) for key, days in fleet.book.facts().items()},
        "settled": fleet.book.settlements(),
        "capacity": fleet.capacity_milli,
        "lanes": {
            (key, fleet.rooms.all[room].key()): sites
            for key, lane in fleet.lanes.items()
            for room, sites in lane.items()
            if sites
        },
        "nodes": {
            (site.id, kind, key, fleet.rooms.all[room].key()): nodes
            for site, index, _ in fleet.order
            for kind, lanes in (("up", index.up), ("down", index.down))
            for key, lane in lanes.items()
            for room, nodes in lane.masks.items()
            if nodes
        },
        "ready": {site.id: index.ready for site, index, _ in fleet.order},
        "order": {site.id: [r.node.id for r in index.records] for site, index, _ in fleet.order},
        "left": {name: (record.left.key(), record.views) for name, record in fleet.nodes.items()},
        "lines": {job_class: tuple(w.in_line()) for job_class, w in fleet.classes.items()},
        "wanted": {path: counts for path, counts in fleet.queued.wanted.items() if counts},
        "reservations": fleet.reservations,
        "spread": fleet.spreads.facts(),
    }


def _may_meet(one: LiveAttempt, other: LiveAttempt) -> bool:
    rules = {one.job_class.residency.node_sharing, other.job_class.residency.node_sharing}
    if rules == {NodeSharing.ANY}:
        return True
    same = organisation_of(one.tenant) == organisation_of(other.tenant)
    return same and rules <= {NodeSharing.TENANT, NodeSharing.ANY}


def _alone(attempt: LiveAttempt) -> bool:
    return attempt.job_class.residency.node_sharing is NodeSharing.NONE


def _name(placement: Placement) -> str:
    return f"attempt {placement.key.job}.{placement.key.attempt}"
