"""Why a job does not run: how long the planner takes to say it completely.

A full fleet at 43 sites and a long queue; queued jobs are drawn from all classes, and asked after
as `sovctl explain` does: the planner's own process looks whether anything was committed meanwhile,
judges every site, finds the least that would have to change, and estimates the start. The answer
travels as it does between the two processes. Milliseconds of a core, `wall_` ones by the clock.

Yardstick, in the same run: a site's verdict on the same questions in plain Python, for all sites:
what the law says, and nothing else, with nothing remembered.
"""

from __future__ import annotations

import gc
import random  # noqa: TID251 (drawn from a stated seed)
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench.busy import SEED, Size, fill
from bench.cycle import percentile, travelled
from bench.record import Result
from bench.stored import opened, sqlite_database
from bench.worlds import NOW_MS, Shape
from scheduler.core.planner import plan
from scheduler.core.residency import permits
from scheduler.model.plan import Explanation, QueuedJob
from scheduler.runtime.planner_child import Follower
from scheduler.runtime.planner_talk import Answered, ExplainJob
from scheduler.store.store import ReadStore

QUESTIONS, WARM_QUESTIONS = 2_000, 50
SITES_43 = Shape(pods=43, leaves_per_pod=14, nodes_per_leaf=25)
QUEUED = 100_000


def run(_data: Path | None) -> Result:
    """The bench. It needs no data: the fleet is the reference one, cut into 43 sites."""
    return measure(Size(SITES_43, queued=QUEUED), QUESTIONS)


def measure(size: Size, questions: int) -> Result:
    """So many questions about a fleet and a queue of this size."""
    with sqlite_database() as url:
        store = opened(url)
        fill(store, size)
        store.close()
        follower = Follower(ReadStore(url))
        follower.catch_up()
        plan(follower.state, NOW_MS)
        jobs = _drawn(follower, questions + WARM_QUESTIONS)
        gc.disable()
        try:
            spent = [_ask(follower, job) for job in jobs][WARM_QUESTIONS:]
            bare_ms = _verdicts_ms(follower, jobs[WARM_QUESTIONS:])
        finally:
            gc.enable()
            gc.unfreeze()
    cpu, wall = [cpu for cpu, _ in spent], [wall for _, wall in spent]
    p50_ms, p99_ms = statistics.median(cpu), percentile(cpu, 99)
    return Result(
        bench="explain",
        figures={
            "p50_ms": round(p50_ms, 2),
            "p99_ms": round(p99_ms, 2),
            "wall_p50_ms": round(statistics.median(wall), 2),
            "wall_p99_ms": round(percentile(wall, 99), 2),
        },
        yardstick={"verdicts_ms": round(bare_ms, 3)},
        ratios={
            "verdicts_to_p50": round(bare_ms / p50_ms, 4),
            "verdicts_to_p99": round(bare_ms / p99_ms, 4),
        },
        runs=questions,
    )


def _drawn(follower: Follower, count: int) -> list[QueuedJob]:
    draw = random.Random(SEED)
    lines = list(follower.state.classes.values())
    chosen = (draw.choice(lines) for _ in range(count))
    return [line.job(draw.randrange(line.spent, len(line.ids))) for line in chosen]


def _ask(follower: Follower, job: QueuedJob) -> tuple[float, float]:
    """Milliseconds that an answer took, of a core and by the clock."""
    began, began_cpu = time.perf_counter(), time.process_time()
    told = follower.answer(ExplainJob(NOW_MS, job.id, job.job_class))
    assert isinstance(told, Explanation)
    travelled(Answered(1, told))
    spent = 1000 * (time.process_time() - began_cpu), 1000 * (time.perf_counter() - began)
    assert told.sites, "a job that waits is explained site by site"
    follower.rest()
    return spent


def _verdicts_ms(follower: Follower, jobs: Sequence[QueuedJob]) -> float:
    """Milliseconds of a core that the verdicts of all sites on one job take."""
    state = follower.state
    sites = [site for site, _, _ in state.order]
    began = time.process_time()
    for job in jobs:
        for site in sites:
            permits(job.job_class.residency, site, state.policy, NOW_MS)
    return 1000 * (time.process_time() - began) / len(jobs)
