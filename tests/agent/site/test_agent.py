"""The site agent carries out what its machine asks for, and says truly how it ended."""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from agent.site import events as ev
from agent.site.agent import Hands, Inbox, OrderInvalid, SiteAgent, order_of
from agent.site.bundles import BundleCache, BundleFailed
from agent.site.executor import (
    ExecutorUnavailable,
    LaunchOrder,
    LaunchResult,
    RayNode,
    Reservation,
)
from agent.site.granted import SiteGrants
from agent.site.guard import Guard
from agent.site.journal import JournalFile
from agent.site.machine import SiteMachine
from agent.site.nodelink import NodeLinkServer
from agent.site.session import ControlSession
from agent.site.state import Archive, StopRank
from sovapi.v1 import common_pb2 as common
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.nodelink_pb2 import SpoolEntry, SpoolReport
from sovapi.v1.sitelink_pb2 import Launch, NodeReport
from tests.agent.site.builders import BOOT, FORGET, desired, launch, over, row, running
from tests.agent.site.test_guard import NOW_MS, asking, site
from tests.agent.waiting import until
from tests.shared.granting import Granting

SLOTS = ("n01", "n02")


class Cell:
    """An executor that holds reservations in memory and starts what it is told to."""

    def __init__(self) -> None:
        self.orders: list[LaunchOrder] = []
        self.held: set[str] = set()
        self.away = False

    async def launch(self, order: LaunchOrder) -> LaunchResult:
        self.orders.append(order)
        self.held.add(order.key)
        return LaunchResult(order.key, True)

    async def reserve(self, key: str, nodes: Sequence[str], gpus: int) -> LaunchResult:
        del nodes, gpus
        self.held.add(key)
        return LaunchResult(key, True)

    async def release(self, key: str) -> LaunchResult:
        self.held.discard(key)
        return LaunchResult(key, True)

    async def reservations(self) -> tuple[Reservation, ...]:
        return tuple(Reservation(key, "CREATED") for key in sorted(self.held))

    async def nodes(self) -> tuple[RayNode, ...]:
        if self.away:
            raise ExecutorUnavailable("no driver")
        return tuple(RayNode(slot, True, "127.0.0.1") for slot in SLOTS)


class Session:
    """A session that remembers what was said and has no bundles."""

    def __init__(self) -> None:
        self.said: list[ev.SendReport] = []

    async def run(self) -> None:
        await asyncio.Event().wait()

    def say(self, instruction: ev.SendReport | ev.SendHeartbeat) -> None:
        if isinstance(instruction, ev.SendReport):
            self.said.append(instruction)

    async def fetch_bundle(self, digest: str, job_id: str, attempt: int) -> AsyncIterator[bytes]:
        raise BundleFailed(f"bundle: {digest} of {job_id}.{attempt} is gone", retryable=False)
        yield b""

    def phase(self) -> sitelink.AttemptPhase:
        phases = [a.phase for said in self.said for a in said.report.attempts]
        return phases[-1] if phases else sitelink.ATTEMPT_PHASE_UNSPECIFIED

    def detail(self) -> str:
        return [a.detail for said in self.said for a in said.report.attempts][-1]


class Nodes:
    """The server of the node agents, as far as orders go."""

    def __init__(self) -> None:
        self.orders: list[StopRank | Archive | ev.SendPong] = []

    def order(self, instruction: StopRank | Archive | ev.SendPong) -> None:
        self.orders.append(instruction)


class Site:
    """A running agent and everything around it."""

    def __init__(self, root: Path) -> None:
        self.facts = root / "facts.yaml"
        self.facts.write_text(site().model_dump_json())
        self.cell, self.session, self.nodes, self.inbox = Cell(), Session(), Nodes(), Inbox()
        guard = Guard(self.facts, "exch-a", lambda: NOW_MS)
        journal = JournalFile(root / "state")
        self.granting = Granting()
        self.grants = SiteGrants(
            self.granting.trust(root / "trust.pem"),
            site="exch-a",
            trust_domain=self.granting.ca.trust_domain,
            seen=root / "grants.json",
            utc_now_ms=lambda: NOW_MS,
        )
        self.machine = SiteMachine(journal.load(), judge=guard, grants=self.grants, now_ms=0)
        hands = Hands(
            journal=journal,
            guard=guard,
            executor=self.cell,
            nodes=cast("NodeLinkServer", self.nodes),
            session=cast("ControlSession", self.session),
            bundles=BundleCache(root / "bundles"),
        )
        loop = asyncio.get_running_loop()
        self.agent = SiteAgent(self.machine, hands, self.inbox, lambda: int(loop.time() * 1000))

    def spool(self, slot: str, *ranks: jobs.RankStatus) -> None:
        """The node agent in `slot` connects and tells of these ranks."""
        entries = [SpoolEntry(key=f"job-a.1.{rank.rank}", status=rank) for rank in ranks]
        self.inbox.put(ev.NodeConnected(slot, BOOT))
        facts = NodeReport(slot=slot, isolation=common.ISOLATION_UID)
        self.inbox.put(ev.NodeReported(slot, facts))
        self.inbox.put(ev.SpoolReported(slot, SpoolReport(full=True, entries=entries)))

    def ask(self, what: Launch) -> None:
        self.inbox.put(ev.Connected(heartbeat_interval_ms=5_000, lease_ms=60_000))
        for slot in SLOTS:
            self.spool(slot)
        granted = self.granting.row(row(what=what), NOW_MS, site="exch-a")
        self.inbox.put(ev.DesiredReceived(desired(granted, to=1)))


