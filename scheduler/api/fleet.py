"""FleetService: sites and nodes, what is known about them, and what operators do with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scheduler.api import calls, pages
from scheduler.api.desk import Desk
from scheduler.api.outside import OutsideCalls
from scheduler.api.server import Methods
from scheduler.api.windows import WindowCalls
from scheduler.control.overview import SiteOverview
from scheduler.control.views import NodeView, SiteView
from scheduler.core.residency import country_of, permits
from scheduler.model.fleet import Health, Isolation, NodeReport
from scheduler.model.ids import NodeId, SiteId, site_of
from scheduler.model.login import Providers
from scheduler.model.reasons import Denial, Reason, invalid, not_found
from scheduler.model.residency import Deny, NodeFactKey, Requirement
from scheduler.runtime.sites import Power
from scheduler.store.store import Snapshot
from scheduler.wire.enums import number
from scheduler.wire.fleet import (
    energy_to_proto,
    fact_to_proto,
    mig_to_proto,
    node_fact_to_proto,
    party_to_proto,
    profile_to_proto,
    site_from_proto,
)
from scheduler.wire.jobs import denial_to_proto
from scheduler.wire.spec import requirement_from_proto
from sovapi.v1 import common_pb2, fleet_pb2

REQUIREMENTS_MAX = 64
"""Requirements judged in one call."""
SITES_KIND = "sites"
NODES_KIND = "nodes"
DEADLINE_MS_MAX = 366 * 24 * 3600 * 1000


class FleetService:
    """Serves operators, and lets auditors look."""

    def __init__(
        self,
        desk: Desk,
        power: Callable[[], Mapping[SiteId, Power]],
        providers: Callable[[], Providers],
    ) -> None:
        self._desk = desk
        self._power = power
        self._outside = OutsideCalls(desk, providers)

    def methods(self) -> Methods:
        """What this serves."""
        return {
            "FleetService/Apply": self.apply,
            "FleetService/ListSites": self.list_sites,
            "FleetService/ListNodes": self.list_nodes,
            "FleetService/Overview": self.overview,
            "FleetService/Cordon": self.cordon,
            "FleetService/Uncordon": self.uncordon,
            "FleetService/Drain": self.drain,
            "FleetService/Fence": self.fence,
            "FleetService/Verdicts": self.verdicts,
            **WindowCalls(self._desk).methods(),
            **self._outside.methods(),
        }

    async def apply(self, request: fleet_pb2.ApplyFleetRequest) -> fleet_pb2.ApplyFleetResponse:
        """Makes the declared fleet what was said."""
        desk, principal = self._desk, calls.principal()
        declarations = tuple(site_from_proto(site) for site in request.sites)
        now_ms = desk.now_ms()
        changes = await desk.writer.write(
            lambda txn: desk.control.apply_fleet(
                txn,
                principal,
                declarations,
                reason=request.reason,
                dry_run=request.dry_run,
                now_ms=now_ms,
            )
        )
        return fleet_pb2.ApplyFleetResponse(changes=changes)

    async def list_sites(self, request: fleet_pb2.ListSitesRequest) -> fleet_pb2.ListSitesResponse:
        """Every declared site, by id."""
        desk, now_ms = self._desk, self._desk.now_ms()
        views = list(await desk.reader.read(desk.control.sites))
        names = [str(view.entry.site.id) for view in views]
        page, token = pages.page_by_name(views, names, SITES_KIND, request.page)
        return fleet_pb2.ListSitesResponse(
            sites=[self._site(view, now_ms) for view in page], next_page_token=token
        )

    async def list_nodes(self, request: fleet_pb2.ListNodesRequest) -> fleet_pb2.ListNodesResponse:
        """Declared nodes, by id."""
        desk, now_ms = self._desk, self._desk.now_ms()
        site = SiteId(request.site) if request.site else None
        size = pages.size_of(request.page)
        cursor = pages.cursor_of(NODES_KIND, request.page)
        after = NodeId(cursor) if cursor is not None else None
        views = await desk.reader.read(
            lambda snapshot: desk.control.nodes(snapshot, site, after=after, limit=size)
        )
        more = len(views) == size
        return fleet_pb2.ListNodesResponse(
            nodes=[_node(view, now_ms) for view in views],
            next_page_token=pages.token_of(NODES_KIND, views[-1].entry.node.id) if more else "",
        )

    async def overview(self, request: fleet_pb2.OverviewRequest) -> fleet_pb2.OverviewResponse:
        """The fleet in sum, as of one moment."""
        desk, now_ms = self._desk, self._desk.now_ms()
        found = await desk.reader.read(
            lambda snapshot: desk.control.overview(snapshot, unfit_max=request.unfit_max)
        )
        return fleet_pb2.OverviewResponse(
            sites=[_overview(self._site(e.site, now_ms), e) for e in found.sites],
            jobs_queued=found.jobs_queued,
            gpus_queued_milli=found.gpus_queued_milli,
            unfit=[_node(view, now_ms) for view in found.unfit],
            unfit_total=found.unfit_total,
        )

    async def cordon(self, request: fleet_pb2.CordonRequest) -> fleet_pb2.CordonResponse:
        """Lets no new work in."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        target = _target(request.target)
        await desk.writer.write(
            lambda txn: desk.control.cordon(txn, principal, target, request.reason, now_ms)
        )
        return fleet_pb2.CordonResponse()

    async def uncordon(self, request: fleet_pb2.UncordonRequest) -> fleet_pb2.UncordonResponse:
        """Lets new work in again."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        target = _target(request.target)
        await desk.writer.write(
            lambda txn: desk.control.uncordon(txn, principal, target, request.reason, now_ms)
        )
        return fleet_pb2.UncordonResponse()

    async def drain(self, request: fleet_pb2.DrainRequest) -> fleet_pb2.DrainResponse:
        """Empties a site or node."""
        if not 0 <= request.deadline_ms <= DEADLINE_MS_MAX:
            found = f"found {request.deadline_ms}, allowed 0 to {DEADLINE_MS_MAX}"
            raise invalid(Denial(Reason.INVALID_ARGUMENT, found, "deadline_ms"))
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        target = _target(request.target)
        affected = await desk.writer.write(
            lambda txn: desk.control.drain(
                txn, principal, target, request.reason, request.deadline_ms, now_ms
            )
        )
        return fleet_pb2.DrainResponse(attempts_affected=affected)

    async def fence(self, request: fleet_pb2.FenceRequest) -> fleet_pb2.FenceResponse:
        """Takes an operator's word that nothing of a node runs any more."""
        desk, principal, now_ms = self._desk, calls.principal(), self._desk.now_ms()
        if "/" not in request.node:
            raise not_found("node", request.node[:200])
        node = NodeId(request.node)
        fenced = await desk.writer.write(
            lambda txn: desk.control.fence(txn, principal, node, request.reason, now_ms)
        )
        return fleet_pb2.FenceResponse(attempts_fenced=fenced)

    async def verdicts(self, request: fleet_pb2.VerdictsRequest) -> fleet_pb2.VerdictsResponse:
        """Which requirements each site meets, with every reason."""
        if len(request.requirements) > REQUIREMENTS_MAX:
            found = f"found {len(request.requirements)}, allowed {REQUIREMENTS_MAX}"
            raise invalid(Denial(Reason.TOO_LARGE, found, "requirements"))
        requirements = [requirement_from_proto(r) for r in request.requirements]
        now_ms = self._desk.now_ms()
        verdicts = await self._desk.reader.read(
            lambda snapshot: _verdicts(snapshot, requirements, request.site, now_ms)
        )
        return fleet_pb2.VerdictsResponse(verdicts=verdicts)

    def _site(self, view: SiteView, now_ms: int) -> fleet_pb2.Site:
        message = _site(view, now_ms)
        power = self._power().get(view.entry.site.id)
        if power is not None:
            message.gpu_power_w, message.gpu_power_nodes = power.gpu_watts, power.nodes
        return message


