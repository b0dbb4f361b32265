"""What another policy would have made of placements that are on record."""

from __future__ import annotations

from dataclasses import replace

from scheduler.control.replay import replay
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, Policy
from tests.control.plant import Plant, spec

STRICTER = Policy(min_assurance=Assurance.MEASURED)


def changed(plant: Plant, after: Policy, since_ms: int = 0) -> dict[int, list[Reason]]:
    """Jobs whose verdict would change, and the reasons against them then."""
    with plant.store.read() as view:
        found = replay(view, after, since_ms, plant.now_ms)
    return {each.key.job: [denial.reason for denial in each.denials] for each in found}


def test_what_ran_and_what_runs_is_judged_by_the_other_policy(plant: Plant) -> None:
    over, live = plant.run(spec("over")), plant.run(spec("live"))
    plant.report(plant.ended(over))
    assert changed(plant, Policy(name="renamed")) == {}
    found = changed(plant, STRICTER)
    assert set(found) == {over.job, live.job}
    assert set(found[live.job]) == {Reason.FACT_TOO_WEAK}


def test_what_was_denied_all_along_does_not_change(plant: Plant) -> None:
    plant.run()
    plant.apply_policy(STRICTER)
    assert changed(plant, replace(STRICTER, name="renamed")) == {}


def test_a_wider_policy_is_told_by_what_it_would_permit(plant: Plant) -> None:
    key = plant.run()
    plant.apply_policy(STRICTER)
    assert changed(plant, Policy()) == {key.job: []}


def test_placements_before_the_time_are_left_out(plant: Plant) -> None:
    plant.run()
    plant.now_ms += 1_000
    assert changed(plant, STRICTER, since_ms=plant.now_ms) == {}
