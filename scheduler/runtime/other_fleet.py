"""The facts of the store with another fleet in place of the declared one, as the planner eats them.

Cordons and what nodes report stay as they are. What is not there yet is taken to be connected,
healthy and as declared: one asks what it would bring. Work whose nodes are gone, or whose law no
longer reaches where it runs, waits again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from scheduler.control.declare import unsettled
from scheduler.core.residency import permits
from scheduler.model.fleet import Health, Isolation, Node, NodeReport, Site
from scheduler.model.ids import JobId, SiteId, site_of
from scheduler.model.plan import (
    Change,
    JobChanged,
    LiveAttempt,
    NodeChanged,
    QueuedJob,
    Reservation,
    ReservationChanged,
    SiteChanged,
    WindowChanged,
)
from scheduler.model.residency import Deny, Requirement
from scheduler.model.whatif import OtherFleet
from scheduler.store.store import Snapshot

GONE = "its nodes are not in the other fleet, or have become another kind"
ASSUMED_BOOT = "assumed"
ASSUMED_ISOLATION = Isolation.UID
"""Of an agent that may change users; at least what its site demands."""


class FleetInstead:
    """Changes with the other fleet; `displaced` and `assumed` grow as they are read."""

    def __init__(self, snapshot: Snapshot, other: OtherFleet, now_ms: int) -> None:
        self.displaced: dict[JobId, tuple[LiveAttempt, str]] = {}
        """Attempts that would have to end, and why."""
        self.nodes_assumed = 0
        self._policy = snapshot.tenancy.policy()
        self._now_ms = now_ms
        self._sites_now = {entry.site.id: entry for entry in snapshot.fleet.sites()}
        self._nodes_now = {entry.node.id: entry for entry in snapshot.fleet.nodes()}
        self._sites: dict[SiteId, Site] = {site.id: site for site, _ in other.sites}
        self._nodes = {node.id: node for _, nodes in other.sites for node in nodes}
        before = {name: entry.node for name, entry in self._nodes_now.items()}
        self._gone = frozenset(unsettled(before, self._nodes))
        self._judged: dict[tuple[Requirement, SiteId], str] = {}

    def under(self, changes: Iterable[Change]) -> Iterator[Change]:
        """Everything of `changes`, which is all there is, with the other fleet."""
        yield from map(self._site, self._sites.values())
        yield from map(self._node, self._nodes.values())
        for change in changes:
            match change:
                case SiteChanged() | NodeChanged():
                    continue
                case WindowChanged(window=window) if window and window.site not in self._sites:
                    continue
                case ReservationChanged(reservation=kept) if kept and self._is_gone(kept):
                    continue
                case JobChanged(live=live) if live and (why := self._why_not(live)):
                    self.displaced[change.id] = (live, why)
                    yield JobChanged(change.id, _again(live), None)
                case _:
                    yield change

    def _site(self, site: Site) -> SiteChanged:
        now = self._sites_now.get(site.id)
        cordoned = now is not None and now.site.cordoned
        connected = now is None or now.contact.connected
        return SiteChanged(site.id, replace(site, cordoned=cordoned), connected)

    def _node(self, node: Node) -> NodeChanged:
        now = self._nodes_now.get(node.id)
        if now is not None:
            return NodeChanged(node.id, replace(node, cordoned=now.node.cordoned), now.report)
        self.nodes_assumed += 1
        return NodeChanged(node.id, node, self._healthy(node))

    def _healthy(self, node: Node) -> NodeReport:
        """The report of a node that is all that it is declared to be."""
        return NodeReport(
            node=node.id,
            boot_id=ASSUMED_BOOT,
            gpus=node.gpus,
            health=Health.OK,
            health_detail="",
            isolation=max(ASSUMED_ISOLATION, self._sites[site_of(node.id)].min_isolation),
            telemetry=ASSUMED_BOOT,
            runtime_alive=True,
            agent_connected=True,
            cpu_arch=node.cpu_arch,
            cpu_milli=node.cpu_milli,
            memory_bytes=node.memory_bytes,
            mig=node.mig,
        )

    def _is_gone(self, kept: Reservation) -> bool:
        return any(node in self._gone for node in kept.nodes)

    def _why_not(self, live: LiveAttempt) -> str:
        """Why an attempt may not stay; empty: it may."""
        placement = live.placement
        if any(part.node in self._gone for part in placement.nodes):
            return GONE
        asked = (live.job_class.residency, placement.site)
        why = self._judged.get(asked)
        if why is None:
            verdict = permits(asked[0], self._sites[placement.site], self._policy, self._now_ms)
            denials = verdict.denials if isinstance(verdict, Deny) else ()
            why = f"{denials[0].reason}: {denials[0].detail}" if denials else ""
            self._judged[asked] = why
        return why


def _again(live: LiveAttempt) -> QueuedJob:
    key = live.placement.key
    submitted_ms = live.submitted_at_ms
    return QueuedJob(
        id=key.job,
        job_class=live.job_class,
        submitted_at_ms=live.placed_at_ms if submitted_ms is None else submitted_ms,
        next_attempt=key.attempt + 1,
    )