def _target(text: str) -> SiteId | NodeId:
    """A site or a node; whether there is one is found out where it is looked up."""
    return NodeId(text) if "/" in text else SiteId(text)


def _verdicts(
    snapshot: Snapshot, requirements: list[Requirement], only: str, now_ms: int
) -> list[fleet_pb2.SiteVerdict]:
    policy = snapshot.tenancy.policy()
    sites = [e.site for e in snapshot.fleet.sites() if not only or e.site.id == only]
    if only and not sites:
        raise not_found("site", only[:200])
    found: list[fleet_pb2.SiteVerdict] = []
    for site in sites:
        for n, requirement in enumerate(requirements):
            verdict = permits(requirement, site, policy, now_ms)
            denials = verdict.denials if isinstance(verdict, Deny) else ()
            found.append(
                fleet_pb2.SiteVerdict(
                    site=site.id,
                    requirement=n,
                    permitted=not denials,
                    denials=[denial_to_proto(denial) for denial in denials],
                )
            )
    return found


def _site(view: SiteView, now_ms: int) -> fleet_pb2.Site:
    entry = view.entry
    site, contact = entry.site, entry.contact
    return fleet_pb2.Site(
        id=site.id,
        display_name=site.display_name,
        status=number(fleet_pb2.SiteStatus, site.status),
        country=country_of(site),
        operator=site.profile.service_operator,
        facts=[fact_to_proto(fact) for fact in site.facts],
        connected=contact.connected,
        last_contact_age_ms=max(0, now_ms - entry.contact_at_ms) if entry.contact_at_ms else 0,
        nodes_total=view.nodes_total,
        nodes_ready=view.nodes_ready,
        gpus_total=view.gpus_total,
        gpus_used_milli=view.gpus_used_milli,
        cordoned=site.cordoned,
        agent_version=contact.agent_version,
        ultimate_parents=[party_to_proto(party) for party in site.parents],
        generation=contact.generation,
        acked_generation=contact.acked_generation,
        profile=profile_to_proto(site.profile),
        power_cap_w=site.power_cap_w,
        energy=energy_to_proto(site.energy),
    )


