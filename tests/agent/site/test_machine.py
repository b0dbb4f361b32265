"""The machine inside a whole site with faults, and its single steps."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agent.site import events as ev
from sovapi.v1 import jobs_pb2 as jobs
from tests.agent.site.world import SLOTS, World

JOBS = ("job-a", "job-b", "job-c")
ROUNDS_MAX = 400
slots = st.sampled_from(SLOTS)
jobs_named = st.sampled_from(JOBS)


class SiteWithFaults(RuleBasedStateMachine):
    """Any interleaving is safe; and when the faults stop, everything ends."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(job=jobs_named, where=st.sampled_from([("n01",), ("n02",), SLOTS]))
    def submit(self, job: str, where: tuple[str, ...]) -> None:
        self.world.submit(job, where)

    @rule(job=jobs_named)
    def cancel(self, job: str) -> None:
        self.world.cancel(job)

    @rule()
    def settle(self) -> None:
        calm(self.world)

    @rule(pick=st.integers(0, 40))
    def deliver_one(self, pick: int) -> None:
        waiting = [name for name in sorted(self.world.channels) if inbound(self.world, name)]
        if waiting:
            channel = self.world.channels[waiting[pick % len(waiting)]]
            self.world.tell(channel.popleft())

    @rule(pick=st.integers(0, 40))
    def repeat_desired(self, pick: int) -> None:
        """An old word of the control plane arrives once more."""
        words = [e for e in self.world.channels["control"] if isinstance(e, ev.DesiredReceived)]
        if words:
            self.world.channels["control"].append(words[pick % len(words)])

    @rule(ms=st.sampled_from([10, 400, 4_000, 70_000]))
    def time_passes(self, ms: int) -> None:
        self.world.now_ms += ms
        self.world.tell(ev.Tick())

    @rule(slot=slots)
    def obey(self, slot: str) -> None:
        self.world.obey(slot)

    @rule(slot=slots)
    def lose_an_order(self, slot: str) -> None:
        if orders := self.world.channels[f"to-{slot}"]:
            orders.popleft()

    @rule()
    def hear(self) -> None:
        self.world.hear()

    @rule()
    def send_desired(self) -> None:
        self.world.send_desired()

    @rule()
    def connect(self) -> None:
        self.world.connect()

    @rule()
    def disconnect(self) -> None:
        self.world.disconnect()

    @rule(slot=slots)
    def connect_node(self, slot: str) -> None:
        self.world.connect_node(slot)

    @rule(slot=slots)
    def disconnect_node(self, slot: str) -> None:
        self.world.disconnect_node(slot)

    @rule(slot=slots)
    def reboot(self, slot: str) -> None:
        self.world.reboot(slot, wipe=False)

    @rule(slot=slots, alive=st.booleans())
    def raylet(self, slot: str, alive: bool) -> None:
        self.world.nodes[slot].raylet = alive

    @rule()
    def look_at_ray(self) -> None:
        self.world.look_at_ray()

    @rule()
    def ray_goes_silent(self) -> None:
        self.world.channels["ray"] += [ev.RuntimeChanged(None), ev.ReservationsSeen(None)]

    @rule(pick=st.integers(0, 9), ok=st.booleans(), retryable=st.booleans())
    def finish_launch(self, pick: int, ok: bool, retryable: bool) -> None:
        if under_way := sorted(self.world.launches):
            self.world.send_starts(under_way[pick % len(under_way)])
            self.world.finish_launch(under_way[pick % len(under_way)], ok, retryable)

    @rule(pick=st.integers(0, 9))
    def a_start_arrives(self, pick: int) -> None:
        if self.world.starts:
            self.world.start(*self.world.starts.pop(pick % len(self.world.starts)))

    @rule(slot=slots, pick=st.integers(0, 9), code=st.sampled_from([0, 0, 1]))
    def a_rank_exits(self, slot: str, pick: int, code: int) -> None:
        exit_one(self.world, slot, pick, code)

    @rule(keep=st.sampled_from([True, True, True, False]))
    def crash(self, keep: bool) -> None:
        self.world.crash(keep_journal=keep)

    @rule(full=st.booleans())
    def disk(self, full: bool) -> None:
        self.world.disk_full = full

    def teardown(self) -> None:
        """The faults stop: everything must end, be reported, forgotten and cleaned up."""
        world = self.world
        world.disk_full = False
        for node in world.nodes.values():
            node.raylet = True
        world.look_at_ray()
        world.connect()
        for slot in SLOTS:
            world.connect_node(slot)
        for _ in range(ROUNDS_MAX):
            calm(world)
            if not world.rows and not world.machine.journal.rows and not left_over(world):
                return
        raise AssertionError(f"not quiet: {world.rows} {world.machine.journal.rows}")


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


def calm(world: World) -> None:
    """A second without faults: everything that is on its way arrives."""
    for key in sorted(world.launches):
        world.finish_launch(key, ok=True)
    while world.starts:
        world.start(*world.starts.pop(0))
    for slot in SLOTS:
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


SiteWithFaults.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSiteWithFaults = SiteWithFaults.TestCase
