"""Declarations: the difference is answered; what work stands on is not taken away."""

from dataclasses import replace

import pytest

from scheduler.control.policies import Change
from scheduler.model.fleet import CpuArch, Node, Site, SiteStatus
from scheduler.model.ids import GpuClass, TenantPath, node_id
from scheduler.model.job import JobState
from scheduler.model.reasons import Reason, Refused
from scheduler.model.residency import Assurance, FactKey, Policy, Tier
from scheduler.model.tenancy import GpuQuota, QueueOrder, Tenant
from tests.control.plant import OLGA, Plant, spec
from tests.store.builders import H100, LEEDS, LONDON, NOW_MS, fact, node, site, tenants

LONDON_AS_IT_IS = (site(), (node("n01"), node("n02")))


def fleet(plant: Plant, *declared: tuple[Site, tuple[Node, ...]], dry: bool = False):
    """An operator declares the fleet."""
    with plant.store.transaction() as txn:
        return plant.control.apply_fleet(
            txn, OLGA, declared, reason="test", dry_run=dry, now_ms=plant.now_ms
        )


def tree(plant: Plant, *declared: Tenant, dry: bool = False):
    """An operator declares the tenants."""
    with plant.store.transaction() as txn:
        return plant.control.apply_tenants(
            txn, OLGA, declared, reason="test", dry_run=dry, now_ms=plant.now_ms
        )


def policy(plant: Plant, declared: Policy, *, dry: bool = False):
    """An operator declares the policy."""
    with plant.store.transaction() as txn:
        change = Change(declared, reason="test", override="a test")
        return plant.control.apply_policy(txn, OLGA, change, dry_run=dry, now_ms=plant.now_ms)


def leaves(plant: Plant) -> list[str]:
    """Kinds of all leaves."""
    with plant.store.read() as view:
        return [leaf.kind for leaf in view.audit.all()]


def test_declaring_the_same_again_changes_nothing(plant: Plant) -> None:
    before = leaves(plant)
    assert fleet(plant, LONDON_AS_IT_IS) == ()
    assert tree(plant, *tenants()) == ()
    assert policy(plant, Policy(revision=77)) == ((), 1)
    assert leaves(plant) == before


def test_a_dry_run_answers_the_difference_and_writes_nothing(plant: Plant) -> None:
    before = leaves(plant)
    changes = fleet(plant, LONDON_AS_IT_IS, (site(LEEDS), (node("n01", LEEDS),)), dry=True)
    assert changes == ("+ exch-leeds-1", "+ exch-leeds-1/n01")
    assert "+ new" in tree(plant, *tenants(), Tenant(TenantPath("new")), dry=True)
    changes, revision = policy(plant, Policy(allowed_jurisdictions=("GB", "NO")), dry=True)
    assert (len(changes), revision) == (1, 1)
    assert leaves(plant) == before
    with plant.store.read() as view:
        assert view.fleet.site(LEEDS) is None


def test_a_difference_names_fields(plant: Plant) -> None:
    on_hold = replace(site(), status=SiteStatus.ON_HOLD)
    changes = fleet(plant, (on_hold, (node("n01"), node("n02", gpus=9))))
    assert len(changes) == 2
    assert changes[0].startswith("~ exch-london-1 status:")
    assert changes[1] == "~ exch-london-1/n02 gpus: 8 -> 9"
    assert leaves(plant)[-2:] == ["fleet_applied", "site_declared"]


def test_a_cordon_and_a_report_outlive_a_declaration(plant: Plant) -> None:
    with plant.store.transaction() as txn:
        plant.control.cordon(txn, OLGA, LONDON, "flood", plant.now_ms)
        plant.control.cordon(txn, OLGA, node_id(LONDON, "n01"), "fan", plant.now_ms)
    assert fleet(plant, LONDON_AS_IT_IS) == ()
    fleet(plant, (replace(site(), display_name="L"), (node("n01", leaf="l9"), node("n02"))))
    with plant.store.read() as view:
        entry = view.fleet.node(node_id(LONDON, "n01"))
        declared = view.fleet.site(LONDON)
    assert declared is not None
    assert declared.cordoned
    assert entry is not None
    assert entry.node.cordoned
    assert entry.report is not None


