"""How long work that declares no length is to be expected to go on, by how long it has run.

Simple equivalent: of all that the project ran so far and that got as far as this work has, the
least expected run per end that a further stretch of running would bring: what is spent until the
end of the stretch or of the work, over the chance that the work ends in it. That is the inverse of
Gittins' index, and going by it is the best that anybody can do who knows how long work mostly runs
and not how long this will (Gittins, 1979; for schedulers Gu et al., NSDI'19). Departures:

* Times are in *levels*, each twice the one before, so what ranks by them moves a dozen times in its
  life at most. None begins at a round number of hours: where many jobs end, at the limits and the
  habits of people, there is no border in between.
* The chance to end within a level is that of the jobs of the project that reached it. What still
  runs, waits again, or was ended by others tells that it went on so long (Kaplan and Meier, 1958;
  who left within a level counts for half of it).
* What few jobs tell is mixed with what is known without them: jobs of as many GPUs (to the power of
  two) with all of the project, and these with a stated guess, by which what has run long is to be
  expected to run as long again.

A project is told by its own jobs alone: nothing that one tenant does shows in the turns of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from scheduler.model.plan import RunLengths

LEVEL_MS = 600_000
"""Where the second level begins."""
LEVELS = 15
"""The last begins after eight weeks."""
GUESS_PPM = 300_000
"""The chance that work ends within a level, before anything is known."""
GUESS_JOBS, KIND_JOBS = 5, 5
"""As many jobs count as much as the guess; as many of one kind as much as what all jobs tell."""
LEARN_EVERY_MS = 24 * 3600 * 1000
RUNS_MAX = 2_000
"""A project's newest jobs that ran at all are what it is told by."""
RUNS_MIN = 5
"""Fewer jobs tell nothing."""
AHEAD_MS_MAX = 90 * 24 * 3600 * 1000
"""Nothing is expected to go on for longer."""
ANY_KIND = 0
"""Work of any number of GPUs."""
PPM = 1_000_000

Ahead: TypeAlias = Mapping[int, tuple[int, ...]]
"""By kind and level: the expected run per end, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """How long a job ran in all its attempts so far, and whether it ended by itself."""

    gpus: int
    ran_ms: int
    is_over: bool


class _Table:
    """How many jobs reached each level, in halves of a job, and how many ended in it."""

    def __init__(self) -> None:
        self.reached = [0] * LEVELS
        self.ended = [0] * LEVELS

    def add(self, run: Run) -> None:
        last = level_of(run.ran_ms)
        for level in range(last):
            self.reached[level] += 2
        self.reached[last] += 2 if run.is_over else 1
        self.ended[last] += run.is_over

    def chances_ppm(self, before_ppm: Iterable[int], jobs: int) -> list[int]:
        """That work ends in each level; what was known `before_ppm` counts as so many jobs."""
        return [
            (2 * ended * PPM + 2 * jobs * before) // (reached + 2 * jobs)
            for ended, reached, before in zip(self.ended, self.reached, before_ppm, strict=True)
        ]


def level_of(ran_ms: int) -> int:
    """The level of work that has run for so long."""
    return min(LEVELS - 1, (ran_ms // LEVEL_MS).bit_length())


def begins_ms(level: int) -> int:
    """How long work has run at least that is in this level."""
    return LEVEL_MS << level - 1 if level else 0


def kind_of(gpus: int) -> int:
    """The work that tells for work of so many GPUs: of the next lower power of two."""
    return 1 << gpus.bit_length() - 1


def ahead_ms(ahead: Ahead, gpus: int, level: int) -> int:
    """How long work of so many GPUs in this level is to be expected to go on."""
    known = ahead.get(kind_of(gpus)) or ahead.get(ANY_KIND) or _GUESSED
    return known[level]


def learned(runs: Iterable[Run]) -> tuple[RunLengths, ...]:
    """What the jobs of a project tell; nothing, where too few have ended."""
    whole = _Table()
    of_kind: dict[int, _Table] = {}
    for run in runs:
        whole.add(run)
        of_kind.setdefault(kind_of(run.gpus), _Table()).add(run)
    if whole.reached[0] < 2 * RUNS_MIN:
        return ()
    chances_ppm = whole.chances_ppm([GUESS_PPM] * LEVELS, GUESS_JOBS)
    return (
        RunLengths(ANY_KIND, _ahead(chances_ppm)),
        *(
            RunLengths(kind, _ahead(table.chances_ppm(chances_ppm, KIND_JOBS)))
            for kind, table in sorted(of_kind.items())
        ),
    )


def ahead_of(lengths: Iterable[RunLengths]) -> Ahead:
    """What was learned, by kind. What was learned of other levels than these is not used."""
    return {each.kind: each.ahead_ms for each in lengths if len(each.ahead_ms) == LEVELS}


def _ahead(chances_ppm: list[int]) -> tuple[int, ...]:
    """By level: the least expected run per end, over all stretches that begin with the level."""
    ahead: list[int] = []
    for first in range(LEVELS):
        least_ms, alive_ppm, spent = AHEAD_MS_MAX, PPM, 0
        for level in range(first, LEVELS):
            width_ms = max(LEVEL_MS, begins_ms(level))
            ends_ppm = chances_ppm[level]
            spent += alive_ppm * width_ms * (2 * PPM - ends_ppm) // (2 * PPM)
            alive_ppm -= alive_ppm * ends_ppm // PPM
            if alive_ppm < PPM:
                least_ms = min(least_ms, spent // (PPM - alive_ppm))
        ahead.append(least_ms)
    return tuple(ahead)


_GUESSED = _ahead([GUESS_PPM] * LEVELS)
NOTHING_LEARNED: Ahead = MappingProxyType({})
