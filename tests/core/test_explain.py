from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from scheduler.core.explain import explain, forecast, queue_position
from scheduler.core.feasibility import DeclaredFleet, could_ever_run
from scheduler.core.planner import plan
from scheduler.core.quota import QuotaTree
from scheduler.model.fleet import CpuArch, Interconnect, Node, Site, SiteStatus
from scheduler.model.ids import JobId, SiteId, TenantPath
from scheduler.model.job import TopologyLevel
from scheduler.model.plan import (
    Change,
    Explanation,
    JobClass,
    NodeChanged,
    Reservation,
    ReservationChanged,
    SiteChanged,
    WindowChanged,
)
from scheduler.model.reasons import Reason
from scheduler.model.residency import NodeSharing, Party
from scheduler.model.window import Window, WindowKind
from tests.core.builders import (
    A100,
    H100,
    HOUR_MS,
    NOW_MS,
    POLICY,
    TENANTS,
    commit,
    fleet_of,
    in_order,
    job_class,
    node,
    oldest,
    queued,
    report,
    site,
    tenant,
    waiting_class,
)
from tests.core.oracle import oracle
from tests.core.test_properties import THOROUGH, start
from tests.core.worlds import starts

N1, N2 = node("london", "n1"), node("london", "n2")


def told(of: Explanation) -> dict[str, list[Reason]]:
    return {each.site: [denial.reason for denial in each.denials] for each in of.sites}


def ways_out(of: Explanation) -> list[list[tuple[Reason, str]]]:
    return [[(denial.reason, denial.subject) for denial in found] for found in of.changes]


def test_work_that_fits_would_run_now() -> None:
    fleet = fleet_of(nodes=[N1])
    got = forecast(fleet, job_class(), NOW_MS)
    assert (got.would_run_at, got.changes, told(got)) == ("london", (), {"london": []})


def test_the_story_of_a_job_that_bears_no_foreign_law() -> None:
    sites = [site("leeds", parents=(Party("Giant Inc", "US", 60_000),)), site("london")]
    fleet = fleet_of(queued(1, job_class(gpus=8)), nodes=[N1, node("leeds", "n1")], sites=sites)
    commit(fleet, plan(fleet, NOW_MS))
    fleet.apply(queued(2, job_class(gpus=8)))
    got = explain(fleet, oldest(fleet), NOW_MS)
    assert told(got) == {
        "leeds": [Reason.FOREIGN_COMPULSION],
        "london": [Reason.NODES_BUSY],
    }
    assert "'Giant Inc' (60 %) is under the law of US" in got.sites[0].denials[0].detail
    assert ways_out(got) == [
        [(Reason.FOREIGN_COMPULSION, "leeds")],
        [(Reason.NODES_BUSY, "london")],
    ]
    assert got.would_run_at is None
    assert got.summary == "1 of 2 site(s) may hold it; there: NODES_BUSY"


def test_quota_and_back_off_are_told_beside_the_sites() -> None:
    tenants = [tenant("trust-a", limit=4), tenant("trust-a/radiology")]
    fleet = fleet_of(
        queued(1, job_class(gpus=5), not_before_ms=NOW_MS + 7), nodes=[N1], tenants=tenants
    )
    got = explain(fleet, oldest(fleet), NOW_MS)
    assert [denial.reason for denial in got.quota] == [Reason.BACKING_OFF, Reason.QUOTA_LIMIT]
    assert ways_out(got) == [[(Reason.QUOTA_LIMIT, "trust-a"), (Reason.BACKING_OFF, "")]]
    assert "another 7 ms" in got.summary


