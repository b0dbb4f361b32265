"""The reference schedulers on clusters small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.replay import (
    Discipline,
    Fit,
    Outcome,
    Overhead,
    by_age,
    by_length,
    preemptive,
    queued,
    remaining_gpu_time,
    remaining_time,
)
from bench.traces import Cluster, GpuJob

ONE = Cluster(nodes=1, gpus_per_node=8)
TWO = Cluster(nodes=2, gpus_per_node=8)


def job(number: int, gpus: int, submit_s: float, duration_s: float, restart_s: float = 0) -> GpuJob:
    return GpuJob(number, gpus, submit_s, duration_s, "", restart_s)


def ends(outcomes: Sequence[Outcome]) -> dict[int, float]:
    return {outcome.job.id: outcome.ended_s for outcome in outcomes}


def test_the_shortest_remaining_time_preempts() -> None:
    jobs = [job(0, 8, 0, 100), job(1, 8, 10, 20)]
    assert ends(preemptive(jobs, ONE, remaining_time, Overhead.RESTART)) == {0: 120, 1: 30}


def test_gpu_time_counts_how_wide_a_job_is() -> None:
    jobs = [job(0, 8, 0, 10), job(1, 1, 0, 30)]
    assert ends(preemptive(jobs, ONE, remaining_time, Overhead.RESTART)) == {0: 10, 1: 40}
    assert ends(preemptive(jobs, ONE, remaining_gpu_time, Overhead.RESTART)) == {0: 40, 1: 30}


@pytest.mark.parametrize(
    ("overhead", "last_s"),
    [
        pytest.param(Overhead.RESTART, 125, id="a restart costs once"),
        pytest.param(Overhead.EVERY_EVENT, 125, id="every event costs what runs through it"),
    ],
)
def test_an_interruption_costs_progress(overhead: Overhead, last_s: float) -> None:
    jobs = [job(0, 8, 0, 100, restart_s=5), job(1, 8, 10, 20, restart_s=5)]
    assert ends(preemptive(jobs, ONE, remaining_time, overhead))[0] == last_s


def test_an_event_elsewhere_costs_only_where_all_are_stopped() -> None:
    jobs = [job(0, 8, 0, 100, restart_s=5), job(1, 8, 10, 200, restart_s=5)]
    assert ends(preemptive(jobs, TWO, remaining_time, Overhead.RESTART))[0] == 100
    assert ends(preemptive(jobs, TWO, remaining_time, Overhead.EVERY_EVENT))[0] == 105


def test_a_wide_job_takes_empty_nodes_only() -> None:
    jobs = [job(0, 1, 0, 50), job(1, 16, 0, 10)]
    assert ends(queued(jobs, TWO, by_age, Discipline.SKIP_AHEAD, Fit.FIRST)) == {0: 50, 1: 60}


def test_best_fit_leaves_the_emptier_node_whole() -> None:
    jobs = [job(0, 4, 0, 9), job(1, 6, 0, 50), job(2, 2, 1, 50), job(3, 8, 10, 1)]
    assert ends(queued(jobs, TWO, by_age, Discipline.SKIP_AHEAD, Fit.BEST))[3] == 11
    assert ends(queued(jobs, TWO, by_age, Discipline.SKIP_AHEAD, Fit.FIRST))[3] == 51


@pytest.mark.parametrize(
    ("discipline", "ended_s"),
    [
        pytest.param(Discipline.HEAD_OF_LINE, {0: 100, 1: 110, 2: 160, 3: 120}, id="all wait"),
        pytest.param(
            Discipline.SKIP_AHEAD, {0: 100, 1: 110, 2: 53, 3: 14}, id="the head may starve"
        ),
        pytest.param(Discipline.EASY, {0: 100, 1: 110, 2: 53, 3: 14}, id="none delays the head"),
    ],
)
def test_what_happens_behind_a_head_that_does_not_fit(
    discipline: Discipline, ended_s: dict[int, float]
) -> None:
    jobs = [job(0, 6, 0, 100), job(1, 8, 1, 10), job(2, 1, 3, 50), job(3, 1, 4, 10)]
    assert ends(queued(jobs, ONE, by_age, discipline, Fit.BEST)) == ended_s


def test_nothing_long_goes_ahead_of_a_reserved_start() -> None:
    jobs = [job(0, 6, 0, 100), job(1, 8, 1, 10), job(2, 1, 3, 500)]
    assert ends(queued(jobs, ONE, by_age, Discipline.EASY, Fit.BEST)) == {0: 100, 1: 110, 2: 610}
    assert ends(queued(jobs, ONE, by_age, Discipline.SKIP_AHEAD, Fit.BEST))[1] == 513


def test_the_shortest_goes_first_where_the_order_says_so() -> None:
    jobs = [job(0, 8, 0, 10), job(1, 8, 1, 100), job(2, 8, 2, 5)]
    assert ends(queued(jobs, ONE, by_length, Discipline.HEAD_OF_LINE, Fit.BEST)) == {
        0: 10,
        1: 115,
        2: 15,
    }
