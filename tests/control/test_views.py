"""What callers see: their own work, and nothing that tells of others'."""

import pytest

from scheduler.control import views
from scheduler.core.job_ids import JobIdCodec
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import GpuClass, JobId, TenantPath
from scheduler.model.job import JobState
from scheduler.model.plan import Explanation, SiteReasons
from scheduler.model.reasons import Denial, Reason, Refused
from scheduler.model.tenancy import GpuQuota, Tenant
from tests.control.plant import ADA, EVE, N01, OLGA, Plant, spec
from tests.store.builders import H100, LONDON, RADIOLOGY, RIVALS

PHYSICS = "uni-b/physics"


def get_message(plant: Plant, who: Principal, name: str) -> str:
    """How a job that the caller may not see is refused."""
    with pytest.raises(Refused) as refused, plant.store.read() as view:
        plant.control.get(view, who, name)
    assert refused.value.reason is Reason.NOT_FOUND
    return refused.value.message.replace(name, "X")


def test_another_tenants_job_is_not_found_exactly_as_one_that_never_was(plant: Plant) -> None:
    theirs = plant.codec.encode(plant.submit(spec(project=PHYSICS), EVE))
    never = plant.codec.encode(JobId(10**9))
    assert get_message(plant, ADA, theirs) == get_message(plant, ADA, never)
    assert get_message(plant, ADA, theirs) == get_message(plant, ADA, "no-such-name")


def test_ids_of_another_key_name_nothing(plant: Plant) -> None:
    job = plant.submit()
    other = JobIdCodec(b"z" * 32).encode(job)
    assert get_message(plant, ADA, other)


def test_tenants_list_their_own_jobs_only(plant: Plant) -> None:
    mine = [plant.submit(spec(f"a{n}")) for n in range(3)]
    theirs = plant.submit(spec(project=PHYSICS), EVE)
    with plant.store.read() as view:
        ada = plant.control.list(view, ADA, limit=10)
        eve = plant.control.list(view, EVE, limit=10)
        olga = plant.control.list(view, OLGA, limit=10)
        page = plant.control.list(view, ADA, limit=2, before=mine[2])
    assert [job.id for job in ada] == mine[::-1]
    assert [job.id for job in eve] == [theirs]
    assert [job.id for job in olga] == [theirs, *mine[::-1]]
    assert [job.id for job in page] == [mine[1], mine[0]]


def test_a_list_is_narrowed_by_state_and_project(plant: Plant) -> None:
    running = plant.run().job
    queued = plant.submit(spec(nodes=2, gpus=8))
    with plant.store.read() as view:
        found = plant.control.list(view, ADA, states=frozenset({JobState.RUNNING}), limit=10)
        other = plant.control.list(view, ADA, project=RADIOLOGY, limit=10)
    assert [job.id for job in found] == [running]
    assert [job.id for job in other] == [queued, running]


@pytest.mark.parametrize("project", [PHYSICS, "uni-b", "trust-abc", "nobody"])
def test_a_project_that_is_not_the_callers_is_not_found(plant: Plant, project: str) -> None:
    with plant.store.read() as view:
        for ask in (
            lambda: plant.control.list(view, ADA, project=TenantPath(project), limit=10),
            lambda: plant.control.quota(view, ADA, TenantPath(project)),
        ):
            with pytest.raises(Refused) as refused:
                ask()
            assert refused.value.reason is Reason.NOT_FOUND


def test_a_tenant_whose_name_begins_as_anothers_sees_nothing_of_it(plant: Plant) -> None:
    plant.submit()
    near = Principal("/tenant/trust/user/x", Role.TENANT, TenantPath("trust"))
    with plant.store.read() as view:
        assert plant.control.list(view, near, limit=10) == ()


def test_an_auditor_lists_no_jobs(plant: Plant) -> None:
    auditor = Principal("/auditor/amy", Role.AUDITOR)
    with plant.store.read() as view, pytest.raises(Refused):
        plant.control.list(view, auditor, limit=10)


def test_operators_see_that_work_is_there_and_not_what_it_says(plant: Plant) -> None:
    job = plant.submit()
    name = plant.codec.encode(job)
    with plant.store.read() as view:
        assert plant.control.get(view, OLGA, name).spec is None
        assert plant.control.get(view, ADA, name).spec == spec()
        assert plant.control.list(view, OLGA, limit=1, with_spec=True)[0].spec is None