@pytest.mark.parametrize(
    ("change", "want"),
    [
        pytest.param(NodeChanged(N2.id, N2, None), [Reason.NODES_UNHEALTHY],
                     id="a node that never reported is not healthy"),
        pytest.param(NodeChanged(N2.id, replace(N2, cordoned=True), report(N2)),
                     [Reason.NODES_UNHEALTHY], id="a cordoned node is closed"),
        pytest.param(NodeChanged(N2.id, None, None), [Reason.NODES_TOO_FEW],
                     id="one node is no gang of two"),
        pytest.param(NodeChanged(N2.id, replace(N2, gpus=4), report(N2, gpus=4)),
                     [Reason.NODE_SHAPE], id="a small node is not as large"),
        pytest.param(NodeChanged(N2.id, replace(N2, cpu_arch=CpuArch.ARM64), report(N2)),
                     [Reason.CPU_ARCH], id="an arm node is none of amd64"),
        pytest.param(NodeChanged(N2.id, replace(N2, interconnects=()), report(N2)),
                     [Reason.INTERCONNECT], id="a node off the fabric is not on it"),
        pytest.param(NodeChanged(N2.id, replace(N2, leaf="l9"), report(N2)), [Reason.TOPOLOGY],
                     id="two leaves are not one"),
        pytest.param(queued(1, job_class()), [Reason.NODES_BUSY], id="a busy node has no room"),
        pytest.param(queued(1, job_class("trust-b/genomics", gpus=0)), [Reason.NODE_SHARING],
                     id="another organisation is in the way"),
    ],
)  # fmt: skip
def test_each_check_of_nodes_is_named(change: Change, want: list[Reason]) -> None:
    fleet = fleet_of(nodes=[N1, N2])
    fleet.apply(change)
    commit(fleet, plan(fleet, NOW_MS))
    cpu = 1000 if want == [Reason.NODE_SHARING] else 0
    gang = job_class(
        nodes=2, gpus=8, arch=CpuArch.AMD64, interconnect=Interconnect.INFINIBAND,
        within=TopologyLevel.LEAF, cpu_milli=cpu, memory_bytes=1 << 30,
    )  # fmt: skip
    got = forecast(fleet, gang, NOW_MS)
    assert told(got) == {"london": want}
    assert ways_out(got) == [[(want[0], "london")]]


def test_position_counts_who_goes_before() -> None:
    fleet = fleet_of(*(queued(n, job_class(gpus=n)) for n in range(1, 6)), nodes=[N1])
    assert [queue_position(fleet, job, NOW_MS) for job in in_order(fleet)] == [0, 1, 2, 3, 4]
    assert forecast(fleet, job_class(), NOW_MS).queue_position == 5


@THOROUGH
@given(starts())
def test_explanations_are_true_minimal_and_agree_with_the_planner(begin: list[Change]) -> None:
    fleet = start(begin)
    commit(fleet, plan(fleet, NOW_MS))
    for job in in_order(fleet):
        got = explain(fleet, job, NOW_MS)
        assert got.would_run_at is None, "the planner left nothing that fits"
        assert got.changes, "what waits can be helped"
        assert all(each.denials for each in got.sites) or got.quota
        if job.job_class.residency.node_sharing is NodeSharing.NONE:
            continue  # Charged by the node: which one, the oracle does not know.
        for found in got.changes:
            assert oracle(fleet, job.job_class, frozenset(found), job.id)
            for denial in found:
                fewer = frozenset(found) - {denial}
                assert not oracle(fleet, job.job_class, fewer, job.id)


@THOROUGH
@given(starts())
def test_a_forecast_says_what_the_planner_would_do(begin: list[Change]) -> None:
    fleet = start(begin)
    for job in in_order(fleet):
        alone = start([change for change in begin if not hasattr(change, "queued")])
        got = forecast(alone, job.job_class, NOW_MS)
        if job.job_class.residency.node_sharing is not NodeSharing.NONE:
            assert (got.would_run_at is not None) == oracle(alone, job.job_class, frozenset())
        alone.apply(queued(1, job.job_class))
        assert [p.site for p in plan(alone, NOW_MS).placements] == (
            [got.would_run_at] if got.would_run_at else []
        )
        if got.would_run_at:
            (at,) = [each for each in got.sites if each.site == got.would_run_at]
            assert (at.denials, got.quota, got.changes) == ((), (), ())


