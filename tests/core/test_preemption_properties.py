"""What holds of every preemption: enough, no more than enough, by right, and never in a circle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.ageing import AGEING_MAX_MS, ageing_ms
from scheduler.core.answers import ClassAnswer
from scheduler.core.clearing import Candidate, Price, price
from scheduler.core.evictable import lost_gpu_ms, may_be_asked, ripe_at_ms
from scheduler.core.fleet import FleetState
from scheduler.core.gangs import find
from scheduler.core.occupancy import NodeRecord
from scheduler.core.outlook import stake_of
from scheduler.core.planner import plan
from scheduler.core.quota import QuotaTree
from scheduler.core.ranks import outranks
from scheduler.core.stakes import Ledger, Stake
from scheduler.core.victims import Victims
from scheduler.core.waiting import Waiting
from scheduler.model.ids import GpuClass, JobId, TenantPath, ancestry
from scheduler.model.job import Priority
from scheduler.model.plan import Change, JobChanged, JobClass, LiveAttempt, TenantsChanged
from scheduler.model.residency import NodeSharing
from scheduler.model.tenancy import QueueOrder, Tenant
from tests.core.builders import (
    HOUR_MS,
    NOW_MS,
    commit,
    fleet_of,
    gone,
    job_class,
    node,
    queued,
    tenant,
    waiting_job,
)
from tests.core.preempting import outlook_of, seat
from tests.core.worlds import PROJECTS, job_classes, plain_classes, starts

THOROUGH = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def generous_trees(draw: st.DrawFn) -> tuple[Tenant, ...]:
    """The tenants of the small worlds, with more guaranteed to some than there is room for."""
    paths = sorted({path for project in PROJECTS for path in ancestry(TenantPath(project))})
    return tuple(
        tenant(
            path,
            guarantee=draw(st.sampled_from([0, 0, 4, 8, 16])),
            gpu_class=draw(st.sampled_from(["*", "H100"])),
        )
        for path in paths
    )


@st.composite
def crowded(draw: st.DrawFn) -> FleetState:
    """A world that is full, some of it for long, with more that waits."""
    fleet = FleetState()
    begin: list[Change] = draw(starts())
    fleet.apply_all(len(begin), begin)
    commit(fleet, plan(fleet, NOW_MS))
    for job in sorted(fleet.live):
        live = fleet.live[job]
        ran_ms = draw(st.integers(0, 3)) * HOUR_MS
        of = replace(
            live.job_class,
            preemptible=draw(st.integers(0, 4)) > 0,
            min_runtime_ms=draw(st.sampled_from([0, 0, HOUR_MS])),
            priority=draw(st.sampled_from([Priority.SPOT, Priority.NORMAL])),
        )
        fleet.apply(gone(int(job)))
        aged = replace(
            live,
            job_class=of,
            placed_at_ms=NOW_MS - ran_ms,
            started_at_ms=NOW_MS - ran_ms,
            checkpoint_at_ms=draw(st.sampled_from([0, NOW_MS - HOUR_MS // 2])),
        )
        fleet.apply(JobChanged(job, None, aged))
    if draw(st.booleans()):
        fleet.apply(TenantsChanged(draw(generous_trees())))
    number = 100
    for of in draw(st.lists(st.one_of(plain_classes(), job_classes()), min_size=2, max_size=5)):
        of = replace(of, priority=draw(st.sampled_from([Priority.NORMAL, Priority.HIGH])))
        fleet.apply(queued(number, of))
        number += 1
    commit(fleet, plan(fleet, NOW_MS))
    return fleet


def waiting_in(fleet: FleetState) -> list[tuple[JobId, JobClass]]:
    """The first job of each class that waits, in a fixed order."""
    return sorted(
        ((next(waiting.in_line()).id, of) for of, waiting in fleet.classes.items()),
        key=lambda e: e[0],
    )


def asked_for(fleet: FleetState, job: JobId, of: JobClass) -> Victims | None:
    """Whom a job has leave; None: nobody."""
    found = outlook_of(fleet).make_room(job, of, fleet.answer_to(of, NOW_MS))
    return found if found is not None and found.keys else None


def narrowed(fleet: FleetState, found: Victims) -> list[ClassAnswer]:
    """Where the job may go, as far as it was cleared for it."""
    claim = found.claim
    numbers = {site.id: n for n, (site, _, _) in enumerate(fleet.order)}
    number, mask = numbers[claim.site], 0
    for name in claim.nodes:
        mask |= 1 << fleet.nodes[name].at
    answer = fleet.answer_to(claim.job_class, NOW_MS)
    return [
        ClassAnswer(where.gpu_class, 1 << number, {number: where.nodes[number] & mask})
        for where in answer.classes
        if where.gpu_class == claim.gpu_class and where.sites >> number & 1
    ]


def starts_without(fleet: FleetState, found: Victims, leaving: list[JobId]) -> bool:
    """Whether the job could start on the nodes of its claim, were `leaving` gone."""
    taken = {job: fleet.live[job] for job in leaving}
    for job in leaving:
        fleet.apply(JobChanged(job, None, None))
    try:
        waiting = Waiting(found.claim.job_class)
        for where in narrowed(fleet, found):
            spot = find(fleet, waiting.signature, where, None)
            if spot is not None:
                of = found.claim.job_class
                stake = Stake(
                    of.tenant, fleet.evictable.rank(of), where.gpu_class, spot.milli(waiting.ask)
                )
                return Ledger(fleet.tree, fleet.usage, {}).fits(stake)
        return False
    finally:
        for job, live in taken.items():
            fleet.apply(JobChanged(job, None, live))


@THOROUGH
@given(crowded())
def test_victims_make_room_and_nobody_is_one_in_vain(fleet: FleetState) -> None:
    for job, of in waiting_in(fleet):
        found = asked_for(fleet, job, of)
        if found is None:
            continue
        victims = [key.job for key in found.keys]
        assert starts_without(fleet, found, victims)
        for spared in victims:
            assert not starts_without(fleet, found, [v for v in victims if v != spared])


@THOROUGH
@given(crowded())
def test_nobody_is_asked_who_may_stay(fleet: FleetState) -> None:
    for job, of in waiting_in(fleet):
        found = asked_for(fleet, job, of)
        for key in found.keys if found is not None else ():
            live = fleet.live[key.job]
            assert live.placement.key == key
            assert may_be_asked(live)
            assert ripe_at_ms(live) <= NOW_MS
            if live.tenant == of.tenant:
                ranks = fleet.evictable
                assert outranks(ranks.rank(of), ranks.rank(live.job_class, key.job))


@THOROUGH
@given(crowded())
def test_no_guarantee_of_others_is_broken(fleet: FleetState) -> None:
    for job, of in waiting_in(fleet):
        found = asked_for(fleet, job, of)
        if found is None:
            continue
        left = Counter[tuple[TenantPath, GpuClass]]()
        for key in found.keys:
            live = fleet.live[key.job]
            for path in ancestry(live.tenant):
                for name in (live.placement.gpu_class, GpuClass("*")):
                    left[path, name] += live.placement.gpu_milli
        for (path, name), milli in left.items():
            used = fleet.usage[path].get(name, 0)
            if path not in ancestry(of.tenant):
                assert used - milli >= min(used, fleet.tree.guarantee_milli(path, name))


def cheapest_by_trying(fleet: FleetState, of: JobClass) -> Price | None:
    """The best price of clearing any one node for a job, by trying every set on every node."""
    prices = [
        price([_candidate(fleet, of, victim) for victim in group])
        for where in fleet.answer_to(of, NOW_MS).classes
        for number, nodes in where.nodes.items()
        for at, record in enumerate(fleet.order[number][1].records)
        if nodes >> at & 1 and record.ready()
        for group in _groups(fleet, record)
        if _clears(fleet, of, group, ClassAnswer(where.gpu_class, 1 << number, {number: 1 << at}))
    ]
    return min(prices, default=None)


def _groups(fleet: FleetState, record: NodeRecord) -> Iterator[tuple[LiveAttempt, ...]]:
    here = [fleet.live[job] for job in sorted(record.occupants)]
    asked = [live for live in here if may_be_asked(live) and ripe_at_ms(live) <= NOW_MS]
    for size in range(1, len(asked) + 1):
        yield from combinations(asked, size)


def _clears(
    fleet: FleetState, of: JobClass, group: tuple[LiveAttempt, ...], only: ClassAnswer
) -> bool:
    """Whether a job may ask `group` to leave, and starts on the one node when they have left."""
    waiting = Waiting(of)
    ledger = Ledger(fleet.tree, fleet.usage, fleet.evictable.used_at)
    for victim in group:
        fleet.apply(JobChanged(victim.placement.key.job, None, None))
    spot = find(fleet, waiting.signature, only, None)
    for victim in group:
        fleet.apply(JobChanged(victim.placement.key.job, None, victim))
    if spot is None:
        return False
    stake = Stake(of.tenant, fleet.evictable.rank(of), only.gpu_class, spot.milli(waiting.ask))
    return ledger.allows(stake, [stake_of(fleet, v.placement, v.job_class) for v in group])


@THOROUGH
@given(crowded())
def test_one_node_is_cleared_at_the_least_price_there_is(fleet: FleetState) -> None:
    for job, of in waiting_in(fleet):
        if of.resources.nodes > 1:
            continue
        waiting = Waiting(of)
        answer = fleet.answer_to(of, NOW_MS)
        if any(find(fleet, waiting.signature, w, None) for w in answer.classes):
            continue  # Quota alone is in the way.
        best = cheapest_by_trying(fleet, of)
        found = asked_for(fleet, job, of)
        assert (found is None) == (best is None)
        if found is not None:
            assert price_of(fleet, of, found) == best


def price_of(fleet: FleetState, of: JobClass, found: Victims) -> Price:
    """What the victims lose."""
    victims = [fleet.live[key.job] for key in found.keys]
    return price([_candidate(fleet, of, live) for live in victims])


def _candidate(fleet: FleetState, of: JobClass, live: LiveAttempt) -> Candidate:
    job, priority = live.placement.key.job, live.job_class.priority
    same = live.tenant == of.tenant
    rank = fleet.evictable.rank(live.job_class, job) if same else (priority, 0)
    return Candidate(rank, lost_gpu_ms(live, NOW_MS), job)


def ranked(tree: QuotaTree, live: LiveAttempt) -> tuple[int, int]:
    """Priority, as aged by waiting, and in projects that go by it the GPU time asked for."""
    of, order = live.job_class, tree.tenants[live.tenant].queue_order
    submitted_ms = live.placed_at_ms if live.submitted_at_ms is None else live.submitted_at_ms
    step_ms = ageing_ms(order, of.time_limit_bucket_ms)
    priority = min(Priority.HIGH, of.priority + (live.placed_at_ms - submitted_ms) // step_ms)
    if order is not QueueOrder.SHORTEST or submitted_ms + 2 * step_ms <= NOW_MS:
        return priority, 0
    asked = of.resources
    return priority, -asked.nodes * asked.gpus_per_node * of.time_limit_bucket_ms


def potential(
    tree: QuotaTree, running: Mapping[JobId, LiveAttempt], ranks: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """What every preemption raises, from the facts alone; see `stakes`. `ranks`: descending."""
    terms: list[int] = []
    for rank in ranks:
        counted = [live for live in running.values() if ranked(tree, live) >= rank]
        for depth in (4, 3, 2, 1):
            met = 0
            for path, each in tree.tenants.items():
                if path.count("/") + 1 != depth:
                    continue
                for quota in each.quotas:
                    used = sum(
                        live.placement.gpu_milli
                        for live in counted
                        if path in ancestry(live.tenant)
                        and quota.gpu_class in ("*", live.placement.gpu_class)
                    )
                    met += min(used, quota.guarantee_milli)
            terms.append(met)
    for rank in ranks:
        terms.append(
            sum(live.placement.gpu_milli for live in running.values() if ranked(tree, live) == rank)
        )
    return tuple(terms)


@st.composite
def hierarchies(draw: st.DrawFn) -> tuple[Tenant, ...]:
    """Up to three levels, guarantees that add up or do not."""
    made: list[Tenant] = []
    for org in ("a", "b", "c")[: draw(st.integers(1, 3))]:
        guarantee = draw(st.sampled_from([0, 4, 8, 12]))
        order = draw(st.sampled_from(QueueOrder))
        name = draw(st.sampled_from(["*", "H100"]))
        made.append(tenant(org, guarantee=guarantee, gpu_class=name, order=order))
        for team in ("x", "y")[: draw(st.integers(0, 2))]:
            guarantee = draw(st.sampled_from([0, 4, 8]))
            made.append(tenant(f"{org}/{team}", guarantee=guarantee, order=order))
            if draw(st.booleans()):
                limit = draw(st.sampled_from([None, 8]))
                made.append(
                    tenant(f"{org}/{team}/p", guarantee=draw(st.sampled_from([0, 4])), limit=limit)
                )
    return tuple(made)


@THOROUGH
@given(hierarchies(), st.data())
def test_preemptions_end_and_each_raises_the_potential(
    tenants: tuple[Tenant, ...], data: st.DataObject
) -> None:
    """Nothing ends and nothing arrives: however greedy all are, there is a last preemption."""
    nodes = [node("london", f"n{n}", gpus=4, leaf=f"l{n // 2}") for n in range(5)]
    fleet = fleet_of(nodes=nodes, tenants=tenants)
    for number in range(1, data.draw(st.integers(6, 16)) + 1):
        of = job_class(
            data.draw(st.sampled_from([t.path for t in tenants])),
            gpus=data.draw(st.sampled_from([1, 2, 3, 4])),
            nodes=data.draw(st.sampled_from([1, 1, 1, 2])),
            priority=data.draw(st.sampled_from([Priority.SPOT, Priority.NORMAL, Priority.HIGH])),
            sharing=data.draw(st.sampled_from([NodeSharing.TENANT, NodeSharing.ANY])),
            limit_ms=data.draw(st.sampled_from([1, 2, 3, 8])) * HOUR_MS,
        )
        waited_ms = data.draw(st.sampled_from([0, 0, AGEING_MAX_MS, 2 * AGEING_MAX_MS]))
        fleet.apply(queued(number, of, at_ms=NOW_MS - 1000 + number - waited_ms))
        if data.draw(st.booleans()):
            commit(fleet, plan(fleet, NOW_MS))
    for _ in range(300):
        commit(fleet, plan(fleet, NOW_MS))
        if not preempt_one(fleet):
            return
    raise AssertionError("300 preemptions of 16 jobs are a circle")


def preempt_one(fleet: FleetState) -> bool:
    """The first job that may asks, is granted, and starts; whether there was one."""
    for job, of in waiting_in(fleet):
        found = asked_for(fleet, job, of)
        if found is None:
            continue
        running = dict(fleet.live)
        for key in found.keys:
            live = fleet.live[key.job]
            fleet.apply(
                queued(
                    int(key.job),
                    live.job_class,
                    at_ms=live.submitted_at_ms,
                    attempt=key.attempt + 1,
                )
            )
        seat(fleet, found, waiting_job(fleet, found.claim.job).submitted_at_ms)
        both = (*running.values(), *fleet.live.values())
        ranks = sorted({ranked(fleet.tree, live) for live in both}, reverse=True)
        assert potential(fleet.tree, fleet.live, ranks) > potential(fleet.tree, running, ranks)
        return True
    return False
