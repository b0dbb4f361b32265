"""What a bench prints and writes: figures, the conditions they were had under, and a yardstick."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias, Union

from scheduler import compiled

Number = int | float
Figure: TypeAlias = Union[Number, "Mapping[str, Figure]"]
"""One number, or several by name: a trace, a policy."""


@dataclass(frozen=True, slots=True)
class Result:
    """One bench's outcome. `ratios` are what limits.toml sets floors for: own by yardstick."""

    bench: str
    figures: Mapping[str, Figure]
    yardstick: Mapping[str, Figure]
    ratios: Mapping[str, Number]
    runs: int


def conditions(runs: int) -> dict[str, object]:
    """The machine, how busy it was, and the versions that matter."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "planner": "compiled" if compiled.RUNS else "interpreted",
        "machine": platform.machine(),
        "runs": runs,
        "versions": {name: version(name) for name in ("grpcio", "protobuf", "ray", "SQLAlchemy")},
    }


def median(measure: Callable[[], float], runs: int) -> float:
    """The median of several runs."""
    return statistics.median(measure() for _ in range(runs))


def show(result: Result) -> None:
    """Prints a result for people."""
    lines = [f"{result.bench}: median of {result.runs} runs"]
    lines += [f"  {name:<28} {_short(value)}" for name, value in _flat(result.figures)]
    lines += [f"  yardstick {name:<18} {_short(value)}" for name, value in _flat(result.yardstick)]
    lines += [f"  ratio {name:<22} {_short(value)}" for name, value in result.ratios.items()]
    had = conditions(result.runs)
    lines.append(f"  on {had['cores']} cores, load {had['load_1min']}, Python {had['python']}")
    lines.append(f"  planner {had['planner']}")
    sys.stdout.write("\n".join(lines) + "\n")


def _flat(figures: Mapping[str, Figure]) -> Iterator[tuple[str, Number]]:
    """Every number with the names that lead to it."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", number) for inner, number in _flat(value))
        else:
            yield name, value


def write(results: Sequence[Result], path: Path) -> None:
    """Writes one object for one bench, a list for several."""
    found = [
        {
            "bench": result.bench,
            "figures": {**result.figures, **result.ratios},
            "conditions": conditions(result.runs),
            "yardstick": dict(result.yardstick),
        }
        for result in results
    ]
    path.write_text(json.dumps(found[0] if len(found) == 1 else found, indent=1) + "\n")


def _short(value: Number) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}".rstrip("0").rstrip(".")
