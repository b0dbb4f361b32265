"""A plan is held against the tables: every way in which a placement can have gone stale."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.model.fleet import Health, SiteContact, SiteStatus
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, node_id
from scheduler.model.job import (
    JobState,
    NodePlacement,
    Placement,
    Resources,
    Topology,
    TopologyLevel,
)
from scheduler.model.plan import JobClass
from scheduler.model.reasons import Reason
from scheduler.model.residency import FactKey, NodeSharing, Policy
from scheduler.model.sitelink import DesiredAction
from scheduler.store.apply import apply_plan
from scheduler.store.rebuild import as_told, rebuild
from scheduler.store.store import Store, Txn
from tests.store.builders import (
    CODEC,
    H100,
    LEEDS,
    LONDON,
    NOW_MS,
    RADIOLOGY,
    RIVALS,
    british_facts,
    fact,
    job_class,
    lay_out,
    node,
    place,
    plan,
    queue,
    report,
    sharing,
    site,
    tenants,
)

N01 = node_id(LONDON, "n01")
Change = Callable[[Txn, JobId], None]


def unhealthy(node: NodeId) -> Change:
    """The node says it has failed."""
    return lambda txn, _: txn.fleet.put_report(replace(report(node), health=Health.FAILED), NOW_MS)


def cancelled(txn: Txn, job: JobId) -> None:
    """The job ended while the plan was made."""
    row = txn.jobs.row(job)
    assert row is not None
    txn.jobs.save(row, row._replace(state=JobState.CANCELLED))


def next_attempt_is_2(txn: Txn, job: JobId) -> None:
    """Another attempt came and went."""
    row = txn.jobs.row(job)
    assert row is not None
    txn.jobs.save(row, row._replace(next_attempt=2))


def backs_off(txn: Txn, job: JobId) -> None:
    """The job may not start yet."""
    row = txn.jobs.row(job)
    assert row is not None
    txn.jobs.save(row, row._replace(not_before_ms=NOW_MS + 1))


def gpu_taken(txn: Txn, _: JobId) -> None:
    """Somebody of the same tenant took the GPU."""
    other = queue(txn, name="other")
    assert apply_plan(txn, plan(place(other.id, "n01")), NOW_MS).stale == ()


def shared_with_rivals(txn: Txn, _: JobId) -> None:
    """Another organisation's job is on the node, on other GPUs."""
    other = queue(txn, job_class(RIVALS))
    assert apply_plan(txn, plan(place(other.id, "n01", mask=2)), NOW_MS).stale == ()


def facts_lost(txn: Txn, _: JobId) -> None:
    """Nobody vouches for the landlord any more."""
    facts = [f for f in british_facts() if f.key is not FactKey.LANDLORD]
    txn.fleet.put_site(site(facts=facts))


def sold_abroad(txn: Txn, _: JobId) -> None:
    """The operator is now under foreign law."""
    facts = [f for f in british_facts() if f.key is not FactKey.SERVICE_OPERATOR]
    txn.fleet.put_site(site(facts=[*facts, fact(FactKey.SERVICE_OPERATOR, "US")]))


def policy_narrowed(txn: Txn, _: JobId) -> None:
    """The policy allows Norway alone."""
    txn.tenancy.add_policy(Policy(revision=2, allowed_jurisdictions=("NO",)), NOW_MS)


