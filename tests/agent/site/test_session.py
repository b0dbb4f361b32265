"""The session against a control plane in this process: reconnects, reports, tunnels, bundles."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from agent.site import events as ev
from agent.site.bundles import BundleCache, BundleFailed
from agent.site.machine import SiteMachine
from agent.site.nodelink import Power
from agent.site.session import ControlSession, Presence
from agent.site.state import Journal
from agent.site.tunnels import NodeAway
from sovapi.v1 import sitelink_pb2 as pb
from sovapi.v1.jobs_pb2 import LogsRequest
from sovapi.v1.nodelink_pb2 import GoodsChunk, GoodsPage, ListGoods, LogChunk, ReadGoods
from sovapi.v1.sitelink_pb2 import ControlMessage, SiteMessage
from sovapi.v1.sitelink_pb2_grpc import SiteLinkServicer, add_SiteLinkServicer_to_server
from tests.agent.site.builders import Generous, desired, row
from tests.agent.waiting import until

BUNDLE = b"a bundle" * 10_000
DIGEST = f"sha256:{hashlib.sha256(BUNDLE).hexdigest()}"
END = object()


class Control(SiteLinkServicer):
    """A control plane that says what a test wants and remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[SiteMessage] = []
        self.lines: list[asyncio.Queue[Any]] = []
        self.ups: list[pb.TunnelUp] = []
        self.tunnels_ended = 0
        self.bundle = BUNDLE
        self.version = 1

    async def Session(self, request_iterator: Any, context: Any) -> AsyncIterator[ControlMessage]:
        line: asyncio.Queue[Any] = asyncio.Queue()

        async def listen() -> None:
            async for message in request_iterator:
                self.heard.append(message)

        listening = asyncio.create_task(listen())
        hello = pb.ControlHello(
            protocol_version=self.version, heartbeat_interval_ms=50, lease_ms=9_000
        )
        yield ControlMessage(hello=hello)
        self.lines.append(line)
        while (message := await line.get()) is not END:
            yield message
        listening.cancel()

    async def Tunnel(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.TunnelDown]:
        async for up in request_iterator:
            self.ups.append(up)
        self.tunnels_ended += 1
        for down in ():
            yield down

    async def FetchBundle(
        self, request: Any, context: Any
    ) -> AsyncIterator[pb.FetchBundleResponse]:
        if request.digest != DIGEST:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
        for start in range(0, len(self.bundle), 1000):
            yield pb.FetchBundleResponse(chunk=self.bundle[start : start + 1000])

    def said(self, kind: str) -> list[SiteMessage]:
        return [message for message in self.heard if message.WhichOneof("message") == kind]

    def say(self, **message: Any) -> None:
        self.lines[-1].put_nowait(ControlMessage(**message))

    def hang_up(self) -> None:
        self.lines.pop().put_nowait(END)


class Spools:
    """Logs of two ranks; the second one's node may be away."""

    def __init__(self) -> None:
        self.logs = {"job-a.1.0": b"zero\n" * 40_000, "job-a.1.1": b"one\n"}
        self.over = True
        self.away = False

    def slots(self) -> tuple[str, ...]:
        return ("n01",)

    async def read_log(self, slot: str, key: str, offset: int, max_bytes: int) -> LogChunk:
        if self.away:
            raise NodeAway(f"{slot} is away")
        if key not in self.logs:
            return LogChunk(unknown=True)
        log = self.logs[key]
        part = log[offset : offset + max_bytes]
        over = self.over and offset + len(part) >= len(log)
        return LogChunk(chunk=part, offset=offset, over=over)

    async def list_goods(self, slot: str, asked: ListGoods) -> GoodsPage:
        return GoodsPage(refused="nothing is here")

    async def read_goods(self, slot: str, asked: ReadGoods) -> GoodsChunk:
        return GoodsChunk(refused="nothing is here")


