"""Whether a placement still holds, against what the tables say now: `apply` asks, nobody else.

Written on the rules of `core` (sharing, quota, residency, shapes) but never on the planner's own
indices: what the planner got wrong, or could not know yet, is found here. What is the same for
many placements of a plan (a site's door, residency, what a kind of node is to a class) is judged
once and remembered for that plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from scheduler.core import quota, residency
from scheduler.core.agreement_caps import AgreementCaps
from scheduler.core.budgets import Book, gpu_ms
from scheduler.core.layout import domain_of
from scheduler.core.node_facts import NodeNeeds, node_change_ms, node_denials, node_needs
from scheduler.core.power import Cap, Draws
from scheduler.model.fleet import Isolation, Site, SiteStatus
from scheduler.model.ids import GpuClass, JobId, NodeId, SiteId, TenantPath, site_of
from scheduler.model.job import JobState, Placement
from scheduler.model.plan import Reservation
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Deny, NodeSharing, Permit, Policy, Requirement
from scheduler.model.window import Window
from scheduler.store.known import Group, KnownNode, Taken
from scheduler.store.leaves import PlacedLeaf
from scheduler.store.mirror import Mirror
from scheduler.store.records import JobStanding
from scheduler.store.store import Txn

_QUEUED = int(JobState.QUEUED)
Check: TypeAlias = "Callable[[Standing, Placement, Group], Denial | None]"


@dataclass(slots=True)
class Case:
    """What is the same for all placements under one residency requirement at one site."""

    needs: NodeNeeds
    """What must be known of each node."""
    refusal: Denial | None
    """Why nothing under it may be placed there, if so."""
    permit: Permit | None
    """On what facts it may be there; None where it may not."""
    agreements: tuple[str, ...] = ()
    """Those that open the site to it; empty: it needs none."""
    ages: bool = False
    """Time alone may change what it rests on."""
    leaves: dict[tuple[GpuClass, str], PlacedLeaf] = field(default_factory=lambda: {})
    """How placements are told, by GPU class and agreement; for `apply`."""


@dataclass(slots=True)
class Standing:
    """What placements are held against. Each one that holds is taken, and counts for the next."""

    now_ms: int
    policy: Policy
    tree: quota.QuotaTree
    usage: quota.Usage
    mirror: Mirror
    jobs: dict[JobId, JobStanding]
    groups: dict[int, Group]
    doors: dict[SiteId, Denial | None]
    """Why a site takes nothing at all, if so."""
    sites: dict[SiteId, Site]
    floors: dict[SiteId, Isolation]
    """The least isolation that counts there."""
    nodes: Mapping[NodeId, KnownNode]
    windows: Mapping[SiteId, Sequence[Window]]
    """Of the sites that have any."""
    book: Book | None
    """What budgets have left; None: there are none."""
    reserve: Callable[[TenantPath, GpuClass, int, int], None]
    reservations: tuple[Reservation, ...]
    caps: dict[SiteId, Cap]
    """Of the sites that have one."""
    draws: Draws
    """What is held at those."""
    agreements: AgreementCaps
    """What agreements have left."""
    checks: Sequence[Check] = ()
    """Those of `CHECKS` that have anything to ask now."""
    checks_of_one: Sequence[Check] = ()
    """Those of them that have anything to ask of a single node."""
    placed: set[JobId] = field(default_factory=lambda: set[JobId]())
    taken: list[Taken] = field(default_factory=lambda: [])
    """What the placement that was judged last takes of its nodes."""
    cases: dict[tuple[int, SiteId], Case] = field(default_factory=lambda: {})

    def __post_init__(self) -> None:
        idle: dict[Check, object] = {
            _in_no_window: self.windows,
            _kept_for_others: self.reservations,
            _powered: self.caps,
            _budget: self.book,
        }
        self.checks = [check for check in CHECKS if check not in idle or idle[check]]
        self.checks_of_one = [check for check in self.checks if check is not _together]

    def judge(self, placement: Placement) -> tuple[Group, Case] | Denial:
        """The class and case of a placement that still holds; the first reason why it does not."""
        row = self.jobs.get(placement.key.job)
        if row is None:
            detail = f"job {placement.key.job} is not there, or was placed already"
            return Denial(Reason.NOT_FOUND, detail)
        if (found := _job_waits(row, placement.key.attempt, self.now_ms)) is not None:
            return found
        group = self.groups[row.class_id]
        alike = group.requirement_number, placement.site
        case = self.cases.get(alike)
        if case is None:
            case = self.cases[alike] = self._case(group.requirement, placement.site)
        if case.refusal is not None:
            return case.refusal
        if case.agreements and (found := self._over_agreement(placement, group, case)) is not None:
            return found
        checks = self.checks if len(placement.nodes) > 1 else self.checks_of_one
        for check in checks:
            if (found := check(self, placement, group)) is not None:
                return found
        if (found := self._unknown(placement, case.needs)) is not None:
            return found
        return group, case

    def _unknown(self, placement: Placement, needs: NodeNeeds) -> Denial | None:
        """What is known, or not known, against one of its nodes."""
        for record, _, _ in self.taken:
            node = record.node
            if not node.facts and not needs:
                continue
            country = residency.country_of(self.sites[placement.site])
            if against := node_denials(needs, node.id, node.facts, country, self.now_ms):
                return against[0]
        return None

    def known_until_ms(self, placement: Placement, group: Group, case: Case) -> int | None:
        """The first moment at which time alone changes what a placement needs known of its nodes,
        or of its site by its own word; None: there is none."""
        changes: list[int | None] = []
        if asked := group.requirement.facts:
            site = self.sites[placement.site]
            changes.append(residency.next_change_ms(site, self.policy, self.now_ms, asked))
        if case.needs:
            facts = (self.nodes[placed.node].node.facts for placed in placement.nodes)
            changes += [node_change_ms(case.needs, of_node, self.now_ms) for of_node in facts]
        return min((change for change in changes if change is not None), default=None)

    def _over_agreement(self, placement: Placement, group: Group, case: Case) -> Denial | None:
        """What caps say against a placement, where no agreement that opens its site has room."""
        milli, cost_gpu_ms = placement.gpu_milli, reserved_gpu_ms(placement, group)
        return next(
            iter(self.agreements.over(case.agreements, milli, cost_gpu_ms, self.now_ms)), None
        )

    def agreement_of(self, placement: Placement, group: Group, case: Case) -> str:
        """The agreement under which a placement is made, where it needs one: the first by name that
        has room."""
        milli, cost_gpu_ms = placement.gpu_milli, reserved_gpu_ms(placement, group)
        return self.agreements.admitting(case.agreements, milli, cost_gpu_ms, self.now_ms)

    def take(self, placement: Placement, group: Group, agreement: str) -> JobStanding:
        """`placement`, which was judged last, holds its GPUs and quota from now on; how its job
        stood until then."""
        row, milli = self.jobs.pop(placement.key.job), placement.gpu_milli
        quota.charge(self.usage, group.tenant, placement.gpu_class, milli)
        if self.reservations:
            self.placed.add(row.id)
        if self.book is not None:
            cost_gpu_ms = gpu_ms(milli, group.time_limit_bucket_ms)
            self.reserve(group.tenant, placement.gpu_class, cost_gpu_ms, self.now_ms)
        if agreement:
            self.agreements.hold(agreement, milli, reserved_gpu_ms(placement, group), self.now_ms)
        if self.caps:
            self.draws.charge(placement.site, placement.gpu_class, milli)
        self.mirror.take(row.id, group, self.taken)
        return row

    def _case(self, requirement: Requirement, site: SiteId) -> Case:
        """By the policy in force and the clock's time now."""
        if (closed := self.doors[site]) is not None:
            return Case((), closed, None)
        verdict = residency.permits(requirement, self.sites[site], self.policy, self.now_ms)
        needs = node_needs(requirement, self.policy)
        if isinstance(verdict, Deny):
            return Case(needs, verdict.denials[0], None)
        ages = bool(requirement.facts or needs)
        return Case(needs, None, verdict, verdict.agreements, ages)


