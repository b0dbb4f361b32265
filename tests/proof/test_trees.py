"""The rule tree as it is evaluated and as it is proved over: the same verdict in every world.

`WORLDS=100000 pytest tests/proof/test_trees.py` asks it of as many.
"""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random

import pytest

from scheduler.core.policy.base import rules_of
from scheduler.core.residency import permits
from scheduler.model.agreements import Instrument
from scheduler.model.reasons import Reason
from scheduler.model.residency import Deny
from scheduler.model.rules import Invariant
from scheduler.proof import encode
from scheduler.proof.solver import Answer, Solver, evaluate, never
from scheduler.proof.symbols import Symbols, Universe
from scheduler.proof.worlds import NOW_MS, World, values_of
from tests.proof import drawn

POLICIES = 30
WORLDS = int(os.environ.get("WORLDS", "600"))
OF_AGREEMENTS = {Reason.AGREEMENT_EXPIRED, Reason.AGREEMENT_SCOPE, Reason.AGREEMENT_UNKNOWN}
UNTOUCHED = {
    Reason.JURISDICTION,
    Reason.FOREIGN_COMPULSION,
    Reason.TIER_ABOVE_CONTROL_PLANE,
    Reason.TIER_ABOVE_SITE,
    Reason.MARKING,
}


@pytest.mark.parametrize("seed", range(POLICIES))
def test_the_two_trees_agree_in_random_worlds(seed: int) -> None:
    draw = Random(seed)
    policy = drawn.policy(draw)
    at = Symbols(Universe((policy, drawn.EVERYTHING)))
    formula = encode.permits(policy, at)
    for _ in range(WORLDS // POLICIES):
        world = drawn.world(draw)
        assert evaluate(formula, values_of(world, at)) is world.permitted(policy), world


def test_the_worlds_that_are_drawn_are_permitted_often_enough_to_mean_something() -> None:
    draw = Random(7)
    answers = [drawn.world(draw).permitted(drawn.policy(draw)) for _ in range(2_000)]
    assert 200 < sum(answers) < 1_800


def test_agreements_open_some_of_those_worlds_and_never_what_else_is_denied() -> None:
    draw = Random(11)
    opened = 0
    for _ in range(6_000):
        policy = replace(drawn.policy(draw), instruments=tuple(Instrument))
        world = drawn.world(draw)
        tolerant = replace(world.work, tolerate_foreign_compulsion=drawn.COUNTRIES)
        world = replace(world, work=tolerant)
        if not world.permitted(policy) or (alone := without(world)).permitted(policy):
            continue
        opened += 1
        verdict = permits(alone.work, alone.site, policy, NOW_MS)
        assert isinstance(verdict, Deny)
        about = {denial.reason for denial in verdict.denials if denial.reason not in OF_AGREEMENTS}
        assert about <= {Reason.JURISDICTION_NOT_ALLOWED, Reason.POLICY_RULE}, world
    assert opened > 20


def test_no_agreement_opens_what_tier_markings_or_ownership_deny() -> None:
    """Proved, of every policy that is drawn: not found wanting in some worlds alone."""
    for seed in range(POLICIES):
        policy = drawn.policy(Random(seed))
        at = Symbols(Universe((policy, drawn.EVERYTHING)))
        for rule in rules_of(policy):
            if rule.reason not in UNTOUCHED:
                continue
            kept = encode.keeps(Invariant("kept", "", "", rule.require, rule.when), policy, at)
            against = Solver(60_000, *at.bounds(), encode.permits(policy, at), never(kept))
            assert against.check() is Answer.NONE, (seed, rule.id)


def without(world: World) -> World:
    return replace(world, agreement=None)
