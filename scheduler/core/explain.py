"""Why a job does not run, completely, in milliseconds; and what a job would meet, as a dry run.

Who asks about a queued job (`explain`) and who asks before submitting (`forecast`) get the same
answer from the same code, and whether it would start now is the planner's own search. Questions of
turn aside, a job that is told it would run somewhere has no reason standing against it there.

`changes` are minimal: lift every constraint of one set and the job fits; lift only a part of it and
it does not. Each set unblocks one site, and none contains another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.core.ageing import rank_of, submitted_by_ms
from scheduler.core.allowance import denials, over_caps
from scheduler.core.answers import least_isolation, site_denials
from scheduler.core.asks import Ask
from scheduler.core.backfill import Backfill
from scheduler.core.classes import ends_by_ms
from scheduler.core.energy import in_words
from scheduler.core.feasibility import KEPT_FIRST, Check, Option, best, least_milli, options_at
from scheduler.core.fleet import FleetState
from scheduler.core.gangs import Spot
from scheduler.core.index import SiteIndex
from scheduler.core.layout import bits, mask_of
from scheduler.core.node_facts import node_needs
from scheduler.core.residency import country_of
from scheduler.core.search import Search
from scheduler.core.waiting import Waiting
from scheduler.model.fleet import Site
from scheduler.model.ids import GpuClass, JobId, SiteId
from scheduler.model.plan import Explanation, JobClass, QueuedJob, SiteReasons
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Deny, Permit

OF_TENANT = frozenset(
    {Reason.QUOTA_LIMIT, Reason.QUOTA_BORROW, Reason.QUOTA_KEPT, Reason.BUDGET_EXHAUSTED}
)
"""Reasons that are about a tenant, and about no nodes."""

CHANGES_MAX = 16
"""Sets of changes that are told: the smallest first."""


@dataclass(frozen=True, slots=True)
class _SiteCase:
    """One site: what stands against it as a whole, and its GPU classes."""

    reasons: SiteReasons
    changes: tuple[tuple[Denial, ...], ...]


def explain(fleet: FleetState, job: QueuedJob, now_ms: int) -> Explanation:
    """Why `job`, which waits in `fleet`, does not run."""
    wait: tuple[Denial, ...] = ()
    if job.not_before_ms > now_ms:
        detail = f"it waits another {job.not_before_ms - now_ms} ms after a failed attempt"
        wait = (Denial(Reason.BACKING_OFF, detail),)
    return _explain(fleet, job, now_ms, wait)


def forecast(fleet: FleetState, job_class: JobClass, now_ms: int) -> Explanation:
    """What a job of `job_class` would meet were it submitted now."""
    return _explain(fleet, last_in_line(job_class, now_ms), now_ms, ())


def last_in_line(job_class: JobClass, now_ms: int) -> QueuedJob:
    """A job of `job_class` as it would be were it submitted now."""
    return QueuedJob(_LAST_JOB, job_class, now_ms, next_attempt=1)


_LAST_JOB = JobId((1 << 63) - 1)


def queue_position(fleet: FleetState, job: QueuedJob, now_ms: int) -> int:
    """How many jobs of the same project go before `job` by priority and age."""
    mine = job.job_class
    rank = rank_of(mine.priority, now_ms - job.submitted_at_ms)
    ahead = 0
    for waiting in fleet.queued.of_tenant.get(mine.tenant, ()):
        # Ids are in the order of age: in each line, the first are those that rank above `job`.
        priority = waiting.job_class.priority
        above = waiting.submitted_by(submitted_by_ms(priority, rank + 1, now_ms))
        equal = waiting.submitted_by(submitted_by_ms(priority, rank, now_ms))
        ahead += max(above, min(equal, waiting.before(job.id)))
    return ahead


def _explain(
    fleet: FleetState, job: QueuedJob, now_ms: int, wait: tuple[Denial, ...]
) -> Explanation:
    fleet.settle()
    job_class, ahead = job.job_class, queue_position(fleet, job, now_ms)
    waiting = fleet.queued.passing(job_class)
    ask = waiting.ask
    quota = _quota(fleet, job_class, ask, now_ms)
    search = Search(fleet, Backfill(fleet, now_ms), now_ms)
    cases = [
        _case(search, waiting, job.id, number, quota, wait) for number in range(len(fleet.order))
    ]
    spot = search.place(waiting, job.id)
    site = spot.site if isinstance(spot, Spot) and not wait else None
    accepted = [denials for name, denials in quota.items() if ask.accepts(name)]
    at_every_class = () if not all(accepted) else tuple(sorted({d for ds in accepted for d in ds}))
    if not isinstance(spot, Spot) and not at_every_class:
        # Work that does not share is charged by the node: only the planner knows which were left.
        at_every_class = spot.quota
    sets = [] if site else [found or at_every_class for case in cases for found in case.changes]
    return Explanation(
        summary=_summary(site, cases, at_every_class, wait, ahead) + _liked(fleet, site),
        sites=tuple(sorted((case.reasons for case in cases), key=lambda each: each.site)),
        quota=(*wait, *at_every_class),
        changes=_minimal_only(sets)[:CHANGES_MAX],
        queue_position=ahead,
        would_run_at=site,
    )


def _quota(
    fleet: FleetState, job_class: JobClass, ask: Ask, now_ms: int
) -> dict[GpuClass, tuple[Denial, ...]]:
    """What the tenant's limits and budgets say of each GPU class in the fleet."""
    found: dict[GpuClass, tuple[Denial, ...]] = {}
    for _, index, _ in fleet.order:
        for name in index.layout.classes:
            milli = least_milli(index.layout, ask, name)
            against = denials(fleet, job_class, name, milli, now_ms)
            if name not in found or len(against) < len(found[name]):
                found[name] = against
    return dict(sorted(found.items()))