def reserved_gpu_ms(placement: Placement, group: Group) -> int:
    """The GPU time that a placement reserves: its time limit's."""
    return gpu_ms(placement.gpu_milli, group.time_limit_bucket_ms)


def standing_of(txn: Txn, placements: Iterable[Placement], now_ms: int) -> Standing:
    """Reads what `placements` depend on, in a few questions however many they are."""
    placements = tuple(placements)
    jobs = txn.jobs.standings(p.key.job for p in placements)
    node_ids = {n.node for p in placements for n in p.nodes}
    txn.mirror.undo_with_transaction(node_ids)
    named = {site: txn.fleet.site(site) for site in sorted({p.site for p in placements})}
    sites = {site: declared for site, declared in named.items() if declared is not None}
    policy = txn.tenancy.policy()
    least = Isolation(policy.min_isolation)
    caps = {site: cap for site, it in sites.items() if (cap := txn.mirror.cap(it)) is not None}
    windows: dict[SiteId, list[Window]] = {}
    for window in txn.windows.all():
        windows.setdefault(window.site, []).append(window)
    return Standing(
        caps=caps,
        draws=txn.ledger().draws.copied(caps),
        agreements=AgreementCaps(
            policy.agreements, map(txn.tenancy.agreements.used, policy.agreements)
        ),
        now_ms=now_ms,
        policy=policy,
        tree=txn.tenancy.tree(),
        usage={path: dict(line) for path, line in txn.ledger().used.items()},
        mirror=txn.mirror,
        jobs=jobs,
        groups=txn.mirror.groups(row.class_id for row in jobs.values()),
        doors={site: _door(txn, site, declared) for site, declared in named.items()},
        sites=sites,
        floors={site: max(least, declared.min_isolation) for site, declared in sites.items()},
        nodes=txn.mirror.records(node_ids),
        book=txn.book(),
        reserve=txn.usage.reserve,
        reservations=_waited_for(txn, txn.reservations.all()),
        windows=windows,
    )