def refusal(act: object) -> Refused:
    """The refusal that calling `act` raises."""
    assert callable(act)
    with pytest.raises(Refused) as refused:
        act()
    return refused.value


def test_what_work_stands_on_is_not_taken_away(plant: Plant) -> None:
    plant.run(spec(nodes=2))
    other = replace(node("n01"), gpu_class=GpuClass("B200"))
    for declared in (
        (),
        ((site(), (node("n01"),)),),
        ((site(), (node("n01"), node("n02", gpus=7))),),
        ((site(), (other, node("n02"))),),
    ):
        assert refusal(lambda d=declared: fleet(plant, *d)).reason is Reason.ILLEGAL_TRANSITION
    without_a = tuple(t for t in tenants() if not t.path.startswith("trust-a"))
    found = refusal(lambda: tree(plant, *without_a))
    assert [d.subject for d in found.denials] == ["trust-a", "trust-a/radiology"]


def test_what_is_idle_is_taken_away(plant: Plant) -> None:
    assert fleet(plant) == ("- exch-london-1", "- exch-london-1/n01", "- exch-london-1/n02")
    assert len(tree(plant)) == 4


def test_a_tenant_with_queued_jobs_stays(plant: Plant) -> None:
    job = plant.submit()
    refusal(lambda: tree(plant))
    plant.cancel(job)
    tree(plant)
    assert plant.job(job).state is JobState.CANCELLED


def test_running_work_goes_on_where_no_new_work_may(plant: Plant) -> None:
    key = plant.run()
    fleet(plant, (replace(site(), status=SiteStatus.ON_HOLD), LONDON_AS_IT_IS[1]))
    plant.report(plant.ended(key))
    assert plant.job(key.job).state is JobState.SUCCEEDED


def test_queued_work_that_is_permitted_nowhere_any_more_waits(plant: Plant) -> None:
    job = plant.submit()
    policy(plant, Policy(allowed_jurisdictions=("NO",)))
    assert plant.cycle().kept == ()
    policy(plant, Policy())
    assert [p.key.job for p in plant.cycle().kept] == [job]


def test_a_policy_gets_the_next_revision_and_placements_name_it(plant: Plant) -> None:
    changes, revision = policy(plant, Policy(min_assurance=Assurance.AUDITED))
    assert revision == 2
    assert changes[0].startswith("~ policy min_assurance:")
    key = plant.run()
    launch = plant.agents[LONDON].rows[key].launch
    assert launch is not None
    assert launch.policy_revision == 2


BAD_TREES = {
    "tenants[0].path": (Tenant(TenantPath("Bad Name")),),
    "tenants[0].max_queued_jobs": (Tenant(TenantPath("a"), max_queued_jobs=-1),),
    "tenants[0].queue_order": (Tenant(TenantPath("a"), queue_order=QueueOrder.UNSPECIFIED),),
    "tenants[0].quotas[0].gpu_class": (
        Tenant(TenantPath("a"), quotas=(GpuQuota(GpuClass("no such")),)),
    ),
    "tenants[0].quotas[0]": (Tenant(TenantPath("a"), quotas=(GpuQuota(H100, 5, 4),)),),
    "tenants[1].path": (Tenant(TenantPath("a")), Tenant(TenantPath("b/c"))),
    "tenants[0].weight": (Tenant(TenantPath("a"), weight=0),),
}


@pytest.mark.parametrize(("field", "declared"), list(BAD_TREES.items()), ids=list(BAD_TREES))
def test_a_bad_tree_is_refused_by_field(
    plant: Plant, field: str, declared: tuple[Tenant, ...]
) -> None:
    found = refusal(lambda: tree(plant, *declared))
    assert field in {denial.subject for denial in found.denials}


def with_facts(*facts: object) -> Site:
    """London with these facts alone."""
    return replace(site(), facts=facts)


