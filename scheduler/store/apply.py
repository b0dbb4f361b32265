"""The writer trusts nobody: a plan is held against the tables as they are, and commits as one.

Every placement is checked again; what no longer holds is dropped, and its job, still queued, is
planned again rather than retried. For the rest, state, audit, outbox and change log move in the
transaction that the caller holds, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.core.budgets import day_of
from scheduler.core.residency import country_of
from scheduler.model.ids import JobId, SiteId
from scheduler.model.job import JobState, Placement
from scheduler.model.plan import Plan, Preempt
from scheduler.model.reasons import Denial
from scheduler.store import leaves
from scheduler.store.agreements import AgreementUse
from scheduler.store.known import Group
from scheduler.store.leaves import Grounds, PlacedLeaf
from scheduler.store.records import NewAttempt
from scheduler.store.scratch import Placed
from scheduler.store.standing import Case, Standing, reserved_gpu_ms, standing_of
from scheduler.store.store import Txn

PLACEMENTS_MAX = 100_000
"""Most placements of one plan: far above the planner's budget."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A placement that was dropped, and why."""

    placement: Placement
    denial: Denial


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a plan."""

    kept: tuple[Placement, ...]
    stale: tuple[Stale, ...]
    preempted: tuple[Preempt, ...] = ()
    known_until_ms: Mapping[SiteId, int] = field(default_factory=lambda: {})
    """Where placements ask for something to be known: when time alone first changes it."""


def apply_plan(txn: Txn, plan: Plan, now_ms: int) -> Applied:
    """Commits what still holds of `plan`."""
    assert len(plan.placements) <= PLACEMENTS_MAX, f"a plan of {len(plan.placements)} placements"
    standing = standing_of(txn, plan.placements, now_ms)
    kept: list[tuple[JobId, PlacedLeaf, NewAttempt]] = []
    agreed: list[tuple[AgreementUse, str]] = []
    stale: list[Stale] = []
    until_ms: dict[SiteId, int] = {}
    for placement in plan.placements:
        found = standing.judge(placement)
        if isinstance(found, Denial):
            stale.append(Stale(placement, found))
            continue
        group, case = found
        agreement = standing.agreement_of(placement, group, case) if case.agreements else ""
        leaf = case.leaves.get((placement.gpu_class, agreement))
        if leaf is None:
            leaf = PlacedLeaf(_grounds(txn, standing, placement, case, agreement))
            case.leaves[placement.gpu_class, agreement] = leaf
        job = standing.take(placement, group, agreement)
        if case.ages and (change_ms := standing.known_until_ms(placement, group, case)) is not None:
            until_ms[placement.site] = min(change_ms, until_ms.get(placement.site, change_ms))
        if leaf.grounds.agreement:
            agreed.append((_use(placement, group, leaf.grounds), leaf.grounds.country))
        new = NewAttempt(group.tenant, job.leased, leaf.grounds.country, placement)
        kept.append((job.id, leaf, new))
    _commit(txn, kept, plan.number, now_ms)
    for use, country in sorted(agreed, key=lambda each: each[0].key.job):
        txn.tenancy.agreements.open(txn.audit, use, country, now_ms)
    _keep(txn, plan, {each.placement.key.job for each in stale}, now_ms)
    if plan.mix is not None:
        txn.learned.put_mix(plan.mix)
    return Applied(
        tuple([new.placement for _, _, new in kept]), tuple(stale), known_until_ms=until_ms
    )


def _grounds(
    txn: Txn, standing: Standing, placement: Placement, case: Case, agreement: str
) -> Grounds:
    assert case.permit is not None, "what residency denies does not hold"
    site = standing.sites[placement.site]
    return Grounds(
        site=placement.site,
        country=country_of(site),
        gpu_class=placement.gpu_class,
        facts_digest=txn.fleet.facts_digest(site),
        relied_on=case.permit.relied_on,
        policy_revision=standing.policy.revision,
        at_ms=standing.now_ms,
        agreement=agreement,
    )


def _use(placement: Placement, group: Group, grounds: Grounds) -> AgreementUse:
    """What a placement holds under the agreement that admits it."""
    return AgreementUse(
        placement.key,
        grounds.agreement,
        placement.site,
        placement.gpu_class,
        placement.gpu_milli,
        day_of(grounds.at_ms),
        live=True,
        gpu_ms=reserved_gpu_ms(placement, group),
    )


def _commit(
    txn: Txn, kept: Sequence[tuple[JobId, PlacedLeaf, NewAttempt]], number: int, now_ms: int
) -> None:
    """State, outbox and audit of placements that hold."""
    # In the order of their jobs, as the tables have them: neighbours share pages.
    in_order = sorted(kept)
    added = [new for _, _, new in in_order]
    txn.attempts.add(added, first_leaf=txn.audit.next_index(), now_ms=now_ms)
    leaves.placed(
        txn.audit, ((new.placement, leaf, new.tenant) for _, leaf, new in in_order), now_ms
    )
    placed = Placed(number, now_ms, tuple([job for job, _, _ in in_order]))
    txn.jobs.save_placed(placed, Counter([new.tenant for new in added]))
    txn.outbox.run([(new.placement.site, new.placement.key) for _, _, new in kept])


def _keep(txn: Txn, plan: Plan, unplaced: set[JobId], now_ms: int) -> None:
    """What the plan keeps for jobs that wait, and for whom it keeps nothing any more.

    A job whose placement was dropped keeps what was kept for it.
    """
    rows = txn.jobs.rows({*(made.job for made in plan.reservations), *plan.released})
    for job in plan.released:
        if job not in unplaced and txn.reservations.remove(job):
            leaves.unreserved(txn.audit, rows[job], now_ms)
    for made in plan.reservations:
        row = rows.get(made.job)
        if row is not None and row.state is JobState.QUEUED and not row.cancel_requested:
            txn.reservations.put(made)
            leaves.reserved(txn.audit, made, row.tenant, now_ms)
