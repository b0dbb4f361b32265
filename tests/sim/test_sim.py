"""A few seeds in every test run, and proof that what a seed does depends on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.run import run_seed

ROOT = Path(__file__).resolve().parents[2]
SHORT = 8  # Submissions: enough for faults to meet work, few enough for every test run.
PROGRAM = (
    "import logging; logging.disable(logging.CRITICAL);"
    "from tests.sim.run import run_seed;"
    f"result = run_seed(3, jobs={SHORT}); print(result.digest, result.lines)"
)


@pytest.mark.parametrize("seed", [101, 102, 103, 104])
def test_a_seed_shows_nothing_wrong(seed: int) -> None:
    result = run_seed(seed)
    story = "\n".join(result.story[-60:])
    replay = f"python -m tests.sim --seeds 1 --seed {seed} --verbose"
    assert result.ok, f"{story}\n{result.violations}\nreplay: {replay}"


def test_one_seed_is_one_story_whatever_the_order_of_sets() -> None:
    here = run_seed(3, jobs=SHORT)
    for hash_seed in ("0", "1"):
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split() == [here.digest, str(here.lines)]


def test_another_seed_is_another_story() -> None:
    assert run_seed(5, jobs=2).digest != run_seed(6, jobs=2).digest
