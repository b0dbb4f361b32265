"""`python -m tests.sim`: simulate seeds until one shows something wrong.

python -m tests.sim --seeds 50              50 seeds, from 1
python -m tests.sim --seeds 1 --seed 17 --verbose    one seed, with every line of its story
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.sim.run import Result, run_seed

STORY_LINES = 60


def main() -> int:
    """Runs the seeds asked for; 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--jobs", type=int, default=None, help="submissions in each run")
    parser.add_argument("--verbose", action="store_true", help="print all that happens")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = 0
    for seed in range(asked.seed, asked.seed + asked.seeds):
        began_s = time.process_time()
        result = run_seed(seed, sink=print if asked.verbose else None, jobs=asked.jobs)
        took_s = time.process_time() - began_s
        verdict = "ok" if result.ok else "FAILED"
        print(f"seed {seed}: {verdict}, {result.counts}, {took_s:.1f} s of CPU", flush=True)
        if not result.ok:
            failed += 1
            report(result, asked.jobs, verbose=asked.verbose)
    print(f"{asked.seeds - failed} of {asked.seeds} seeds passed")
    return 1 if failed else 0


def report(result: Result, jobs: int | None, *, verbose: bool) -> None:
    """What was wrong, how it came to that, and how to see it again."""
    if not verbose:
        print("\n".join(result.story[-STORY_LINES:]))
    for violation in result.violations:
        print(f"  {violation}")
    more = "" if jobs is None else f" --jobs {jobs}"
    print(f"replay: python -m tests.sim --seeds 1 --seed {result.seed}{more} --verbose")


if __name__ == "__main__":
    sys.exit(main())
