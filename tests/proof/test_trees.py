"""The rule tree as it is evaluated and as it is proved over: the same verdict in every world.

`WORLDS=100000 pytest tests/proof/test_trees.py` asks it of as many.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from scheduler.proof import encode
from scheduler.proof.solver import evaluate
from scheduler.proof.symbols import Symbols, Universe
from scheduler.proof.worlds import values_of
from tests.proof import drawn

POLICIES = 30
WORLDS = int(os.environ.get("WORLDS", "600"))


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
