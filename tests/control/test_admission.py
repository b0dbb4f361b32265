"""What is let in, what is refused with a leaf, and what is malformed."""

import json
from dataclasses import replace

import pytest

from scheduler.control.admission import Accepted, Admission, Asked, Rejected
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import GpuClass, TenantPath
from scheduler.model.job import Dependency, JobSpec, JobState, Resources
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.model.residency import Fact, Policy, Requirement, Tier
from scheduler.model.tenancy import GpuQuota, Tenant
from scheduler.store.store import Txn
from scheduler.wire.written import written
from tests.control.plant import ADA, EVE, OLGA, Plant, spec
from tests.store.builders import (
    H100,
    RADIOLOGY,
    RIVALS,
    british_facts,
    node,
    site,
    tenants,
)


def needing(**residency: object) -> JobSpec:
    """A job with another residency requirement."""
    requirement = replace(Requirement(("GB",)), **residency)  # type: ignore[arg-type]
    return replace(spec(), residency=requirement)


def shaped(**resources: object) -> JobSpec:
    """A job of another shape."""
    return replace(spec(), resources=replace(Resources(), **resources))  # type: ignore[arg-type]


NEVER = {
    "a jurisdiction that policy does not allow": (
        needing(jurisdictions=("NO",)),
        Reason.JURISDICTION_NOT_ALLOWED,
    ),
    "no jurisdiction at all": (needing(jurisdictions=()), Reason.REQUIREMENT_EMPTY),
    "a tier above the control plane": (
        needing(tier=Tier.TOP_SECRET),
        Reason.TIER_ABOVE_CONTROL_PLANE,
    ),
    "an agreement that nobody knows": (
        needing(agreements=("uk-ca-compute",)),
        Reason.AGREEMENT_UNKNOWN,
    ),
    "a marking that no site may handle": (needing(markings=("ATOMIC",)), Reason.MARKING),
    "a GPU that no site has": (shaped(gpu_classes=(GpuClass("B200"),)), Reason.GPU_CLASS),
    "more nodes than any site has": (shaped(nodes=3), Reason.NODES_TOO_FEW),
    "more GPUs than any node has": (shaped(gpus_per_node=9), Reason.NODE_SHAPE),
}


@pytest.mark.parametrize(("what", "reason"), list(NEVER.values()), ids=list(NEVER))
def test_work_that_never_could_run_leaves_a_leaf_and_no_row(
    plant: Plant, what: JobSpec, reason: Reason
) -> None:
    rejected = plant.try_submit(what)
    assert rejected.refusal.code is Code.FAILED_PRECONDITION
    assert rejected.refusal.reason is reason
    assert plant.codec.encode(rejected.id) in rejected.refusal.message
    with pytest.raises(Refused):
        rejected.job_or_raise()
    with plant.store.read() as view:
        assert view.jobs.row(rejected.id) is None
        leaf = view.audit.page(first=0, limit=10, job=rejected.id)[0]
        assert not view.jobs.specs(range(10))  # The first would have the number 1.
    assert leaf.kind == "job_refused"
    assert leaf.tenant == RADIOLOGY
    assert reason in {denial["reason"] for denial in json.loads(leaf.body)["denials"]}
    plant.check()


def test_a_limit_that_could_never_hold_the_work_refuses_it(plant: Plant) -> None:
    apply(plant, tenants(limit_milli=4000))
    rejected = plant.try_submit(spec(gpus=8))
    assert rejected.refusal.reason is Reason.QUOTA_LIMIT
    assert isinstance(plant.submit(spec(gpus=4)), int)


def apply(plant: Plant, tree: tuple[Tenant, ...]) -> None:
    """An operator replaces the tenant tree."""
    with plant.store.transaction() as txn:
        plant.control.apply_tenants(
            txn, OLGA, tree, reason="test", dry_run=False, now_ms=plant.now_ms
        )


def test_what_is_busy_today_is_let_in_and_waits(plant: Plant) -> None:
    plant.run(spec(nodes=2, gpus=8))
    waits = plant.submit(spec("waits", nodes=2, gpus=8))
    assert plant.job(waits).state is JobState.QUEUED


def test_admission_follows_a_change_of_the_fleet_and_of_the_policy(plant: Plant) -> None:
    gang = shaped(nodes=3)
    plant.try_submit(gang)
    plant.lay_out(slots=("n01", "n02", "n03"))
    plant.submit(gang)
    plant.apply_policy(Policy(allowed_jurisdictions=("NO",)))
    rejected = plant.try_submit(gang)
    assert rejected.refusal.reason is Reason.JURISDICTION_NOT_ALLOWED


def test_work_that_was_let_in_is_not_any_more_once_a_fact_expires(plant: Plant) -> None:
    fleet = [(site(facts=expiring(plant.now_ms + 1000)), (node("n01"),))]
    with plant.store.transaction() as txn:
        plant.control.apply_fleet(
            txn, OLGA, fleet, reason="test", dry_run=False, now_ms=plant.now_ms
        )
    plant.submit()
    plant.now_ms += 999
    plant.submit()
    plant.now_ms += 1
    assert plant.try_submit(spec()).refusal.reason is Reason.FACT_EXPIRED
    assert plant.try_submit(spec("again")).refusal.reason is Reason.FACT_EXPIRED


