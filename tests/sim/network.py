"""Sessions between sites and whoever leads, and what a bad network does to them.

A session carries bytes both ways. Messages may be delayed, doubled, overtaken by others, or lost;
a session that lost something breaks a while later, as a stream would, and each end learns of that
at a time of its own. What the control plane was sent may reach it after a newer session began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.sim.clock import Life, Loop
from tests.sim.intruder import Intruder
from tests.sim.seeds import Dice
from tests.sim.trace import Trace

DELAY_MS_MAX = 60
BREAK_MS_MAX = 15_000
CONNECT_MS_MAX = 200


class End(Protocol):
    """One end's program."""

    def receive(self, session: Session, content: bytes) -> None:
        """Bytes arrived."""
        ...

    def lost(self, session: Session) -> None:
        """The session is over."""
        ...


class Listener(End, Protocol):
    """A program that sites can dial."""

    life: Life


@dataclass(slots=True)
class Weather:
    """How bad the network is, per thousand messages."""

    loss: int = 0
    double: int = 0
    overtake: int = 0
    slow: int = 0
    slow_ms_max: int = 8_000


@dataclass(slots=True, eq=False)
class Session:
    """One stream. Each end has its own idea of whether it is open."""

    number: int
    site: str
    agent: End
    agent_life: Life
    plane: Listener
    open_at_site: Life = field(default_factory=Life)
    open_at_plane: Life = field(default_factory=Life)
    doomed: bool = False
    up_free_ms: int = 0
    down_free_ms: int = 0


class Network:
    """Between all sites and the control plane."""

    def __init__(self, *, loop: Loop, dice: Dice, trace: Trace) -> None:
        self.weather = Weather()
        self.cut: set[str] = set()
        self.leader: Listener | None = None
        self.seen_going_down: Callable[[str, bytes], None] = lambda site, content: None
        self.intruder = Intruder(dice.fork("intruder"))
        self._loop = loop
        self._dice = dice
        self._trace = trace
        self._sessions: list[Session] = []
        self._count = 0

    def dial(self, site: str, agent: End, life: Life) -> Session | None:
        """A new session, or None when nobody can be reached."""
        if site in self.cut or self.leader is None or not self.leader.life.alive:
            return None
        self._count += 1
        session = Session(self._count, site, agent, life, self.leader)
        self._sessions = [s for s in self._sessions if _is_open(s)] + [session]
        return session

    def up(self, session: Session, content: bytes) -> None:
        """From the site to the control plane."""
        if not session.open_at_site.alive:
            return

        def arrive() -> None:
            if session.plane.life.alive:
                session.plane.receive(session, content)

        for delay_ms in self._delays(session):
            free_ms = session.up_free_ms
            session.up_free_ms = self._carry(delay_ms, free_ms, arrive)

    def down(self, session: Session, content: bytes) -> None:
        """From the control plane to the site. What the network carries, anybody on it sees."""
        if not session.open_at_plane.alive:
            return
        self.seen_going_down(session.site, content)
        carried = self.intruder.carry(session.site, content)

        def arrive() -> None:
            if session.open_at_site.alive and session.agent_life.alive:
                session.agent.receive(session, carried)

        for delay_ms in self._delays(session):
            free_ms = session.down_free_ms
            session.down_free_ms = self._carry(delay_ms, free_ms, arrive)

    def _delays(self, session: Session) -> list[int]:
        """How long each copy of a message takes; none if it is lost."""
        dice, weather = self._dice, self.weather
        if session.site in self.cut or dice.chance(weather.loss):
            self._doom(session)
            return []
        copies = 2 if dice.chance(weather.double) else 1
        most_ms = weather.slow_ms_max if dice.chance(weather.slow) else DELAY_MS_MAX
        return [dice.between(1, most_ms) for _ in range(copies)]

    def _carry(self, delay_ms: int, free_ms: int, arrive: Callable[[], None]) -> int:
        """Deliver after the message before, unless this one overtakes it."""
        at_ms = self._loop.now_ms + delay_ms
        if not self._dice.chance(self.weather.overtake):
            at_ms = max(at_ms, free_ms)
        self._loop.after(at_ms - self._loop.now_ms, arrive)
        return max(at_ms, free_ms)

    def _doom(self, session: Session) -> None:
        if not session.doomed:
            session.doomed = True
            self._loop.after(self._dice.between(1, BREAK_MS_MAX), lambda: self.end_at_site(session))
            self._loop.after(
                self._dice.between(1, BREAK_MS_MAX), lambda: self.end_at_plane(session)
            )

    def end_at_site(self, session: Session) -> None:
        """The site's end learns that the session is over."""
        if session.open_at_site.alive:
            session.open_at_site.end()
            self._doom(session)
            if session.agent_life.alive:
                session.agent.lost(session)

    def end_at_plane(self, session: Session) -> None:
        """The control plane's end learns it."""
        if session.open_at_plane.alive:
            session.open_at_plane.end()
            self._doom(session)
            if session.plane.life.alive:
                session.plane.lost(session)

    def break_all(self, site: str | None = None) -> None:
        """Every session (of a site) breaks."""
        for session in list(self._sessions):
            if _is_open(session) and site in (None, session.site):
                self._doom(session)

    def program_died(self, life: Life) -> None:
        """Its sessions break: a dead process's machine says so at once, or nothing does."""
        for session in list(self._sessions):
            if session.agent_life is life or session.plane.life is life:
                self._doom(session)


def _is_open(session: Session) -> bool:
    return session.open_at_site.alive or session.open_at_plane.alive
