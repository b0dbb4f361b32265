from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.ageing import SHORTEST_WAIT_MAX_MS
from scheduler.core.backfill import RESERVE_AFTER_MS
from scheduler.core.invariants import check_plan, derived
from scheduler.core.planner import plan
from scheduler.model.fleet import CpuArch, Health, Interconnect, Isolation, SiteStatus
from scheduler.model.ids import JobId
from scheduler.model.job import Priority, TopologyLevel, TopologyMode
from scheduler.model.plan import (
    Change,
    JobChanged,
    NodeChanged,
    Plan,
    PlanBudget,
    SiteChanged,
    TenantsChanged,
)
from scheduler.model.reasons import Reason
from scheduler.model.residency import NodeSharing, Party, Requirement
from scheduler.model.tenancy import QueueOrder
from tests.core.builders import (
    A100,
    GIB,
    H100,
    HOUR_MS,
    NOW_MS,
    POLICY,
    TENANTS,
    commit,
    fleet_of,
    gone,
    job_class,
    node,
    queued,
    report,
    site,
    tenant,
)

N1, N2, N3 = (node("london", name) for name in ("n1", "n2", "n3"))
RACKS = [node("london", f"{leaf}-{n}", leaf=leaf) for leaf in ("l1", "l2") for n in range(3)]
B_JOBS = "trust-b/genomics"


def where(made: Plan) -> dict[int, list[str]]:
    return {
        int(placement.key.job): [part.node for part in placement.nodes]
        for placement in made.placements
    }


def why(made: Plan) -> list[Reason]:
    return [blocked.denials[0].reason for blocked in made.blocked]


@pytest.mark.parametrize(
    ("change", "want"),
    [
        pytest.param(SiteChanged(site().id, replace(site(), status=SiteStatus.PLANNED), True),
                     Reason.SITE_NOT_ACTIVE, id="a planned site holds nothing"),
        pytest.param(SiteChanged(site().id, site(), connected=False), Reason.SITE_DISCONNECTED,
                     id="a silent site takes nothing new"),
        pytest.param(SiteChanged(site().id, site(cordoned=True), True), Reason.SITE_CORDONED,
                     id="a cordoned site takes nothing new"),
        pytest.param(SiteChanged(site().id, None, False), Reason.NODES_TOO_FEW,
                     id="without a site there is nowhere"),
        pytest.param(SiteChanged(site().id, site(country="NO"), True), Reason.JURISDICTION,
                     id="British work does not go to Norway"),
        pytest.param(SiteChanged(site().id, site(min_isolation=Isolation.CONTAINER), True),
                     Reason.NODE_SHAPE, id="a site's least isolation binds"),
        pytest.param(NodeChanged(N1.id, N1, None), Reason.NODES_BUSY,
                     id="a node that never reported takes nothing"),
        pytest.param(NodeChanged(N1.id, N1, report(N1, health=Health.DEGRADED)),
                     Reason.NODES_BUSY, id="an unhealthy node takes nothing"),
        pytest.param(NodeChanged(N1.id, replace(N1, cordoned=True), report(N1)),
                     Reason.NODES_BUSY, id="a cordoned node takes nothing"),
        pytest.param(NodeChanged(N1.id, N1, replace(report(N1), runtime_alive=False)),
                     Reason.NODES_BUSY, id="a node without its runtime takes nothing"),
        pytest.param(NodeChanged(N1.id, N1, report(N1, gpus=0)), Reason.NODES_BUSY,
                     id="GPUs that are not reported are not there"),
        pytest.param(NodeChanged(N1.id, None, None), Reason.NODE_SHAPE,
                     id="a node that is no longer declared is gone"),
        pytest.param(TenantsChanged(()), Reason.QUOTA_LIMIT, id="a removed tenant has no quota"),
        pytest.param(queued(1, job_class(), not_before_ms=NOW_MS + 1), Reason.BACKING_OFF,
                     id="a job that backs off is not placed"),
    ],
)  # fmt: skip
def test_a_job_waits_and_says_why(change: Change, want: Reason) -> None:
    fleet = fleet_of(queued(1, job_class()), nodes=[N1])
    assert where(plan(fleet, NOW_MS)) == {1: ["london/n1"]}
    fleet.apply(change)
    made = plan(fleet, NOW_MS)
    assert (where(made), why(made)) == ({}, [want])