def expiring(at_ms: int) -> list[Fact]:
    """British facts, all of which are worth nothing from `at_ms` on."""
    return [replace(fact, expires_at_ms=at_ms) for fact in british_facts()]


def test_each_job_is_judged_by_what_is_its_own_although_its_shape_is_known(plant: Plant) -> None:
    plant.submit()
    own = {
        "name": replace(spec(), name="-"),
        "command": replace(spec(), command=("",)),
        "env.1": replace(spec(), env=(("1", "x"),)),
        "env.RANK": replace(spec(), env=(("RANK", "0"),)),
        "bundle_digest": replace(spec(), bundle_digest="sha256:" + "0" * 64),
        "project": spec(project="uni-b/physics"),
    }
    for field, what in own.items():
        with pytest.raises(Refused) as refused:
            plant.submit(what)
        assert [denial.subject for denial in refused.value.denials] == [field]
    plant.submit(spec(project="uni-b/physics"), EVE)
    with pytest.raises(Refused):
        plant.submit(spec(project="uni-b/physics"))


def test_of_many_each_has_its_own_outcome(plant: Plant) -> None:
    replayed = plant.submit(key="k1")
    many = (
        (spec("a"), "k2"),
        (spec(), "k1"),
        (replace(spec("bad"), command=()), "k3"),
        (spec("a"), "k2"),
        (spec("other"), "k2"),
        (shaped(nodes=3), "k4"),
        (spec("b"), "x" * 129),
        (spec("c"), ""),
    )
    before = count_leaves(plant)
    with plant.store.transaction() as txn:
        asked = [Asked(written(what), key) for what, key in many]
        outcomes = plant.control.submit_each(txn, ADA, asked, plant.now_ms)
    first, again, bad, same, conflict, never, long_key, last = outcomes
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert (again.existed, again.job.id) == (True, replayed)
    assert isinstance(bad, Refused)
    assert bad.reason is Reason.INVALID_ARGUMENT
    assert isinstance(same, Accepted)
    assert (same.existed, same.job.id) == (True, first.job.id)
    assert isinstance(conflict, Refused)
    assert conflict.reason is Reason.IDEMPOTENCY_CONFLICT
    assert isinstance(never, Rejected)
    assert isinstance(long_key, Refused)
    assert [denial.subject for denial in long_key.denials] == ["idempotency_key"]
    assert isinstance(last, Accepted)
    assert count_leaves(plant) == before + 4  # Two jobs; one that never could, certified too.
    plant.check()


def test_a_job_may_wait_for_another_that_comes_with_it(plant: Plant) -> None:
    after = replace(spec("second"), depends_on=(Dependency("first", JobState.SUCCEEDED),))
    with plant.store.transaction() as txn:
        asked = [Asked(written(what), "") for what in (spec("first"), after, spec("third"))]
        first, second, _ = plant.control.submit_each(txn, ADA, asked, plant.now_ms)
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert [on.job for on in second.job.waits_for] == [first.id]
    plant.check()


MALFORMED = {
    "an empty command": (replace(spec(), command=()), "command"),
    "no name": (replace(spec(), name=""), "name"),
    "ten thousand nodes": (shaped(nodes=10_000), "resources.nodes"),
    "another tenant's project": (spec(project="uni-b/physics"), "project"),
    "a project that does not exist": (spec(project="trust-a/none"), "project"),
    "a project that is not a leaf": (spec(project="trust-a"), "project"),
    "a bundle that was not uploaded": (
        replace(spec(), bundle_digest="sha256:" + "0" * 64),
        "bundle_digest",
    ),
}


@pytest.mark.parametrize(("what", "field"), list(MALFORMED.values()), ids=list(MALFORMED))
def test_malformed_work_is_refused_by_field_and_leaves_nothing(
    plant: Plant, what: JobSpec, field: str
) -> None:
    leaves = count_leaves(plant)
    with pytest.raises(Refused) as refused, plant.store.transaction() as txn:
        plant.control.submit(txn, ADA, what, "", plant.now_ms)
    assert refused.value.code is Code.INVALID_ARGUMENT
    assert field in {denial.subject for denial in refused.value.denials}
    assert count_leaves(plant) == leaves


def count_leaves(plant: Plant) -> int:
    """The size of the log."""
    with plant.store.read() as view:
        return view.audit.peaks().size


def test_several_faults_are_told_at_once(plant: Plant) -> None:
    bad = replace(spec(project="uni-b/physics"), command=(), name="")
    with pytest.raises(Refused) as refused, plant.store.read() as view:
        plant.control.judge(view, ADA, bad, plant.now_ms)
    assert {d.subject for d in refused.value.denials} >= {"command", "name", "project"}


def test_another_tenants_project_is_refused_as_one_that_is_not_there(plant: Plant) -> None:
    def refusal(project: str) -> str:
        with pytest.raises(Refused) as refused, plant.store.read() as view:
            plant.control.judge(view, ADA, spec(project=project), plant.now_ms)
        return refused.value.message.replace(project, "P")

    assert refusal("uni-b/physics") == refusal("uni-b/secret")


