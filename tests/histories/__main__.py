"""`python -m tests.histories`: walk random histories until one shows two plans where there is one.

python -m tests.histories --count 3000             3,000 histories, from seed 1
python -m tests.histories --count 1 --seed 17      one of them
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import Counter

from tests.histories.history import Difference, walked


def main() -> int:
    """Walks the histories asked for; 1 if any of them showed a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--count", type=int, default=3000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    asked = parser.parse_args()
    began_s = time.process_time()
    failed, seen, plans = 0, Counter[str](), hashlib.sha256()
    for seed in range(asked.seed, asked.seed + asked.count):
        try:
            told, digest = walked(seed)
        except Difference as difference:
            failed += 1
            print(f"{difference}\nreplay: python -m tests.histories --count 1 --seed {seed}")
        else:
            seen.update(told)
            plans.update(digest)
    took_s = time.process_time() - began_s
    print(f"{asked.count - failed} of {asked.count} histories passed, {took_s:.0f} s of CPU")
    print(", ".join(f"{number} {what}" for what, number in sorted(seen.items())))
    print(f"digest of the plans: {plans.hexdigest()}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