BAD_FLEETS: dict[str, tuple[tuple[Site, tuple[Node, ...]], ...]] = {
    "sites[exch-london-1]": (LONDON_AS_IT_IS, LONDON_AS_IT_IS),
    "sites[exch-london-1].status": ((replace(site(), status=SiteStatus.UNSPECIFIED), ()),),
    "sites[exch-london-1].facts[country]": (
        (with_facts(fact(FactKey.COUNTRY, "GB"), fact(FactKey.COUNTRY, "US")), ()),
    ),
    "sites[exch-london-1].facts[country].values": (
        (with_facts(fact(FactKey.COUNTRY, "Britain")), ()),
    ),
    "sites[exch-london-1].facts[accreditation].values": (
        (with_facts(fact(FactKey.ACCREDITATION, "SENSITIVE")), ()),
    ),
    "sites[exch-london-1].facts[ultimate_parents].values": (
        (with_facts(fact(FactKey.ULTIMATE_PARENTS, "US")), ()),
    ),
    "sites[exch-london-1].facts[country].observed_at_ms": (
        (
            with_facts(replace(fact(FactKey.COUNTRY, "GB"), observed_at_ms=NOW_MS + 15 * 3600_000)),
            (),
        ),
    ),
    "sites[exch-london-1].facts[country].expires_at_ms": (
        (with_facts(replace(fact(FactKey.COUNTRY, "GB"), expires_at_ms=1)), ()),
    ),
    "sites[exch-london-1].nodes[n01]": ((site(), (node("n01"), node("n01"))),),
    "sites[exch-london-1].nodes[n01].gpus": ((site(), (node("n01", gpus=65),)),),
    "sites[exch-london-1].nodes[n01].cpu_arch": (
        (site(), (replace(node("n01"), cpu_arch=CpuArch.ANY),)),
    ),
    "sites[exch-london-1].nodes[n01].memory_bytes": (
        (site(), (replace(node("n01"), memory_bytes=0),)),
    ),
}


@pytest.mark.parametrize(("field", "declared"), list(BAD_FLEETS.items()), ids=list(BAD_FLEETS))
def test_a_bad_fleet_is_refused_by_field_and_nothing_of_it_is_kept(
    plant: Plant, field: str, declared: tuple[tuple[Site, tuple[Node, ...]], ...]
) -> None:
    found = refusal(lambda: fleet(plant, *declared, (site(LEEDS), ())))
    assert field in {denial.subject for denial in found.denials}
    with plant.store.read() as view:
        assert view.fleet.site(LEEDS) is None


BAD_POLICIES = {
    "policy.name": Policy(name=""),
    "policy.allowed_jurisdictions": Policy(allowed_jurisdictions=()),
    "policy.control_plane_tier": Policy(control_plane_tier=Tier.UNSPECIFIED),
    "policy.min_assurance": Policy(min_assurance=Assurance.UNSPECIFIED),
    "policy.controlling_stake_milli_percent": Policy(controlling_stake_milli_percent=100_001),
    "policy.fact_max_age_ms": Policy(fact_max_age_ms=0),
    "policy.min_isolation": Policy(min_isolation=9),
}


@pytest.mark.parametrize(("field", "declared"), list(BAD_POLICIES.items()), ids=list(BAD_POLICIES))
def test_a_bad_policy_is_refused_by_field(plant: Plant, field: str, declared: Policy) -> None:
    found = refusal(lambda: policy(plant, declared))
    assert field in {denial.subject for denial in found.denials}


def test_the_leaf_of_a_placement_names_facts_that_the_log_holds(plant: Plant) -> None:
    key = plant.run()
    with plant.store.read() as view:
        placed = next(x for x in view.audit.all() if x.kind == "attempt_placed")
        declared = next(x for x in view.audit.all() if x.kind == "site_declared")
    digest = declared.body.split('"facts_digest":"')[1].split('"')[0]
    assert f'"facts_digest":"{digest}"' in placed.body
    assert placed.job == key.job
    assert placed.at_ms == NOW_MS
