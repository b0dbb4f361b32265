"""A site: its nodes, its Ray cell, and the site agent's process around the real machine.

This shell does what `agent/site/session.py` and `agent.py` do with sockets, files and Ray: it hands
events to the machine and carries out what the machine asks for. It decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from agent.site import events as ev
from agent.site.executor import LaunchResult
from agent.site.granted import SiteGrants
from agent.site.guard import Guard
from agent.site.journal import JournalDamaged, decode, encode
from agent.site.machine import SiteMachine
from agent.site.state import Archive, Journal, Rank, Release, StopRank, ranks_of
from sovapi.v1 import sitelink_pb2 as sitelink
from sovshared import spiffe
from tests.sim import scripts
from tests.sim.clock import BootClock, Life, Loop
from tests.sim.ledger import Ledger
from tests.sim.network import Network, Session
from tests.sim.node import DRIFT_PPM_MAX, NodeShape, SimNode
from tests.sim.ray import Order, RayCell
from tests.sim.seeds import Dice
from tests.sim.spool import RankSpec
from tests.sim.trace import Trace

PROTOCOL = 1
TICK_MS = 1_000
LOOK_MS = 2_000  # How often the driver tells of raylets and reservations.
REDIAL_MS_MAX = 4_000
HELLO_MS_MAX = 10_000
FSYNC_MS_MAX = 30
LINGER_MS_MAX = 15_000


class Disk:
    """The site agent's disk: one journal, replaced whole, and it can fail."""

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.full = False

    def load(self) -> Journal:
        """As `JournalFile.load`: what cannot be trusted is no journal."""
        if self.content is None:
            return Journal()
        try:
            return decode(self.content)
        except JournalDamaged:
            self.content = None
            return Journal()