def test_an_open_job_is_found_by_a_name_that_only_it_has(plant: Plant) -> None:
    first = plant.submit(spec("night-run"))
    plant.submit(spec("night-run", PHYSICS), EVE)
    with plant.store.read() as view:
        assert plant.control.get(view, ADA, "night-run").id == first
    plant.submit(spec("night-run"))
    with plant.store.read() as view, pytest.raises(Refused, match="more than one open job"):
        plant.control.get(view, ADA, "night-run")
    plant.cancel(first)
    with plant.store.read() as view:
        assert plant.control.get(view, ADA, "night-run").id != first


def test_quota_lines_derive_use_borrowing_and_demand(plant: Plant) -> None:
    tree = (
        Tenant(TenantPath("trust-a"), quotas=(GpuQuota(H100, 2000, 9000),)),
        Tenant(RADIOLOGY),
        Tenant(TenantPath("uni-b")),
        Tenant(RIVALS),
    )
    with plant.store.transaction() as txn:
        plant.control.apply_tenants(
            txn, OLGA, tree, reason="test", dry_run=False, now_ms=plant.now_ms
        )
    plant.run(spec(gpus=4))
    plant.submit(spec("waits", gpus=6))
    plant.submit(spec("theirs", PHYSICS), EVE)
    with plant.store.read() as view:
        lines = {(q.tenant, q.gpu_class): q for q in plant.control.quota(view, ADA)}
    assert {tenant for tenant, _ in lines} == {"trust-a", RADIOLOGY}
    line = lines[TenantPath("trust-a"), H100]
    assert (line.guarantee_milli, line.limit_milli) == (2000, 9000)
    assert (line.used_milli, line.borrowed_milli) == (4000, 2000)
    assert lines[RADIOLOGY, GpuClass("*")].queued_milli == 6000


def test_sites_and_nodes_are_shown_with_their_use(plant: Plant) -> None:
    plant.run(spec(nodes=2, gpus=3))
    with plant.store.read() as view:
        site = plant.control.sites(view)[0]
        nodes = plant.control.nodes(view, LONDON, limit=10)
        rest = plant.control.nodes(view, LONDON, after=N01, limit=10)
    assert (site.nodes_total, site.nodes_ready, site.gpus_total) == (2, 2, 16)
    assert site.gpus_used_milli == 6000
    assert [n.gpus_used_milli for n in nodes] == [3000, 3000]
    assert len(rest) == 1
    assert site.entry.contact.connected


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_absurd_pages_are_refused(plant: Plant, limit: int) -> None:
    with plant.store.read() as view:
        with pytest.raises(Refused):
            plant.control.list(view, ADA, limit=limit)
        with pytest.raises(Refused):
            plant.control.nodes(view, None, limit=limit)


def test_a_part_of_a_tenant_is_not_shown_what_the_whole_uses(plant: Plant) -> None:
    """Nor is a sibling's share of it, which is the same number less its own."""
    ray = Principal("/tenant/trust-a/radiology/user/ray", Role.TENANT, RADIOLOGY)
    above = Denial(Reason.QUOTA_LIMIT, "H100 GPUs: limit 8, in use 7, asked 2", "trust-a")
    own = Denial(Reason.QUOTA_LIMIT, "H100 GPUs: limit 4, in use 3, asked 2", RADIOLOGY)
    busy = Denial(Reason.NODES_BUSY, "2 of 2 nodes are busy", LONDON)
    told = Explanation(
        summary=f"over quota of trust-a: {above.detail}",
        sites=(SiteReasons(LONDON, permitted=True, denials=(busy,)),),
        quota=(above, own),
        changes=((busy, above), (own,)),
        queue_position=0,
        would_run_at=None,
    )
    seen = views.shown_explanation(ray, told)
    assert "in use 7" not in repr(seen)
    assert seen.summary == f"over quota of trust-a: {views.ABOVE_IS_FULL}"
    assert (seen.quota[1], seen.changes[0][0], seen.changes[1]) == (own, busy, (own,))
    assert seen.sites == told.sites
    for all_of_it in (ADA, OLGA):
        assert views.shown_explanation(all_of_it, told) == told