def _door(txn: Txn, site: SiteId, declared: Site | None) -> Denial | None:
    if declared is None:
        return Denial(Reason.SITE_NOT_ACTIVE, "the site is not declared", site)
    if declared.status is not SiteStatus.ACTIVE:
        return Denial(Reason.SITE_NOT_ACTIVE, f"the site is {declared.status.name}", site)
    if declared.cordoned:
        return Denial(Reason.SITE_CORDONED, "the site is cordoned", site)
    if not txn.fleet.contact(site).connected:
        return Denial(Reason.SITE_DISCONNECTED, "the site is not connected", site)
    return None


def _job_waits(row: JobStanding, attempt: int, now_ms: int) -> Denial | None:
    if row.state != _QUEUED or row.cancel_requested:
        state = JobState(row.state).name
        return Denial(Reason.ILLEGAL_TRANSITION, f"the job is {state}, needed QUEUED")
    if row.held:
        return Denial(Reason.ILLEGAL_TRANSITION, "the job is not for placing: it waits for others")
    if row.next_attempt != attempt:
        detail = f"attempt {attempt} was planned, the next is {row.next_attempt}"
        return Denial(Reason.ILLEGAL_TRANSITION, detail)
    if row.not_before_ms > now_ms:
        return Denial(Reason.BACKING_OFF, f"not before {row.not_before_ms}, it is {now_ms}")
    return None


def _gang_complete(_s: Standing, p: Placement, g: Group) -> Denial | None:
    ask = g.ask
    if len(p.nodes) != ask.nodes or ask.nodes > 1:
        names = {placed.node for placed in p.nodes}
        most = max(ask.nodes, ask.nodes_max)
        if len(p.nodes) != len(names) or not ask.nodes <= len(names) <= most:
            return Denial(Reason.NODES_TOO_FEW, f"{len(names)} nodes, needed {ask.nodes}", p.site)
    for placed in p.nodes:
        count = placed.gpu_mask.bit_count()
        whole = ask.sharing is NodeSharing.NONE and count >= ask.shape.gpus
        if count != ask.shape.gpus and not whole:
            detail = f"{count} GPUs of {placed.node}, needed {ask.shape.gpus}"
            return Denial(Reason.NODE_SHAPE, detail, p.site)
    return None


