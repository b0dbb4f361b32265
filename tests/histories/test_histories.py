"""Some histories in every test run; `make histories` walks thousands."""

from __future__ import annotations

from collections import Counter

import pytest

from scheduler.core import waking
from scheduler.core.fleet import FleetState
from tests.histories.history import COUNTED, Difference, walked

SEEDS = 100


def test_every_plan_of_a_history_is_the_one_from_scratch() -> None:
    seen = _walked()
    assert min(seen[of] for of in (*COUNTED, "ahead")) > 0


@pytest.mark.interpreted
def test_the_histories_show_that_a_cause_was_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, nothing says that the others would notice."""

    def nobody(fleet: FleetState, now_ms: int) -> None:
        del fleet, now_ms

    monkeypatch.setattr(waking, "_wake_some", nobody)
    with pytest.raises(Difference):
        _walked()


def _walked() -> Counter[str]:
    seen = Counter[str]()
    for seed in range(1, SEEDS + 1):
        seen.update(walked(seed)[0])
    return seen
