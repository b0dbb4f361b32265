"""Whether work would fit somewhere, worked out node by node from the facts: explanations are held
against it."""

from __future__ import annotations

from scheduler.core.allowance import denials
from scheduler.core.asks import ask_of, cpu_milli_on, memory_bytes_on
from scheduler.core.fleet import FleetState
from scheduler.core.layout import domain_of, topology_key
from scheduler.core.residency import country_of, permits
from scheduler.model.fleet import CpuArch, Interconnect, Node, NodeReport, Site, SiteStatus
from scheduler.model.ids import GpuClass, JobId, NodeId, site_of
from scheduler.model.job import TopologyLevel
from scheduler.model.plan import (
    JobClass,
)
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Deny, NodeSharing
from tests.core.builders import (
    NOW_MS,
)

Lifted = frozenset[Denial]
_NOBODY = JobId(0)


def oracle(fleet: FleetState, of: JobClass, lifted: Lifted, job: JobId = _NOBODY) -> bool:
    """Whether the class would fit somewhere were `lifted` not there: one node after another."""
    return any(
        _site_fits(fleet, of, site, connected, lifted, job)
        for site, connected in fleet.sites.values()
    )


def _site_fits(
    fleet: FleetState, of: JobClass, site: Site, connected: bool, lifted: Lifted, job: JobId
) -> bool:
    keys = {(denial.reason, denial.subject) for denial in lifted}
    verdict = permits(of.residency, site, fleet.policy, NOW_MS)
    if isinstance(verdict, Deny) and not set(verdict.denials) <= lifted:
        return False
    closed = {
        Reason.SITE_NOT_ACTIVE: site.status is not SiteStatus.ACTIVE,
        Reason.SITE_DISCONNECTED: not connected,
        Reason.SITE_CORDONED: site.cordoned,
    }
    if any(closed[reason] and (reason, site.id) not in keys for reason in closed):
        return False
    here = {reason for reason, subject in keys if subject == site.id}
    nodes = [record.node for name, record in fleet.nodes.items() if site_of(name) == site.id]
    if not nodes:
        return Reason.NODES_TOO_FEW in here
    return any(
        set(denials(fleet, of, name, _milli(fleet, of, name), NOW_MS)) <= lifted
        and _class_fits(fleet, of, [n for n in nodes if n.gpu_class == name], here, job)
        for name in {each.gpu_class for each in nodes}
    )


def _milli(fleet: FleetState, of: JobClass, name: GpuClass) -> int:
    assert of.residency.node_sharing is not NodeSharing.NONE
    resources = of.resources
    return resources.nodes * resources.gpus_per_node * resources.milli_each()


def _class_fits(
    fleet: FleetState, of: JobClass, nodes: list[Node], here: set[Reason], job: JobId
) -> bool:
    ask = ask_of(of)
    passing = [
        each
        for each in nodes
        if _faults(fleet, of, each) <= here
        and (Reason.BEHIND_OTHERS in here or not _reserved(fleet, of, job, each.id))
    ]
    if Reason.NODES_TOO_FEW in here and len(nodes) < ask.nodes:
        return bool(passing)
    level = TopologyLevel.SITE if Reason.TOPOLOGY in here or ask.nodes == 1 else ask.within
    domains = [domain_of(each, level) for each in passing]
    return any(domains.count(domain) >= ask.nodes for domain in domains)


