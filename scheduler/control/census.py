"""How much there is of everything, for those who watch the control plane. Reads only.

Everything is a sum: per site, per GPU class, per tenant, per state. How many numbers there are
grows with the sites and tenants declared, never with jobs or nodes. Sites that are not active do
not count: nobody expects anything of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from scheduler.control.failures import too_many
from scheduler.control.views import QuotaLine, quota_lines_under
from scheduler.model.fleet import Health, SiteContact, SiteStatus
from scheduler.model.ids import GpuClass, NodeId, SiteId, site_of, slot_of
from scheduler.model.job import TERMINAL, JobState
from scheduler.model.operator_access import AccessState
from scheduler.model.plan import JobClass
from scheduler.model.reasons import Reason
from scheduler.store import operator_access
from scheduler.store.attempts import LEAVING
from scheduler.store.changes import ChangesTrimmed
from scheduler.store.records import NodeEntry, SiteEntry
from scheduler.store.store import Snapshot

NODE_CHANGES_MAX = 5_000
"""With more changes than this the whole fleet is read again."""
HEALTHS = (Health.OK, Health.DEGRADED, Health.FAILED, Health.UNKNOWN)
OPEN_STATES = tuple(s for s in JobState if s not in TERMINAL and s is not JobState.UNSPECIFIED)


@dataclass(slots=True)
class GpuCount:
    """GPUs of one class at a site."""

    installed: int = 0
    schedulable: int = 0
    allocated_milli: int = 0


@dataclass(frozen=True, slots=True)
class SiteCount:
    """A site in sum. Nodes that cannot be heard count as UNKNOWN."""

    site: SiteId
    contact: SiteContact
    cordoned: bool
    power_cap_w: int | None
    nodes: Mapping[Health, int]
    nodes_cordoned: int
    nodes_schedulable: int
    breaker_open: bool
    """So many nodes say they have failed that their work is left to operators."""
    gpus: Mapping[GpuClass, GpuCount]
    draining: int
    """Attempts that are being stopped where an operator let nothing new in, and hold nodes yet."""
    unpermitted: int
    """Attempts that hold nodes yet although the site may no longer hold them: told to leave."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """An agent that says where it is scraped; the site's own, when `slot` is empty."""

    site: SiteId
    slot: str
    address: str


@dataclass(frozen=True, slots=True)
class Access:
    """An operator's access to a tenant's data, asked for or open; `break_glass`: unapproved."""

    state: AccessState
    break_glass: bool


@dataclass(frozen=True, slots=True)
class Census:
    """Everything that is counted, as of one moment."""

    jobs: Mapping[JobState, int] = field(default_factory=dict[JobState, int])
    """Jobs that are not over, by state."""
    queued: Mapping[JobClass, int] = field(default_factory=dict[JobClass, int])
    sites: tuple[SiteCount, ...] = ()
    quota: tuple[QuotaLine, ...] = ()
    audit_leaves: int = 0
    scraped: tuple[Scraped, ...] = ()
    access: tuple[Access, ...] = ()


