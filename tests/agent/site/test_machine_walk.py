"""The machine inside a whole site with faults: any interleaving is safe, and ends."""

from collections.abc import Callable
from random import Random  # noqa: TID251 - seeded by the property's own draw.

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.site import events as ev
from sovapi.v1 import jobs_pb2 as jobs
from tests.agent.site.world import SLOTS, World

JOBS = ("job-a", "job-b", "job-c")
ROUNDS_MAX = 400
STEPS = 120


def drop_an_order(world: World, slot: str) -> None:
    if orders := world.channels[f"to-{slot}"]:
        orders.popleft()


def repeat_desired(world: World) -> None:
    """An old word of the control plane arrives once more."""
    words = [e for e in world.channels["control"] if isinstance(e, ev.DesiredReceived)]
    world.channels["control"] += words[:1]


def silence_ray(world: World) -> None:
    world.channels["ray"] += [ev.RuntimeChanged(None), ev.ReservationsSeen(None)]


def deliver_one(world: World, pick: Random) -> None:
    if waiting := [name for name in sorted(world.channels) if inbound(world, name)]:
        world.tell(world.channels[pick.choice(waiting)].popleft())


def let_time_pass(world: World, ms: int) -> None:
    world.now_ms += ms
    world.tell(ev.Tick())


def end_a_launch(world: World, pick: Random) -> None:
    """A launch ends well or badly, its starts sent or not; those sent may arrive much later."""
    if under_way := sorted(world.launches):
        key = pick.choice(under_way)
        if pick.random() < 0.7:
            world.send_starts(key)
        world.finish_launch(key, ok=pick.random() < 0.5, retryable=pick.random() < 0.7)


def let_a_start_arrive(world: World, pick: Random) -> None:
    if world.starts:
        world.start(*world.starts.pop(pick.randrange(len(world.starts))))


def step(world: World, pick: Random) -> None:
    """One thing happens. Half of the time it is ordinary progress."""
    slot, job = pick.choice(SLOTS), pick.choice(JOBS)
    node = world.nodes[slot]
    happenings: list[tuple[int, Callable[[], object]]] = [
        (8, lambda: calm(world, launches_end=False, ranks_exit=False)),
        (4, lambda: calm(world, launches_end=True, ranks_exit=pick.random() < 0.3)),
        (10, lambda: deliver_one(world, pick)),
        (4, lambda: world.submit(job, pick.choice([("n01",), ("n02",), SLOTS]))),
        (2, lambda: world.cancel(job)),
        (3, lambda: world.obey(slot)),
        (2, lambda: drop_an_order(world, slot)),
        (3, world.hear),
        (3, world.send_desired),
        (2, lambda: repeat_desired(world)),
        (3, lambda: let_time_pass(world, pick.choice([10, 400, 4_000]))),
        (1, lambda: let_time_pass(world, 70_000)),
        (4, lambda: connect_all(world)),
        (1, world.disconnect),
        (2, lambda: world.disconnect_node(slot)),
        (1, lambda: world.reboot(slot, wipe=pick.random() < 0.3)),
        (1, lambda: setattr(node, "raylet", not node.raylet)),
        (2, world.look_at_ray),
        (1, lambda: silence_ray(world)),
        (4, lambda: end_a_launch(world, pick)),
        (2, lambda: let_a_start_arrive(world, pick)),
        (2, lambda: exit_one(world, slot, pick.randrange(9), pick.choice([0, 0, 1]))),
        (2, lambda: world.crash(keep_journal=pick.random() < 0.7)),
        (1, lambda: setattr(world, "disk_full", not world.disk_full)),
    ]
    weights = [weight for weight, _ in happenings]
    pick.choices(happenings, weights)[0][1]()


def end_faults(world: World) -> None:
    """Everything must end, be reported, forgotten and cleaned up."""
    world.disk_full = False
    for node in world.nodes.values():
        node.raylet = True
    connect_all(world)
    for _ in range(ROUNDS_MAX):
        calm(world)
        if not world.rows and not world.machine.journal.rows and not left_over(world):
            return
    raise AssertionError(f"not quiet: {world.rows} {world.machine.journal.rows}")


@settings(max_examples=200, deadline=None)
@given(pick=st.randoms(use_true_random=True))
def test_any_interleaving_is_safe_and_everything_ends_when_faults_stop(pick: Random) -> None:
    world = World()
    connect_all(world)
    for _ in range(STEPS):
        step(world, pick)
    end_faults(world)


def inbound(world: World, name: str) -> bool:
    return bool(world.channels[name]) and not name.startswith("to-")


def exit_one(world: World, slot: str, pick: int, code: int) -> None:
    spool = world.nodes[slot].spool
    alive = [k for k, s in sorted(spool.items()) if s.phase == jobs.RANK_PHASE_RUNNING]
    if alive:
        key = alive[pick % len(alive)]
        world.put(slot, key, jobs.RANK_PHASE_OVER, jobs.RANK_CAUSE_EXIT, code)


def left_over(world: World) -> bool:
    return bool(world.placement_groups) or any(node.spool for node in world.nodes.values())


def connect_all(world: World) -> None:
    world.look_at_ray()
    world.connect()
    for slot in SLOTS:
        world.connect_node(slot)


def calm(world: World, *, launches_end: bool = True, ranks_exit: bool = True) -> None:
    """A second without faults: everything that is on its way arrives."""
    if launches_end:
        for key in sorted(world.launches):
            world.finish_launch(key, ok=True)
        while world.starts:
            world.start(*world.starts.pop(0))
    for slot in SLOTS:
        if ranks_exit:
            exit_one(world, slot, 0, 0)
        while world.nodes[slot].connected and world.channels[f"to-{slot}"]:
            world.obey(slot)
    while world.channels["to-control"]:
        world.hear()
    world.send_desired()
    while waiting := [name for name in sorted(world.channels) if inbound(world, name)]:
        world.tell(world.channels[waiting[0]].popleft())
    world.now_ms += 1_000
    world.tell(ev.Tick())