def _case(
    search: Search,
    waiting: Waiting,
    job: JobId,
    number: int,
    quota: dict[GpuClass, tuple[Denial, ...]],
    wait: tuple[Denial, ...],
) -> _SiteCase:
    fleet = search.fleet
    site, index, connected = fleet.order[number]
    verdict, _ = fleet.verdicts.of(waiting.job_class.residency, site, search.now_ms)
    outer = verdict.denials if isinstance(verdict, Deny) else ()
    lawful = not isinstance(verdict, Deny)
    if isinstance(verdict, Permit):
        outer += _over_agreements(fleet, waiting, index, verdict.agreements, search.now_ms)
    outer += site_denials(site, connected=connected)
    checks = _now(search, site, index, waiting) + _ahead(search, waiting, job, number)
    options = options_at(site.id, index.layout, waiting.ask, checks)
    sets = [(*outer, *_least(site.id, option, options, quota), *wait) for option in options]
    reasons = SiteReasons(
        site.id, permitted=lawful, denials=(*outer, *best(options, waiting.ask).denials)
    )  # fmt: skip
    return _SiteCase(reasons, tuple(sets))


def _over_agreements(
    fleet: FleetState,
    waiting: Waiting,
    index: SiteIndex,
    agreements: Sequence[str],
    now_ms: int,
) -> tuple[Denial, ...]:
    """What caps of each agreement that opens a site say, of the least that it would be charged."""
    charged = [
        least_milli(index.layout, waiting.ask, name)
        for name in index.layout.classes
        if waiting.ask.accepts(name)
    ]
    milli = min(charged, default=0)
    return over_caps(fleet, waiting.job_class, agreements, milli, now_ms)


def _now(search: Search, site: Site, index: SiteIndex, waiting: Waiting) -> list[Check]:
    """The checks that change from minute to minute. A node that is too small is not busy too, nor
    is one unhealthy because something that is known speaks against it."""
    fleet = search.fleet
    too_small = index.layout.all & ~index.layout.suits(waiting.ask.shape)[2]
    needs = node_needs(waiting.job_class.residency, fleet.policy)
    known, _ = index.known(needs, country_of(site) if needs else "", search.now_ms)
    refuted = index.refuted
    healthy = (
        index.ready | index.spare | mask_of(at for at in bits(refuted) if index.records[at].ready())
    )
    return [
        (Reason.ISOLATION, index.isolated(least_isolation(site, fleet.policy))),
        (Reason.NODE_REFUTED, index.layout.all & ~refuted),
        (Reason.NODE_FACTS, known),
        (Reason.NODES_UNHEALTHY, healthy),
        (Reason.NODE_SHARING, index.in_views(waiting.signature.views)),
        (Reason.NODES_BUSY, index.with_room(waiting.ask.shape) | too_small),
    ]


