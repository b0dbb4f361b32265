"""What the writer makes of a plan's preemptions, and how checkpoints become known."""

from dataclasses import replace

import pytest

from scheduler.core.elastic import GROW_EVERY_MS
from scheduler.core.lengths import begins_ms
from scheduler.core.ranks import gpus_of
from scheduler.model.ids import AttemptKey, GpuClass, JobId, TenantPath
from scheduler.model.job import JobSpec, JobState, Preemption, Priority, RankPhase
from scheduler.model.plan import Plan, Preempt
from scheduler.model.reasons import Reason
from scheduler.model.sitelink import AttemptPhase, AttemptReport, DesiredAction
from scheduler.model.tenancy import GpuQuota, QueueOrder, Tenant
from scheduler.store.apply import Applied
from tests.control.plant import EVE, HOUR_MS, LONDON, OLGA, SECOND_MS, Plant, spec
from tests.store.builders import RIVALS, node, site

WHOLE = {"nodes": 2, "gpus": 8}


def wish(name: str, priority: Priority, **asked: object) -> JobSpec:
    """Work of some priority that fills the site."""
    return replace(spec(name, **WHOLE), priority=priority, **asked)  # type: ignore[arg-type]


def preempt(plant: Plant, *asked: Preempt) -> Applied:
    """A plan that asks only for this."""
    with plant.store.read() as view:
        made = Plan(view.changes.sequence(), view.tenancy.policy().revision, (), asked)
    with plant.store.transaction() as txn:
        return plant.control.apply_plan(txn, made, plant.now_ms)


def leaves(plant: Plant, kind: str) -> list[str]:
    """The bodies of the audit leaves of one kind."""
    with plant.store.read() as view:
        return [leaf.body for leaf in view.audit.all() if leaf.kind == kind]


def test_a_victim_is_stopped_with_its_grace_and_queued_again_with_its_place(plant: Plant) -> None:
    grace = Preemption(grace_ms=7 * SECOND_MS)
    victim = plant.run(wish("spot", Priority.SPOT, preemption=grace))
    high = plant.submit(wish("high", Priority.HIGH))
    asked = Preempt(victim, high, "why")
    assert preempt(plant, asked).preempted == (asked,)
    assert plant.job(victim.job).state is JobState.PREEMPTING
    told = plant.push().rows[victim]
    assert (told.action, told.stop_grace_ms) == (DesiredAction.STOP, 7 * SECOND_MS)
    [leaf] = leaves(plant, "preempted")
    assert f'"beneficiary":{high}' in leaf
    submitted_at_ms = plant.job(victim.job).submitted_at_ms
    plant.report(plant.ended(victim, exit_code=143))
    job = plant.job(victim.job)
    assert (job.state, job.reason) == (JobState.QUEUED, Reason.PREEMPTED)
    assert (job.submitted_at_ms, job.not_before_ms) == (submitted_at_ms, plant.now_ms)
    assert [p.key.job for p in plant.cycle().kept] == [high]
    plant.check()


def test_planner_and_writer_make_room_together_and_nobody_slips_in(plant: Plant) -> None:
    victim = plant.run(wish("spot", Priority.SPOT))
    high = plant.submit(wish("high", Priority.HIGH))
    assert [each.victim for each in plant.cycle().preempted] == [victim]
    rival = plant.submit(replace(wish("rival", Priority.HIGH), project=RIVALS), EVE)
    assert plant.cycle().preempted == (), "what was begun is not begun again"
    plant.report(plant.ended(victim, exit_code=143))
    assert [placed.key.job for placed in plant.cycle().kept] == [high]
    assert plant.cycle().kept == ()
    assert plant.job(rival).state is JobState.QUEUED
    plant.check()


def by_service(plant: Plant) -> None:
    """Every project goes by `shortest`."""
    with plant.store.transaction() as txn:
        tenants = [replace(t, queue_order=QueueOrder.SHORTEST) for t in txn.tenancy.tenants()]
        txn.tenancy.replace_tenants(tenants)