def _faults(fleet: FleetState, work: JobClass, of: Node) -> set[Reason]:
    """The checks that a node fails, from the facts."""
    ask = ask_of(work)
    record, shape = fleet.nodes[of.id], ask.shape
    beside = [
        live
        for live in fleet.live.values()
        if any(part.node == of.id for part in live.placement.nodes)
    ]
    rules = {ask.sharing, *(live.job_class.residency.node_sharing for live in beside)}
    same = all(live.tenant.split("/")[0] == ask.organisation for live in beside)
    joins = not beside or rules == {NodeSharing.ANY} or (same and NodeSharing.NONE not in rules)
    asks = [ask_of(live.job_class).shape for live in beside]
    left = _units(of, record.report, shape.profile)
    has = len(_units(of, None, shape.profile))
    for live in beside:
        (part,) = [part for part in live.placement.nodes if part.node == of.id]
        wanted = live.job_class.resources
        for unit in set(part.gpu_indices()) & left.keys():
            left[unit] -= 1000 if wanted.mig_profile else wanted.milli_each()
    free = sum(1 for milli in left.values() if milli >= shape.share_milli)
    cpu_free = of.cpu_milli - sum(cpu_milli_on(each, of) for each in asks)
    memory_free = of.memory_bytes - sum(memory_bytes_on(each, of) for each in asks)
    cpu, memory = cpu_milli_on(shape, of), memory_bytes_on(shape, of)
    least = max(fleet.sites[site_of(of.id)][0].min_isolation, fleet.policy.min_isolation)
    ready = record.report is not None and record.report.ready() and not of.cordoned
    too_small = shape.gpus > has or cpu > of.cpu_milli or memory > of.memory_bytes
    failed = {
        Reason.GPU_CLASS: bool(ask.gpu_classes) and of.gpu_class not in ask.gpu_classes,
        Reason.CPU_ARCH: shape.cpu_arch not in (CpuArch.ANY, of.cpu_arch),
        Reason.INTERCONNECT: shape.interconnect is not Interconnect.ANY
        and shape.interconnect not in of.interconnects,
        Reason.NODE_SHAPE: too_small,
        Reason.ISOLATION: record.report is not None and record.report.isolation < least,
        Reason.NODE_REFUTED: any(fact.values[0] == "CLAIM_FALSE" for fact in of.facts),
        Reason.NODE_FACTS: bool(work.residency.node_facts) and not _proved(fleet, of),
        Reason.NODES_UNHEALTHY: not ready,
        Reason.SPARE_NODES: _is_spare(fleet, of),
        Reason.NODE_SHARING: not joins,
        Reason.NODES_BUSY: not too_small
        and (shape.gpus > free or cpu > cpu_free or memory > memory_free),
    }
    return {reason for reason, found in failed.items() if found}


def _units(of: Node, said: NodeReport | None, profile: str) -> dict[int, int]:
    """What a node has of what is asked for, empty: whole GPUs, or instances of a profile."""
    cut = {one.gpu for one in (*of.mig, *(said.mig if said else ()))}
    if profile:
        same = said is None or said.mig == of.mig
        found = [n for n, one in enumerate(of.mig, of.gpus) if one.profile == profile and same]
    else:
        found = [n for n in range(min(of.gpus, said.gpus if said else of.gpus)) if n not in cut]
    return dict.fromkeys(found, 1000)


def _proved(fleet: FleetState, of: Node) -> bool:
    """Whether a node was proved to be where its site is."""
    country = country_of(fleet.sites[site_of(of.id)][0])
    return any(fact.values == ("PROVED_IN", country) for fact in of.facts)


def _reserved(fleet: FleetState, of: JobClass, job: JobId, name: NodeId) -> bool:
    """Whether a node is kept for another job, and this one would be in its way."""
    ends_ms = NOW_MS + of.time_limit_bucket_ms
    own = fleet.reservations.get(job)
    if own is not None and name in own.nodes:
        return False
    return any(
        name in kept.nodes and holder != job and ends_ms > kept.starts_at_ms
        for holder, kept in fleet.reservations.items()
    )


def _is_spare(fleet: FleetState, of: Node) -> bool:
    """Whether a node is one of those that its NVLink domain keeps free."""
    rack = [
        record
        for record in fleet.nodes.values()
        if site_of(record.node.id) == site_of(of.id)
        and domain_of(record.node, TopologyLevel.NVLINK) == domain_of(of, TopologyLevel.NVLINK)
    ]
    used = {part.node for live in fleet.live.values() for part in live.placement.nodes}
    empty = sorted((r for r in rack if r.node.id not in used), key=lambda r: topology_key(r.node))
    well = [r.node.id for r in empty if r.ready() and not r.node.refuted()]
    kept = max(r.node.nvlink_spares for r in rack) - (len(empty) - len(well))
    return kept > 0 and of.id in well[-kept:]
