"""The session against a control plane in this process: who we are, reconnects, reports."""

import asyncio

from agent.site import events as ev
from agent.site.machine import SiteMachine
from agent.site.nodelink import Power
from agent.site.state import Journal
from sovapi.v1 import sitelink_pb2 as pb
from tests.agent.site.builders import Generous, desired, row
from tests.agent.site.session_rig import World
from tests.agent.waiting import until


async def test_a_session_begins_with_who_we_are_and_what_we_hold(world: World) -> None:
    await until(lambda: world.got(ev.Connected))
    hello = world.control.heard[0].hello
    assert (hello.site, hello.incarnation, hello.epoch, hello.generation) == (
        "exch-a",
        "incarnation-1",
        3,
        41,
    )
    assert world.got(ev.Connected) == [ev.Connected(heartbeat_interval_ms=50, lease_ms=9_000)]


async def test_nodes_learn_what_is_over_by_one_question_with_each_heartbeat(world: World) -> None:
    await until(lambda: world.got(ev.Connected))
    world.questions = ["job-a", "job-b"]
    for beat in (1, 2, 3):
        world.talk().say(ev.SendHeartbeat(beat))
    await until(lambda: len(world.control.said("heartbeat")) == 3)
    kinds = [message.WhichOneof("message") for message in world.control.heard[1:]]
    assert kinds == ["heartbeat", "stored_jobs", "heartbeat", "stored_jobs", "heartbeat"]
    over = pb.JobsOver(jobs=[pb.JobOver(job_id="job-a", ended_ago_ms=7)])
    world.control.say(jobs_over=over)
    await until(lambda: world.over == [over])


async def test_a_heartbeat_says_what_the_site_draws_where_anybody_knows(world: World) -> None:
    await until(lambda: world.got(ev.Connected))
    world.talk().say(ev.SendHeartbeat(1))
    world.power = Power(gpu_watts=1_200, nodes=2)
    world.talk().say(ev.SendHeartbeat(2))
    await until(lambda: len(world.control.said("heartbeat")) == 2)
    unknown, known = (message.heartbeat for message in world.control.said("heartbeat"))
    assert not unknown.HasField("power")
    assert (known.power.gpu_watts, known.power.nodes) == (1_200, 2)


async def test_a_lost_session_is_dialled_again(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.hang_up()
    await until(lambda: len(world.got(ev.Connected)) == 2)
    kinds = [type(event) for event in world.events]
    assert kinds == [ev.Connected, ev.Disconnected, ev.Connected]


async def test_another_version_of_the_protocol_is_not_talked_to(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.version = 99
    world.control.hang_up()
    await until(lambda: len(world.control.said("hello")) >= 3)
    assert len(world.got(ev.Connected)) == 1


async def test_what_is_desired_and_acknowledged_becomes_events(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.say(desired=desired(row(), to=42, since=41, epoch=3))
    world.control.say(heartbeat_ack=pb.HeartbeatAck(sequence=5))
    await until(lambda: world.got(ev.HeartbeatAcked))
    (received,) = world.got(ev.DesiredReceived)
    assert isinstance(received, ev.DesiredReceived)
    assert received.desired.to_generation == 42


async def test_a_machine_reports_everything_again_after_a_reconnect(world: World) -> None:
    """The whole loop: session and machine, with nothing acted upon that is old."""
    machine = SiteMachine(Journal(3, 41), judge=lambda _l, _i: None, grants=Generous(), now_ms=0)
    now_ms = 0

    async def pump() -> None:
        nonlocal now_ms
        taken = 0
        while True:
            events: list[ev.Event] = [*world.events[taken:], ev.Tick()]
            taken = len(world.events)
            for instruction in machine.step(events, now_ms):
                if isinstance(instruction, ev.Persist):
                    world.events.append(ev.Persisted(instruction.version))
                if isinstance(instruction, ev.SendReport | ev.SendHeartbeat):
                    world.talk().say(instruction)
            now_ms += 10
            await asyncio.sleep(0.005)

    pumping = asyncio.create_task(pump())
    try:
        await until(lambda: world.control.said("report"))
        world.control.say(desired=desired(row(), to=42, since=41, epoch=3))
        await until(lambda: machine.journal.generation == 42)
        # Old and foreign words change nothing, and are answered with what is held.
        world.control.say(desired=desired(row(generation=9), to=9, since=0, epoch=3))
        world.control.say(desired=desired(row(generation=50), to=50, since=45, epoch=3))
        world.control.say(desired=desired(row(generation=43), to=43, since=42, epoch=2))
        await until(lambda: world.control.said("heartbeat"))
        assert machine.journal.generation == 42
        world.control.heard.clear()
        world.control.hang_up()
        await until(lambda: any(m.report.full for m in world.control.said("report")))
        full = next(m.report for m in world.control.said("report") if m.report.full)
        assert (full.generation, [a.job_id for a in full.attempts]) == (42, ["job-a"])
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
