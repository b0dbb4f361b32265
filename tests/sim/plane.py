"""A control-plane process: the real Control on the real store, with the planner inline.

This shell does what `runtime` and `api` do with sockets, threads and a child process: it opens
transactions, answers sites and tenants after the commit, plans, and lets time pass. It can die
between any two statements, and it can be deposed without knowing it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from scheduler.control.control import Control
from scheduler.control.declare import Declaration
from scheduler.control.following import Following
from scheduler.control.policies import Change
from scheduler.control.reports import Hello
from scheduler.core.job_ids import JobIdCodec
from scheduler.core.recovery import LEASE_MS
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import NodeId, SiteId
from scheduler.model.job import JobSpec
from scheduler.model.plan import Plan, PlanBudget, Underway
from scheduler.model.reasons import Reason, Refused
from scheduler.model.residency import Policy
from scheduler.model.tenancy import Tenant
from scheduler.store.store import Snapshot, Store, Txn
from scheduler.wire.grants import Granter
from scheduler.wire.sitelink import report_from_proto, word_to_proto
from scheduler.wire.spec import spec_from_bytes, spec_to_bytes
from sovapi.v1 import sitelink_pb2 as sitelink
from tests.sim.clock import Life, Loop
from tests.sim.crash import CRASHES, SimulatedCrash
from tests.sim.network import Network, Session
from tests.sim.seeds import Dice
from tests.sim.trace import Trace

HEARTBEAT_MS = 10_000
TICK_MS = 2_500
PLAN_GAP_MS = 250  # After a commit.
PLAN_EVERY_MS = 5_000  # Without one: back-offs end, facts expire.
STALE_MS_MAX = 6_000
RESEND_MS = 3_000
QUEUED_PER_MILLE = 300
TOLD_ROWS_MAX = 3  # So few that what a site is told often comes in parts.

LIST_MAX = 500
OPERATOR = Principal("/operator/sim", Role.OPERATOR)

T = TypeVar("T")


class Down(Exception):
    """The process that was asked is not there any more."""


class Plane:
    """One process, from its start to its death."""

    def __init__(
        self,
        name: str,
        path: Path,
        codec: JobIdCodec,
        *,
        loop: Loop,
        network: Network,
        dice: Dice,
        trace: Trace,
        sites: Sequence[str],
        stale_per_mille: int,
        granter: Granter,
    ) -> None:
        self.name = name
        self.life = Life()
        self.committed: Callable[[str], None] = lambda what: None
        self.store = Store(path, salts=lambda: self._dice.octets(16), codec=codec)
        self._codec = codec
        self._granter = granter
        self._loop = loop
        self._network = network
        self._dice = dice
        self._trace = trace
        self._stale_per_mille = stale_per_mille
        self._sites = sites
        self._sessions: dict[str, Session] = {}
        self._told: dict[str, int] = {}
        self._sent: dict[str, tuple[int, int]] = {}
        self._heard_ms: dict[str, int] = {}
        self._incarnations: dict[str, str] = {}
        self._following = Following(self.store)
        self._plan_due = False
        self._planning = False
        self._plans = 0
        self._next: Plan | None = None
        self._started_ms = loop.now_ms

    # The process.

    def start(self) -> None:
        """Take the lease and begin."""
        self.store.open()
        self.control = Control(
            codec=self._codec,
            epoch=self.store.epoch,
            has_bundle=lambda tenant, digest: False,
            granter=self._granter,
            told_rows_max=TOLD_ROWS_MAX,
        )
        self.serve("start", lambda txn: self.control.start(txn, self._loop.wall_ms))
        self._trace.note(self.name, f"leads in epoch {self.store.epoch}")
        self._loop.every(TICK_MS, self._tick, self.life)
        self._loop.every(PLAN_EVERY_MS, self._wake_planner, self.life)
        self._wake_planner()

    def die(self, why: str) -> None:
        """The process is gone; what it committed stays."""
        if self.life.alive:
            self._trace.note(self.name, f"dies: {why}")
            self.life.end()
            self._network.program_died(self.life)
            self.store.close()

    def write(self, what: str, work: Callable[[Txn], T]) -> T:
        """One transaction. Raises `Refused`, or `Down` when the process dies in it."""
        if not self.life.alive:
            raise Down
        try:
            with CRASHES.watch(self), self.store.transaction() as txn:
                result = work(txn)
        except SimulatedCrash:
            self.die(f"in the middle of {what}")
            raise Down from None
        except Refused as refused:
            if refused.reason is Reason.NOT_LEADER:
                self.die(f"deposed, found at {what}")
                raise Down from None
            raise
        self.committed(what)
        self._push_all()
        self._wake_planner()
        return result

    def serve(self, what: str, work: Callable[[Txn], object]) -> None:
        """A transaction nobody waits for: a refusal is noted, death ends it."""
        try:
            self.write(what, work)
        except Refused as refused:
            self._trace.note(self.name, f"{what} refused: {refused.reason}")
        except Down:
            pass

    def _tick(self) -> None:
        silence_ms = {
            SiteId(site): self._loop.now_ms - self._heard_ms.get(site, self._started_ms)
            for site in self._sites
        }
        present = frozenset(map(SiteId, self._sessions))
        self.serve(
            "tick",
            lambda txn: self.control.tick(txn, silence_ms, self._loop.wall_ms, present=present),
        )

    # Tenants and operators.

    def submit(self, principal: Principal, spec: JobSpec, key: str) -> str:
        """The public id of the job, or `Refused`. The spec arrives as bytes."""
        arrived = spec_from_bytes(spec_to_bytes(spec))
        now_ms = self._loop.wall_ms
        answer = self.write(
            "submit", lambda txn: self.control.submit(txn, principal, arrived, key, now_ms)
        )
        return self._codec.encode(answer.job_or_raise().id)

    def cancel(self, principal: Principal, job: str) -> None:
        """Cancel a job."""
        now_ms = self._loop.wall_ms
        self.write(
            "cancel", lambda txn: self.control.cancel(txn, principal, job, now=False, now_ms=now_ms)
        )

    def list_jobs(self, principal: Principal) -> list[tuple[str, str, str]]:
        """Public id, tenant and name of every job that the caller is shown."""
        with self.store.read() as read:
            jobs = self.control.list(read, principal, limit=LIST_MAX)
        return [(self._codec.encode(job.id), job.tenant, job.name) for job in jobs]

    def may_get(self, principal: Principal, job: str) -> bool:
        """Whether the caller is told of a job."""
        with self.store.read() as read:
            try:
                self.control.get(read, principal, job)
            except Refused as refused:
                if refused.reason is not Reason.NOT_FOUND:
                    raise
                return False
        return True

    def apply_policy(self, policy: Policy) -> None:
        """The operator's policy."""
        self.write(
            "policy",
            lambda txn: self.control.apply_policy(
                txn,
                OPERATOR,
                Change(policy, reason="sim", override="sim"),
                dry_run=False,
                now_ms=self._loop.wall_ms,
            ),
        )

    def apply_fleet(self, declarations: list[Declaration]) -> None:
        """The operator's fleet file."""
        self.write(
            "fleet",
            lambda txn: self.control.apply_fleet(
                txn, OPERATOR, declarations, reason="sim", dry_run=False, now_ms=self._loop.wall_ms
            ),
        )

    def apply_tenants(self, tenants: list[Tenant]) -> None:
        """The operator's tenant tree."""
        self.write(
            "tenants",
            lambda txn: self.control.apply_tenants(
                txn, OPERATOR, tenants, reason="sim", dry_run=False, now_ms=self._loop.wall_ms
            ),
        )

    def cordon(self, target: str, *, closed: bool) -> None:
        """Close a site or node to new work, or open it."""
        act = self.control.cordon if closed else self.control.uncordon
        place = NodeId(target) if "/" in target else SiteId(target)
        self.write("cordon", lambda txn: act(txn, OPERATOR, place, "sim", self._loop.wall_ms))

    def drain(self, target: str, within_ms: int) -> None:
        """Empty a site or node."""
        place = NodeId(target) if "/" in target else SiteId(target)
        now_ms = self._loop.wall_ms
        self.write(
            "drain",
            lambda txn: self.control.drain(txn, OPERATOR, place, "sim", within_ms, now_ms),
        )

    def fence(self, node: str) -> None:
        """The operator's word that nothing runs on a node."""
        self.write(
            f"fence {node}",
            lambda txn: self.control.fence(txn, OPERATOR, NodeId(node), "sim", self._loop.wall_ms),
        )

    # Sites.

    def receive(self, session: Session, content: bytes) -> None:
        """A message of a site. One of a session that was replaced may have been in the queue."""
        current = self._sessions.get(session.site)
        if current not in (None, session) and not self._dice.chance(QUEUED_PER_MILLE):
            return
        message = sitelink.SiteMessage.FromString(content)
        match message.WhichOneof("message"):
            case "hello":
                self._hello(session, message.hello)
            case "report":
                self._report(session, message.report)
            case "heartbeat":
                self._heard_ms[session.site] = self._loop.now_ms
                with self.store.read() as read:
                    newest = read.fleet.contact(SiteId(session.site)).generation
                ack = sitelink.HeartbeatAck(sequence=message.heartbeat.sequence, generation=newest)
                self._down(session, sitelink.ControlMessage(heartbeat_ack=ack))
            case other:
                raise AssertionError(f"a site sent {other}")

    def lost(self, session: Session) -> None:
        """A session is over."""
        site = session.site
        if self._sessions.get(site) is session:
            del self._sessions[site]
            incarnation = self._incarnations.get(site, "")
            self.serve(
                f"site_gone {site}",
                lambda txn: self.control.site_gone(
                    txn, SiteId(site), incarnation, self._loop.wall_ms
                ),
            )

    def _hello(self, session: Session, hello: sitelink.SiteHello) -> None:
        site = session.site
        told = Hello(hello.agent_version, hello.incarnation, hello.epoch, hello.generation)
        try:
            self.write(
                f"site_hello {site}",
                lambda txn: self.control.site_hello(txn, SiteId(site), told, self._loop.wall_ms),
            )
        except (Refused, Down) as error:
            self._trace.note(self.name, f"hello of {site} refused: {error}")
            self._network.end_at_plane(session)
            return
        older, self._sessions[site] = self._sessions.get(site), session
        if older not in (None, session):
            self._network.end_at_plane(older)
        self._incarnations[site] = hello.incarnation
        self._heard_ms[site] = self._loop.now_ms
        self._told[site], self._sent[site] = hello.generation, (hello.generation, 0)
        welcome = sitelink.ControlHello(
            protocol_version=1,
            server_version="sim",
            epoch=self.store.epoch,
            heartbeat_interval_ms=HEARTBEAT_MS,
            lease_ms=LEASE_MS,
        )
        self._down(session, sitelink.ControlMessage(hello=welcome))
        self._push_all()

    def _report(self, session: Session, message: sitelink.SiteReport) -> None:
        site = session.site
        report = report_from_proto(message, SiteId(site), self._codec)
        self._heard_ms[site] = self._loop.now_ms
        if self._sessions.get(site) is session:
            self._told[site] = message.generation
        self.serve(
            f"site_report {site}",
            lambda txn: self.control.site_report(txn, SiteId(site), report, self._loop.wall_ms),
        )

    def _down(self, session: Session, message: sitelink.ControlMessage) -> None:
        self._network.down(session, message.SerializeToString(deterministic=True))

    def _push_all(self) -> None:
        if self._sessions:
            with self.store.read() as read:
                for site in sorted(self._sessions):
                    self._push(site, read)

    def _push(self, site: str, read: Snapshot) -> None:
        """Send what the site lacks; again after a while, if it does not say it has it."""
        told, (sent, at_ms) = self._told[site], self._sent[site]
        newest = read.fleet.contact(SiteId(site)).generation
        fresh = newest > max(sent, told) or told > newest
        if not fresh and (told >= newest or self._loop.now_ms - at_ms < RESEND_MS):
            return
        for desired in self.control.desired(read, SiteId(site), told, self._loop.wall_ms):
            self._sent[site] = (desired.to_generation, self._loop.now_ms)
            self._down(self._sessions[site], word_to_proto(desired, self._codec))

    # Planning.

    def _wake_planner(self) -> None:
        if not self._plan_due and self.life.alive:
            self._plan_due = True
            self._loop.after(PLAN_GAP_MS, self._plan, self.life)

    def _plan(self) -> None:
        """Plan on what is committed now; apply at once, or when other things happened since."""
        self._plan_due = False
        if self._planning:
            return
        made = self._planned(None)
        assert made is not None, "where nothing is underway nothing is in the way"
        self._hand_over(made)

    def _planned(self, underway: Underway | None) -> Plan | None:
        self._plans += 1
        return self._following.plan(self._loop.wall_ms, PlanBudget(), self._plans, underway)

    def _hand_over(self, made: Plan) -> None:
        if not made.placements:
            return
        self._planning = True
        at_ms = self._loop.wall_ms
        stale = self._dice.chance(self._stale_per_mille)
        delay_ms = self._dice.between(200, STALE_MS_MAX) if stale else self._dice.between(1, 40)
        if made.only_places():
            self._loop.after(
                self._dice.between(1, delay_ms), lambda: self._plan_ahead(made, at_ms), self.life
            )
        self._loop.after(delay_ms, lambda: self._apply(made, at_ms), self.life)

    def _plan_ahead(self, made: Plan, at_ms: int) -> None:
        """Plan on what is about to be committed; that plan's turn comes when it is."""
        if self._planning:
            self._next = self._planned(Underway(made.number, at_ms))

    def _apply(self, made: Plan, at_ms: int) -> None:
        self._planning = False
        self.serve("plan", lambda txn: self._keep(txn, made, at_ms))
        ahead, self._next = self._next, None
        if ahead is not None:
            self._hand_over(ahead)

    def _keep(self, txn: Txn, made: Plan, at_ms: int) -> None:
        applied = self.control.apply_plan(txn, made, at_ms)
        for placement in applied.kept:
            key = f"{self._codec.encode(placement.key.job)}.{placement.key.attempt}"
            nodes = ",".join(f"{n.node}:{n.gpu_mask:x}" for n in placement.nodes)
            self._trace.note(self.name, f"places {key} on {nodes}")
        for stale in applied.stale:
            self._trace.note(self.name, f"drops {stale.placement.key}: {stale.denial.reason}")