@asynccontextmanager
async def running_site(root: Path) -> AsyncGenerator[Site]:
    made = Site(root)
    task = asyncio.create_task(made.agent.run())
    try:
        yield made
    finally:
        if task.done():
            task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_attempt_lives_from_desire_to_oblivion(tmp_path: Path) -> None:
    async with running_site(tmp_path) as made:
        made.ask(asking())
        (order,) = await until(lambda: made.cell.orders)
        assert [(rank.rank, rank.node, rank.gpus) for rank in order.ranks] == [
            (0, "n01", (0,)),
            (1, "n02", (0,)),
        ]
        for number, slot in enumerate(SLOTS):
            made.spool(slot, running(number))
        await until(lambda: made.session.phase() == sitelink.ATTEMPT_PHASE_RUNNING)
        for number, slot in enumerate(SLOTS):
            made.spool(slot, over(number))
        await until(lambda: made.session.phase() == sitelink.ATTEMPT_PHASE_ENDED)
        await until(lambda: not made.cell.held)
        forget = row(FORGET, generation=2)
        made.inbox.put(ev.DesiredReceived(desired(forget, to=2, since=1)))
        await until(lambda: sum(isinstance(o, Archive) for o in made.nodes.orders) >= 2)
        for slot in SLOTS:
            made.spool(slot)
        await until(lambda: not made.machine.journal.rows)
    assert JournalFile(tmp_path / "state").load().generation == 2
    assert len(made.cell.orders) == 1


async def test_facts_that_change_before_the_launch_are_heeded(tmp_path: Path) -> None:
    async with running_site(tmp_path) as made:
        made.cell.away = True
        made.ask(asking())
        await until(lambda: made.session.phase() == sitelink.ATTEMPT_PHASE_ACCEPTED)
        made.facts.write_text(site(country=None).model_dump_json())
        made.cell.away = False
        await until(lambda: made.nodes.orders)
        assert {o.key for o in made.nodes.orders if isinstance(o, StopRank)} == {
            "job-a.1.0",
            "job-a.1.1",
        }
    assert made.cell.orders == []
    verdict = JournalFile(tmp_path / "state").load().memory["job-a.1"].verdict
    assert verdict is not None
    assert verdict.reason == "GUARD_REFUSED"
    assert "country is not stated" in verdict.detail


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        pytest.param({"bundle_digest": "sha256:" + "0" * 64}, "is gone", id="no such bundle"),
        pytest.param(
            {"signal_before_end": {"signal": "NONE", "before_ms": 1}},
            "launch.signal_before_end",
            id="no such signal",
        ),
    ],
)
async def test_a_launch_that_cannot_be_had_is_given_up_with_its_reason(
    tmp_path: Path, changed: dict[str, object], detail: str
) -> None:
    async with running_site(tmp_path) as made:
        what = asking()
        what.MergeFrom(Launch(**changed))  # type: ignore[arg-type]
        made.ask(what)
        await until(lambda: len({o.key for o in made.nodes.orders if isinstance(o, StopRank)}) == 2)
        for number, slot in enumerate(SLOTS):
            made.spool(slot, over(number, jobs.RANK_CAUSE_NEVER_STARTED))
        await until(lambda: made.session.phase() == sitelink.ATTEMPT_PHASE_FAILED_TO_START)
        assert detail in made.session.detail()
    assert made.cell.orders == []


def test_a_launch_is_put_into_the_executors_words() -> None:
    what = launch("n01", tasks=2, leased=True)
    what.time_limit_ms = 60_000
    what.signal_before_end.signal = "USR1"
    what.signal_before_end.before_ms = 5_000
    what.bundle_digest = "sha256:" + "a" * 64
    what.image = "sha256:" + "b" * 64
    order = order_of(ev.LaunchAttempt("job-a.1", what, 9, common.ISOLATION_PIDNS), "/b", 9, 5)
    assert (order.job_id, order.attempt, order.num_nodes) == ("job-a", 1, 1)
    assert (order.isolation, order.time_limit_ms) == ("pidns", 60_000)
    assert (order.lease_ms, order.given_boot_ms) == (9, 5)
    assert (order.bundle_digest, order.bundle_path) == ("a" * 64, "/b")
    assert order.image == "sha256:" + "b" * 64
    assert order.signal_before_end == (signal.SIGUSR1, 5_000)
    what.signal_before_end.signal = "BOOM"
    with pytest.raises(OrderInvalid, match="found 'BOOM'"):
        order_of(ev.LaunchAttempt("job-a.1", what, 9, common.ISOLATION_UID), None, 9, 5)
