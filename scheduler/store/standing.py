"""Whether a placement still holds, against what the tables say now: `apply` asks, nobody else.

Written on the rules of `core` (sharing, quota, residency, shapes) but never on the planner's own
indices: what the planner got wrong, or could not know yet, is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from scheduler.core import quota, residency
from scheduler.core.asks import Ask, ask_of, suits_arch, suits_interconnect
from scheduler.core.budgets import Book, gpu_ms
from scheduler.core.layout import domain_of
from scheduler.core.occupancy import NodeRecord, Occupant, may_join
from scheduler.model.fleet import Isolation, Site, SiteStatus
from scheduler.model.ids import (
    GpuClass,
    JobId,
    NodeId,
    SiteId,
    TenantPath,
    organisation_of,
    site_of,
)
from scheduler.model.job import JobState, Placement
from scheduler.model.plan import JobClass, Reservation
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Deny, NodeSharing, Policy, Requirement, Verdict
from scheduler.model.window import Window
from scheduler.store.records import JobRow
from scheduler.store.store import Txn


@dataclass(slots=True)
class Standing:
    """What placements are held against. Each one that holds is taken, and counts for the next."""

    now_ms: int
    policy: Policy
    tree: quota.QuotaTree
    usage: quota.Usage
    jobs: dict[JobId, JobRow]
    classes: dict[int, JobClass]
    asks: dict[int, Ask]
    sites: dict[SiteId, Site]
    connected: frozenset[SiteId]
    nodes: dict[NodeId, NodeRecord]
    windows: dict[SiteId, tuple[Window, ...]]
    book: Book | None
    """What budgets have left; None: there are none."""
    reserve: Callable[[TenantPath, GpuClass, int, int], None]
    reservations: tuple[Reservation, ...]
    placed: set[JobId] = field(default_factory=lambda: set[JobId]())
    verdicts: dict[tuple[Requirement, SiteId], Verdict] = field(default_factory=lambda: {})

    def fault(self, placement: Placement) -> Denial | None:
        """The first reason why `placement` no longer holds; None when it does."""
        for check in CHECKS:
            if (found := check(self, placement)) is not None:
                return found
        return None

    def take(self, placement: Placement) -> None:
        """`placement` holds its GPUs and quota from now on."""
        row = self.jobs.pop(placement.key.job)
        self.placed.add(row.id)
        ask = self.asks[row.class_id]
        quota.charge(self.usage, row.tenant, placement.gpu_class, placement.gpu_milli)
        self.reserve(row.tenant, placement.gpu_class, self.cost_gpu_ms(row, placement), self.now_ms)
        for placed in placement.nodes:
            record = self.nodes[placed.node]
            record.occupants[row.id] = _occupant(row.id, placed.gpu_mask, ask, row.tenant)
            record.recount()

    def cost_gpu_ms(self, row: JobRow, placement: Placement) -> int:
        """What the placement reserves of budgets."""
        return gpu_ms(placement.gpu_milli, self.classes[row.class_id].time_limit_bucket_ms)

    def ask(self, placement: Placement) -> Ask:
        """What the job of `placement` asks for."""
        return self.asks[self.jobs[placement.key.job].class_id]

    def verdict(self, placement: Placement) -> Verdict:
        """Residency at the placement's site, by the policy in force and the clock's time now."""
        requirement = self.classes[self.jobs[placement.key.job].class_id].residency
        key = (requirement, placement.site)
        if key not in self.verdicts:
            site = self.sites[placement.site]
            self.verdicts[key] = residency.permits(requirement, site, self.policy, self.now_ms)
        return self.verdicts[key]


def standing_of(txn: Txn, placements: Iterable[Placement], now_ms: int) -> Standing:
    """Reads what `placements` depend on, in a few questions however many they are."""
    placements = tuple(placements)
    jobs = txn.jobs.rows(p.key.job for p in placements)
    node_ids = [n.node for p in placements for n in p.nodes]
    held = txn.attempts.occupants(node_ids)
    class_ids = {row.class_id for row in jobs.values()}
    class_ids |= {occupant.class_id for held_here in held.values() for occupant in held_here}
    classes = {number: txn.jobs.job_class(number) for number in sorted(class_ids)}
    asks = {number: ask_of(job_class) for number, job_class in classes.items()}
    records: dict[NodeId, NodeRecord] = {}
    for node, entry in txn.fleet.nodes_by_id(node_ids).items():
        occupants = {
            o.key.job: _occupant(o.key.job, o.placed.gpu_mask, asks[o.class_id], o.tenant)
            for o in held.get(node, ())
        }
        records[node] = NodeRecord(entry.node, entry.report, occupants)
    sites: dict[SiteId, Site] = {}
    connected: set[SiteId] = set()
    for site_id in sorted({p.site for p in placements}):
        if (site := txn.fleet.site(site_id)) is not None:
            sites[site_id] = site
        if txn.fleet.contact(site_id).connected:
            connected.add(site_id)
    return Standing(
        now_ms=now_ms,
        policy=txn.tenancy.policy(),
        tree=txn.tenancy.tree(),
        usage={path: dict(line) for path, line in txn.ledger().used.items()},
        jobs=jobs,
        classes=classes,
        asks=asks,
        sites=sites,
        connected=frozenset(connected),
        nodes=records,
        book=txn.book(),
        reserve=txn.usage.reserve,
        reservations=_waited_for(txn, txn.reservations.all()),
        windows={site: txn.windows.all(site) for site in sites},
    )


def _occupant(job: JobId, gpu_mask: int, ask: Ask, tenant: TenantPath) -> Occupant:
    return Occupant(job, gpu_mask, ask.shape, ask.sharing, organisation_of(tenant), until_ms=0)


def _job_waits(s: Standing, p: Placement) -> Denial | None:
    row = s.jobs.get(p.key.job)
    if row is None:
        return Denial(Reason.NOT_FOUND, f"job {p.key.job} is not there, or was placed already")
    if row.state is not JobState.QUEUED or row.cancel_requested:
        return Denial(Reason.ILLEGAL_TRANSITION, f"the job is {row.state.name}, needed QUEUED")
    if row.next_attempt != p.key.attempt:
        detail = f"attempt {p.key.attempt} was planned, the next is {row.next_attempt}"
        return Denial(Reason.ILLEGAL_TRANSITION, detail)
    if row.not_before_ms > s.now_ms:
        return Denial(Reason.BACKING_OFF, f"not before {row.not_before_ms}, it is {s.now_ms}")
    return None


def _site_open(s: Standing, p: Placement) -> Denial | None:
    site = s.sites.get(p.site)
    if site is None:
        return Denial(Reason.SITE_NOT_ACTIVE, "the site is not declared", p.site)
    if site.status is not SiteStatus.ACTIVE:
        return Denial(Reason.SITE_NOT_ACTIVE, f"the site is {site.status.name}", p.site)
    if site.cordoned:
        return Denial(Reason.SITE_CORDONED, "the site is cordoned", p.site)
    if p.site not in s.connected:
        return Denial(Reason.SITE_DISCONNECTED, "the site is not connected", p.site)
    return None


def _gang_complete(s: Standing, p: Placement) -> Denial | None:
    ask = s.ask(p)
    names = {placed.node for placed in p.nodes}
    if len(p.nodes) != ask.nodes or len(names) != ask.nodes:
        return Denial(Reason.NODES_TOO_FEW, f"{len(names)} nodes, needed {ask.nodes}", p.site)
    elsewhere = sorted(node for node in names if site_of(node) != p.site)
    if elsewhere:
        detail = f"{elsewhere[0]} is not at {p.site}: a gang is at one site"
        return Denial(Reason.TOPOLOGY, detail, p.site)
    for placed in p.nodes:
        count = placed.gpu_mask.bit_count()
        whole = ask.sharing is NodeSharing.NONE and count >= ask.shape.gpus
        if count != ask.shape.gpus and not whole:
            detail = f"{count} GPUs of {placed.node}, needed {ask.shape.gpus}"
            return Denial(Reason.NODE_SHAPE, detail, p.site)
    return None


def _nodes_suit(s: Standing, p: Placement) -> Denial | None:
    ask = s.ask(p)
    floor = max(Isolation(s.policy.min_isolation), s.sites[p.site].min_isolation)
    for placed in p.nodes:
        record = s.nodes.get(placed.node)
        if record is None:
            return Denial(Reason.NODES_TOO_FEW, f"{placed.node} is not declared", p.site)
        if not record.ready():
            return Denial(Reason.NODES_UNHEALTHY, f"{placed.node} is not ready", p.site)
        if not record.isolated(floor):
            return Denial(Reason.ISOLATION, f"{placed.node} is below {floor.name}", p.site)
        node = record.node
        if node.gpu_class != p.gpu_class or not ask.accepts(node.gpu_class):
            return Denial(Reason.GPU_CLASS, f"{placed.node} has {node.gpu_class}", p.site)
        if not suits_arch(ask.shape, node):
            return Denial(Reason.CPU_ARCH, f"{placed.node} is {node.cpu_arch.name}", p.site)
        if not suits_interconnect(ask.shape, node):
            return Denial(Reason.INTERCONNECT, f"{placed.node} lacks it", p.site)
    charge = sum(ask.milli_on(s.nodes[placed.node].node.gpus) for placed in p.nodes)
    if charge != p.gpu_milli:
        return Denial(Reason.NODE_SHAPE, f"charged {p.gpu_milli} milli, due {charge}", p.site)
    return None


def _together(s: Standing, p: Placement) -> Denial | None:
    within = s.ask(p).within
    domains = {domain_of(s.nodes[placed.node].node, within) for placed in p.nodes}
    if len(domains) > 1:
        detail = f"{len(domains)} domains at level {within.name}, needed one"
        return Denial(Reason.TOPOLOGY, detail, p.site)
    return None


def _in_no_window(s: Standing, p: Placement) -> Denial | None:
    row = s.jobs[p.key.job]
    ends_ms = s.now_ms + s.classes[row.class_id].time_limit_bucket_ms
    for window in s.windows[p.site]:
        if not window.bars(row.tenant, s.now_ms, ends_ms):
            continue
        for placed in p.nodes:
            if window.covers(placed.node):
                detail = f"{placed.node} is set aside by window {window.id}"
                return Denial(Reason.WINDOW, detail, p.site)
    return None


def _kept_for_others(s: Standing, p: Placement) -> Denial | None:
    ends_ms = s.now_ms + s.classes[s.jobs[p.key.job].class_id].time_limit_bucket_ms
    names = {placed.node for placed in p.nodes}
    for kept in s.reservations:
        if kept.job == p.key.job or ends_ms <= kept.starts_at_ms or kept.job in s.placed:
            continue
        if taken := sorted(names.intersection(kept.nodes)):
            detail = f"{taken[0]} is kept for a job that waited longer for it"
            return Denial(Reason.BEHIND_OTHERS, detail, p.site)
    return None


def _waited_for(txn: Txn, kept: tuple[Reservation, ...]) -> tuple[Reservation, ...]:
    """Those whose jobs still wait."""
    rows = txn.jobs.rows(each.job for each in kept)
    return tuple(
        each
        for each in kept
        if (row := rows.get(each.job)) is not None
        and row.state is JobState.QUEUED
        and not row.cancel_requested
    )


def _room(s: Standing, p: Placement) -> Denial | None:
    ask = s.ask(p)
    organisation = organisation_of(s.jobs[p.key.job].tenant)
    for placed in p.nodes:
        record = s.nodes[placed.node]
        if placed.gpu_mask & ~record.free_mask or not record.has_room(ask.shape):
            return Denial(Reason.NODES_BUSY, f"{placed.node} is not free any more", p.site)
        if not may_join(ask.sharing, organisation, tuple(record.occupants.values())):
            return Denial(Reason.NODE_SHARING, f"{placed.node} is not to be shared", p.site)
    return None


def _quota(s: Standing, p: Placement) -> Denial | None:
    tenant = s.jobs[p.key.job].tenant
    return next(iter(quota.fits(s.tree, s.usage, tenant, p.gpu_class, p.gpu_milli)), None)


def _budget(s: Standing, p: Placement) -> Denial | None:
    if s.book is None:
        return None
    row = s.jobs[p.key.job]
    cost_gpu_ms = s.cost_gpu_ms(row, p)
    return next(iter(s.book.lacking(row.tenant, p.gpu_class, cost_gpu_ms, s.now_ms)), None)


def _resident(s: Standing, p: Placement) -> Denial | None:
    verdict = s.verdict(p)
    return verdict.denials[0] if isinstance(verdict, Deny) else None


CHECKS: tuple[Callable[[Standing, Placement], Denial | None], ...] = (
    _job_waits,
    _site_open,
    _resident,
    _gang_complete,
    _nodes_suit,
    _together,
    _in_no_window,
    _kept_for_others,
    _room,
    _quota,
    _budget,
)
"""In this order: each may rely on those before it."""
