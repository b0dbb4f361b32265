"""The benches of a nation at work: small ones, whose counts must be right whatever they took."""

from __future__ import annotations

from dataclasses import replace

from bench import cycle, explain, place
from bench.busy import Size, fill, kinds
from bench.cycle import percentile
from bench.stored import opened, sqlite_database
from bench.worlds import NOW_MS, Shape
from scheduler.core.planner import plan
from scheduler.runtime.planner_child import Follower
from scheduler.store.store import ReadStore

SMALL = Size(Shape(pods=3, leaves_per_pod=2, nodes_per_leaf=16), tenants=4, kinds=60, queued=1_200)


def test_kinds_of_work_are_distinct_classes() -> None:
    found = kinds(SMALL)
    assert len({kind.job_class for kind in found}) == len(found) == SMALL.kinds


def test_the_fleet_is_full_and_the_queue_waits() -> None:
    with sqlite_database() as url:
        store = opened(url)
        fill(store, SMALL)
        store.close()
        follower = Follower(ReadStore(url))
        follower.catch_up()
        state = follower.state
        assert sum(each.placement.gpu_milli for each in state.live.values()) == 3 * 2 * 16 * 8000
        assert all(record.left.free == 0 for record in state.nodes.values())
        assert len(state.queued) == SMALL.queued
        assert plan(state, NOW_MS).placements == ()


def test_turns_place_as_much_as_ends_and_keep_nodes_for_gangs() -> None:
    figures = cycle.measure(SMALL, turns=5).figures
    assert figures["placements_a_turn"]
    assert figures["reservations"]


def test_plans_are_committed_while_the_next_are_made() -> None:
    size = place.Size(Shape(4, 4, 16), jobs=900, runs=2, batches_a_run=2, batch=100)
    result = place.measure(size)
    assert result.runs == 2
    assert result.figures["wall_jobs_per_s"]
    assert result.figures["writer_us"]
    assert result.yardstick["sqlite_jobs_per_s"]


def test_questions_are_asked_of_what_waits() -> None:
    few = replace(SMALL, queued=60)
    result = explain.measure(SMALL, few, questions=20)
    assert result.runs == 20
    assert result.yardstick["many_verdicts_ms"]
    assert result.yardstick["few_verdicts_ms"]
    shown = {name: figure for name, figure in result.figures.items() if isinstance(figure, float)}
    assert shown["p99_ms"] == max(shown["many_p99_ms"], shown["few_p99_ms"])
    assert result.figures["few_estimated"] in range(1, few.queued + 1)


def test_a_percentile_is_the_least_that_so_many_do_not_exceed() -> None:
    assert percentile(range(1, 101), 99) == 99
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([7.0], 99) == 7.0