@pytest.mark.parametrize(
    ("classes", "want"),
    [
        pytest.param([job_class(gpus=3), job_class(gpus=5)], {1: ["london/n1"], 2: ["london/n1"]},
                     id="jobs of one organisation share a node"),
        pytest.param([job_class(), job_class(B_JOBS)], {1: ["london/n1"], 2: ["london/n2"]},
                     id="two organisations do not"),
        pytest.param([job_class(sharing=NodeSharing.ANY),
                      job_class(B_JOBS, sharing=NodeSharing.ANY)],
                     {1: ["london/n1"], 2: ["london/n1"]}, id="unless both say so"),
        pytest.param([job_class(sharing=NodeSharing.ANY), job_class(B_JOBS)],
                     {1: ["london/n1"], 2: ["london/n2"]}, id="one saying so is not enough"),
        pytest.param([job_class(sharing=NodeSharing.NONE), job_class()],
                     {1: ["london/n1"], 2: ["london/n2"]}, id="a job alone on a node stays alone"),
        pytest.param([job_class(), job_class(sharing=NodeSharing.NONE)],
                     {1: ["london/n1"], 2: ["london/n2"]}, id="and joins nobody"),
        pytest.param([job_class(gpus=5), job_class(gpus=5), job_class(gpus=3)],
                     {1: ["london/n1"], 2: ["london/n2"], 3: ["london/n1"]},
                     id="the fullest node that fits is taken"),
        pytest.param([job_class(cpu_milli=64_000), job_class()],
                     {1: ["london/n1"], 2: ["london/n2"]}, id="CPU that is all taken closes it"),
        pytest.param([job_class(memory_bytes=512 * GIB), job_class()],
                     {1: ["london/n1"], 2: ["london/n2"]}, id="so does memory"),
        pytest.param([job_class(gpus=8), job_class(gpus=0)],
                     {1: ["london/n1"], 2: ["london/n2"]}, id="a CPU job needs CPU"),
        pytest.param([job_class(gpus=7), job_class(gpus=0)],
                     {1: ["london/n1"], 2: ["london/n1"]}, id="and no GPU"),
        pytest.param([job_class(nodes=2, gpus=8)], {1: ["london/n1", "london/n2"]},
                     id="a gang has all its nodes"),
        pytest.param([job_class(nodes=3, gpus=8)], {}, id="or none"),
        pytest.param([job_class(gpus=9)], {}, id="no node is larger than it is"),
        pytest.param([job_class(classes=(A100,))], {}, id="another model will not do"),
        pytest.param([job_class(classes=(A100, H100))], {1: ["london/n1"]}, id="a listed one does"),
        pytest.param([job_class(arch=CpuArch.ARM64)], {}, id="another architecture will not do"),
        pytest.param([job_class(interconnect=Interconnect.NVLINK)], {},
                     id="a missing interconnect will not do"),
        pytest.param([job_class(interconnect=Interconnect.INFINIBAND)], {1: ["london/n1"]},
                     id="one of the node's interconnects does"),
    ],
)  # fmt: skip
def test_places(classes: list[object], want: dict[int, list[str]]) -> None:
    jobs = [queued(n + 1, of) for n, of in enumerate(classes)]  # type: ignore[arg-type]
    # In order of submission whoever asks: one after the other.
    fleet = fleet_of(nodes=[N1, N2])
    got: dict[int, list[str]] = {}
    for job in jobs:
        fleet.apply(job)
        made = plan(fleet, NOW_MS)
        assert check_plan(fleet, made, NOW_MS) == ()
        got |= where(made)
        commit(fleet, made)
    assert got == want