def test_features_that_are_not_there_yet_are_named(plant: Plant) -> None:
    with pytest.raises(Refused) as refused, plant.store.read() as view:
        plant.control.judge(view, ADA, replace(spec(), max_path_latency_us=1), plant.now_ms)
    assert refused.value.reason is Reason.FEATURE_NOT_AVAILABLE
    assert [d.subject for d in refused.value.denials] == ["max_path_latency_us"]


def test_a_bundle_that_was_uploaded_is_found_for_its_own_tenant(plant: Plant) -> None:
    digest = "sha256:" + "a" * 64
    admission = Admission(plant.codec, lambda tenant, found: (tenant, found) == (RADIOLOGY, digest))

    def submit(txn: Txn) -> Accepted:
        what = replace(spec(), bundle_digest=digest)
        made = admission.submit(txn, ADA, what, "", plant.now_ms)
        assert isinstance(made, Accepted)
        return made

    with plant.store.transaction() as txn:
        assert submit(txn).job.state is JobState.QUEUED


@pytest.mark.parametrize(
    ("who_at", "project", "becomes"),
    [
        ("trust-a", "radiology", "trust-a/radiology"),
        ("trust-a", "trust-a/radiology", "trust-a/radiology"),
        ("trust-a/radiology", "", "trust-a/radiology"),
    ],
)
def test_a_tenant_may_leave_out_its_own_part_of_a_project(
    plant: Plant, who_at: str, project: str, becomes: str
) -> None:
    who = replace(ADA, tenant=TenantPath(who_at))
    assert plant.job(plant.submit(spec(project=project), who)).tenant == becomes


def test_the_same_key_and_work_is_the_same_job(plant: Plant) -> None:
    job = plant.submit(key="k1")
    assert plant.submit(key="k1") == job
    assert plant.submit(key="k2") != job
    assert plant.submit(spec(project="uni-b/physics"), EVE, key="k1") != job


def test_the_same_key_with_other_work_is_a_conflict(plant: Plant) -> None:
    plant.submit(key="k1")
    with pytest.raises(Refused) as refused:
        plant.submit(spec("other"), key="k1")
    assert refused.value.reason is Reason.IDEMPOTENCY_CONFLICT


def test_a_replay_answers_the_job_as_it_is_now(plant: Plant) -> None:
    job = plant.submit(key="k1")
    plant.cancel(job)
    with plant.store.transaction() as txn:
        made = plant.control.submit(txn, ADA, spec(), "k1", plant.now_ms)
    assert isinstance(made, Accepted)
    assert (made.existed, made.job.state) == (True, JobState.CANCELLED)


def test_a_full_queue_says_when_to_come_back(plant: Plant) -> None:
    apply(
        plant,
        (
            Tenant(TenantPath("trust-a"), max_queued_jobs=2, quotas=(GpuQuota(H100),)),
            Tenant(RADIOLOGY),
            Tenant(TenantPath("uni-b")),
            Tenant(RIVALS),
        ),
    )
    first = plant.submit()
    plant.submit()
    with pytest.raises(Refused) as refused:
        plant.submit()
    assert (refused.value.code, refused.value.reason) == (
        Code.RESOURCE_EXHAUSTED,
        Reason.QUEUE_FULL,
    )
    assert refused.value.retry_after_ms is not None
    assert "2 jobs are queued, allowed 2" in refused.value.message
    ray = Principal("/tenant/trust-a/radiology/user/ray", Role.TENANT, RADIOLOGY)
    with pytest.raises(Refused) as refused:
        plant.submit(who=ray)
    assert refused.value.reason is Reason.QUEUE_FULL
    assert "2 jobs" not in f"{refused.value.message} {refused.value.denials}"
    plant.cancel(first)
    plant.submit()


def test_jobs_that_come_together_fill_a_queue_together(plant: Plant) -> None:
    whole = (Tenant(TenantPath("trust-a"), max_queued_jobs=2, quotas=(GpuQuota(H100),)),)
    apply(plant, (*whole, Tenant(RADIOLOGY), Tenant(TenantPath("uni-b")), Tenant(RIVALS)))
    with plant.store.transaction() as txn:
        asked = [Asked(written(spec(name)), "") for name in ("a", "b", "c")]
        *fit, last = plant.control.submit_each(txn, ADA, asked, plant.now_ms)
    assert all(isinstance(one, Accepted) for one in fit)
    assert isinstance(last, Refused)
    assert last.reason is Reason.QUEUE_FULL


def test_a_dry_run_judges_as_the_real_one_and_writes_nothing(plant: Plant) -> None:
    leaves = count_leaves(plant)
    with plant.store.read() as view:
        good = plant.control.judge(view, ADA, spec(), plant.now_ms)
        bad = plant.control.judge(view, ADA, needing(jurisdictions=("NO",)), plant.now_ms)
    assert good.denials == ()
    assert good.job_class.tenant == RADIOLOGY
    assert count_leaves(plant) == leaves
    assert bad.denials == plant.try_submit(needing(jurisdictions=("NO",))).refusal.denials
