"""What every tenant held of what it was owed, integrated over a replay.

A tenant is owed, at any instant, as much of its waiting work as fits under its guarantee beside
what it holds. A job wider than what is left of the guarantee is not owed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """One tenant. GPUs held; sizes of waiting jobs, ascending; GPU-milliseconds so far."""

    guarantee: int
    held: int = 0
    waiting: list[int] = field(default_factory=lambda: list[int]())
    had_gpu_ms: int = 0
    owed_gpu_ms: int = 0

    def owed(self) -> int:
        """GPUs of waiting work that its guarantee has room for."""
        room, owed = self.guarantee - self.held, 0
        for gpus in self.waiting:
            if owed + gpus > room:
                break
            owed += gpus
        return owed


class Shares:
    """All tenants' accounts."""

    def __init__(self, guarantees: Mapping[str, int]) -> None:
        self.accounts = {name: Account(gpus) for name, gpus in sorted(guarantees.items())}
        self._at_ms = 0

    def until(self, now_ms: int) -> None:
        """Time has passed with everything as it was."""
        passed_ms, self._at_ms = now_ms - self._at_ms, now_ms
        for account in self.accounts.values():
            owed = account.owed() if account.waiting else 0
            covered = min(account.held, account.guarantee)
            account.had_gpu_ms += covered * passed_ms
            account.owed_gpu_ms += owed * passed_ms

    def waits(self, name: str, gpus: int) -> None:
        """A job waits."""
        if name in self.accounts:
            insort(self.accounts[name].waiting, gpus)

    def starts(self, name: str, gpus: int) -> None:
        """A waiting job has its GPUs."""
        if name in self.accounts:
            self.accounts[name].waiting.remove(gpus)
            self.accounts[name].held += gpus

    def leaves(self, name: str, gpus: int) -> None:
        """A job gives its GPUs back."""
        if name in self.accounts:
            self.accounts[name].held -= gpus

    def worst(self) -> float:
        """The least that a tenant had of what it had and was owed under its guarantee."""
        ratios = [
            account.had_gpu_ms / (account.had_gpu_ms + account.owed_gpu_ms)
            for account in self.accounts.values()
            if account.had_gpu_ms + account.owed_gpu_ms
        ]
        return min(ratios, default=1.0)