@pytest.mark.parametrize(
    ("of", "busy", "leaves"),
    [
        pytest.param(job_class(nodes=2, gpus=8), [], {"l1"}, id="a gang stays in one leaf"),
        pytest.param(job_class(nodes=2, gpus=8), [("l1", 2)], {"l2"},
                     id="in another where the first is full"),
        pytest.param(job_class(nodes=2, gpus=8), [("l2", 1)], {"l2"},
                     id="in the smallest hole that holds it"),
        pytest.param(job_class(nodes=4, gpus=8), [], {"l1", "l2"},
                     id="over leaves when none is large enough"),
        pytest.param(job_class(nodes=4, gpus=8, within=TopologyLevel.LEAF), [], frozenset[str](),
                     id="not when one leaf is required"),
        pytest.param(job_class(nodes=4, gpus=8, within=TopologyLevel.LEAF,
                               mode=TopologyMode.PREFERRED), [], {"l1", "l2"},
                     id="when it is only preferred"),
        pytest.param(job_class(nodes=2, gpus=8, within=TopologyLevel.NVLINK), [], frozenset[str](),
                     id="nodes that share no NVLink are not within one domain"),
        pytest.param(job_class(nodes=6, gpus=8, within=TopologyLevel.POD), [], {"l1", "l2"},
                     id="a pod holds its leaves"),
    ],
)  # fmt: skip
def test_gangs_and_topology(
    of: object, busy: list[tuple[str, int]], leaves: set[str] | frozenset[str]
) -> None:
    fleet = fleet_of(nodes=RACKS)
    for leaf, count in busy:
        for n in range(count):
            name = f"{leaf}-{n}"
            down = next(each for each in RACKS if each.id.endswith(name))
            fleet.apply(NodeChanged(down.id, down, None))
    fleet.apply(queued(1, of))  # type: ignore[arg-type]
    made = plan(fleet, NOW_MS)
    assert check_plan(fleet, made, NOW_MS) == ()
    names = where(made).get(1, [])
    assert {name.split("/")[1].split("-")[0] for name in names} == leaves
    assert names == sorted(names)


def test_an_nvlink_domain_of_trays_holds_a_gang() -> None:
    trays = [node("london", f"t{n}", gpus=4, nvlink=f"rack{n // 3}") for n in range(6)]
    fleet = fleet_of(
        queued(1, job_class(nodes=3, gpus=4, within=TopologyLevel.NVLINK)),
        NodeChanged(trays[0].id, trays[0], None),
        nodes=trays[1:],
    )
    assert where(plan(fleet, NOW_MS)) == {1: ["london/t3", "london/t4", "london/t5"]}


def test_a_gang_never_spans_two_sites() -> None:
    sites = [site("leeds"), site("london")]
    fleet = fleet_of(
        queued(1, job_class(nodes=2, gpus=8)), nodes=[N1, node("leeds", "n1")], sites=sites
    )
    assert where(plan(fleet, NOW_MS)) == {}
    fleet.apply(NodeChanged(N2.id, N2, report(N2)))
    assert where(plan(fleet, NOW_MS)) == {1: ["london/n1", "london/n2"]}


def test_work_that_bears_no_foreign_law_waits_while_another_site_stands_empty() -> None:
    sites = [site("leeds", parents=(Party("Giant Inc", "US", 60_000),)), site("london")]
    fleet = fleet_of(nodes=[N1, node("leeds", "n1")], sites=sites)
    for number in (1, 2):
        fleet.apply(queued(number, job_class(gpus=8)))
    tolerant = Requirement(jurisdictions=("GB",), tolerate_foreign_compulsion=("US",))
    fleet.apply(queued(3, job_class(gpus=8, residency=tolerant)))
    made = plan(fleet, NOW_MS)
    assert where(made) == {1: ["london/n1"], 3: ["leeds/n1"]}
    (blocked,) = made.blocked
    assert [d.reason for d in blocked.denials] == [Reason.NODES_BUSY, Reason.FOREIGN_COMPULSION]


def test_over_quota_work_waits_and_then_runs() -> None:
    limited = [tenant("trust-a", limit=4), tenant("trust-a/radiology")]
    fleet = fleet_of(nodes=[N1], tenants=limited)
    fleet.apply(queued(1, job_class(gpus=3)))
    fleet.apply(queued(2, job_class(gpus=2)))
    made = plan(fleet, NOW_MS)
    assert (where(made), why(made)) == ({1: ["london/n1"]}, [Reason.QUOTA_LIMIT])
    commit(fleet, made)
    assert why(plan(fleet, NOW_MS)) == [], "nothing happened that could help it"
    fleet.apply(gone(1))
    assert where(plan(fleet, NOW_MS)) == {2: ["london/n1"]}


def test_a_job_alone_on_its_node_is_charged_for_all_of_it() -> None:
    fleet = fleet_of(queued(1, job_class(gpus=2, sharing=NodeSharing.NONE)), nodes=[N1])
    (placement,) = plan(fleet, NOW_MS).placements
    assert placement.gpu_milli == 8000
    assert placement.nodes[0].gpu_indices() == (0, 1)


