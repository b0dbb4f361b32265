"""A site's session without sockets: the real link, writer and store, and a site that listens."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from scheduler.api import sitelink
from scheduler.api.desk import Desk
from scheduler.api.sitelink import SITE_WATTS_MAX, SiteLink
from scheduler.api.tunnels import Tunnels
from scheduler.api.uploads import Uploads
from scheduler.control import outbox
from scheduler.model.identity import Principal, Role
from scheduler.runtime.reader import Reader
from scheduler.runtime.sites import Power, Sites
from scheduler.runtime.telemetry import Metrics
from scheduler.runtime.writer import Writer
from scheduler.store.blobs import Blobs
from sovapi.v1 import sitelink_pb2
from sovapi.v1.sitelink_pb2 import ControlMessage, SiteMessage, StoredJobs
from tests.control.plant import Plant, spec
from tests.store.builders import LONDON

WAIT_S = 60


class World:
    """One site with nodes, jobs placed on it, and a link for it to dial."""

    def __init__(self, path: Path, *, jobs: int) -> None:
        self.plant = Plant(path / "store.db")
        self.plant.lay_out()
        self.plant.connect()
        for n in range(jobs):
            self.plant.submit(spec(f"job-{n}"))
        self.plant.cycle()
        self.boot_ms = 0
        self.ended: Future[BaseException | None] = Future()
        self.writer = Writer(
            self.plant.store, committed=lambda _: None, ended=self.ended.set_result
        )
        self.writer.start()
        self.reader = Reader(self.plant.store)
        self.sites: Sites[ControlMessage] = Sites(lambda: self.boot_ms)
        now_ms = self.plant.now_ms
        self.blobs = Blobs(path / "blobs.db")
        self.link = SiteLink(
            desk=Desk(
                self.plant.control, self.writer, self.reader, self.plant.codec, lambda: now_ms
            ),
            sites=self.sites,
            tunnels=Tunnels(self.sites, new_id=lambda: "t"),
            uploads=Uploads(self.blobs, path, now_ms=lambda: now_ms),
            metrics=Metrics("test"),
            boot_ms=lambda: self.boot_ms,
            version="test",
        )

    def dial(self) -> "Talk":
        return Talk(self.link)

    def close(self) -> None:
        self.writer.close()
        self.reader.close()
        self.plant.store.close()


class Talk:
    """A session, as its site has it."""

    def __init__(self, link: SiteLink) -> None:
        self._said: asyncio.Queue[SiteMessage] = asyncio.Queue()
        hello = sitelink_pb2.SiteHello(protocol_version=1, site=LONDON, incarnation="agent-1")
        self.say(SiteMessage(hello=hello))
        self._stream = link.session(self._messages())

    async def _messages(self) -> AsyncGenerator[SiteMessage, None]:
        while True:
            yield await self._said.get()

    def say(self, message: SiteMessage) -> None:
        self._said.put_nowait(message)

    async def hear(self) -> ControlMessage:
        async with asyncio.timeout(WAIT_S):
            return await anext(self._stream)

    async def close(self) -> None:
        await self._stream.aclose()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    agent = Principal(f"/site/{LONDON}/agent", Role.SITE, site=LONDON)
    monkeypatch.setattr("scheduler.api.calls.principal", lambda: agent)
    made = World(tmp_path, jobs=5)
    yield made
    made.close()


async def test_all_parts_of_a_snapshot_come_and_answers_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BYTES_MAX", 1)
    talk = world.dial()
    assert (await talk.hear()).HasField("hello")
    parts = [(await talk.hear()).desired_part]
    talk.say(SiteMessage(heartbeat=sitelink_pb2.Heartbeat(sequence=7)))
    answered = 0
    while len(parts) < 5 or not answered:
        message = await talk.hear()
        if message.HasField("heartbeat_ack"):
            answered = message.heartbeat_ack.sequence
        else:
            parts.append(message.desired_part)
    assert answered == 7
    assert len({row.job_id for part in parts for row in part.attempts}) == 5
    assert {(p.from_generation, p.rows_total) for p in parts} == {(0, 5)}
    await talk.close()


async def test_parts_that_the_site_does_not_confirm_are_sent_again_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BYTES_MAX", 1)
    talk = world.dial()
    await talk.hear()
    first = [await talk.hear() for _ in range(5)]
    world.boot_ms += 5 * 3_000
    talk.say(SiteMessage(report=sitelink_pb2.SiteReport(epoch=1)))
    again = [await talk.hear() for _ in range(5)]
    assert again == first
    await talk.close()


async def test_a_site_is_told_which_jobs_are_over_of_those_it_has_checkpoints_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sitelink, "STORED_JOBS_MAX", 3)
    plant = world.plant
    first, second, *_ = plant.push().rows
    plant.report(plant.running(first), plant.running(second))
    plant.report(plant.ended(first))
    done, runs = (plant.codec.encode(key.job) for key in (first, second))
    talk = world.dial()
    talk.say(SiteMessage(stored_jobs=StoredJobs(job_ids=["../etc", runs, done, done])))
    while not (message := await talk.hear()).HasField("jobs_over"):
        pass
    assert [job.job_id for job in message.jobs_over.jobs] == [done]
    talk.say(SiteMessage(stored_jobs=StoredJobs(job_ids=[runs, runs, runs, done])))
    while not (message := await talk.hear()).HasField("jobs_over"):
        pass
    assert not message.jobs_over.jobs  # More than are answered.
    await talk.close()


async def test_what_a_site_draws_is_known_while_its_session_lasts(world: World) -> None:
    talk = world.dial()
    await talk.hear()

    async def beat(**power: int) -> None:
        drawn = sitelink_pb2.SitePower(**power) if power else None
        talk.say(SiteMessage(heartbeat=sitelink_pb2.Heartbeat(sequence=1, power=drawn)))
        while not (await talk.hear()).HasField("heartbeat_ack"):
            pass

    await beat(gpu_watts=5_600, nodes=2)
    assert world.sites.power() == {LONDON: Power(5_600, 2)}
    await beat(gpu_watts=-1, nodes=-1)
    assert world.sites.power() == {LONDON: Power(0, 0)}
    await beat(gpu_watts=1 << 60, nodes=3)
    assert world.sites.power() == {LONDON: Power(SITE_WATTS_MAX, 3)}
    await beat()
    assert world.sites.power() == {}
    await beat(gpu_watts=5_600, nodes=2)
    await talk.close()
    assert world.sites.power() == {}


async def test_an_answer_says_which_generation_its_lease_presumes(world: World) -> None:
    talk = world.dial()
    await talk.hear()
    told = (await talk.hear()).desired
    assert len(told.attempts) == 5
    talk.say(SiteMessage(heartbeat=sitelink_pb2.Heartbeat(sequence=7)))
    ack = (await talk.hear()).heartbeat_ack
    assert (ack.sequence, ack.generation) == (7, told.to_generation)
    await talk.close()
