"""What a simulated process does: written into its job's command, read by the node that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

PROGRAM = "simulated"
EVERY_RANK = -1


@dataclass(frozen=True, slots=True)
class Script:
    """One behaviour for all ranks and attempts of a job, with exceptions.

    `runs_ms`: how long it runs if it is left alone. `code`, `signal`: how it ends then; on rank
    `bad_rank` only (-1: all), and in attempts up to `bad_attempts` only; otherwise it exits with 0.
    `term_ms`: how long after SIGTERM it exits; -1: it ignores that. `term_code`: with what.
    """

    runs_ms: int
    code: int = 0
    signal: int = 0
    bad_rank: int = EVERY_RANK
    bad_attempts: int = 99
    term_ms: int = 200
    term_code: int = 0

    def command(self, canary: str) -> tuple[str, ...]:
        """The command of a job that behaves so. `canary` must never be seen elsewhere."""
        words = (f"{field.name}={getattr(self, field.name)}" for field in fields(self))
        return (PROGRAM, f"canary={canary}", *words)

    def end(self, attempt: int, rank: int) -> tuple[int | None, int]:
        """Exit code and signal of a rank that is left alone."""
        bad = self.bad_rank in (EVERY_RANK, rank) and attempt <= self.bad_attempts
        if not bad:
            return 0, 0
        return (None, self.signal) if self.signal else (self.code, 0)


def read(command: Sequence[str]) -> Script:
    """The behaviour that a command asks for."""
    assert command[0] == PROGRAM, f"{command[0]} is no simulated program"
    known = {field.name for field in fields(Script)}
    pairs = (word.split("=", 1) for word in command[1:])
    return Script(**{name: int(value) for name, value in pairs if name in known})
