"""Several tenants with guarantees on one cluster: how long they wait, and who gets what is due.

The production planner replays a trace of virtual clusters in virtual time, durations declared as
time limits. Beside it, on the same trace: first come first served with EASY backfill, which knows
no tenants, and the preemptive SRSF that nobody reaches without moving work at every event.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import traces
from bench.record import Result
from bench.replay import (
    Discipline,
    Fit,
    Outcome,
    Overhead,
    by_age,
    preemptive,
    queued,
    remaining_gpu_time,
)
from bench.replay_planner import PlannerReplay, tenant_of
from bench.traces import GpuJob
from bench.worlds import H200
from scheduler.model.tenancy import GpuQuota, QueueOrder, Tenant

FOLDER = "philly_multitenant"
P99 = 99


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with a trace of virtual clusters and their guarantees."""
    folder = traces.folder(data, FOLDER)
    jobs = traces.tenant_trace(traces.only(folder, "*jobs.csv.gz"))
    cluster = traces.cluster(traces.only(folder, "*cluster.json"))
    guarantees = traces.quotas(traces.only(folder, "*quota.csv"))
    easy = queued(jobs, cluster, by_age, Discipline.EASY, Fit.BEST)
    srsf = preemptive(jobs, cluster, remaining_gpu_time, Overhead.RESTART)
    replay = PlannerReplay(jobs, cluster, tenants_with(jobs, guarantees), guarantees=guarantees)
    own = replay.run()
    return Result(
        bench="fair",
        figures={
            "mean_jct_s": _mean_s([outcome.jct_s for outcome in own]),
            "mean_wait_s": _mean_s([outcome.wait_s for outcome in own]),
            "p99_wait_s": _p99_s([outcome.wait_s for outcome in own]),
            "worst_share_ratio": round(replay.shares.worst(), 4),
            "preemptions": replay.preemptions,
        },
        yardstick={
            "easy": _figures(easy),
            "srsf": _figures(srsf),
            "bound_jct_s": _mean_s([job.duration_s for job in jobs]),
        },
        ratios={"easy_to_planner": round(_jct(easy) / _jct(own), 4)},
        runs=1,
    )


def tenants_with(jobs: Sequence[GpuJob], guarantees: Mapping[str, int]) -> tuple[Tenant, ...]:
    """One organisation a virtual cluster, guaranteed its GPUs if any, free to borrow."""
    stated = {**{job.tenant: 0 for job in jobs}, **guarantees}
    return tuple(
        Tenant(
            tenant_of(name),
            weight=max(1, gpus),
            quotas=(GpuQuota(H200, guarantee_milli=gpus * 1000),),
            queue_order=QueueOrder.SHORTEST,
        )
        for name, gpus in sorted(stated.items())
    )


def _figures(outcomes: Sequence[Outcome]) -> dict[str, int]:
    return {
        "mean_jct_s": _mean_s([outcome.jct_s for outcome in outcomes]),
        "mean_wait_s": _mean_s([outcome.wait_s for outcome in outcomes]),
        "p99_wait_s": _p99_s([outcome.wait_s for outcome in outcomes]),
    }


def _jct(outcomes: Sequence[Outcome]) -> float:
    return statistics.fmean(outcome.jct_s for outcome in outcomes)


def _mean_s(values: Sequence[float]) -> int:
    return round(statistics.fmean(values))


def _p99_s(values: Sequence[float]) -> int:
    return round(sorted(values)[len(values) * P99 // 100])