class Enumerator:
    """Takes a census now and then. Remembers the nodes it has read and follows the change log,
    because reading a large fleet anew each time would cost seconds. One caller at a time."""

    def __init__(self) -> None:
        self._nodes: dict[NodeId, NodeEntry] = {}
        self._sequence = -1

    def take(self, read: Snapshot, now_ms: int) -> Census:
        """The census of a snapshot that is no older than the one before."""
        self._follow(read)
        return Census(
            jobs=dict.fromkeys(OPEN_STATES, 0) | read.jobs.open_by_state(),
            queued=dict(read.jobs.queued_by_class()),
            sites=self._sites(read),
            quota=quota_lines_under(read, None),
            audit_leaves=read.audit.peaks().size,
            scraped=tuple(self._scraped(read)),
            access=tuple(
                Access(grant.state(now_ms), grant.break_glass)
                for grant in operator_access.open_grants(read, now_ms)
            ),
        )

    def _follow(self, read: Snapshot) -> None:
        """Brings the nodes up to date."""
        newest = read.changes.sequence()
        try:
            changed = read.changes.nodes_since(self._sequence, NODE_CHANGES_MAX)
        except ChangesTrimmed:
            self._nodes = {entry.node.id: entry for entry in read.fleet.nodes()}
        else:
            found = read.fleet.nodes_by_id(changed)
            for node in changed:
                if node in found:
                    self._nodes[node] = found[node]
                else:
                    self._nodes.pop(node, None)
        self._sequence = newest

    def _scraped(self, read: Snapshot) -> Iterator[Scraped]:
        """The agents of active sites that say where they are scraped, by site and slot."""
        active = {e.site.id: e for e in read.fleet.sites() if e.site.status is SiteStatus.ACTIVE}
        for site, entry in active.items():
            if address := entry.contact.metrics_address:
                yield Scraped(site, "", address)
        for node in sorted(self._nodes):
            report = self._nodes[node].report
            if site_of(node) in active and report is not None and report.metrics_address:
                yield Scraped(site_of(node), slot_of(node), report.metrics_address)

    def _sites(self, read: Snapshot) -> tuple[SiteCount, ...]:
        active = [e for e in read.fleet.sites() if e.site.status is SiteStatus.ACTIVE]
        sums = {entry.site.id: _Sums(entry) for entry in active}
        for node in self._nodes.values():
            if (there := sums.get(site_of(node.node.id))) is not None:
                there.add(node)
        uses = read.attempts.live_by_site()
        for use in uses:
            if (there := sums.get(use.site)) is not None:
                there.gpus[use.gpu_class].allocated_milli += use.gpu_milli
        if any(use.state in LEAVING for use in uses):
            for attempt in read.attempts.leaving():
                if (there := sums.get(attempt.site)) is not None:
                    there.unpermitted += attempt.reason is Reason.RESIDENCY_LOST
                    there.draining += attempt.state is not JobState.LOST and (
                        there.entry.site.cordoned or any(map(self._closed, attempt.nodes))
                    )
        return tuple(sums[entry.site.id].count() for entry in active)

    def _closed(self, node: NodeId) -> bool:
        entry = self._nodes.get(node)
        return entry is not None and entry.node.cordoned


class _Sums:
    """What is counted of one site."""

    def __init__(self, entry: SiteEntry) -> None:
        self.entry = entry
        self.open = entry.contact.connected and not entry.site.cordoned
        self.nodes: Counter[Health] = Counter(dict.fromkeys(HEALTHS, 0))
        self.cordoned = 0
        self.schedulable = 0
        self.failed = 0
        self.draining = 0
        self.unpermitted = 0
        self.gpus: defaultdict[GpuClass, GpuCount] = defaultdict(GpuCount)

    def add(self, entry: NodeEntry) -> None:
        """Counts a node."""
        self.nodes[_health(entry)] += 1
        self.cordoned += entry.node.cordoned
        self.failed += entry.report is not None and entry.report.health is Health.FAILED
        closed = entry.node.cordoned or entry.node.refuted()
        ready = entry.report is not None and entry.report.ready() and not closed
        self.schedulable += self.open and ready
        if entry.node.gpus:
            line = self.gpus[entry.node.gpu_class]
            line.installed += entry.node.gpus
            line.schedulable += entry.node.gpus if self.open and ready else 0

    def count(self) -> SiteCount:
        """The sums."""
        site = self.entry.site
        return SiteCount(
            site=site.id,
            contact=self.entry.contact,
            cordoned=site.cordoned,
            power_cap_w=site.power_cap_w,
            nodes=dict(self.nodes),
            nodes_cordoned=self.cordoned,
            nodes_schedulable=self.schedulable,
            breaker_open=too_many(self.failed, self.nodes.total()),
            gpus={name: self.gpus[name] for name in sorted(self.gpus)},
            draining=self.draining,
            unpermitted=self.unpermitted,
        )


def _health(entry: NodeEntry) -> Health:
    report = entry.report
    heard = report is not None and report.agent_connected and report.health in HEALTHS
    return report.health if report is not None and heard else Health.UNKNOWN
