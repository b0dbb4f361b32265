"""Carries out a plan of faults on a world, and undoes every one of them in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from sovapi.v1 import common_pb2 as common
from tests.sim import fleet
from tests.sim.clock import Life
from tests.sim.crash import CRASHES
from tests.sim.faults import Fault, FaultPlan, Kind
from tests.sim.network import Weather
from tests.sim.node import SimNode
from tests.sim.plane import Plane
from tests.sim.site import SimSite
from tests.sim.world import World

STATEMENTS_MAX = 60
AFTERMATH_MS = 30_000
"""For so long after a fault a site is still busy with it."""


class Chaos:
    """What is broken now, and how it is mended."""

    def __init__(self, world: World, plan: FaultPlan) -> None:
        self._world = world
        self._plan = plan
        self._dice = world.dice.fork("chaos")
        self._life = Life()
        self._mend: dict[int, Callable[[], None]] = {}
        self._count = 0
        self.disturbed: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)

    def begin(self, from_ms: int) -> None:
        """Let the plan take its course."""
        world = self._world
        world.network.weather = self._plan.weather
        for name in sorted(world.sites):
            world.sites[name].ray.late_per_mille = self._plan.late_calls
            world.sites[name].ray.fail_per_mille = self._plan.failed_launches
        for fault in self._plan.faults:
            delay_ms = from_ms + fault.at_ms - world.loop.now_ms
            world.loop.after(delay_ms, lambda f=fault: self._strike(f), self._life)

    def heal(self) -> None:
        """No new faults; everything that is broken is mended now."""
        world = self._world
        self._life.end()
        CRASHES.disarm()
        for number in sorted(self._mend):
            self._mend[number]()
        self._mend.clear()
        world.network.weather = Weather()
        world.network.cut.clear()
        world.tenants.lossy = False
        for name in sorted(world.sites):
            site = world.sites[name]
            site.ray.late_per_mille = site.ray.fail_per_mille = 0
            site.disk.full = False
            site.ray.restore()
            site.start_agent()
            for slot in sorted(site.nodes):
                node = site.nodes[slot]
                node.reachable = True
                if not node.up:
                    node.boot()
                node.start_agent()
                node.start_raylet()
        world.network.break_all()
        world.ensure_plane()

    def _strike(self, fault: Fault) -> None:
        world, dice = self._world, self._dice.fork(str(fault.number))
        site = world.sites[dice.pick(sorted(world.sites))]
        node = site.nodes[dice.pick(sorted(site.nodes))]
        world.trace.note("chaos", f"{fault.kind} for {fault.lasts_ms} ms, at {node.name} if at all")
        match fault.kind:
            case Kind.PLANE_CRASH:
                world.crash_plane(down_ms=fault.lasts_ms)
            case Kind.PLANE_CRASH_MID:
                statements = dice.between(0, STATEMENTS_MAX)
                world.crash_plane_mid(statements=statements, down_ms=fault.lasts_ms)
            case Kind.PLANE_FAILOVER:
                world.fail_over(zombie_ms=fault.lasts_ms)
            case Kind.FACTS_CHANGE:
                self._change_facts(fault)
            case Kind.POLICY_CHANGE:
                self._change_policy(fault)
            case Kind.TENANTS_CHANGE:
                self._change_tenants(fault)
            case Kind.INTRUDER:
                world.network.intruder.meddling = True
                self._later(fault, self._expel)
            case Kind.CORDON:
                place = dice.pick((site.name, node.name))
                self._close(place, fault)
            case _:
                self._note(site.name, fault)
                self._break_site(fault, site, node)

    def _break_site(self, fault: Fault, site: SimSite, node: SimNode) -> None:
        dice = self._dice.fork(str(fault.number), "site")
        match fault.kind:
            case Kind.CUT_SITE:
                self._world.network.cut.add(site.name)
                self._world.network.break_all(site.name)
                self._later(fault, lambda: self._world.network.cut.discard(site.name))
            case Kind.AGENT_CRASH:
                site.crash_agent(journal=dice.pick(("kept", "kept", "lost", "torn")))
                self._later(fault, site.start_agent)
            case Kind.DRIVER_CRASH:
                site.crash_driver()
            case Kind.RAY_LOST:
                site.ray.lose_everything()
                self._later(fault, site.ray.restore)
            case Kind.DISK_FULL:
                site.disk.full = True
                self._later(fault, lambda: setattr(site.disk, "full", False))
            case Kind.SHIM_KILLED:
                self._kill_shim(site)
            case _:
                self._break_node(fault, node)

    def _break_node(self, fault: Fault, node: SimNode) -> None:
        match fault.kind:
            case Kind.RAYLET_DOWN:
                node.stop_raylet()
                self._later(fault, node.start_raylet)
            case Kind.NODE_REBOOT:
                node.crash()
                self._later(fault, lambda: None if node.up else node.boot())
            case Kind.NODE_SICK:
                node.health_changed(common.HEALTH_FAILED)
                self._later(fault, lambda: node.health_changed(common.HEALTH_OK))
            case Kind.NODE_UNREACHABLE:
                node.reachable = False
                node.hang_up()
                self._later(fault, lambda: setattr(node, "reachable", True))
            case Kind.NODE_AGENT_CRASH:
                node.stop_agent()
                self._later(fault, node.start_agent)
            case Kind.POWER_OFF_AND_FENCE:
                node.crash()
                # The operator's word is true when it is given: the machine is off.
                self._operate(lambda plane: None if node.up else plane.fence(node.name))
                self._later(fault, lambda: self._back_in_service(node))
            case other:
                raise AssertionError(f"nobody breaks {other}")

    def _back_in_service(self, node: SimNode) -> None:
        if not node.up:
            node.boot()
        self._operate(lambda plane: plane.cordon(node.name, closed=False))

    def _expel(self) -> None:
        self._world.network.intruder.meddling = False

    def _kill_shim(self, site: SimSite) -> None:
        running = [run for run in self._world.ledger.alive() if run.site == site.name]
        if running:
            run = self._dice.pick(running)
            site.nodes[run.slot].spool.kill_shim(run.key)

    def _change_facts(self, fault: Fault) -> None:
        world = self._world
        names = [n for n in sorted(world.sites) if n != fleet.ANCHOR]
        before = world.truth.site(self._dice.pick(names))
        world.change_truth(fleet.weakened(before, self._dice))
        self._later(fault, lambda: world.change_truth(world.plans[before.site].truth))

    def _change_policy(self, fault: Fault) -> None:
        world = self._world
        narrow = replace(world.law, countries=self._dice.pick((("GB",), ("GB", "NO", "SE"))))
        world.change_law(narrow)
        self._later(fault, lambda: world.change_law(replace(narrow, countries=("GB", "NO"))))

    def _change_tenants(self, fault: Fault) -> None:
        world = self._world
        path = self._dice.pick(sorted(world.tree))
        before = world.tree[path]
        limits = {name: max(1, gpus // 2) for name, gpus in before.limits.items()}
        world.tree[path] = replace(before, limits=limits)
        world.declare_tenants()

        def restore() -> None:
            world.tree[path] = before
            world.declare_tenants()

        self._later(fault, restore)

    def _close(self, place: str, fault: Fault) -> None:
        if self._dice.chance(300):
            deadline_ms = self._dice.between(0, 30_000)
            self._operate(lambda plane: plane.drain(place, deadline_ms))
        else:
            self._operate(lambda plane: plane.cordon(place, closed=True))
        self._later(fault, lambda: self._operate(lambda plane: plane.cordon(place, closed=False)))

    def _operate(self, act: Callable[[Plane], None]) -> None:
        self._world.operate(act)

    def _later(self, fault: Fault, mend: Callable[[], None]) -> None:
        """Mend it when its time is over, or when everything is healed."""
        self._count += 1
        number = self._count
        self._mend[number] = mend

        def act() -> None:
            if (due := self._mend.pop(number, None)) is not None:
                due()

        self._world.loop.after(fault.lasts_ms, act, self._life)

    def _note(self, site: str, fault: Fault) -> None:
        now_ms = self._world.loop.now_ms
        self.disturbed[site].append((now_ms, now_ms + fault.lasts_ms + AFTERMATH_MS))