def test_a_longer_job_makes_room_for_a_shorter_one_where_its_project_goes_by_that(
    plant: Plant,
) -> None:
    long = plant.run(wish("long", Priority.NORMAL, time_limit_ms=8 * HOUR_MS))
    short = plant.submit(wish("short", Priority.NORMAL, time_limit_ms=HOUR_MS))
    assert preempt(plant, Preempt(long, short, "why")).preempted == (), "it does not"
    by_service(plant)
    assert [each.victim for each in plant.cycle().preempted] == [long]
    plant.report(plant.ended(long, exit_code=143))
    assert [placed.key.job for placed in plant.cycle().kept] == [short]
    plant.check()


def test_what_has_run_long_and_told_no_limit_waits_behind_what_has_not(plant: Plant) -> None:
    by_service(plant)
    first = plant.run(wish("first", Priority.NORMAL))
    plant.now_ms += begins_ms(2)
    second = plant.submit(wish("second", Priority.NORMAL))
    assert [each.victim for each in plant.cycle().preempted] == [first]
    plant.report(plant.ended(first, exit_code=143))
    with plant.store.read() as view:
        row = view.jobs.row(first.job)
        assert row is not None
        job_class = view.jobs.job_class(row.class_id)
        assert job_class.had_gpu_ms == gpus_of(job_class) * begins_ms(2)
    assert [placed.key.job for placed in plant.cycle().kept] == [second]
    plant.check()


def test_nobody_leaves_for_a_job_that_does_not_wait_any_more(plant: Plant) -> None:
    victim = plant.run(wish("spot", Priority.SPOT))
    high = plant.submit(wish("high", Priority.HIGH))
    plant.cancel(high)
    assert preempt(plant, Preempt(victim, high, "why")).preempted == ()
    assert preempt(plant, Preempt(victim, JobId(999), "why")).preempted == ()
    assert plant.job(victim.job).state is JobState.RUNNING


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param(wish("even", Priority.HIGH), id="of no lower priority"),
        pytest.param(
            wish("firm", Priority.SPOT, preemption=Preemption(allowed=False)),
            id="that may not be preempted",
        ),
        pytest.param(
            wish("young", Priority.SPOT, preemption=Preemption(min_runtime_ms=HOUR_MS)),
            id="that has not had its least runtime",
        ),
    ],
)
def test_nobody_leaves_who_may_stay(plant: Plant, victim: JobSpec) -> None:
    key = plant.run(victim)
    high = plant.submit(wish("high", Priority.HIGH))
    assert preempt(plant, Preempt(key, high, "why")).preempted == ()
    assert plant.job(key.job).state is JobState.RUNNING


def test_all_victims_of_a_job_leave_or_none(plant: Plant) -> None:
    def half(name: str, priority: Priority, **asked: object) -> JobSpec:
        return replace(spec(name, gpus=8), priority=priority, **asked)  # type: ignore[arg-type]

    first = plant.run(half("spot", Priority.SPOT))
    second = plant.run(half("firm", Priority.SPOT, preemption=Preemption(allowed=False)))
    high = plant.submit(wish("high", Priority.HIGH))
    asked = (Preempt(first, high, "why"), Preempt(second, high, "why"))
    assert preempt(plant, *asked).preempted == ()
    # What is over needs no asking, and keeps nobody else from it.
    plant.report(plant.ended(second))
    assert preempt(plant, *asked).preempted == asked[:1]


def test_a_plan_that_was_applied_before_asks_for_nothing_twice(plant: Plant) -> None:
    victim = plant.run(wish("spot", Priority.SPOT))
    high = plant.submit(wish("high", Priority.HIGH))
    asked = Preempt(victim, high, "why")
    preempt(plant, asked)
    before = len(leaves(plant, "preempted"))
    assert preempt(plant, asked).preempted == ()
    assert len(leaves(plant, "preempted")) == before


def test_another_tenant_that_borrows_nothing_stays(plant: Plant) -> None:
    key = plant.run(wish("spot", Priority.SPOT))
    theirs = replace(wish("high", Priority.HIGH), project=RIVALS)
    assert preempt(plant, Preempt(key, plant.submit(theirs, EVE), "why")).preempted == ()


