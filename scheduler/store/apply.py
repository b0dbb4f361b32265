"""The writer trusts nobody: a plan is held against the tables as they are, and commits as one.

Every placement is checked again; what no longer holds is dropped, and its job, still queued, is
planned again rather than retried. For the rest, state, audit, outbox and change log move in the
transaction that the caller holds, or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.model.fleet import Site
from scheduler.model.ids import GpuClass, JobId, SiteId, TenantPath
from scheduler.model.job import JobState, Placement
from scheduler.model.plan import Plan, Preempt
from scheduler.model.reasons import Denial
from scheduler.model.residency import FactKey, Permit
from scheduler.store import leaves
from scheduler.store.records import AttemptRow, JobStanding
from scheduler.store.standing import Standing, standing_of
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


@dataclass(slots=True)
class _Kept:
    """A placement that holds, how its job stood, and the leaf that tells of it."""

    job: JobStanding
    tenant: TenantPath
    placement: Placement
    leaf: leaves.PlacedLeaf


def apply_plan(txn: Txn, plan: Plan, now_ms: int) -> Applied:
    """Commits what still holds of `plan`."""
    assert len(plan.placements) <= PLACEMENTS_MAX, f"a plan of {len(plan.placements)} placements"
    standing = standing_of(txn, plan.placements, now_ms)
    told: dict[tuple[SiteId, GpuClass, tuple[FactKey, ...]], leaves.PlacedLeaf] = {}
    kept: list[_Kept] = []
    stale: list[Stale] = []
    for placement in plan.placements:
        denial = standing.fault(placement)
        if denial is not None:
            stale.append(Stale(placement, denial))
            continue
        tenant, permit = standing.group(placement).tenant, standing.verdict(placement)
        assert isinstance(permit, Permit), "what residency denies does not hold"
        alike = (placement.site, placement.gpu_class, permit.relied_on)
        if alike not in told:
            told[alike] = leaves.PlacedLeaf(_grounds(txn, standing, placement, permit))
        kept.append(_Kept(standing.take(placement), tenant, placement, told[alike]))
    _commit(txn, kept, now_ms)
    _keep(txn, plan, {each.placement.key.job for each in stale}, now_ms)
    if plan.mix is not None:
        txn.mix.put(plan.mix)
    return Applied(tuple(k.placement for k in kept), tuple(stale))


def _grounds(txn: Txn, standing: Standing, placement: Placement, permit: Permit) -> leaves.Grounds:
    site = standing.sites[placement.site]
    return leaves.Grounds(
        site=placement.site,
        country=country_of(site),
        gpu_class=placement.gpu_class,
        facts_digest=txn.fleet.facts_digest(site),
        relied_on=permit.relied_on,
        policy_revision=standing.policy.revision,
        at_ms=standing.now_ms,
    )


def _commit(txn: Txn, kept: Sequence[_Kept], now_ms: int) -> None:
    """State, outbox and audit of placements that hold."""
    keys = [k.placement.key for k in kept]
    attempts = [(k.tenant, _attempt(k, now_ms), k.placement) for k in kept]
    txn.attempts.add(attempts, first_leaf=txn.audit.next_index())
    for k in kept:
        leaves.placed(txn.audit, k.leaf, k.placement, k.tenant)
    txn.jobs.save_placed(keys, Counter(k.tenant for k in kept))
    txn.outbox.run([(k.placement.site, k.placement.key) for k in kept])


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


def _attempt(kept: _Kept, now_ms: int) -> AttemptRow:
    placement = kept.placement
    return AttemptRow(
        key=placement.key,
        site=placement.site,
        state=JobState.PLACED,
        live=True,
        leased=bool(kept.job.leased),
        gpu_class=placement.gpu_class,
        gpu_milli=placement.gpu_milli,
        country=kept.leaf.grounds.country,
        placed_at_ms=now_ms,
    )


def country_of(site: Site) -> str:
    """Where a site says it is; empty when it does not."""
    values = [fact.values for fact in site.facts if fact.key is FactKey.COUNTRY]
    return ",".join(values[0]) if values else ""
