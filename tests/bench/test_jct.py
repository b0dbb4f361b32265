"""What `jct` makes of its means: how near the planner is to published ones."""

from __future__ import annotations

from bench import jct

UNTOLD = "planner, nothing declared"
MEANS = {
    "one": {"SRSF": 100, "SRTF": 110, "planner": 104, UNTOLD: 200},
    "two": {"SRSF": 50, "SRTF": 60, "planner": 50, UNTOLD: 150},
}
STATED = {
    ("one", "SRSF"): 100.0,
    ("two", "SRSF"): 50.0,
    ("one", "Tiresias"): 300.0,
    ("two", "Tiresias"): 180.0,
    ("two_pr", "Tiresias"): 30.0,
}


def test_the_worst_trace_counts() -> None:
    ratios = jct.ratios(MEANS, STATED)
    assert ratios["srsf_to_planner"] == round(100 / 104, 4)
    assert ratios["reproduction"] == 1.0
    assert ratios["tiresias_to_undeclared"] == 1.2


def test_where_all_is_submitted_at_once_nothing_was_there_to_learn_from() -> None:
    means = {**MEANS, "two_pr": {"SRSF": 10, "SRTF": 10, "planner": 10, UNTOLD: 60}}
    ratios = jct.ratios(means, STATED)
    assert ratios["tiresias_to_undeclared"] == 1.2
    assert ratios["tiresias_to_undeclared_at_once"] == 0.5


def test_a_policy_without_a_figure_for_every_trace_is_not_judged() -> None:
    assert "themis_to_undeclared" not in jct.ratios(MEANS, {**STATED, ("one", "Themis"): 1.0})
