"""Sites, nodes and policies: what operators declare, and what they are shown."""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.model.fleet import (
    Attestation,
    CpuArch,
    Health,
    Interconnect,
    Isolation,
    Node,
    NodeReport,
    Site,
    SiteEnergy,
    SiteProfile,
    SiteStatus,
)
from scheduler.model.ids import GpuClass, SiteId, node_id, slot_of
from scheduler.model.mig import MigInstance
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.model.residency import Assurance, Fact, FactKey, NodeFact, Party
from scheduler.wire.enums import known, number
from sovapi.v1 import common_pb2, fleet_pb2, sitelink_pb2


def fact_to_proto(fact: Fact | NodeFact) -> fleet_pb2.Fact:
    """One graded statement about a site, or what one about a node has in common with it."""
    return fleet_pb2.Fact(
        key=fact.key,
        values=fact.values,
        assurance=number(common_pb2.Assurance, fact.assurance),
        asserted_by=fact.asserted_by,
        evidence_digest=fact.evidence_digest,
        observed_at_ms=fact.observed_at_ms,
        expires_at_ms=fact.expires_at_ms or 0,
    )


def node_fact_to_proto(fact: NodeFact) -> fleet_pb2.NodeFact:
    """One graded statement about a node."""
    return fleet_pb2.NodeFact(
        fact=fact_to_proto(fact),
        claim=fact.claim,
        detail=fact.detail,
        bound_m=fact.bound_m,
        heard=[
            fleet_pb2.Hearing(
                landmark=h.landmark, operator=h.operator, rtt_min_us=h.rtt_min_us, at_ms=h.at_ms
            )
            for h in fact.heard
        ],
    )


def fact_from_proto(message: fleet_pb2.Fact, site: str) -> Fact:
    """One graded statement about a site; a key that nobody interprets is refused.

    Raises:
        Refused: the key is not one of `FactKey`.
    """
    if message.key not in tuple(FactKey):
        allowed = ", ".join(sorted(FactKey))
        raise invalid(
            Denial(
                Reason.INVALID_ARGUMENT,
                f"found {message.key[:64]!r}; allowed: {allowed}",
                f"sites[{site}].facts.key",
            )
        )
    return Fact(
        key=FactKey(message.key),
        values=tuple(message.values),
        assurance=known(Assurance, message.assurance),
        asserted_by=message.asserted_by,
        observed_at_ms=message.observed_at_ms,
        expires_at_ms=message.expires_at_ms or None,
        evidence_digest=message.evidence_digest,
    )


def party_to_proto(party: Party) -> fleet_pb2.Party:
    """Somebody above an operator."""
    return fleet_pb2.Party(
        name=party.name,
        country=party.country,
        stake_milli_percent=party.stake_milli_percent,
        at_most=party.at_most,
    )


def party_from_proto(message: fleet_pb2.Party) -> Party:
    """Somebody above an operator."""
    return Party(message.name, message.country, message.stake_milli_percent, message.at_most)


def profile_to_proto(profile: SiteProfile) -> fleet_pb2.SiteProfile:
    """What is said of a site and decides nothing."""
    return fleet_pb2.SiteProfile(
        landlord=profile.landlord,
        facility_operator=profile.facility_operator,
        service_operator=profile.service_operator,
        offtaker=profile.offtaker,
        cooling=profile.cooling,
        pue_milli=profile.pue_milli,
        note=profile.note,
        assumed=profile.assumed,
    )


def profile_from_proto(message: fleet_pb2.SiteProfile) -> SiteProfile:
    """What is said of a site and decides nothing."""
    return SiteProfile(
        landlord=message.landlord,
        facility_operator=message.facility_operator,
        service_operator=message.service_operator,
        offtaker=message.offtaker,
        cooling=message.cooling,
        pue_milli=message.pue_milli if message.HasField("pue_milli") else None,
        note=message.note,
        assumed=tuple(message.assumed),
    )


def node_to_proto(node: Node) -> fleet_pb2.NodeDeclaration:
    """A node as declared; whether it is cordoned is not part of a declaration."""
    return fleet_pb2.NodeDeclaration(
        slot=slot_of(node.id),
        pod=node.pod,
        leaf=node.leaf,
        nvlink_domain=node.nvlink_domain,
        gpu_class=node.gpu_class,
        gpus=node.gpus,
        cpu_arch=number(common_pb2.CpuArch, node.cpu_arch),
        cpu_milli=node.cpu_milli,
        memory_bytes=node.memory_bytes,
        interconnects=[number(common_pb2.Interconnect, i) for i in node.interconnects],
        base_w=node.base_w,
        gpu_w=node.gpu_w,
        mig=mig_to_proto(node.mig),
        nvlink_spares=node.nvlink_spares,
    )


def energy_to_proto(energy: SiteEnergy | None) -> fleet_pb2.SiteEnergy | None:
    """What energy costs at a site, and what is emitted for it."""
    if energy is None:
        return None
    return fleet_pb2.SiteEnergy(
        carbon_g_per_kwh=energy.carbon_g_per_kwh,
        price_pence_per_mwh=energy.price_pence_per_mwh,
        source=energy.source,
        observed_at_ms=energy.observed_at_ms,
    )


def _energy_from_proto(message: fleet_pb2.SiteEnergy) -> SiteEnergy:
    return SiteEnergy(
        message.carbon_g_per_kwh,
        message.price_pence_per_mwh,
        message.source,
        message.observed_at_ms,
    )


