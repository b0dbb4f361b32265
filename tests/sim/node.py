"""A simulated node: its boots, its raylet, its spool, and the node agent that reports of it.

The node agent follows `agent/node/agent.py`: it dials its site agent, tells its whole spool first
and changes after that, carries out stops and archiving, and renews leases by its own clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from agent.site import events as ev
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.nodelink_pb2 import SpoolEntry, SpoolReport
from tests.sim.clock import BootClock, Life, Loop
from tests.sim.ledger import Ledger
from tests.sim.seeds import Dice
from tests.sim.spool import SimSpool
from tests.sim.trace import Trace

HOP_MS_MAX = 20  # One message inside a site.
NOTICE_MS_MAX = 120  # How soon the agent sees a change of its spool.
REDIAL_MS = 1_500
PING_MS = 5_000
DRIFT_PPM_MAX = 1_000


class SiteSide(Protocol):
    """The site agent, as its node agents reach it."""

    def accepting(self) -> Life | None:
        """The life of the agent that would answer, if one does."""
        ...

    def tell(self, event: ev.Event) -> None:
        """An event of the site machine."""
        ...


@dataclass(frozen=True, slots=True)
class NodeShape:
    """What was bought."""

    slot: str
    gpus: int
    isolation: common.Isolation = common.ISOLATION_UID
    cpu_milli: int = 64_000
    memory_bytes: int = 512 << 30


class SimNode:
    """One machine."""

    def __init__(
        self, site: str, shape: NodeShape, *, loop: Loop, ledger: Ledger, dice: Dice, trace: Trace
    ) -> None:
        self.site = site
        self.shape = shape
        self.slot = shape.slot
        self.name = f"{site}/{shape.slot}"
        self.clock = BootClock(loop, dice.between(-DRIFT_PPM_MAX, DRIFT_PPM_MAX))
        self.spool = SimSpool(
            site, shape.slot, loop=loop, clock=self.clock, ledger=ledger, dice=dice.fork("spool")
        )
        self.spool.changed = self._spool_changed
        self.up = False
        self.raylet_up = False
        self.agent_up = False
        self.reachable = True  # By its site agent.
        self.health = common.HEALTH_OK
        self._loop = loop
        self._dice = dice
        self._trace = trace
        self._boots = 0
        self._agent = Life(alive=False)
        self._session = Life(alive=False)
        self._told: dict[str, bytes] = {}
        self._look_due = False
        self._ping = 0
        self._pings: dict[int, int] = {}
        self._peer: SiteSide | None = None
        self._peer_life = Life(alive=False)

    # The machine.

    def boot(self) -> None:
        """Power on: a new boot id, then Ray and the node agent."""
        assert not self.up
        self.up = True
        self._boots += 1
        self.clock.reboot()
        self.spool.boot(f"{self.slot}-boot{self._boots}")
        self._trace.note(self.name, f"boots for the {self._boots}. time")
        self._loop.after(self._dice.between(200, 3_000), self.start_agent)
        self._loop.after(self._dice.between(200, 3_000), self.start_raylet)

    def crash(self) -> None:
        """Power off, without warning."""
        if self.up:
            self._trace.note(self.name, "goes down")
            self.up = self.raylet_up = False
            self.stop_agent()
            self.spool.crash()

    def start_raylet(self) -> None:
        """Ray's process on this node begins."""
        self.raylet_up = self.up

    def stop_raylet(self) -> None:
        """kill -9 of the raylet: nothing else notices."""
        self.raylet_up = False

    # The node agent.

    def connect_to(self, peer: SiteSide) -> None:
        """Whom its agent dials."""
        self._peer = peer

    def start_agent(self) -> None:
        """The node agent begins; it learns everything from the spool."""
        if self.up and not self.agent_up:
            self.agent_up, self._agent = True, Life()
            self._loop.after(self._dice.between(0, 500), self._dial, self._agent)

    def stop_agent(self) -> None:
        """kill -9 of the node agent; ranks run on."""
        self.agent_up = False
        self.spool.recalled.clear()
        self._agent.end()
        self.hang_up()

    def hang_up(self) -> None:
        """Its stream to the site agent breaks; the site agent learns of it a little later."""
        if self._session.alive:
            self._session.end()
            if self._peer is not None and (life := self._peer.accepting()) is not None:
                peer, slot = self._peer, self.slot
                delay_ms = self._dice.between(1, 2_000)
                session = self._session

                def notice() -> None:
                    if self._session is session:  # It has not called again meanwhile.
                        peer.tell(ev.NodeDisconnected(slot))

                self._loop.after(delay_ms, notice, life)
        if self._agent.alive:
            self._loop.after(REDIAL_MS, self._dial, self._agent)

    def _dial(self) -> None:
        if self._session.alive or self._peer is None:
            return
        life = self._peer.accepting()
        if life is None or not self.reachable:
            self._loop.after(REDIAL_MS, self._dial, self._agent)
            return
        self._session = session = Life()
        self._peer_life = life
        self._told = {}
        self._pings.clear()
        self._send(session, ev.NodeConnected(self.slot, self.spool.boot_id, "sim"))
        self._send(session, ev.NodeReported(self.slot, self._report()))
        self._tell_spool(session, full=True)
        self._loop.every(PING_MS, lambda: self._ping_site(session), session)
        self._watch(session, life)

    def _watch(self, session: Life, peer: Life) -> None:
        """Sees that the site agent is gone, and dials again."""
        if session.alive and not peer.alive:
            session.end()
            self._loop.after(self._dice.between(100, REDIAL_MS), self._dial, self._agent)
        elif session.alive:
            self._loop.after(REDIAL_MS, lambda: self._watch(session, peer), session)

    def _send(self, session: Life, event: ev.Event) -> None:
        """In order, as a stream keeps it."""
        peer, life = self._peer, self._peer_life
        assert peer is not None

        def arrive() -> None:
            if session.alive and life.alive:
                peer.tell(event)

        self._loop.after(HOP_MS_MAX, arrive, life)

    def _report(self) -> sitelink.NodeReport:
        gpus = [f"{self.name}-gpu{n}" for n in range(self.shape.gpus)]
        return sitelink.NodeReport(
            slot=self.slot, boot_id=self.spool.boot_id, gpu_uuids=gpus, health=self.health,
            isolation=self.shape.isolation, telemetry="simulated",
            cpu_arch=common.CPU_ARCH_AMD64, cpu_milli=self.shape.cpu_milli,
            memory_bytes=self.shape.memory_bytes,
        )  # fmt: skip

    def health_changed(self, health: common.Health) -> None:
        """The hardware is judged anew."""
        self.health = health
        if self._session.alive:
            self._send(self._session, ev.NodeReported(self.slot, self._report()))

    def _spool_changed(self, key: str) -> None:
        if not self._look_due and self._session.alive:
            self._look_due = True

            def look() -> None:
                self._look_due = False
                if self._session.alive:
                    self._tell_spool(self._session, full=False)

            self._loop.after(self._dice.between(1, NOTICE_MS_MAX), look)

    def _tell_spool(self, session: Life, *, full: bool) -> None:
        report, now = SpoolReport(full=full), dict[str, bytes]()
        for key in self.spool.told():
            status = self.spool.status(key)
            now[key] = status.SerializeToString(deterministic=True)
            if full or self._told.get(key) != now[key]:
                report.entries.append(SpoolEntry(key=key, status=status))
        for key in sorted(self._told.keys() - now.keys()):
            report.entries.append(SpoolEntry(key=key, gone=True))
        self._told = now
        if full or report.entries:
            self._send(session, ev.SpoolReported(self.slot, report))

    # Orders of the site agent.

    def order_stop(self, key: str, grace_ms: int, cause: jobs.RankCause) -> None:
        """Stop a rank, or take its gate."""
        self._carry_out(lambda: self.spool.stop(key, grace_ms, cause))

    def order_archive(self, key: str) -> None:
        """Archive a rank."""

        def archive() -> None:
            if self.spool.archive(key):
                self._spool_changed(key)

        self._carry_out(archive)

    def pong(self, sequence: int, lease_ms: Mapping[str, int]) -> None:
        """The answer to a ping: leases run from when it was sent."""
        sent_boot_ms = self._pings.pop(sequence, None)
        if sent_boot_ms is None:
            return

        def renew() -> None:
            for key, _ in list(self.spool.live_leased()):
                left_ms = lease_ms.get(key.rpartition(".")[0])
                if left_ms is not None:
                    self.spool.renew(key, sent_boot_ms + left_ms)

        self._carry_out(renew)

    def _carry_out(self, order: Callable[[], object]) -> None:
        session = self._session

        def arrive() -> None:
            if session.alive:
                order()

        self._loop.after(self._dice.between(1, HOP_MS_MAX), arrive, self._agent)

    def _ping_site(self, session: Life) -> None:
        if any(True for _ in self.spool.live_leased()):
            self._ping += 1
            self._pings[self._ping] = self.clock.now_ms
            self._send(session, ev.NodePinged(self.slot, self._ping))
