"""The whole simulated world of one seed, and what may be done to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scheduler.core.job_ids import JobIdCodec
from scheduler.model.reasons import Refused
from tests.shared.granting import Granting
from tests.sim import fleet
from tests.sim.checks_runs import Machine
from tests.sim.clock import Life, Loop
from tests.sim.crash import CRASHES
from tests.sim.fleet import SitePlan, TenantPlan
from tests.sim.ledger import Ledger
from tests.sim.network import Network, Weather
from tests.sim.plane import Down, Plane
from tests.sim.seeds import Dice
from tests.sim.site import SimSite
from tests.sim.tenants import Tenants
from tests.sim.trace import Trace
from tests.sim.truth import History, Law, SiteTruth
from tests.sim.watch import Watch
from tests.sim.workload import Ask

RETRY_MS = 2_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the seed made of the world before it begins."""

    sites: tuple[SitePlan, ...]
    tenants: tuple[TenantPlan, ...]
    asks: list[Ask]
    stale_per_mille: int = 0


class World:
    """Sites, control plane, tenants, and the truth about them."""

    def __init__(self, seed: int, drawn: Drawn, folder: Path, loop: Loop, trace: Trace) -> None:
        self.loop, self.trace, self.drawn = loop, trace, drawn
        self.dice = Dice(seed, "world")
        self.ledger = Ledger()
        self.granting = Granting()
        self.trust = self.granting.trust(folder / "trust.pem")
        self.truth = History()
        self.declared = History()
        self.network = Network(loop=loop, dice=self.dice.fork("network"), trace=trace)
        self.codec = JobIdCodec(self.dice.fork("key").octets(32))
        self.path = folder / "store.db"
        self.plans = {plan.truth.site: plan for plan in drawn.sites}
        self.tree = {plan.path: plan for plan in drawn.tenants}
        self.law = Law()
        self.machines = {
            (plan.truth.site, shape.slot): Machine(shape.gpus)
            for plan in drawn.sites
            for shape in plan.shapes
        }
        self.sites: dict[str, SimSite] = {}
        for plan in drawn.sites:
            name = plan.truth.site
            self.facts_path(folder, name).parent.mkdir(exist_ok=True)
            self.sites[name] = SimSite(
                name, plan.shapes, self.facts_path(folder, name), self.trust,
                loop=loop, network=self.network,
                ledger=self.ledger, dice=self.dice.fork(name), trace=trace,
            )  # fmt: skip
        self.folder = folder
        self.plane: Plane | None = None
        self.zombies: list[Plane] = []
        self.tenants = Tenants(self, loop=loop, dice=self.dice.fork("tenants"), trace=trace)
        self.watch = Watch(
            self.path, self.codec, asks=drawn.asks, ledger=self.ledger, machines=self.machines,
            declared=self.declared, trace=trace,
        )  # fmt: skip
        self.network.seen_going_down = self.watch.seen_going_down
        self.life = Life()
        self._planes = 0
        self._wanted: deque[Callable[[Plane], None]] = deque()

    @staticmethod
    def facts_path(folder: Path, site: str) -> Path:
        """A site's own file of facts."""
        return folder / "facts" / f"{site}.yaml"

    # The beginning.

    def begin(self, weather: Weather) -> None:
        """Found the control plane, declare everything, and switch everything on."""
        for plan in self.drawn.sites:
            self._set_truth(plan.truth)
            self._note_declared(plan.truth)
        self.start_plane()
        self.declare_policy()
        self.declare_fleet()
        self.declare_tenants()
        self.network.weather = weather
        for name in sorted(self.sites):
            site = self.sites[name]
            for slot in sorted(site.nodes):
                self.loop.after(self.dice.between(0, 4_000), site.nodes[slot].boot)
            self.loop.after(self.dice.between(0, 4_000), site.start_agent)
            site.ray.released = self.watch.released
        for ask in self.drawn.asks:
            self.loop.after(ask.at_ms, lambda a=ask: self.tenants.submit(a))

    # The control plane.

    def start_plane(self) -> None:
        """A new process takes the lead; whoever led is not told."""
        self._planes += 1
        name = f"plane-{self._planes}"
        plane = Plane(
            name, self.path, self.codec, loop=self.loop, network=self.network,
            dice=self.dice.fork(name), trace=self.trace,
            sites=sorted(self.sites), stale_per_mille=self.drawn.stale_per_mille,
            granter=self.granting.granter,
        )  # fmt: skip
        plane.committed = self.watch.committed
        self.plane = self.network.leader = plane
        plane.start()

    def crash_plane(self, *, down_ms: int) -> None:
        """kill -9 between two commits; its keepers start another."""
        if self.plane is not None:
            self.plane.die("killed")
        self.plane = None
        self.loop.after(down_ms, self.ensure_plane)

    def crash_plane_mid(self, *, statements: int, down_ms: int) -> None:
        """kill -9 at some statement of its next transactions."""
        CRASHES.arm(self.plane, statements)
        self.loop.after(down_ms, self.ensure_plane)

    def fail_over(self, *, zombie_ms: int) -> None:
        """Another process takes over while the old one still runs and is still connected."""
        old = self.plane
        if old is not None and old.life.alive:
            self.zombies.append(old)
            self.loop.after(zombie_ms, lambda: old.die("ended at last"))
        self.start_plane()

    def ensure_plane(self) -> None:
        """Somebody leads."""
        if self.plane is None or not self.plane.life.alive:
            self.start_plane()

    def operate(self, act: Callable[[Plane], None]) -> None:
        """Operators ask the leader for one thing after the other, each until it is done."""
        self._wanted.append(act)
        if len(self._wanted) == 1:
            self._operate_next()

    def _operate_next(self) -> None:
        while self._wanted:
            if self.plane is None or not self._answered(self.plane, self._wanted[0]):
                self.loop.after(RETRY_MS, self._operate_next)
                return
            self._wanted.popleft()

    def _answered(self, plane: Plane, act: Callable[[Plane], None]) -> bool:
        """Whether there was an answer."""
        try:
            act(plane)
        except Down:
            return False
        except Refused as refused:
            self.trace.note("operator", f"refused: {refused}")
        return True

    def declare_policy(self) -> None:
        """The operator's policy, as it is meant now."""
        self.operate(self._send_policy)

    def declare_fleet(self) -> None:
        """The operator's fleet file, made from what is true now."""
        self.operate(self._send_fleet)

    def declare_tenants(self) -> None:
        """The tenant tree, as it is meant now."""
        self.operate(self._send_tenants)

    def _send_policy(self, plane: Plane) -> None:
        plane.apply_policy(fleet.policy_of(self.law))
        self.declared.law_becomes(self.loop.now_ms, self.law)
        self.truth.law_becomes(self.loop.now_ms, self.law)

    def _send_fleet(self, plane: Plane) -> None:
        truths = [self.truth.site(name) for name in sorted(self.sites)]
        declarations = [
            (fleet.declared(truth), fleet.declared_nodes(self.plans[truth.site]))
            for truth in truths
        ]
        plane.apply_fleet(declarations)
        for truth in truths:
            self._note_declared(truth)

    def _send_tenants(self, plane: Plane) -> None:
        plane.apply_tenants([plan.declared() for _, plan in sorted(self.tree.items())])
        self.watch.tree = dict(self.tree)

    # Facts and law.

    def change_truth(self, truth: SiteTruth) -> None:
        """Something about a site changes: its own file at once, the declaration later."""
        self.trace.note(truth.site, "its facts change")
        self._set_truth(truth)
        self.loop.after(self.dice.between(0, 20_000), self.declare_fleet)

    def _set_truth(self, truth: SiteTruth) -> None:
        self.truth.site_becomes(self.loop.now_ms, truth)
        fleet.write_facts(truth, self.facts_path(self.folder, truth.site))

    def _note_declared(self, truth: SiteTruth) -> None:
        self.declared.site_becomes(self.loop.now_ms, truth)

    def change_law(self, law: Law) -> None:
        """The operator means another policy from now on."""
        self.law = law
        self.declare_policy()

    def close(self) -> None:
        """The end of this world."""
        CRASHES.disarm()
        self.life.end()
        for plane in (*self.zombies, self.plane):
            if plane is not None and plane.life.alive:
                plane.life.end()
                plane.store.close()
        self.watch.close()
