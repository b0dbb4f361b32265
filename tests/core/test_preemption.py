"""Who is asked to leave: stories first, then what holds of every world."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings

from scheduler.core.fleet import FleetState
from scheduler.core.lengths import begins_ms
from scheduler.core.outlook import Claim
from scheduler.model.fleet import Health
from scheduler.model.ids import JobId, node_id
from scheduler.model.job import DEFAULT_TIME_LIMIT_MS, JobState, Priority, TopologyLevel
from scheduler.model.plan import JobChanged, JobClass, NodeChanged
from scheduler.model.residency import NodeSharing
from scheduler.model.tenancy import QueueOrder
from tests.core.builders import (
    H100,
    HOUR_MS,
    NOW_MS,
    fleet_of,
    job_class,
    node,
    queued,
    report,
    site,
    tenant,
)
from tests.core.preempting import MINUTE_MS, ask, emptied, jobs_of, outlook_of, running

SPOT, NORMAL, HIGH = Priority.SPOT, Priority.NORMAL, Priority.HIGH
THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ALONE = (tenant("trust-a"), tenant("trust-a/radiology"), tenant("trust-a/pathology"))
SHARED = (
    tenant("trust-a", guarantee=8),
    tenant("trust-a/radiology"),
    tenant("trust-b", guarantee=8),
    tenant("trust-b/genomics"),
)


def test_a_high_job_takes_the_place_of_a_spot_job_of_its_project() -> None:
    fleet = fleet_of(nodes=[node("london", "n1")], tenants=ALONE)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n1")
    found = ask(fleet, queued(2, job_class(gpus=8, priority=HIGH)))
    assert found is not None
    assert jobs_of(found) == [1]
    assert found.claim.nodes == ("london/n1",)
    assert "higher priority in the same project" in found.detail


@pytest.mark.parametrize(
    ("victim", "beneficiary"),
    [
        pytest.param(job_class(gpus=8), job_class(gpus=8), id="of the same priority"),
        pytest.param(
            job_class("trust-a/pathology", gpus=8, priority=SPOT),
            job_class(gpus=8, priority=HIGH),
            id="of another project that owes nothing",
        ),
        pytest.param(
            replace(job_class(gpus=8, priority=SPOT), preemptible=False),
            job_class(gpus=8, priority=HIGH),
            id="that does not let itself be preempted",
        ),
        pytest.param(
            replace(job_class(gpus=8, priority=SPOT), min_runtime_ms=2 * HOUR_MS),
            job_class(gpus=8, priority=HIGH),
            id="that has not had its least runtime",
        ),
    ],
)
def test_nobody_asks_a_job(victim: JobClass, beneficiary: JobClass) -> None:
    fleet = fleet_of(nodes=[node("london", "n1")], tenants=ALONE)
    running(fleet, 1, victim, "n1", for_ms=HOUR_MS)
    assert ask(fleet, queued(2, beneficiary)) is None


def short_of(for_ms: int = HOUR_MS) -> FleetState:
    """A project that goes by `shortest`, on one node that a job of eight hours fills."""
    order = QueueOrder.SHORTEST
    tenants = (tenant("trust-a"), tenant("trust-a/radiology", order=order))
    fleet = fleet_of(nodes=[node("london", "n1")], tenants=tenants)
    running(fleet, 1, job_class(gpus=8, limit_ms=8 * HOUR_MS), "n1", for_ms=for_ms)
    return fleet


def test_a_shorter_job_takes_the_place_of_a_longer_one_where_the_project_goes_by_that() -> None:
    found = ask(short_of(), queued(2, job_class(gpus=8, limit_ms=6 * HOUR_MS)))
    assert jobs_of(found) == [1]
    assert found is not None
    assert "shorter job of the same project" in found.detail


@pytest.mark.parametrize(
    ("fleet", "waits"),
    [
        pytest.param(
            short_of(), job_class(gpus=8, limit_ms=7 * HOUR_MS), id="that is hardly shorter"
        ),
        pytest.param(
            short_of(),
            job_class(gpus=8, limit_ms=HOUR_MS, priority=SPOT),
            id="that is shorter and of lower priority",
        ),
        pytest.param(
            short_of(for_ms=31 * 8 * HOUR_MS),
            job_class(gpus=8, limit_ms=HOUR_MS),
            id="when the longer one was submitted before the bound of waiting",
        ),
    ],
)
def test_a_longer_job_stays_for_one(fleet: FleetState, waits: JobClass) -> None:
    assert ask(fleet, queued(2, waits)) is None


def test_what_had_its_share_of_time_leaves_for_what_had_none_if_no_limit_tells() -> None:
    tenants = (tenant("trust-a"), tenant("trust-a/radiology", order=QueueOrder.SHORTEST))
    fleet = fleet_of(nodes=[node("london", "n1")], tenants=tenants)
    untold = job_class(gpus=8, limit_ms=DEFAULT_TIME_LIMIT_MS)
    running(fleet, 1, untold, "n1", for_ms=0)
    passes_ms = begins_ms(2)
    for after_ms, victims in ((passes_ms - 1, []), (passes_ms, [1])):
        assert jobs_of(ask(fleet, queued(2, untold), now_ms=NOW_MS + after_ms)) == victims


@pytest.mark.parametrize(
    "state", [JobState.PREEMPTING, JobState.CANCELLING, JobState.LOST], ids=lambda s: s.name
)
def test_who_leaves_already_or_is_out_of_sight_is_not_asked(state: JobState) -> None:
    fleet = fleet_of(nodes=[node("london", "n1")], tenants=ALONE)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n1", state=state)
    assert ask(fleet, queued(2, job_class(gpus=8, priority=HIGH))) is None


def test_the_cheapest_are_asked_spot_before_normal_and_by_what_is_lost_since_the_checkpoint() -> (
    None
):
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(4)], tenants=ALONE)
    running(fleet, 1, job_class(gpus=8, priority=NORMAL), "n0", for_ms=MINUTE_MS)
    running(fleet, 2, job_class(gpus=8, priority=SPOT), "n1", for_ms=3 * HOUR_MS)
    running(fleet, 3, job_class(gpus=8, priority=SPOT), "n2", for_ms=9 * HOUR_MS, saved_ms=HOUR_MS)
    running(fleet, 4, job_class(gpus=8, priority=SPOT), "n3", for_ms=4 * HOUR_MS)
    order: list[int] = []
    for number in range(5, 9):
        found = ask(fleet, queued(number, job_class(gpus=8, priority=HIGH)))
        assert found is not None
        order += jobs_of(found)
        emptied(fleet, found)
    assert order == [3, 2, 4, 1]


def test_no_more_are_asked_than_it_takes() -> None:
    fleet = fleet_of(nodes=[node("london", "n1")], tenants=ALONE)
    for number, hours in enumerate((1, 2, 3, 4), start=1):
        of = job_class(gpus=number if number < 4 else 2, priority=SPOT)
        running(fleet, number, of, "n1", for_ms=hours * HOUR_MS)
    # 1, 2, 3 and 2 GPUs: lost 1, 4, 9 and 8 GPU-hours; three are asked for.
    found = ask(fleet, queued(9, job_class(gpus=3, priority=HIGH)))
    assert found is not None
    assert jobs_of(found) == [1, 2]


def test_a_gang_is_cleared_where_the_topology_holds_and_a_shared_victim_is_paid_once() -> None:
    nodes = [node("london", f"n{n}", leaf=f"l{n // 2}") for n in range(6)]
    fleet = fleet_of(nodes=nodes, tenants=ALONE)
    pair = job_class(gpus=8, nodes=2, priority=SPOT, within=TopologyLevel.LEAF)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n0", for_ms=HOUR_MS)
    running(fleet, 2, job_class(gpus=8, priority=SPOT), "n3", for_ms=HOUR_MS)
    running(fleet, 3, pair, "n4", "n5", for_ms=HOUR_MS // 2)
    running(fleet, 4, job_class(gpus=8), "n1", for_ms=0)
    running(fleet, 5, job_class(gpus=8), "n2", for_ms=0)
    gang = job_class(gpus=8, nodes=2, priority=NORMAL, within=TopologyLevel.LEAF)
    found = ask(fleet, queued(9, gang))
    assert found is not None
    assert jobs_of(found) == [3]
    assert found.claim.nodes == ("london/n4", "london/n5")


def test_free_nodes_of_a_domain_come_before_any_victim() -> None:
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(3)], tenants=ALONE)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n0", for_ms=2 * HOUR_MS)
    running(fleet, 2, job_class(gpus=8, priority=SPOT), "n1", for_ms=HOUR_MS)
    found = ask(fleet, queued(9, job_class(gpus=8, nodes=2, priority=HIGH)))
    assert found is not None
    assert jobs_of(found) == [2]
    assert found.claim.nodes == ("london/n1", "london/n2")


def test_whoever_may_not_share_the_node_has_to_leave_it() -> None:
    fleet = fleet_of(nodes=[node("london", "n1")], tenants=ALONE)
    running(fleet, 1, job_class(gpus=2, priority=SPOT), "n1")
    running(fleet, 2, job_class(gpus=2, priority=SPOT), "n1")
    alone = job_class(gpus=1, priority=HIGH, sharing=NodeSharing.NONE)
    found = ask(fleet, queued(9, alone))
    assert found is not None
    assert jobs_of(found) == [1, 2]


def test_a_guarantee_is_taken_back_from_who_borrows_and_no_further() -> None:
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(2)], tenants=SHARED)
    for number in range(1, 5):
        at = f"n{(number - 1) // 2}"
        running(fleet, number, job_class("trust-b/genomics", gpus=4, priority=HIGH), at)
    asked: list[int] = []
    for number in (10, 11, 12):
        found = ask(fleet, queued(number, job_class(gpus=4, priority=SPOT)))
        if found is not None:
            assert "what it is guaranteed" in found.detail
            asked += jobs_of(found)
            emptied(fleet, found)
    assert len(asked) == 2, "eight GPUs are guaranteed, and eight are lent"


def test_what_is_guaranteed_covers_the_work_of_highest_priority_first() -> None:
    """The borrower uses 12 of 8: its HIGH work is within what is its own, whatever else it runs."""
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(2)], tenants=SHARED)

    def of(project: str, priority: Priority) -> JobClass:
        return job_class(project, gpus=4, priority=priority, sharing=NodeSharing.ANY)

    running(fleet, 1, of("trust-b/genomics", HIGH), "n0", for_ms=0)
    running(fleet, 2, of("trust-b/genomics", NORMAL), "n0", for_ms=HOUR_MS)
    running(fleet, 3, of("trust-b/genomics", NORMAL), "n1", for_ms=2 * HOUR_MS)
    running(fleet, 4, of("trust-a/radiology", NORMAL), "n1", for_ms=HOUR_MS)
    wanted = of("trust-a/radiology", NORMAL)
    found = ask(fleet, queued(9, wanted))
    assert jobs_of(found) == [2]
    for job in (JobId(2), JobId(3)):
        fixed = fleet.live[job]
        held = replace(fixed.job_class, preemptible=False)
        fleet.apply(JobChanged(job, None, replace(fixed, job_class=held)))
    assert ask(fleet, queued(9, wanted)) is None, "not the HIGH one in place of those"


@pytest.mark.parametrize("gang", [1, 2], ids=["one node", "a gang"])
def test_a_guarantee_is_taken_back_though_those_with_least_to_lose_are_covered(gang: int) -> None:
    """The borrower's guarantee covers its shorter work, which began last and has least to lose: 70
    nodes of it, more than are tried one by one. The longer is what it borrows."""
    short, lent, order = 70, 2, QueueOrder.SHORTEST
    tenants = (
        tenant("trust-a", guarantee=8 * lent),
        tenant("trust-a/radiology", order=order),
        tenant("trust-b", guarantee=8 * short),
        tenant("trust-b/genomics", order=order),
    )
    slots = [f"n{number:02}" for number in range(short + lent)]
    fleet = fleet_of(nodes=[node("london", slot) for slot in slots], tenants=tenants)
    for number, slot in enumerate(slots[:short], 1):
        of = job_class("trust-b/genomics", gpus=8, limit_ms=HOUR_MS)
        running(fleet, number, of, slot, for_ms=MINUTE_MS)
    longer = [101, 102]
    for number, slot in zip(longer, slots[short:], strict=True):
        of = job_class("trust-b/genomics", gpus=8, limit_ms=200 * HOUR_MS)
        running(fleet, number, of, slot, for_ms=100 * HOUR_MS)
    wanted = job_class("trust-a/radiology", gpus=8, nodes=gang, limit_ms=50 * HOUR_MS)
    found = ask(fleet, queued(900, wanted))
    assert set(jobs_of(found)) <= set(longer)
    assert len(jobs_of(found)) == gang


def test_reclaim_finds_all_its_victims_in_one_plan() -> None:
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(4)], tenants=(
        tenant("trust-a", guarantee=16), tenant("trust-a/radiology"),
        tenant("trust-b", guarantee=8), tenant("trust-b/genomics"),
    ))  # fmt: skip
    for number in range(32):
        running(fleet, number + 1, job_class("trust-b/genomics", gpus=1), f"n{number // 8}")
    wanted = job_class(gpus=1)
    at_work = outlook_of(fleet)
    asked: list[int] = []
    for number in range(100, 130):
        found = ask(fleet, queued(number, wanted), at_work=at_work)
        asked += jobs_of(found) if found is not None else []
    assert len(asked) == len(set(asked)) == 16


def test_room_that_is_about_to_come_is_waited_for() -> None:
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(2)], tenants=ALONE)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n0")
    running(fleet, 2, job_class(gpus=8), "n1", state=JobState.CANCELLING)
    assert ask(fleet, queued(9, job_class(gpus=8, priority=HIGH))) is None


def test_room_that_is_promised_to_another_is_not_counted_on() -> None:
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(2)], tenants=ALONE)
    high = job_class(gpus=8, priority=HIGH)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n0")
    running(fleet, 2, job_class(gpus=8), "n1", state=JobState.PREEMPTING)
    promised = Claim(JobId(8), high, site().id, H100, (node_id(site().id, "n1"),), NOW_MS)
    found = ask(fleet, queued(9, high), claims=[promised])
    assert found is not None
    assert jobs_of(found) == [1]
    assert ask(fleet, queued(8, high), claims=[promised]) is None, "it has its own promise"


def test_several_small_jobs_are_promised_room_on_one_node() -> None:
    fleet = fleet_of(nodes=[node("london", "n0")], tenants=ALONE)
    for number in range(1, 5):
        running(fleet, number, job_class(gpus=2, priority=SPOT), "n0", for_ms=number * HOUR_MS)
    at_work, high = outlook_of(fleet), job_class(gpus=1, priority=HIGH)
    asked = [
        jobs_of(found) if (found := ask(fleet, queued(n, high), at_work=at_work)) else []
        for n in (11, 12, 13)
    ]
    assert asked == [[1], [], [2]], "the second finds room beside the first"


def test_nodes_that_are_kept_for_a_later_start_are_left_alone() -> None:
    fleet = fleet_of(nodes=[node("london", "n0")], tenants=ALONE)
    high = job_class(gpus=8, priority=HIGH)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n0")
    kept = Claim(JobId(8), high, site().id, H100, (node_id(site().id, "n0"),), NOW_MS + 9 * HOUR_MS)
    assert ask(fleet, queued(9, high), claims=[kept]) is None
    sooner = ask(fleet, queued(8, high), claims=[kept])
    assert sooner is not None, "its own job may still be helped to start sooner"
    assert sooner.claim.starts_at_ms < kept.starts_at_ms


def test_quota_is_freed_where_it_alone_is_in_the_way() -> None:
    limited = (tenant("trust-a"), tenant("trust-a/radiology", limit=8))
    fleet = fleet_of(nodes=[node("london", f"n{n}") for n in range(2)], tenants=limited)
    running(fleet, 1, job_class(gpus=4, priority=SPOT), "n0", for_ms=2 * HOUR_MS)
    running(fleet, 2, job_class(gpus=4, priority=SPOT), "n0", for_ms=HOUR_MS)
    found = ask(fleet, queued(9, job_class(gpus=4, priority=HIGH)))
    assert found is not None
    assert jobs_of(found) == [2]


def test_an_unfit_node_is_not_cleared() -> None:
    broken = node("london", "n0")
    fleet = fleet_of(nodes=[broken], tenants=ALONE)
    running(fleet, 1, job_class(gpus=8, priority=SPOT), "n0")
    fleet.apply(NodeChanged(broken.id, broken, report(broken, health=Health.FAILED)))
    assert ask(fleet, queued(9, job_class(gpus=8, priority=HIGH))) is None