def test_a_guarantee_is_taken_back_from_another_tenant_that_borrows(plant: Plant) -> None:
    everything = GpuClass("*")
    guaranteed = (
        Tenant(TenantPath("trust-a"), quotas=(GpuQuota(everything, 16_000),)),
        Tenant(TenantPath("trust-a/radiology")),
        Tenant(TenantPath("uni-b")),
        Tenant(RIVALS),
    )
    with plant.store.transaction() as txn:
        plant.control.apply_tenants(
            txn, OLGA, guaranteed, reason="law", dry_run=False, now_ms=plant.now_ms
        )
    job = plant.submit(replace(wish("lent", Priority.HIGH), project=RIVALS), EVE)
    plant.cycle()
    plant.push()
    key = AttemptKey(job, 1)
    plant.report(plant.running(key))
    spot = plant.submit(wish("mine", Priority.SPOT))
    asked = Preempt(key, spot, "why")
    assert preempt(plant, asked).preempted == (asked,)
    assert "guaranteed" in plant.job(job).message


def test_a_lowered_power_cap_sheds_and_only_while_it_is_exceeded(plant: Plant) -> None:
    key = plant.run(wish("firm", Priority.HIGH, preemption=Preemption(allowed=False)))
    asked = Preempt(key, None, "the cap")
    assert preempt(plant, asked).preempted == (), "there is no cap"
    lowered = replace(site(LONDON), power_cap_w=15_000)
    nodes = tuple(node(slot, LONDON) for slot in ("n01", "n02"))
    with plant.store.transaction() as txn:
        plant.control.apply_fleet(
            txn, OLGA, [(lowered, nodes)], reason="law", dry_run=False, now_ms=plant.now_ms
        )
    assert preempt(plant, asked).preempted == (asked,)
    assert plant.job(key.job).state is JobState.PREEMPTING
    plant.check()


def test_a_newer_checkpoint_counts_from_when_it_was_heard_of(plant: Plant) -> None:
    key = plant.run()

    def tell(at_ms: int) -> int:
        plant.now_ms += 10 * SECOND_MS
        ranks = tuple(
            replace(rank, checkpoint_at_ms=at_ms) for rank in plant.ranks(key, RankPhase.RUNNING)
        )
        plant.report(AttemptReport(key, AttemptPhase.RUNNING, ranks))
        with plant.store.read() as view:
            row = view.attempts.row(key)
        assert row is not None
        return row.checkpoint_at_ms

    assert tell(0) == 0
    # The node's clock is a year ahead: that it moved is all that counts.
    first = tell(plant.now_ms + 365 * 24 * HOUR_MS)
    assert first == plant.now_ms
    assert tell(0) == first, "its agent was started anew"
    assert tell(plant.now_ms + 365 * 24 * HOUR_MS + 1) == plant.now_ms
    with plant.store.read() as view:
        _, changes = view.changes.load_all()
        [live] = [live for c in changes if (live := getattr(c, "live", None)) is not None]
    assert live.checkpoint_at_ms == plant.now_ms
    assert live.started_at_ms > 0


def test_an_elastic_job_starts_again_with_more_nodes_when_nobody_waits(plant: Plant) -> None:
    other = plant.run(spec("other", gpus=8))
    plain = spec("elastic", gpus=8)
    growing = plant.run(replace(plain, resources=replace(plain.resources, max_nodes=2)))
    with plant.store.read() as view:
        assert len(view.attempts.footings(growing)) == 1
    plant.report(plant.ended(other))
    plant.now_ms += GROW_EVERY_MS - SECOND_MS
    asked = Preempt(growing, growing.job, "why")
    assert plant.cycle().preempted == ()
    assert preempt(plant, asked).preempted == (), "not before it ran for long enough"
    plant.now_ms += SECOND_MS
    assert [each.victim for each in plant.cycle().preempted] == [growing]
    assert preempt(plant, asked).preempted == (), "what was begun is not begun again"
    plant.report(plant.ended(growing, exit_code=143))
    [wide] = plant.cycle().kept
    assert (wide.key.job, len(wide.nodes), wide.gpu_milli) == (growing.job, 2, 16_000)
    plant.now_ms += GROW_EVERY_MS
    asked = Preempt(wide.key, growing.job, "why")
    assert preempt(plant, asked).preempted == (), "it has all that it would take"
    plant.check()
