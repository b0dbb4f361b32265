"""The part of a job's class that preemption reads."""

from __future__ import annotations

import pytest

from scheduler.core.classes import class_of, grace_bucket_ms
from scheduler.model.job import Preemption
from tests.core.builders import HOUR_MS, spec

MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("asked_ms", "bucket_ms"),
    [(0, 0), (1, 1_000), (1_000, 1_000), (1_001, 2_000), (30_000, 32_000), (HOUR_MS, 4_096_000)],
)
def test_a_grace_is_rounded_up(asked_ms: int, bucket_ms: int) -> None:
    assert grace_bucket_ms(asked_ms) == bucket_ms


@pytest.mark.parametrize("least_ms", [0, 1, MINUTE_MS, 10 * MINUTE_MS, 7 * HOUR_MS + 1])
def test_a_least_runtime_is_never_shortened_and_none_stays_none(least_ms: int) -> None:
    asked = spec(preemption=Preemption(min_runtime_ms=least_ms))
    found_ms = class_of(asked, asked.project).min_runtime_ms
    assert least_ms <= found_ms <= max(MINUTE_MS, least_ms + least_ms // 30 + MINUTE_MS)
    assert (found_ms == 0) is (least_ms == 0)


def test_whether_how_long_and_how_gently_are_part_of_the_class() -> None:
    ways = (
        Preemption(),
        Preemption(allowed=False),
        Preemption(min_runtime_ms=MINUTE_MS),
        Preemption(grace_ms=MINUTE_MS),
    )
    asked = [spec(preemption=way) for way in ways]
    assert len({class_of(each, each.project) for each in asked}) == len(ways)
