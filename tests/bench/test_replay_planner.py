"""The production planner in virtual time: what it decides happens, and is counted rightly."""

from __future__ import annotations

import numpy as np
import pytest

from bench.fair import tenants_with
from bench.replay import Overhead
from bench.replay_pack import replay as packed
from bench.replay_pack_planner import PlannerPlacer
from bench.replay_planner import ANYBODY, Limits, PlannerReplay
from bench.shares import Shares
from bench.traces import Cluster, GpuJob, PackNode, PackRequest, PackTrace
from scheduler.model.tenancy import QueueOrder, Tenant

GIB = 1 << 30
ONE = Cluster(nodes=1, gpus_per_node=8)
SHORTEST = (Tenant(ANYBODY, queue_order=QueueOrder.SHORTEST),)


def job(number: int, gpus: int, submit_s: float, duration_s: float, restart_s: float = 0) -> GpuJob:
    return GpuJob(number, gpus, submit_s, duration_s, "", restart_s)


def ends(replay: PlannerReplay) -> dict[int, float]:
    return {outcome.job.id: outcome.ended_s for outcome in replay.run()}


def test_what_nobody_declared_leaves_for_newer_work_when_it_has_run_for_long() -> None:
    day_s = 24 * 3600
    jobs = [job(0, 8, 0, 4 * day_s), job(1, 8, 1, 60)]
    assert ends(PlannerReplay(jobs, ONE, SHORTEST, limits=Limits.NONE))[1] < day_s


def test_what_does_not_fit_starts_when_something_ended() -> None:
    replay = PlannerReplay([job(0, 8, 0, 10), job(1, 8, 1, 10)], ONE, SHORTEST)
    assert ends(replay) == {0: 10, 1: 20}
    assert replay.preemptions == 0


def test_declared_limits_are_what_shortest_goes_by() -> None:
    jobs = [job(0, 8, 0, 10), job(1, 8, 1, 100), job(2, 8, 2, 20)]
    assert ends(PlannerReplay(jobs, ONE, SHORTEST))[2] == 30
    assert ends(PlannerReplay(jobs, ONE, SHORTEST, limits=Limits.NONE))[2] == 130


def test_every_event_may_cost_what_runs_its_restart() -> None:
    jobs = [job(0, 4, 0, 100, restart_s=5), job(1, 4, 10, 200, restart_s=5)]
    found = ends(PlannerReplay(jobs, ONE, SHORTEST, overhead=Overhead.EVERY_EVENT))
    assert found == {0: 105, 1: 215}


def test_work_may_take_longer_than_the_trace_says() -> None:
    jobs = [job(0, 8, 0, 200)]
    assert ends(PlannerReplay(jobs, ONE, SHORTEST, stretch_permille=1015)) == {0: 203}


def test_a_gang_has_whole_nodes() -> None:
    two = Cluster(nodes=2, gpus_per_node=8)
    assert ends(PlannerReplay([job(0, 1, 0, 9), job(1, 16, 0, 5)], two, SHORTEST)) in (
        {0: 9, 1: 14},
        {0: 14, 1: 5},
    )


def test_a_job_that_can_never_start_is_not_forgotten() -> None:
    with pytest.raises(AssertionError, match="1 jobs wait for nothing"):
        PlannerReplay([job(0, 16, 0, 5)], ONE, SHORTEST).run()


def test_tenants_without_a_guarantee_are_in_the_tree_too() -> None:
    jobs = [GpuJob(0, 1, 0, 5, "a", 0), GpuJob(1, 1, 0, 5, "b", 0)]
    tenants = tenants_with(jobs, {"a": 4})
    assert [(t.path, t.quotas[0].guarantee_milli) for t in tenants] == [("vc-a", 4000), ("vc-b", 0)]
    assert len(PlannerReplay(jobs, ONE, tenants, guarantees={"a": 4}).run()) == 2


def test_what_a_tenant_is_owed_is_what_its_guarantee_has_room_for() -> None:
    shares = Shares({"a": 4, "b": 4})
    shares.waits("a", 3)
    shares.waits("a", 3)
    shares.waits("c", 9)
    shares.until(10)  # a: nothing of 3, as the second one is not covered
    shares.starts("a", 3)
    shares.until(20)  # a: 3 of 3
    assert shares.worst() == pytest.approx(30 / 60)
    shares.leaves("a", 3)
    assert shares.accounts["a"].held == 0


def test_a_tenant_that_waits_for_nothing_is_owed_nothing() -> None:
    shares = Shares({"a": 4})
    shares.until(1000)
    assert shares.worst() == 1.0


def test_the_planner_packs_and_what_is_full_is_full() -> None:
    kinds = (PackRequest(1000, GIB, 0, 0, ()), PackRequest(1000, GIB, 2, 1000, ("T4",)))
    nodes = (PackNode("a", 64_000, 64 * GIB, 2, "T4"), PackNode("b", 64_000, 64 * GIB, 2, "A10"))
    trace = PackTrace(nodes, kinds, (1, 1, 0), {"all": np.arange(3)})
    found = packed(trace, trace.orders["all"], PlannerPlacer(trace))
    assert (found.final_pct, found.rejected, found.churned_pct) == (50, 1, 50)