class SimSite:
    """One site, and the agent that runs there while it does."""

    def __init__(
        self,
        name: str,
        shapes: Sequence[NodeShape],
        facts: Path,
        trust: Path,
        *,
        loop: Loop,
        network: Network,
        ledger: Ledger,
        dice: Dice,
        trace: Trace,
    ) -> None:
        self.name = name
        self.disk = Disk()
        self.clock = BootClock(loop, dice.between(-DRIFT_PPM_MAX, DRIFT_PPM_MAX))
        self.nodes = {
            shape.slot: SimNode(
                name, shape, loop=loop, ledger=ledger, dice=dice.fork(shape.slot), trace=trace
            )
            for shape in shapes
        }
        self.ray = RayCell(
            name, self.nodes, loop=loop, clock=self.clock, dice=dice.fork("ray"), trace=trace
        )
        self.life = Life(alive=False)
        self.driver = Life(alive=False)
        self.machine: SiteMachine | None = None
        self.guard = Guard(facts, name, lambda: loop.wall_ms)
        self._trust, self._seen = trust, facts.with_name(f"{name}.grants")
        self.grants = self._granted(loop)
        self._loop = loop
        self._network = network
        self._dice = dice.fork("agent")
        self._trace = trace
        self._starts = 0
        self._session: Session | None = None
        self._welcome = False
        self._calls = 0
        self._pending: dict[int, Callable[[], None]] = {}
        for node in self.nodes.values():
            node.connect_to(self)

    # The process.

    def start_agent(self) -> None:
        """The agent begins with what its disk holds."""
        if self.life.alive:
            return
        self._starts += 1
        self.life = Life()
        journal = self.disk.load()
        self.grants = self._granted(self._loop)
        self.machine = SiteMachine(
            journal, judge=self.guard, grants=self.grants, now_ms=self.clock.now_ms
        )
        self._trace.note(self.name, f"agent starts at generation {journal.generation}")
        self._session, self._welcome = None, False
        self._pending = {}
        self.start_driver()
        self._loop.every(TICK_MS, lambda: self.tell(ev.Tick()), self.life)
        self._loop.after(self._dice.between(1, 500), self._dial, self.life)

    def _granted(self, loop: Loop) -> SiteGrants:
        """What an agent that begins knows of grants."""
        return SiteGrants(
            self._trust, site=self.name, trust_domain=spiffe.DEFAULT_TRUST_DOMAIN,
            seen=self._seen, utc_now_ms=lambda: loop.wall_ms,
        )  # fmt: skip

    def crash_agent(self, *, journal: str = "kept") -> None:
        """kill -9. `journal`: kept, lost, or torn by the crash."""
        if not self.life.alive:
            return
        self._trace.note(self.name, f"agent dies, journal {journal}")
        life = self.life
        life.end()
        self._network.program_died(life)
        linger = self.driver  # Its driver finds its pipe closed, sooner or later.
        self._loop.after(self._dice.between(1, LINGER_MS_MAX), linger.end)
        if journal == "lost":
            self.disk.content = None
        elif journal == "torn" and self.disk.content is not None:
            self.disk.content = self.disk.content[: len(self.disk.content) // 2]

    def start_driver(self) -> None:
        """The supervised Ray driver begins, and tells what it sees from time to time."""
        self.driver = driver = Life()

        def look() -> None:
            if not self.life.alive or self.driver is not driver:
                return
            alive, keys = self.ray.alive(), self.ray.reservations()
            delay_ms = self._dice.between(1, 100)
            self._loop.after(delay_ms, lambda: self.tell(ev.RuntimeChanged(alive)), self.life)
            self._loop.after(delay_ms, lambda: self.tell(ev.ReservationsSeen(keys)), self.life)

        self._loop.after(self._dice.between(100, 1_500), look, driver)
        self._loop.every(LOOK_MS, look, driver)

    def crash_driver(self) -> None:
        """kill -9 of the driver: the agent's calls fail, a new one starts."""
        if self.driver.alive and self.life.alive:
            self._trace.note(self.name, "driver dies")
            self.driver.end()
            for finish in list(self._pending.values()):
                finish()
            self.tell(ev.RuntimeChanged(None))
            self.tell(ev.ReservationsSeen(None))
            self._loop.after(self._dice.between(500, 4_000), self.start_driver, self.life)

    # What node agents reach.

    def accepting(self) -> Life | None:
        """The life of the agent, if there is one."""
        return self.life if self.life.alive else None

    def tell(self, event: ev.Event) -> None:
        """One step of the machine."""
        assert self.machine is not None
        assert self.life.alive
        for instruction in self.machine.step((event,), self.clock.now_ms):
            self._carry_out(instruction)

    # The session with the control plane.

    def receive(self, session: Session, content: bytes) -> None:
        """A message of the control plane."""
        if session is not self._session:
            return
        message = sitelink.ControlMessage.FromString(content)
        match message.WhichOneof("message"):
            case "hello":
                hello = message.hello
                self._welcome = True
                self.tell(ev.Connected(hello.heartbeat_interval_ms, hello.lease_ms))
            case "desired":
                self.tell(ev.DesiredReceived(message.desired))
            case "desired_part":
                self.tell(ev.DesiredReceived(message.desired_part))
            case "heartbeat_ack":
                ack = message.heartbeat_ack
                self.tell(ev.HeartbeatAcked(ack.sequence, ack.generation))
            case other:
                raise AssertionError(f"the control plane sent {other}")

    def lost(self, session: Session) -> None:
        """The session is over; dial again."""
        if session is self._session:
            self._session, self._welcome = None, False
            self.tell(ev.Disconnected())
            self._loop.after(self._dice.between(100, REDIAL_MS_MAX), self._dial, self.life)

    def _dial(self) -> None:
        if self._session is not None or self.machine is None:
            return
        session = self._network.dial(self.name, self, self.life)
        if session is None:
            self._loop.after(self._dice.between(500, REDIAL_MS_MAX), self._dial, self.life)
            return
        self._session, self._welcome = session, False
        journal = self.machine.journal
        hello = sitelink.SiteHello(
            protocol_version=PROTOCOL,
            site=self.name,
            agent_version="sim",
            incarnation=f"{self.name}-{self._starts}",
            epoch=journal.epoch,
            generation=journal.generation,
        )
        self._up(sitelink.SiteMessage(hello=hello))
        self._loop.after(HELLO_MS_MAX, lambda: self._expect_welcome(session), self.life)

    def _expect_welcome(self, session: Session) -> None:
        if session is self._session and not self._welcome:
            self._network.end_at_site(session)

    def _up(self, message: sitelink.SiteMessage) -> None:
        if self._session is not None:
            self._network.up(self._session, message.SerializeToString(deterministic=True))

    # What the machine asks for.

    def _carry_out(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.Persist():
                self._persist(instruction)
            case ev.Reserve() | ev.LaunchAttempt() | Release():
                self._ask_driver(instruction)
            case StopRank():
                node = self.nodes[instruction.slot]
                node.order_stop(instruction.key, instruction.grace_ms, instruction.cause)
            case Archive():
                self.nodes[instruction.slot].order_archive(instruction.key)
            case ev.SendReport():
                self._up(sitelink.SiteMessage(report=instruction.report))
            case ev.SendHeartbeat():
                beat = sitelink.Heartbeat(sequence=instruction.sequence)
                self._up(sitelink.SiteMessage(heartbeat=beat))
            case ev.SendPong():
                node = self.nodes[instruction.slot]
                node.pong(instruction.sequence, dict(instruction.lease_ms))
            case ev.Note():
                self._trace.note(self.name, instruction.text)

    def _ask_driver(self, instruction: ev.Reserve | ev.LaunchAttempt | Release) -> None:
        match instruction:
            case ev.Reserve(key, launch):
                self._reserve(key, ranks_of(key, launch))
            case ev.LaunchAttempt():
                self._launch(instruction)
            case Release(key):
                self._release(key)

    def _persist(self, instruction: ev.Persist) -> None:
        content, version = encode(instruction.journal), instruction.version

        def written() -> None:
            if self.disk.full:
                self.tell(ev.PersistFailed(version, "no space left"))
                return
            self.disk.content = content
            self.tell(ev.Persisted(version))

        self._loop.after(self._dice.between(1, FSYNC_MS_MAX), written, self.life)

    def _launch(self, asked: ev.LaunchAttempt) -> None:
        key, launch, given_ms = asked.key, asked.launch, self.clock.now_ms
        slots = [node.slot for node in launch.nodes]
        isolation = {slot: asked.isolation for slot in slots}
        if (refusal := self.guard(launch, isolation)) is not None:
            detail, reason = refusal.detail, refusal.reason
            refused = ev.LaunchFinished(key, ok=False, detail=detail, refused=reason)
            self._loop.after(1, lambda: self.tell(refused), self.life)
            return
        self._trace.note(self.name, f"launches {key} on {','.join(slots)}")
        script = scripts.read(launch.command)
        ranks = ranks_of(key, launch)
        ordered_ms = self._loop.now_ms

        def spec(rank: Rank, lease_until_boot_ms: int | None) -> RankSpec:
            return RankSpec(
                script, len(ranks), rank.gpus, lease_until_boot_ms, launch.time_limit_ms,
                launch.stop_grace_ms, ordered_ms,
            )  # fmt: skip

        lease_ms = asked.lease_ms if launch.leased else None
        order = Order(key, ranks, spec, given_ms, lease_ms)
        self._call(key, lambda done: self.ray.launch(order, self.driver, done), _launched)

    def _reserve(self, key: str, ranks: tuple[Rank, ...]) -> None:
        self._call(key, lambda done: self.ray.reserve(key, ranks, self.driver, done), _reserved)

    def _release(self, key: str) -> None:
        self._call(key, lambda done: self.ray.release(key, self.driver, done), _released)

    def _call(
        self,
        key: str,
        ask: Callable[[Callable[[LaunchResult], None]], None],
        event: Callable[[LaunchResult], ev.Event],
    ) -> None:
        """A call to the driver: its answer is an event, and so is the driver's death."""
        self._calls += 1
        number, life = self._calls, self.life

        def finish(result: LaunchResult) -> None:
            if self._pending.pop(number, None) is not None and life.alive:
                self._trace.note(self.name, f"{event(result)}")
                self.tell(event(result))

        gone = LaunchResult(key, ok=False, detail="the driver is gone", retryable=True)
        self._pending[number] = partial(finish, gone)
        if self.driver.alive:
            ask(finish)
        else:
            self._loop.after(100, partial(finish, gone), life)


def _launched(result: LaunchResult) -> ev.Event:
    return ev.LaunchFinished(
        result.key, ok=result.ok, detail=result.detail, retryable=result.retryable
    )


def _reserved(result: LaunchResult) -> ev.Event:
    return ev.ReserveFinished(result.key)


def _released(result: LaunchResult) -> ev.Event:
    return ev.Released(result.key, ok=result.ok)