def mig_to_proto(cuts: Iterable[MigInstance]) -> list[common_pb2.MigInstance]:
    """How GPUs are cut."""
    return [common_pb2.MigInstance(gpu=one.gpu, profile=one.profile) for one in cuts]


def mig_from_proto(messages: Iterable[common_pb2.MigInstance]) -> tuple[MigInstance, ...]:
    """How GPUs are cut, sorted: so that both ends number the instances alike."""
    return tuple(sorted(MigInstance(one.gpu, one.profile) for one in messages))


def node_from_proto(message: fleet_pb2.NodeDeclaration, site: SiteId) -> Node:
    """A node as declared at `site`; without an NVLink domain it is one by itself."""
    return Node(
        id=node_id(site, message.slot),
        pod=message.pod,
        leaf=message.leaf,
        nvlink_domain=message.nvlink_domain or message.slot,
        gpu_class=GpuClass(message.gpu_class),
        gpus=message.gpus,
        cpu_arch=known(CpuArch, message.cpu_arch),
        cpu_milli=message.cpu_milli,
        memory_bytes=message.memory_bytes,
        interconnects=tuple(known(Interconnect, i) for i in message.interconnects),
        base_w=message.base_w if message.HasField("base_w") else None,
        gpu_w=message.gpu_w if message.HasField("gpu_w") else None,
        mig=mig_from_proto(message.mig),
        nvlink_spares=message.nvlink_spares,
    )


def site_to_proto(site: Site, nodes: tuple[Node, ...]) -> fleet_pb2.SiteDeclaration:
    """A site as declared, with its nodes."""
    return fleet_pb2.SiteDeclaration(
        id=site.id,
        display_name=site.display_name,
        status=number(fleet_pb2.SiteStatus, site.status),
        facts=[fact_to_proto(fact) for fact in site.facts],
        ultimate_parents=[party_to_proto(party) for party in site.parents],
        nodes=[node_to_proto(node) for node in nodes],
        min_isolation=number(common_pb2.Isolation, site.min_isolation),
        power_cap_w=site.power_cap_w,
        profile=profile_to_proto(site.profile),
        energy=energy_to_proto(site.energy),
    )


def site_from_proto(message: fleet_pb2.SiteDeclaration) -> tuple[Site, tuple[Node, ...]]:
    """A site as declared, with its nodes."""
    site = Site(
        id=SiteId(message.id),
        status=known(SiteStatus, message.status),
        facts=tuple(fact_from_proto(fact, message.id) for fact in message.facts),
        parents=tuple(party_from_proto(party) for party in message.ultimate_parents),
        display_name=message.display_name,
        min_isolation=known(Isolation, message.min_isolation),
        power_cap_w=message.power_cap_w if message.HasField("power_cap_w") else None,
        profile=profile_from_proto(message.profile),
        energy=_energy_from_proto(message.energy) if message.HasField("energy") else None,
    )
    return site, tuple(node_from_proto(node, site.id) for node in message.nodes)


def node_report_to_proto(report: NodeReport) -> sitelink_pb2.NodeReport:
    """What a node says of itself."""
    return sitelink_pb2.NodeReport(
        slot=slot_of(report.node),
        boot_id=report.boot_id,
        gpu_uuids=report.gpu_uuids,
        health=number(common_pb2.Health, report.health),
        health_detail=report.health_detail,
        isolation=number(common_pb2.Isolation, report.isolation),
        telemetry=report.telemetry,
        cpu_arch=number(common_pb2.CpuArch, report.cpu_arch),
        cpu_milli=report.cpu_milli,
        memory_bytes=report.memory_bytes,
        runtime_alive=report.runtime_alive,
        agent_connected=report.agent_connected,
        agent_version=report.agent_version,
        metrics_address=report.metrics_address,
        attestation=None if (said := report.attestation) is None else _attestation_to_proto(said),
        mig=mig_to_proto(report.mig),
    )


def node_report_from_proto(message: sitelink_pb2.NodeReport, site: SiteId) -> NodeReport:
    """What a node at `site` says of itself: as many GPUs as it names."""
    return NodeReport(
        node=node_id(site, message.slot),
        boot_id=message.boot_id,
        gpus=len(message.gpu_uuids),
        health=known(Health, message.health),
        health_detail=message.health_detail,
        isolation=known(Isolation, message.isolation),
        telemetry=message.telemetry,
        runtime_alive=message.runtime_alive,
        agent_connected=message.agent_connected,
        agent_version=message.agent_version,
        gpu_uuids=tuple(message.gpu_uuids),
        cpu_arch=known(CpuArch, message.cpu_arch),
        cpu_milli=message.cpu_milli,
        memory_bytes=message.memory_bytes,
        metrics_address=message.metrics_address,
        attestation=(
            Attestation(
                message.attestation.verdict,
                message.attestation.detail,
                message.attestation.evidence_digest,
                message.attestation.observed_at_ms,
            )
            if message.HasField("attestation")
            else None
        ),
        mig=mig_from_proto(message.mig),
    )


def _attestation_to_proto(said: Attestation) -> sitelink_pb2.Attestation:
    return sitelink_pb2.Attestation(
        verdict=said.verdict,
        detail=said.detail,
        evidence_digest=said.evidence_digest,
        observed_at_ms=said.observed_at_ms,
    )