def _ahead(search: Search, waiting: Waiting, job: JobId, number: int) -> list[Check]:
    """The checks of what is to come: nodes that are set aside, kept for others, or without power
    for what the job would draw there."""
    every = search.fleet.order[number][1].layout.all
    checks: list[Check] = []
    if search.fleet.order[number][1].spare:
        checks.append((Reason.SPARE_NODES, every & ~search.fleet.order[number][1].spare))
    if waiting.ask.apart is not None and waiting.ask.apart.required:
        others = search.fleet.spreads.used(waiting.ask.apart, number, search.fleet.order)
        checks.append((Reason.SPREAD, every & ~others))
    if search.bars:
        checks.append((Reason.WINDOW, every & ~search.barred(waiting, number)))
    if search.fleet.caps.get(number) is not None:
        checks.append((Reason.POWER_CAP, _powered(search, waiting.ask, number)))
    if search.backfill:
        ends_ms = ends_by_ms(waiting.job_class, search.now_ms)
        others = search.backfill.against(number, ends_ms, job)
        checks.append((Reason.BEHIND_OTHERS, every & ~others))
    return checks


def _powered(search: Search, ask: Ask, number: int) -> int:
    """The nodes of a site on whose like the whole job could draw what it draws at most."""
    mask = 0
    for (gpu_class, gpus), nodes in search.fleet.order[number][1].layout.of_kind.items():
        if search.fleet.may_draw(number, gpu_class, ask.nodes * ask.milli_on(gpus)):
            mask |= nodes
    return mask


def _least(
    site: SiteId,
    option: Option,
    options: tuple[Option, ...],
    quota: dict[GpuClass, tuple[Denial, ...]],
) -> tuple[Denial, ...]:
    """A set that is minimal over all GPU classes of the site, starting from one of them.

    What is minimal for one class may be more than enough: a part of it may open another class.
    """
    lifted = {*option.minimal, *quota.get(option.gpu_class, ())}
    opened = option
    for denial in sorted(lifted):
        fewer = lifted - {denial}
        other = next((each for each in options if _opens(each, fewer, quota)), None)
        if other is not None:
            lifted, opened = fewer, other
    return _worded(site, opened, {denial.reason for denial in lifted}, quota)


def _opens(option: Option, lifted: set[Denial], quota: dict[GpuClass, tuple[Denial, ...]]) -> bool:
    """Whether the GPU class can be used once `lifted` is."""
    over = {(denial.reason, denial.subject) for denial in quota.get(option.gpu_class, ())}
    if not over <= {(denial.reason, denial.subject) for denial in lifted}:
        return False
    reasons = frozenset(denial.reason for denial in lifted)
    if option.stand is None:
        return Reason.NODES_TOO_FEW in reasons
    return option.stand.feasible(reasons)


def _worded(
    site: SiteId,
    option: Option,
    reasons: set[Reason],
    quota: dict[GpuClass, tuple[Denial, ...]],
) -> tuple[Denial, ...]:
    """The set in the words of the GPU class that it opens."""
    if option.stand is None:
        return (*option.minimal, *quota.get(option.gpu_class, ()))
    named = sorted(reasons - OF_TENANT, key=KEPT_FIRST.index)
    checks = (Denial(reason, option.stand.detail(reason), site) for reason in named)
    return (*checks, *quota.get(option.gpu_class, ()))


def _minimal_only(sets: list[tuple[Denial, ...]]) -> tuple[tuple[Denial, ...], ...]:
    """The sets that contain no other, the smallest first; the same constraint is compared by
    reason and subject, as its wording counts nodes of one GPU class or another."""
    kept: list[tuple[tuple[Denial, ...], frozenset[tuple[Reason, str]]]] = []
    for found in sorted(sets, key=lambda denials: (len(denials), denials)):
        key = frozenset((denial.reason, denial.subject) for denial in found)
        if not any(other <= key for _, other in kept):
            kept.append((found, key))
    return tuple(found for found, _ in kept)


def _liked(fleet: FleetState, site: SiteId | None) -> str:
    """Why there and not elsewhere, where that could be asked."""
    known = in_words(fleet.sites[site][0]) if site is not None else ""
    return f"; where several fit alike, cheaper energy decides: there {known}" if known else ""


def _summary(
    site: SiteId | None,
    cases: list[_SiteCase],
    quota: tuple[Denial, ...],
    wait: tuple[Denial, ...],
    ahead: int,
) -> str:
    if wait:
        return wait[0].detail
    if site is not None:
        turn = "it is its turn" if not ahead else f"{ahead} job(s) of its project are before it"
        return f"there is room at {site} now; {turn}"
    if quota:
        return f"over quota of {quota[0].subject}: {quota[0].detail}"
    lawful = [case.reasons for case in cases if case.reasons.permitted]
    if not lawful:
        return f"none of {len(cases)} site(s) may hold it by its residency requirement"
    names = ", ".join(sorted({d.reason.value for reasons in lawful for d in reasons.denials}))
    return f"{len(lawful)} of {len(cases)} site(s) may hold it; there: {names or 'no room'}"