STALE: dict[str, tuple[Change, Reason]] = {
    "a job that was cancelled": (cancelled, Reason.ILLEGAL_TRANSITION),
    "an attempt that is over": (next_attempt_is_2, Reason.ILLEGAL_TRANSITION),
    "a job that backs off": (backs_off, Reason.BACKING_OFF),
    "a GPU that another job took": (gpu_taken, Reason.NODES_BUSY),
    "a node that rivals are on": (shared_with_rivals, Reason.NODE_SHARING),
    "a node that failed": (unhealthy(N01), Reason.NODES_UNHEALTHY),
    "a node that was cordoned": (
        lambda txn, _: txn.fleet.cordon_node(N01, True, "fan"),
        Reason.NODES_UNHEALTHY,
    ),
    "a node that is gone": (lambda txn, _: txn.fleet.remove_node(N01), Reason.NODES_TOO_FEW),
    "a GPU that is not reported any more": (
        lambda txn, _: txn.fleet.put_report(report(N01, gpus=0), NOW_MS),
        Reason.NODES_BUSY,
    ),
    "a site that was cordoned": (
        lambda txn, _: txn.fleet.cordon_site(LONDON, True, "flood"),
        Reason.SITE_CORDONED,
    ),
    "a site on hold": (
        lambda txn, _: txn.fleet.put_site(replace(site(), status=SiteStatus.ON_HOLD)),
        Reason.SITE_NOT_ACTIVE,
    ),
    "a site that is gone": (lambda txn, _: txn.fleet.remove_site(LONDON), Reason.SITE_NOT_ACTIVE),
    "a site that left": (
        lambda txn, _: txn.fleet.put_contact(SiteContact(LONDON, False, 9, 0), NOW_MS),
        Reason.SITE_DISCONNECTED,
    ),
    "a limit that was lowered": (
        lambda txn, _: txn.tenancy.replace_tenants(tenants(limit_milli=500)),
        Reason.QUOTA_LIMIT,
    ),
    "a tenant that is gone": (lambda txn, _: txn.tenancy.replace_tenants(()), Reason.QUOTA_LIMIT),
    "a fact that is missing now": (facts_lost, Reason.FACT_MISSING),
    "an operator that was sold": (sold_abroad, Reason.FOREIGN_COMPULSION),
    "a policy in between": (policy_narrowed, Reason.JURISDICTION_NOT_ALLOWED),
}


@pytest.mark.parametrize(("change", "reason"), list(STALE.values()), ids=list(STALE))
def test_what_no_longer_holds_is_dropped_and_nothing_is_written(
    store: Store, change: Change, reason: Reason
) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        job = queue(txn).id
    with store.transaction() as txn:
        change(txn, job)
    with store.transaction() as txn:
        applied = apply_plan(txn, plan(place(job, "n01")), NOW_MS)
    assert applied.kept == ()
    assert [s.denial.reason for s in applied.stale] == [reason]
    with store.read() as view:
        assert view.attempts.row(AttemptKey(job, 1)) is None
        assert view.outbox.get(LONDON, AttemptKey(job, 1)) is None


GANG = job_class(
    resources=Resources(nodes=2, gpus_per_node=2), topology=Topology(TopologyLevel.LEAF)
)
ALONE = job_class(residency=sharing(NodeSharing.NONE))


WRONG: dict[str, tuple[JobClass | None, Callable[[JobId], Placement], Reason]] = {
    "half a gang": (GANG, lambda job: place(job, "n01", mask=3), Reason.NODES_TOO_FEW),
    "a gang with one node twice": (
        GANG,
        lambda job: place(job, "n01", "n01", mask=3),
        Reason.NODES_TOO_FEW,
    ),
    "a gang with too few GPUs": (
        GANG,
        lambda job: place(job, "n01", "n02", mask=1),
        Reason.NODE_SHAPE,
    ),
    "a gang across leaves that must be in one": (
        GANG,
        lambda job: place(job, "n01", "far", mask=3),
        Reason.TOPOLOGY,
    ),
    "a gang across sites": (
        GANG,
        lambda job: place(job, "n01", "n02", mask=3)._replace(
            nodes=(NodePlacement(N01, 3), NodePlacement(node_id(LEEDS, "n01"), 3)),
        ),
        Reason.TOPOLOGY,
    ),
    "a node of another GPU class": (
        None,
        lambda job: place(job, "n01")._replace(gpu_class=GpuClass("B200")),
        Reason.GPU_CLASS,
    ),
    "a ninth GPU": (None, lambda job: place(job, "n01", mask=1 << 8), Reason.NODES_BUSY),
    "a whole node charged as one GPU": (
        ALONE,
        lambda job: place(job, "n01", mask=1),
        Reason.NODE_SHAPE,
    ),
    "a site that nobody declared": (
        None,
        lambda job: place(job, "n01")._replace(site=LEEDS),
        Reason.SITE_NOT_ACTIVE,
    ),
    "a job that never was": (None, lambda _: place(JobId(999), "n01"), Reason.NOT_FOUND),
}


@pytest.mark.parametrize(("of", "build", "reason"), list(WRONG.values()), ids=list(WRONG))
def test_what_a_planner_should_never_have_planned_is_dropped(
    store: Store, of: JobClass | None, build: Callable[[JobId], Placement], reason: Reason
) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        txn.fleet.put_node(node("far", leaf="l2"))
        txn.fleet.put_report(report(node_id(LONDON, "far")), NOW_MS)
        job = queue(txn, of).id
        applied = apply_plan(txn, plan(build(job)), NOW_MS)
    assert [s.denial.reason for s in applied.stale] == [reason]


