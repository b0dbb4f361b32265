"""`python -m bench [NAME] [--data DIR] [--json FILE] ...`: measure, compare, enforce floors.

Without a name every bench runs, and limits.toml's floors decide the exit code.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench import (
    agent,
    cycle,
    day,
    evidence,
    explain,
    fair,
    jct,
    launch,
    pack,
    place,
    plan,
    restart,
    submit,
)
from bench.record import Result, show, write
from bench.traces import BadTrace

BENCHES: Mapping[str, Callable[[Path | None], Result]] = {
    "agent": agent.run,
    "cycle": cycle.run,
    "day": day.run,
    "evidence": evidence.run,
    "explain": explain.run,
    "fair": fair.run,
    "jct": jct.run,
    "launch": launch.run,
    "memory": restart.run_memory,
    "pack": pack.run,
    "place": place.run,
    "plan": plan.run,
    "restart": restart.run,
    "submit": submit.run,
}
LIMITS = Path(__file__).resolve().parent / "limits.toml"


def main() -> int:
    """The program; its exit code is 1 when a floor was missed, or data cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHES), help="default: all of them")
    parser.add_argument("--data", type=Path, help="directory with traces of the documented columns")
    parser.add_argument("--json", type=Path, help="write figures, conditions and yardstick here")
    parser.add_argument("--hours", type=int, default=24, help="of `day`")
    parser.add_argument("--pods", type=int, default=0, help="of the fleet of `day`; 0: all")
    asked = parser.parse_args()
    benches = {**BENCHES, "day": partial(day.run, hours=asked.hours, pods=asked.pods)}
    names = [asked.name] if asked.name else sorted(BENCHES)
    results: list[Result] = []
    unread: list[str] = []
    for name in names:
        try:
            results.append(benches[name](asked.data))
        except BadTrace as bad:
            unread.append(name)
            sys.stderr.write(f"{name}: {bad}\n")
            continue
        show(results[-1])
    if asked.json is not None and results:
        write(results, asked.json)
    missed = [miss for result in results for miss in misses(result)]
    sys.stdout.write("".join(f"below its floor: {miss}\n" for miss in missed))
    return 1 if missed or unread else 0


def misses(result: Result) -> list[str]:
    """The floors of limits.toml that a result does not reach. They are ratios, never times. One
    whose yardstick the data did not have is not judged."""
    floors: dict[str, float] = tomllib.loads(LIMITS.read_text()).get(result.bench, {})
    return [
        f"{result.bench} {name}: {result.ratios[name]}, floor {floor}"
        for name, floor in sorted(floors.items())
        if name in result.ratios and result.ratios[name] < floor
    ]


if __name__ == "__main__":
    sys.exit(main())
