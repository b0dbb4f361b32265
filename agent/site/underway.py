"""What was asked of the executor and is not answered. Every call is, whatever becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

CALLS_MAX = 64  # Of each kind, under way at once; those that give back excepted.


@dataclass(slots=True)
class UnderWay:
    """The attempts that a call is about, by kind.

    A reservation is given back by its attempt's key, whoever made it. So nothing that makes or uses
    one is asked for while a release of the same key is out, nor a release while that may be made.
    """

    launching: set[str] = field(default_factory=set[str])
    reserving: set[str] = field(default_factory=set[str])
    releasing: set[str] = field(default_factory=set[str])

    def may_launch(self, key: str) -> bool:
        """A reservation that is being made is the launch's own: it waits for that itself."""
        free = key not in self.launching and key not in self.releasing
        return free and len(self.launching) < CALLS_MAX

    def may_reserve(self, key: str) -> bool:
        """Whether nothing is under way about this attempt, and not too much at all."""
        return self._idle(key) and len(self.reserving) < CALLS_MAX

    def may_release(self, key: str) -> bool:
        """Whether nothing is under way about this attempt."""
        return self._idle(key)

    def _idle(self, key: str) -> bool:
        return not any(key in kind for kind in (self.launching, self.reserving, self.releasing))

    def check(self) -> None:
        """What must hold at any time."""
        assert max(len(self.launching), len(self.reserving)) <= CALLS_MAX
        crossing = self.releasing & (self.launching | self.reserving)
        assert not crossing, f"given back while it is made or used: {sorted(crossing)}"