def test_what_is_set_aside_and_what_is_kept_for_others_is_told_by_site() -> None:
    window = Window(
        "fans", WindowKind.MAINTENANCE, SiteId("london"), (),
        NOW_MS + HOUR_MS, NOW_MS + 2 * HOUR_MS, "fans", "o", TenantPath(""),
    )  # fmt: skip
    kept = Reservation(JobId(7), SiteId("london"), H100, (N1.id, N2.id), NOW_MS + HOUR_MS)
    holder = queued(7, job_class(nodes=2, gpus=8))
    long = queued(8, job_class(limit_ms=9 * HOUR_MS))
    fleet = fleet_of(holder, long, nodes=[N1, N2])
    fleet.apply(WindowChanged("fans", window))
    fleet.apply(ReservationChanged(JobId(7), kept))
    (site_case,) = explain(fleet, fleet.queued[JobId(8)], NOW_MS).sites
    assert [denial.reason for denial in site_case.denials] == [Reason.WINDOW]
    fleet.apply(WindowChanged("fans", None))
    got = explain(fleet, fleet.queued[JobId(8)], NOW_MS)
    assert [denial.reason for denial in got.sites[0].denials] == [Reason.BEHIND_OTHERS]
    assert [[denial.reason for denial in change] for change in got.changes] == [
        [Reason.BEHIND_OTHERS]
    ]
    assert got.would_run_at is None


def declared(*nodes: Node, sites: tuple[Site, ...] = (), limit: int | None = None) -> DeclaredFleet:
    tree = QuotaTree([*TENANTS[1:], tenant("trust-a", limit=limit)])
    return DeclaredFleet(sites or (site(),), nodes, POLICY, tree)


NARVIK = (site(), site("narvik", "NO"))


@pytest.mark.parametrize(
    ("fleet", "of", "want"),
    [
        pytest.param(declared(N1), job_class(gpus=8), {}, id="what fits the empty fleet may wait"),
        pytest.param(declared(replace(N1, cordoned=True)), job_class(), {},
                     id="a cordon is not for ever"),
        pytest.param(declared(N1), job_class(gpus=9), {"london": [Reason.NODE_SHAPE]},
                     id="no node is that large"),
        pytest.param(declared(N1), job_class(nodes=2), {"london": [Reason.NODES_TOO_FEW]},
                     id="the fleet has fewer nodes"),
        pytest.param(declared(N1), job_class(classes=(A100,)), {"london": [Reason.GPU_CLASS]},
                     id="the fleet has no such model"),
        pytest.param(declared(N1, sites=(replace(site(), status=SiteStatus.ON_HOLD),)),
                     job_class(), {"london": [Reason.SITE_NOT_ACTIVE]},
                     id="a site on hold counts for nothing"),
        pytest.param(declared(N1, replace(N2, leaf="l9")),
                     job_class(nodes=2, within=TopologyLevel.LEAF),
                     {"london": [Reason.TOPOLOGY]}, id="no leaf is that wide"),
        pytest.param(
            declared(N1, node("narvik", "n1", gpu_class=A100), sites=NARVIK),
            job_class(classes=(A100,)),
            {"london": [Reason.GPU_CLASS],
             "narvik": [Reason.JURISDICTION, *[Reason.FOREIGN_COMPULSION] * 6]},
            id="work that only another country could hold has every site's reasons",
        ),
        pytest.param(declared(N1, limit=4), job_class(gpus=5), {"": [Reason.QUOTA_LIMIT]},
                     id="a limit that is below one job"),
    ],
)  # fmt: skip
def test_could_it_ever_run(
    fleet: DeclaredFleet, of: JobClass, want: dict[str, list[Reason]]
) -> None:
    prospect = could_ever_run(fleet, of, NOW_MS)
    assert prospect.possible() == (not want)
    got: dict[str, list[Reason]] = {
        each.site: [d.reason for d in each.denials] for each in prospect.sites if each.denials
    }
    if prospect.quota:
        got[""] = [denial.reason for denial in prospect.quota]
    assert got == {**want}


@THOROUGH
@given(starts())
def test_what_runs_now_could_ever_run(begin: list[Change]) -> None:
    fleet = start(begin)
    sites = [change.site for change in begin if isinstance(change, SiteChanged) and change.site]
    nodes = [record.node for record in fleet.nodes.values()]
    tree = QuotaTree(fleet.tree.tenants.values())
    asked = DeclaredFleet(sites, nodes, fleet.policy, tree)
    for placement in plan(fleet, NOW_MS).placements:
        of = waiting_class(fleet, placement.key.job)
        assert could_ever_run(asked, of, NOW_MS).possible()