def _nodes_suit(s: Standing, p: Placement, g: Group) -> Denial | None:
    floor, charge = s.floors[p.site], 0
    for placed in p.nodes:
        record = s.nodes.get(placed.node)
        if record is None or record.site != p.site:
            return _strange(placed.node, p.site)
        if not record.is_ready:
            return Denial(Reason.NODES_UNHEALTHY, f"{placed.node} is not ready", p.site)
        if record.isolation_level < floor:
            return Denial(Reason.ISOLATION, f"{placed.node} is below {floor.name}", p.site)
        found = g.milli_on(p.gpu_class, record)
        if isinstance(found, Denial):
            return Denial(found.reason, f"{placed.node} {found.detail}", p.site)
        charge += found
    if charge != p.gpu_milli:
        return Denial(Reason.NODE_SHAPE, f"charged {p.gpu_milli} milli, due {charge}", p.site)
    return None


def _strange(node: NodeId, site: SiteId) -> Denial:
    if site_of(node) != site:
        return Denial(Reason.TOPOLOGY, f"{node} is not at {site}: a gang is at one site", site)
    return Denial(Reason.NODES_TOO_FEW, f"{node} is not declared", site)


def _together(s: Standing, p: Placement, g: Group) -> Denial | None:
    within = g.ask.within
    domains = {domain_of(s.nodes[placed.node].node, within) for placed in p.nodes}
    if len(domains) > 1:
        detail = f"{len(domains)} domains at level {within.name}, needed one"
        return Denial(Reason.TOPOLOGY, detail, p.site)
    return None


def _in_no_window(s: Standing, p: Placement, g: Group) -> Denial | None:
    ends_ms = s.now_ms + g.time_limit_bucket_ms
    for window in s.windows.get(p.site, ()):
        if not window.bars(g.tenant, s.now_ms, ends_ms):
            continue
        for placed in p.nodes:
            if window.covers(placed.node):
                detail = f"{placed.node} is set aside by window {window.id}"
                return Denial(Reason.WINDOW, detail, p.site)
    return None


def _kept_for_others(s: Standing, p: Placement, g: Group) -> Denial | None:
    ends_ms = s.now_ms + g.time_limit_bucket_ms
    names = {placed.node for placed in p.nodes}
    # Several for whom others left a node share what they left there.
    names -= {node for kept in s.reservations if kept.job == p.key.job for node in kept.nodes}
    for kept in s.reservations:
        if kept.job == p.key.job or ends_ms <= kept.starts_at_ms or kept.job in s.placed:
            continue
        if taken := sorted(names.intersection(kept.nodes)):
            detail = f"{taken[0]} is kept for a job that waited longer for it"
            return Denial(Reason.BEHIND_OTHERS, detail, p.site)
    return None


def _powered(s: Standing, p: Placement, _g: Group) -> Denial | None:
    cap = s.caps.get(p.site)
    if cap is None or cap.fits(s.draws.at(p.site), p.gpu_class, p.gpu_milli):
        return None
    return Denial(Reason.POWER_CAP, f"{p.site} may draw {cap.cap_w} W", p.site)


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


def _room(s: Standing, p: Placement, g: Group) -> Denial | None:
    s.taken = taken = list[Taken]()
    for node, gpu_mask in p.nodes:
        record = s.nodes[node]
        after = g.steps.after(record.left, gpu_mask)
        if after is None:
            return Denial(Reason.NODES_BUSY, f"{node} is not free any more", p.site)
        if g.joinable.isdisjoint(record.views):
            return Denial(Reason.NODE_SHARING, f"{node} is not to be shared", p.site)
        taken.append((record, gpu_mask, after))
    return None


def _quota(s: Standing, p: Placement, g: Group) -> Denial | None:
    tenant = g.tenant
    if quota.within(s.tree, s.usage, tenant, p.gpu_class, p.gpu_milli):
        return None
    return quota.fits(s.tree, s.usage, tenant, p.gpu_class, p.gpu_milli)[0]


def _budget(s: Standing, p: Placement, g: Group) -> Denial | None:
    if s.book is None:
        return None
    cost_gpu_ms = gpu_ms(p.gpu_milli, g.time_limit_bucket_ms)
    return next(iter(s.book.lacking(g.tenant, p.gpu_class, cost_gpu_ms, s.now_ms)), None)


CHECKS: tuple[Check, ...] = (
    _gang_complete,
    _nodes_suit,
    _together,
    _in_no_window,
    _kept_for_others,
    _room,
    _powered,
    _quota,
    _budget,
)
"""What is asked of each placement by itself, after its job, its site's door and the law; in this
order: each may rely on those before it."""