def test_whole_nodes_that_exceed_a_limit_at_one_site_may_fit_at_another() -> None:
    tenants = [tenant("trust-a", limit=8), tenant("trust-a/radiology")]
    large = [node("leeds", slot) for slot in ("n1", "n2")]
    small = [node("london", slot, gpus=4) for slot in ("n1", "n2")]
    gang = job_class(nodes=2, sharing=NodeSharing.NONE)
    sites = [site("leeds"), site("london")]
    fleet = fleet_of(queued(1, gang), sites=sites, nodes=[*large, *small], tenants=tenants)
    assert where(plan(fleet, NOW_MS)) == {1: ["london/n1", "london/n2"]}
    fleet = fleet_of(queued(1, gang), sites=sites, nodes=large, tenants=tenants)
    assert why(plan(fleet, NOW_MS)) == [Reason.QUOTA_LIMIT]


def test_tenants_take_turns_by_weight() -> None:
    tenants = [
        tenant("trust-a", weight=1), tenant("trust-a/radiology"),
        tenant("trust-b", weight=3), tenant("trust-b/genomics"),
    ]  # fmt: skip
    fleet = fleet_of(nodes=[N1, N2], tenants=tenants)
    for number in range(1, 17):
        fleet.apply(queued(number, job_class()))
        fleet.apply(queued(100 + number, job_class(B_JOBS)))
    made = plan(fleet, NOW_MS, PlanBudget(placements_max=12))
    mine = sum(1 for placement in made.placements if placement.key.job < 100)
    assert (mine, len(made.placements)) == (4, 12)


def test_a_tenant_below_its_guarantee_goes_first() -> None:
    tenants = [
        tenant("trust-a"), tenant("trust-a/radiology"),
        tenant("trust-b", guarantee=6), tenant("trust-b/genomics"),
    ]  # fmt: skip
    fleet = fleet_of(nodes=[N1, N2], tenants=tenants)
    for number in range(1, 9):
        fleet.apply(queued(number, job_class()))
        fleet.apply(queued(100 + number, job_class(B_JOBS)))
    made = plan(fleet, NOW_MS, PlanBudget(placements_max=7))
    assert [p.key.job > 100 for p in made.placements] == [True] * 6 + [False]


def test_a_guarantee_that_its_queue_cannot_use_gives_no_precedence() -> None:
    tenants = [
        tenant("trust-a"), tenant("trust-a/radiology"),
        tenant("trust-b", guarantee=6, gpu_class="A100"), tenant("trust-b/genomics"),
    ]  # fmt: skip
    fleet = fleet_of(nodes=[N1, N2], tenants=tenants)
    for number in range(1, 9):
        fleet.apply(queued(number, job_class(classes=(H100,))))
        fleet.apply(queued(100 + number, job_class(B_JOBS, classes=(H100,))))
    made = plan(fleet, NOW_MS, PlanBudget(placements_max=4))
    assert [p.key.job > 100 for p in made.placements] == [False, True, False, True]


def test_inside_a_project_priority_goes_before_age() -> None:
    fleet = fleet_of(
        queued(1, job_class()),
        queued(2, job_class(priority=Priority.HIGH)),
        queued(3, job_class(priority=Priority.SPOT)),
        nodes=[N1],
    )
    assert list(where(plan(fleet, NOW_MS))) == [2, 1, 3]


def test_shortest_first_where_the_project_says_so_but_not_for_ever() -> None:
    shortest = [tenant(t.path, order=QueueOrder.SHORTEST) for t in TENANTS]
    fleet = fleet_of(
        queued(1, job_class(limit_ms=8 * HOUR_MS)),
        queued(2, job_class(limit_ms=HOUR_MS)),
        queued(3, job_class(limit_ms=9 * HOUR_MS), at_ms=NOW_MS - 30 * 9 * HOUR_MS),
        queued(4, job_class(limit_ms=20 * HOUR_MS), at_ms=NOW_MS - SHORTEST_WAIT_MAX_MS),
        nodes=[N1],
        tenants=shortest,
    )
    assert list(where(plan(fleet, NOW_MS))) == [3, 2, 1, 4]


