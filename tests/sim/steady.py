"""Services once faults are over: as many replicas as are wanted run, or wait for a true reason.

Services never end, so this is looked at before they are all cancelled and the rest is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.sim import checks_services
from tests.sim.checks_tables import ancestry
from tests.sim.clock import WALL_AT_START_MS
from tests.sim.judge import must_wait
from tests.sim.tables import HOLDING, JobRow, Tables
from tests.sim.truth import objections
from tests.sim.workload import Ask
from tests.sim.world import World

LOOK_MS = 5_000
QUIET_MS = 60_000
"""So long at least services go on with nothing broken."""
STEADY_MS_MAX = 1_500_000
"""Leases, graces, the longest back-off and the way there and back."""


def run(world: World, within_ms: int) -> None:
    """Lets services go on until all is as it should be, says what is not, and cancels them."""
    if not any(ask.wish is not None for ask in world.drawn.asks):
        return
    loop = world.loop
    loop.run_until(loop.now_ms + QUIET_MS)
    loop.run_until(loop.now_ms + min(within_ms, STEADY_MS_MAX), stop=_reached(world))
    world.watch.found("steady", unsteady(world, world.watch.tables()))
    world.trace.note("run", "all services are cancelled")
    world.tenants.end_services(world.drawn.asks)


def _reached(world: World) -> Callable[[], bool]:
    """Whether all is as it should be; asked after each event."""
    looked_ms = -LOOK_MS

    def over() -> bool:
        nonlocal looked_ms
        if world.loop.now_ms - looked_ms < LOOK_MS:
            return False
        looked_ms = world.loop.now_ms
        return not any(True for _ in unsteady(world, world.watch.tables()))

    return over


def unsteady(world: World, tables: Tables) -> Iterator[str]:
    """What is not yet as it should be."""
    asks = world.watch.asks
    for ask in world.drawn.asks:
        if not ask.settled or ask.changing:
            yield f"submission {ask.number} waits for an answer"
    jobs = [row for row in tables.jobs.values() if row.service is None and row.wanted is None]
    yield from (f"job {row.id} is {row.state}" for row in jobs if row.state in HOLDING)
    yield from checks_services.as_many_as_wanted(tables, asks)
    # Others that wait may be ahead, or have nodes kept for them; so may gangs.
    waiting = [row for row in tables.jobs.values() if row.state == "QUEUED" and row.wanted is None]
    ahead = [row for row in waiting if row.service is None or asks[row.id].shape.nodes > 1]
    if all(must_wait(world, asks[row.id]) for row in ahead):
        yield from _waits_for_nothing(world, tables)


def _waits_for_nothing(world: World, tables: Tables) -> Iterator[str]:
    """Replicas that are in the queue although their back-off is over and there is room."""
    wall_ms = WALL_AT_START_MS + world.loop.now_ms
    for service, replicas in checks_services.services(tables):
        ask = world.watch.asks[service.id]
        for row in replicas:
            if row.state != "QUEUED" or row.not_before_wall_ms > wall_ms - QUIET_MS:
                continue
            room = "" if must_wait(world, ask) else _room(world, tables, row, ask)
            if room:
                yield f"replica {row.id} of service {service.id} waits, although {room} is idle"


def _room(world: World, tables: Tables, row: JobRow, ask: Ask) -> str:
    """A place that is certainly free for one more replica: a whole idle node, within all limits.
    Empty: none; gangs are not looked at."""
    if ask.shape.nodes > 1:
        return ""
    assert ask.wish is not None, "only services have replicas"
    holding, over = tables.holding(), ask.wish.over or "node"
    peers = [a for a in holding if tables.jobs[a.job].service == row.service]
    taken = {domain for peer in peers for domain in checks_services.domains(peer, over)}
    busy = {node for attempt in holding for node in attempt.nodes}
    for site, plan in sorted(world.plans.items()):
        if ask.shape.gpu_class not in ("", plan.gpu_class) or not _permits(world, ask, site):
            continue
        for shape in plan.shapes:
            node = f"{site}/{shape.slot}"
            near = checks_services.domain_of(node, over) in taken and ask.wish.required
            if node in busy or near or shape.gpus < ask.shape.gpus:
                continue
            if _within_limits(world, tables, ask, shape.gpus):
                return node
    return ""


def _permits(world: World, ask: Ask, site: str) -> bool:
    wall_ms = WALL_AT_START_MS + world.loop.now_ms
    return not objections(ask.need, world.declared.site(site), world.declared.law, wall_ms)


def _within_limits(world: World, tables: Tables, ask: Ask, gpus: int) -> bool:
    """Whether so many GPUs more, of whatever class, are within each limit over the tenant."""
    for path in ancestry(ask.tenant):
        under = [
            attempt.gpu_milli
            for attempt in tables.holding()
            if path in ancestry(tables.jobs[attempt.job].tenant)
        ]
        if any(
            sum(under) + gpus * 1000 > limit * 1000 for limit in world.tree[path].limits.values()
        ):
            return False
    return True
