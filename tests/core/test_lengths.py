"""What a project's jobs tell of how long work goes on, by hand and as properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.lengths import (
    AHEAD_MS_MAX,
    ANY_KIND,
    LEVEL_MS,
    LEVELS,
    NOTHING_LEARNED,
    Ahead,
    Run,
    ahead_ms,
    ahead_of,
    begins_ms,
    kind_of,
    learned,
    level_of,
)
from scheduler.model.ids import TenantPath
from scheduler.model.plan import LengthsChanged, RunLengths
from scheduler.model.tenancy import QueueOrder
from tests.core.builders import HOUR_MS, job_class, node, queued, tenant
from tests.core.preempting import ask, jobs_of, running
from tests.core.test_preemption import fleet_of

MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS

RUNS = st.lists(
    st.builds(Run, st.integers(1, 64), st.integers(0, 400 * DAY_MS), st.booleans()), max_size=60
)


def told(*runs: Run) -> Ahead:
    return ahead_of(learned(runs))


@given(st.integers(0, 400 * DAY_MS))
def test_levels_follow_one_another_without_a_gap(ran_ms: int) -> None:
    level = level_of(ran_ms)
    assert begins_ms(level) <= ran_ms
    assert level + 1 == LEVELS or ran_ms < begins_ms(level + 1)


def test_no_level_begins_at_a_whole_hour() -> None:
    assert all(begins_ms(level) % HOUR_MS for level in range(1, LEVELS))


def test_before_anything_is_known_what_has_run_long_is_expected_to_go_on_longer() -> None:
    guessed = [ahead_ms(NOTHING_LEARNED, 1, level) for level in range(LEVELS)]
    assert guessed == sorted(guessed)
    assert guessed[5] == 2 * guessed[4]


def test_work_that_is_about_to_end_as_others_did_goes_before_what_has_only_begun() -> None:
    ahead = told(*(Run(8, 5 * HOUR_MS, True) for _ in range(200)))
    assert ahead_ms(ahead, 8, level_of(3 * HOUR_MS)) < ahead_ms(ahead, 8, 0)


def test_what_others_ended_tells_that_it_went_on_so_long_and_not_that_it_was_over() -> None:
    ended = told(*(Run(1, HOUR_MS, True) for _ in range(100)))
    cancelled = told(*(Run(1, HOUR_MS, False) for _ in range(100)))
    assert ahead_ms(ended, 1, level_of(HOUR_MS)) < ahead_ms(cancelled, 1, level_of(HOUR_MS))


def test_work_of_as_many_gpus_tells_more_than_the_rest_of_the_project() -> None:
    short = [Run(1, 5 * MINUTE_MS, True) for _ in range(100)]
    long = [Run(8, DAY_MS, True) for _ in range(100)]
    ahead = told(*short, *long)
    assert ahead_ms(ahead, 1, 0) < ahead_ms(ahead, 2, 0) < ahead_ms(ahead, 8, 0)
    assert ahead_ms(ahead, 12, 0) == ahead_ms(ahead, 8, 0), "twelve are of the kind of eight"


def test_few_jobs_tell_nothing() -> None:
    assert learned(Run(1, HOUR_MS, True) for _ in range(4)) == ()


@given(RUNS)
def test_what_is_told_is_bounded_and_whole(runs: list[Run]) -> None:
    lengths = learned(runs)
    assert lengths == learned(reversed(runs)), "the order in which jobs are looked at tells nothing"
    kinds = [each.kind for each in lengths]
    assert kinds == ([ANY_KIND, *sorted({kind_of(run.gpus) for run in runs})] if lengths else [])
    for each in lengths:
        assert len(each.ahead_ms) == LEVELS
        assert all(0 < ms <= AHEAD_MS_MAX for ms in each.ahead_ms)


def test_lengths_by_other_levels_than_ours_are_not_gone_by() -> None:
    assert ahead_of((RunLengths(ANY_KIND, (LEVEL_MS,)),)) == {}


def test_what_one_project_learned_moves_nobody_in_another() -> None:
    tenants = (
        tenant("trust-a"),
        *(tenant(f"trust-a/{name}", order=QueueOrder.SHORTEST) for name in ("radiology", "other")),
    )
    lengths = learned([Run(8, 5 * HOUR_MS, True) for _ in range(200)])
    for learner, victims in (("trust-a/other", [1]), ("trust-a/radiology", [])):
        fleet = fleet_of(nodes=[node("london", "n1")], tenants=tenants)
        untold = job_class(gpus=8, limit_ms=DAY_MS)
        running(fleet, 1, untold, "n1", for_ms=3 * HOUR_MS)
        fleet.apply(LengthsChanged(TenantPath(learner), lengths))
        assert jobs_of(ask(fleet, queued(2, untold))) == victims
