"""Mean job completion time on 64 GPUs, under the rules of published simulators.

SRTF and SRSF run first: their means are published, which shows that the replay is right. Then the
production planner in the same replay, for a project with `queue_order: shortest`: once with every
duration declared as the time limit, once with nothing declared.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench import traces
from bench.record import Result
from bench.replay import (
    Outcome,
    Overhead,
    preemptive,
    remaining_gpu_time,
    remaining_time,
)
from bench.replay_planner import ANYBODY, Limits, PlannerReplay
from bench.traces import Cluster, GpuJob
from scheduler.model.tenancy import QueueOrder, Tenant

FOLDER = "muri_64gpu"
CLUSTER = Cluster(nodes=8, gpus_per_node=8)
STRETCH_PERMILLE = 1015
"""The published simulator's iterations take this much longer than the trace says."""
AT_ONCE = "_pr"
"""Variants of a trace in which everything is submitted at the start."""
SHORTEST = (Tenant(ANYBODY, queue_order=QueueOrder.SHORTEST),)
UNTOLD = ("Tiresias", "Themis")
"""Published means that the planner is held against where nothing is declared. Tiresias is told no
durations either; Themis goes by an estimate of what remains."""
REFERENCES = {"SRTF": remaining_time, "SRSF": remaining_gpu_time}


def run(data: Path | None) -> Result:
    """The bench. `data`: a directory with job traces of the documented columns."""
    folder = traces.folder(data, FOLDER)
    stated = traces.published(folder / "published.csv", ("trace", "policy"), "avg_jct_s")
    bounds = traces.published(folder / "lower_bounds.csv", ("trace",), "avg_jct_lb_s")
    means: dict[str, dict[str, int]] = {}
    for name, jobs in _traces(folder).items():
        means[name] = {policy: _mean_s(_reference(jobs, policy)) for policy in REFERENCES}
        means[name]["planner"] = _mean_s(_planner(jobs, Limits.DURATION))
        means[name]["planner, nothing declared"] = _mean_s(_planner(jobs, Limits.NONE))
    return Result(
        bench="jct",
        figures={"mean_s": means},
        yardstick={
            "published_mean_s": {
                name: {policy: round(s) for (trace, policy), s in stated.items() if trace == name}
                for name in means
            },
            "lower_bound_s": {name: round(s) for (name,), s in bounds.items() if name in means},
        },
        ratios=ratios(means, stated),
        runs=1,
    )


def ratios(
    means: Mapping[str, Mapping[str, int]], stated: Mapping[tuple[str, ...], float]
) -> dict[str, float]:
    """The worst over the traces: how far off the references are, and how near the planner is."""
    off = [
        abs(means[trace][policy] / s - 1)
        for (trace, policy), s in stated.items()
        if trace in means and policy in REFERENCES
    ]
    near = [found["SRSF"] / found["planner"] for found in means.values()]
    untold = {
        f"{policy.lower()}_to_{what}": min(
            stated[name, policy] / means[name]["planner, nothing declared"] for name in names
        )
        for what, names in (
            ("undeclared", [name for name in means if not name.endswith(AT_ONCE)]),
            ("undeclared_at_once", [name for name in means if name.endswith(AT_ONCE)]),
        )
        for policy in UNTOLD
        if names and all((name, policy) in stated for name in names)
    }
    return {
        "reproduction": round(1 - max(off, default=0.0), 5),
        "srsf_to_planner": round(min(near), 4),
        **{name: round(ratio, 4) for name, ratio in untold.items()},
    }


def _traces(folder: Path) -> dict[str, Sequence[GpuJob]]:
    """Every trace, and each once more with everything submitted at the start."""
    paths = sorted(folder.glob("*.csv.gz"))
    if not paths:
        raise traces.BadTrace([f"{folder}: no *.csv.gz there"])
    found: dict[str, Sequence[GpuJob]] = {}
    for path in paths:
        name = path.name.removesuffix(".csv.gz")
        jobs = traces.job_trace(path)
        found[name] = jobs
        by_id = sorted(jobs, key=lambda job: job.id)
        found[name + AT_ONCE] = [replace(job, submit_s=0.0) for job in by_id]
    return found


def _reference(jobs: Sequence[GpuJob], policy: str) -> Sequence[Outcome]:
    stretch = STRETCH_PERMILLE / 1000
    return preemptive(jobs, CLUSTER, REFERENCES[policy], Overhead.EVERY_EVENT, stretch)


def _planner(jobs: Sequence[GpuJob], limits: Limits) -> Sequence[Outcome]:
    replay = PlannerReplay(
        jobs,
        CLUSTER,
        SHORTEST,
        limits=limits,
        overhead=Overhead.EVERY_EVENT,
        stretch_permille=STRETCH_PERMILLE,
    )
    return replay.run()


def _mean_s(outcomes: Sequence[Outcome]) -> int:
    return round(statistics.fmean(outcome.jct_s for outcome in outcomes))
