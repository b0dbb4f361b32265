"""The truth: which rank processes ran, where, on which GPUs, from when to when.

Written by the simulated nodes at the instant a process begins and really ends, and by nobody else.
What the code under test believes is compared with this; it never sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Run:
    """One process of a rank. `ended_ms` None: it runs."""

    job: str
    attempt: int
    rank: int
    world: int
    site: str
    slot: str
    gpus: tuple[int, ...]
    ordered_ms: int
    started_ms: int
    ended_ms: int | None = None
    exit_code: int | None = None
    signal: int = 0
    why: str = ""

    @property
    def key(self) -> str:
        """The rank's key."""
        return f"{self.job}.{self.attempt}.{self.rank}"

    @property
    def clean(self) -> bool:
        """Whether it ended by itself, and well."""
        return self.ended_ms is not None and self.why == "exit" and self.exit_code == 0


@dataclass(slots=True)
class Ledger:
    """Every run, in order of its start."""

    runs: list[Run] = field(default_factory=list[Run])
    gpu_conflicts: list[str] = field(default_factory=list[str])
    """Rank keys that found a GPU of theirs in use: a lock stopped what should never be tried."""

    def begin(self, run: Run) -> Run:
        """A process begins."""
        self.runs.append(run)
        return run

    def of(self, job: str, attempt: int | None = None) -> list[Run]:
        """The runs of a job, or of one attempt of it."""
        return [r for r in self.runs if r.job == job and attempt in (None, r.attempt)]

    def alive(self) -> Iterator[Run]:
        """What runs now."""
        return (run for run in self.runs if run.ended_ms is None)