def test_a_spent_budget_says_so() -> None:
    fleet = fleet_of(nodes=[N1])
    for number in range(1, 4):
        fleet.apply(queued(number, job_class(gpus=number)))
    made = plan(fleet, NOW_MS, PlanBudget(placements_max=1))
    assert (len(made.placements), why(made)) == (1, [Reason.PLAN_BUDGET] * 2)
    assert plan(fleet, NOW_MS, PlanBudget(attempts_max=0)).placements == ()


def blocked_gang(waited_ms: int) -> list[Change]:
    return [queued(1, job_class(nodes=2, gpus=8), at_ms=NOW_MS - waited_ms)]


def test_a_stream_of_small_jobs_does_not_starve_a_gang() -> None:
    fleet = fleet_of(*blocked_gang(RESERVE_AFTER_MS + HOUR_MS), nodes=[N1, N2])
    running = queued(50, job_class(gpus=8, limit_ms=HOUR_MS))
    fleet.apply(running)
    fleet.apply(JobChanged(JobId(1), None, None))
    commit(fleet, plan(fleet, NOW_MS))
    fleet.apply(*blocked_gang(RESERVE_AFTER_MS + HOUR_MS))
    commit(fleet, plan(fleet, NOW_MS))
    fleet.apply(queued(60, job_class(gpus=1, limit_ms=2 * HOUR_MS)))
    fleet.apply(queued(61, job_class(gpus=1, limit_ms=HOUR_MS)))
    made = plan(fleet, NOW_MS)
    # One node is free. The gang needs both; the short job is over in time, the long one is not.
    assert where(made) == {61: ["london/n2"]}
    assert why(made) == [Reason.BEHIND_OTHERS]
    fleet.apply(gone(50))
    assert where(plan(fleet, NOW_MS))[1] == ["london/n1", "london/n2"]


def test_a_job_that_only_just_came_holds_nothing() -> None:
    fleet = fleet_of(queued(50, job_class(gpus=8)), nodes=[N1, N2])
    commit(fleet, plan(fleet, NOW_MS))
    for change in blocked_gang(1000):
        fleet.apply(change)
    fleet.apply(queued(60, job_class(limit_ms=2 * HOUR_MS)))
    assert where(plan(fleet, NOW_MS)) == {60: ["london/n2"]}


def test_a_policy_that_narrows_stops_new_work_at_once() -> None:
    fleet = fleet_of(queued(1, job_class()), nodes=[N1])
    assert plan(fleet, NOW_MS).placements
    narrowed = fleet_of(
        queued(1, job_class()), nodes=[N1], policy=replace(POLICY, allowed_jurisdictions=("NO",))
    )
    assert plan(narrowed, NOW_MS).placements == ()


def test_a_fact_that_expires_takes_its_verdict_with_it() -> None:
    london = site()
    dying = replace(
        london, facts=tuple(replace(f, expires_at_ms=NOW_MS + 10) for f in london.facts)
    )
    fleet = fleet_of(queued(1, job_class()), nodes=[N1], sites=[dying])
    assert plan(fleet, NOW_MS + 9).placements
    assert why(plan(fleet, NOW_MS + 10)) == [Reason.FACT_EXPIRED]


def test_an_empty_fleet_plans_nothing() -> None:
    fleet = fleet_of()
    before = derived(fleet)
    assert (plan(fleet, NOW_MS).placements, derived(fleet)) == ((), before)


def test_a_node_that_lost_gpus_is_held_for_nobody() -> None:
    fleet = fleet_of(*blocked_gang(RESERVE_AFTER_MS), nodes=[N1, N2])
    fleet.apply(NodeChanged(N1.id, N1, report(N1, gpus=4)))
    fleet.apply(queued(60, job_class(limit_ms=9 * HOUR_MS)))
    assert where(plan(fleet, NOW_MS)) == {60: ["london/n1"]}


def test_a_node_that_comes_to_isolate_well_enough_is_used() -> None:
    strict = [site(min_isolation=Isolation.UID)]
    fleet = fleet_of(queued(1, job_class()), nodes=[N1], sites=strict)
    fleet.apply(NodeChanged(N1.id, N1, report(N1, isolation=Isolation.NONE)))
    assert why(plan(fleet, NOW_MS)) == [Reason.NODE_SHAPE]
    fleet.apply(NodeChanged(N1.id, N1, report(N1)))
    assert where(plan(fleet, NOW_MS)) == {1: ["london/n1"]}