def test_a_job_planned_twice_is_placed_once(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        job = queue(txn).id
        applied = apply_plan(txn, plan(place(job, "n01"), place(job, "n02")), NOW_MS)
    assert applied.kept == (place(job, "n01"),)
    assert [s.denial.reason for s in applied.stale] == [Reason.NOT_FOUND]


def test_placements_of_one_plan_count_against_each_other(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn, limit_milli=2000)
        jobs = [queue(txn).id for _ in range(4)]
        applied = apply_plan(
            txn,
            plan(
                place(jobs[0], "n01", mask=1),
                place(jobs[1], "n01", mask=1),
                place(jobs[2], "n01", mask=2),
                place(jobs[3], "n02", mask=1),
            ),
            NOW_MS,
        )
    assert [p.key.job for p in applied.kept] == [jobs[0], jobs[2]]
    assert [s.denial.reason for s in applied.stale] == [Reason.NODES_BUSY, Reason.QUOTA_LIMIT]


def test_state_outbox_audit_and_ledger_move_together(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        job = queue(txn).id
    with store.transaction() as txn:
        applied = apply_plan(txn, plan(place(job, "n01")), NOW_MS)
        assert applied.stale == ()
        assert txn.ledger().usage()[RADIOLOGY] == {H100: 1000, GpuClass("*"): 1000}
        assert txn.ledger().queues() == {}
    with store.read() as view:
        row = view.outbox.get(LONDON, AttemptKey(job, 1))
        assert row is not None
        assert (row.action, row.generation) == (DesiredAction.RUN, 1)
        whole = view.jobs.get(job)
        assert whole is not None
        assert whole.state is JobState.PLACED
        assert whole.attempts[0].country == "GB"
        assert rebuild(view.audit.all(), CODEC) == {job: as_told(whole)}
        assert view.ledger().usage() == {
            RADIOLOGY: {H100: 1000, GpuClass("*"): 1000},
            "trust-a": {H100: 1000, GpuClass("*"): 1000},
        }


def test_generations_of_a_site_only_rise(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        first, second = queue(txn).id, queue(txn).id
        apply_plan(txn, plan(place(first, "n01")), NOW_MS)
        apply_plan(txn, plan(place(second, "n02")), NOW_MS)
    with store.read() as view:
        assert [(r.key.job, r.generation) for r in view.outbox.since(LONDON, 0)] == [
            (first, 1),
            (second, 2),
        ]
        assert [r.key.job for r in view.outbox.since(LONDON, 1)] == [second]
        assert view.fleet.contact(LONDON).generation == 2


def test_shares_of_a_gpu_are_placed_until_it_is_full_and_no_whole_job_beside_them(
    store: Store,
) -> None:
    def shared(txn: Txn, milli: int, mask: int = 1) -> Placement:
        row = queue(txn, job_class(resources=Resources(gpu_share_milli=milli)))
        return place(row.id, "n01", mask=mask)._replace(gpu_milli=milli)

    with store.transaction() as txn:
        lay_out(txn)
        placements = [
            shared(txn, 600),
            shared(txn, 500),
            shared(txn, 400),
            place(queue(txn).id, "n01"),
            shared(txn, 500, mask=2),
            place(queue(txn).id, "n01", mask=4),
        ]
        applied = apply_plan(txn, plan(*placements), NOW_MS)
        kept = [placements.index(each) for each in applied.kept]
        assert kept == [0, 2, 4, 5]
        assert {each.denial.reason for each in applied.stale} == {Reason.NODES_BUSY}
    with store.transaction() as txn:
        later = [shared(txn, 500, mask=2), shared(txn, 100), shared(txn, 501, mask=2)]
        assert apply_plan(txn, plan(*later), NOW_MS).kept == (later[0],)


def test_a_share_is_charged_what_it_is(store: Store) -> None:
    with store.transaction() as txn:
        lay_out(txn)
        row = queue(txn, job_class(resources=Resources(gpu_share_milli=250)))
        (stale,) = apply_plan(txn, plan(place(row.id, "n01")), NOW_MS).stale
        assert stale.denial.reason is Reason.NODE_SHAPE