class World:
    """A session, its control plane, and a machine if the test wants one."""

    def __init__(self, control: Control, spools: Spools) -> None:
        self.control = control
        self.spools = spools
        self.events: list[ev.Event] = []
        self.places: dict[int, str] = {}
        self.position = (3, 41)
        self.power: Power | None = None
        self.questions: list[str] = []
        self.over: list[pb.JobsOver] = []
        self.session: ControlSession | None = None

    def next_question(self) -> pb.StoredJobs | None:
        return pb.StoredJobs(job_ids=[self.questions.pop(0)]) if self.questions else None

    def answer(self, over: pb.JobsOver) -> None:
        self.over.append(over)

    def talk(self) -> ControlSession:
        assert self.session is not None
        return self.session

    def got(self, kind: type[ev.Event]) -> list[ev.Event]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def serving(control: Control, port: int = 0) -> AsyncGenerator[int]:
    server = grpc.aio.server()
    add_SiteLinkServicer_to_server(control, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Control(), Spools())
    async with serving(made.control) as port:
        made.session = ControlSession(
            presence=Presence("exch-a", "1", "incarnation-1"),
            dial=lambda: grpc.aio.insecure_channel(f"127.0.0.1:{port}"),
            position=lambda: made.position,
            emit=made.events.append,
            jitter=lambda: 0.0,
            spools=made.spools,
            place=lambda _: made.places,
            power=lambda: made.power,
            stores=made,
        )
        task = asyncio.create_task(made.session.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


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


def kept(directory: Path) -> list[bytes]:
    """What lies in a directory, whatever it is called."""
    return sorted(path.read_bytes() for path in directory.iterdir())


def open_logs(**request: Any) -> pb.OpenTunnel:
    return pb.OpenTunnel(
        tunnel_id="t1",
        kind=pb.TUNNEL_KIND_LOGS,
        job_id="job-a",
        attempt=1,
        logs=LogsRequest(**request),
    )


async def text_of(world: World, rank: int) -> bytes:
    await until(lambda: world.control.tunnels_ended)
    assert world.control.ups[0].tunnel_id == "t1"
    return b"".join(up.logs.chunk for up in world.control.ups if up.logs.rank == rank)


async def test_a_log_goes_through_a_tunnel_whole(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.places = {0: "n01"}
    world.control.say(open_tunnel=open_logs(rank=0))
    assert await text_of(world, 0) == world.spools.logs["job-a.1.0"]


async def test_all_ranks_are_found_by_asking_when_the_attempt_is_forgotten(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.say(open_tunnel=open_logs(all_ranks=True))
    assert await text_of(world, 0) == world.spools.logs["job-a.1.0"]
    assert await text_of(world, 1) == b"one\n"


async def test_a_followed_log_ends_with_its_rank_and_not_before(world: World) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.spools.over = False
    world.control.say(open_tunnel=open_logs(rank=1, follow=True, offset=1))
    await until(lambda: any(up.logs.chunk == b"ne\n" for up in world.control.ups))
    world.spools.logs["job-a.1.1"] += b"more\n"
    await until(lambda: any(up.logs.chunk == b"more\n" for up in world.control.ups))
    assert world.control.tunnels_ended == 0
    world.spools.over = True
    await until(lambda: world.control.tunnels_ended)


@pytest.mark.parametrize(
    ("opening", "reason"),
    [
        pytest.param(open_logs(rank=7), "NOT_FOUND", id="no such rank"),
        pytest.param(open_logs(rank=0, since_ms=5), "FEATURE_NOT_AVAILABLE", id="since a time"),
        pytest.param(
            pb.OpenTunnel(tunnel_id="t1", exec={}), "FEATURE_NOT_AVAILABLE", id="not served"
        ),
        pytest.param(pb.OpenTunnel(tunnel_id="t1", download={}), "NOT_FOUND", id="nothing left"),
    ],
)
async def test_a_tunnel_that_cannot_be_served_is_refused_with_a_reason(
    world: World, opening: pb.OpenTunnel, reason: str
) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.say(open_tunnel=opening)
    (refused,) = await until(lambda: world.control.said("tunnel_refused"))
    assert refused.tunnel_refused.tunnel_id == "t1"
    assert refused.tunnel_refused.reason == reason


async def test_a_bundle_is_fetched_once_and_kept(world: World, tmp_path: Path) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    cache = BundleCache(tmp_path)
    path = await cache.get(DIGEST, lambda: world.talk().fetch_bundle(DIGEST, "job-a", 1))
    assert path.read_bytes() == BUNDLE
    world.control.bundle = b"not fetched again"
    assert await cache.get(DIGEST, lambda: world.talk().fetch_bundle(DIGEST, "job-a", 1)) == path
    assert kept(tmp_path) == [BUNDLE]


@pytest.mark.parametrize(
    ("digest", "content", "retryable"),
    [
        pytest.param(DIGEST, b"something else", True, id="what came has another digest"),
        pytest.param(f"sha256:{'0' * 64}", BUNDLE, False, id="the control plane has none such"),
        pytest.param("sha256:../../etc/passwd", BUNDLE, False, id="not a digest"),
    ],
)
async def test_a_bundle_that_is_not_what_it_should_be_leaves_nothing(
    world: World, tmp_path: Path, digest: str, content: bytes, retryable: bool
) -> None:
    await until(lambda: world.control.lines and world.got(ev.Connected))
    world.control.bundle = content
    with pytest.raises(BundleFailed) as caught:
        await BundleCache(tmp_path).get(
            digest, lambda: world.talk().fetch_bundle(digest, "job-a", 1)
        )
    assert caught.value.retryable is retryable
    assert kept(tmp_path) == []


async def test_a_bundle_larger_than_allowed_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.site.bundles.BUNDLE_BYTES_MAX", 100)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 60

    with pytest.raises(BundleFailed, match="more than 100 bytes"):
        await BundleCache(tmp_path).get(DIGEST, endless)
    assert kept(tmp_path) == []


async def test_the_least_recently_used_bundle_goes_first(tmp_path: Path) -> None:
    async def content(what: bytes) -> AsyncIterator[bytes]:
        yield what

    cache = BundleCache(tmp_path, bytes_max=25)
    for what in (b"a" * 10, b"b" * 10, b"c" * 10):
        digest = f"sha256:{hashlib.sha256(what).hexdigest()}"
        await cache.get(digest, lambda what=what: content(what))
    assert kept(tmp_path) == [b"b" * 10, b"c" * 10]