def _overview(site: fleet_pb2.Site, view: SiteOverview) -> fleet_pb2.SiteOverview:
    return fleet_pb2.SiteOverview(
        site=site,
        gpus=[
            fleet_pb2.GpuUse(
                gpu_class=line.gpu_class,
                nodes=line.nodes,
                nodes_ready=line.nodes_ready,
                gpus=line.gpus,
                gpus_ready=line.gpus_ready,
                used_milli=line.used_milli,
            )
            for line in view.gpus
        ],
        attempts_running=view.running,
        attempts_moving=view.moving,
    )


def _node(view: NodeView, now_ms: int) -> fleet_pb2.Node:
    entry = view.entry
    node, report = entry.node, entry.report
    reported = entry.reported_at_ms
    health, detail = node_health(report)
    message = fleet_pb2.Node(
        id=node.id,
        site=site_of(node.id),
        pod=node.pod,
        leaf=node.leaf,
        nvlink_domain=node.nvlink_domain,
        gpu_class=node.gpu_class,
        gpus=node.gpus,
        gpus_used_milli=view.gpus_used_milli,
        cpu_arch=number(common_pb2.CpuArch, node.cpu_arch),
        health=number(common_pb2.Health, health),
        health_detail=detail,
        isolation=number(common_pb2.Isolation, report.isolation if report else Isolation(0)),
        cordoned=node.cordoned,
        last_report_age_ms=max(0, now_ms - reported) if reported is not None else 0,
        mig=mig_to_proto(node.mig),
        mig_reported=mig_to_proto(report.mig) if report is not None else (),
    )
    if report is not None:
        message.gpus_reported = report.gpus
        message.boot_id = report.boot_id
        message.telemetry = report.telemetry
    for fact in node.facts:
        message.facts.append(node_fact_to_proto(fact))
        if fact.key is NodeFactKey.LOCATION:
            message.location.verdict, message.location.country = fact.values
            message.location.detail = fact.detail
            message.location.bound_m = fact.bound_m
            message.location.age_ms = max(0, now_ms - fact.observed_at_ms)
    return message


def node_health(report: NodeReport | None) -> tuple[Health, str]:
    """A node's health and what there is to say of it, as far as it decides who may start there.

    One that is not heard of is UNKNOWN, whatever it last said; one without Ray takes nothing.
    """
    if report is None:
        return Health.UNKNOWN, "never heard of"
    if not report.agent_connected:
        return Health.UNKNOWN, "its agent is away"
    if not report.runtime_alive:
        return Health.FAILED, "Ray does not answer for it"
    return report.health, report.health_detail
