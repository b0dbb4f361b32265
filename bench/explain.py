"""Why a job does not run: how long the planner takes to say it completely.

Twice: a full fleet at 43 sites and a long queue, and one at as many sites with a queue and a fleet
that are short enough for estimates (`few_`). Queued jobs are drawn from all classes, and asked
after as `sovctl explain` does: the planner's own process looks whether anything was committed
meanwhile, judges every site, finds the least that would have to change, and adds the estimate that
is kept. The answer travels as it does between the two processes. Milliseconds of a core, `wall_`
ones by the clock; `p50_ms`, `p99_ms` and the ratios are the worse of both.

`few_begin_ms`: how long the planner is kept to have estimates computed aside, by the clock;
`few_estimates_s`: until they are there; `few_estimated`: how many jobs have one.

Yardstick, in the same run: a site's verdict on the same questions in plain Python, for all sites:
what the law says, and nothing else, with nothing remembered.
"""

from __future__ import annotations

import gc
import random  # noqa: TID251 (drawn from a stated seed)
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
SHORT = Size(Shape(pods=43, leaves_per_pod=1, nodes_per_leaf=17), queued=900)
"""4,873 jobs run on it."""


@dataclass(frozen=True, slots=True)
class _Spent:
    """What the answers took, each in milliseconds, and the verdicts alone; and what is kept."""

    cpu: list[float]
    wall: list[float]
    verdicts_ms: float
    begin_ms: float = 0
    estimates_s: float = 0
    estimated: int = 0

    def ratio(self, percent: int) -> float:
        return self.verdicts_ms / percentile(self.cpu, percent)


def run(_data: Path | None) -> Result:
    """The bench. It needs no data: the fleet is the reference one, cut into 43 sites."""
    return measure(Size(SITES_43, queued=QUEUED), SHORT, QUESTIONS)


def measure(size: Size, short: Size, questions: int) -> Result:
    """So many questions about a fleet and a queue of each size."""
    many, few = (_spent(each, questions) for each in (size, short))
    figures: dict[str, int | float] = {
        f"p{percent}_ms": round(max(percentile(each.cpu, percent) for each in (many, few)), 2)
        for percent in (50, 99)
    }
    for prefix, spent in (("many_", many), ("few_", few)):
        for percent in (50, 99):
            figures[f"{prefix}p{percent}_ms"] = round(percentile(spent.cpu, percent), 2)
            figures[f"{prefix}wall_p{percent}_ms"] = round(percentile(spent.wall, percent), 2)
    figures["few_begin_ms"] = round(few.begin_ms, 2)
    figures["few_estimates_s"] = round(few.estimates_s, 2)
    figures["few_estimated"] = few.estimated
    return Result(
        bench="explain",
        figures=figures,
        yardstick={
            "many_verdicts_ms": round(many.verdicts_ms, 3),
            "few_verdicts_ms": round(few.verdicts_ms, 3),
        },
        ratios={
            f"verdicts_to_p{percent}": round(min(many.ratio(percent), few.ratio(percent)), 4)
            for percent in (50, 99)
        },
        runs=questions,
    )


def _spent(size: Size, questions: int) -> _Spent:
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
            for job in jobs[:WARM_QUESTIONS]:
                _ask(follower, job)
            begin_ms, estimates_s = _look_ahead(follower)
            spent = [_ask(follower, job) for job in jobs[WARM_QUESTIONS:]]
            verdicts_ms = _verdicts_ms(follower, jobs[WARM_QUESTIONS:])
        finally:
            gc.enable()
            gc.unfreeze()
            follower.estimating.close()
        cpu, wall = [cpu for cpu, _ in spent], [wall for _, wall in spent]
        estimated = sum(_is_estimated(follower, job) for job in follower.state.queued.in_line())
        return _Spent(cpu, wall, verdicts_ms, begin_ms, estimates_s, estimated)


def _look_ahead(follower: Follower) -> tuple[float, float]:
    """Milliseconds that the planner is kept by it, and seconds until there are estimates."""
    began = time.perf_counter()
    follower.look_ahead(NOW_MS)
    kept_ms = 1000 * (time.perf_counter() - began)
    follower.estimating.collect()
    return kept_ms, time.perf_counter() - began


def _is_estimated(follower: Follower, job: QueuedJob) -> bool:
    """Whether there is an estimate of the job's start."""
    return follower.estimating.known(follower.state, job.id, NOW_MS).p90_ms > 0


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
