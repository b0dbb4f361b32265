"""The node agent: owns this node's spool, tells the site agent of it, and carries out its orders.

Its only state is the spool: killed at any moment, the next one adopts everything from it. It starts
nothing; ranks are started through Ray, and live and end without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.node import instances, telemetry
from agent.node.attestation import Attester
from agent.node.checkpoints import Checkpoints
from agent.node.clock import boot_id, boot_ms
from agent.node.goods import GoodsShelf
from agent.node.link import NodeLink
from agent.node.notice import SpoolNotice
from agent.node.spool import Cause, Phase, RankStatus, Spool
from agent.node.spool_files import SpoolError
from agent.node.status import Egress
from agent.node.store_expiry import StoreExpiry
from agent.node.visits import Visits
from agent.node.watch import HealthWatch
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1.nodelink_pb2 import (
    LogChunk,
    NodeHello,
    NodeMessage,
    NodePing,
    NodePong,
    NodePower,
    ReadLog,
    SiteOrder,
    SiteWelcome,
    SpoolEntry,
    SpoolReport,
)
from sovshared.limits import CHUNK_BYTES_MAX, SITE_PROTOCOL_VERSION

LOOK_S = 0.5  # While something in the spool lives: a shim that is killed leaves no word of it.
LOOK_AT_ALL_S = 2.0
SETTLE_S = 0.02
"""From the kernel's word to the look: what comes with it is looked at together."""
REPORT_S = 10.0
RETENTION_S = 60.0
CHECKPOINTS_S = 20.0
PING_MS_MIN, PING_MS_MAX = 200, 60_000
PINGS_MAX = 32  # Unanswered ones remembered.

PHASES = {
    Phase.PREPARED: jobs.RANK_PHASE_PREPARED,
    Phase.STARTING: jobs.RANK_PHASE_STARTING,
    Phase.RUNNING: jobs.RANK_PHASE_RUNNING,
    Phase.OVER: jobs.RANK_PHASE_OVER,
}
CAUSES = {
    Cause.EXIT: jobs.RANK_CAUSE_EXIT,
    Cause.STOP: jobs.RANK_CAUSE_STOP,
    Cause.FENCE: jobs.RANK_CAUSE_FENCE,
    Cause.LEASE: jobs.RANK_CAUSE_LEASE,
    Cause.TIME_LIMIT: jobs.RANK_CAUSE_TIME_LIMIT,
    Cause.NEVER_STARTED: jobs.RANK_CAUSE_NEVER_STARTED,
    Cause.LOST: jobs.RANK_CAUSE_LOST,
    Cause.INFRASTRUCTURE: jobs.RANK_CAUSE_INFRASTRUCTURE,
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Which node this is, and what was found out about it at the start."""

    site: str
    slot: str
    version: str
    isolation: str
    metrics_address: str = ""
    """Where monitors scrape it."""


class NodeAgent:
    """One node's agent. Everything that touches the spool runs in a thread, one call at a time."""

    def __init__(
        self,
        place: Place,
        spool: Spool,
        link: NodeLink,
        watch: HealthWatch,
        goods: GoodsShelf,
        attester: Attester | None = None,
        expiry: StoreExpiry | None = None,
    ) -> None:
        self._goods = goods
        self._place = place
        self._attester = attester
        self._expiry = expiry
        self._spool = spool
        self._instances = instances.Names(spool.root)
        self._checkpoints = Checkpoints(spool.root)
        self._link = link
        self._visits = Visits(spool, link)
        self._watch = watch
        self._told: dict[str, jobs.RankStatus] = {}
        self._recalled: set[str] = set()
        self._alive: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()
        self._look_now = asyncio.Event()
        self._held_back = asyncio.Event()
        self._held: frozenset[str] = frozenset()
        self._pinged: dict[int, int] = {}
        self._ping_ms = PING_MS_MAX
        self._sequence = 0

    async def run(self) -> None:
        """Serve for ever. A part that fails ends all of it; the next agent adopts."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(self._report))
            group.create_task(self._link.run(self))
            group.create_task(self._keep_looking())
            group.create_task(self._keep_pinging())
            group.create_task(self._keep_reporting())
            if self._attester is not None:
                group.create_task(self._attester.run())
            if self._expiry is not None:
                group.create_task(self._expiry.run(self._link.say))
            group.create_task(self._keep_retention())
            group.create_task(self._keep_finding_checkpoints())

    def hello(self) -> NodeHello:
        """The first message of a stream."""
        return NodeHello(
            protocol_version=SITE_PROTOCOL_VERSION,
            slot=self._place.slot,
            boot_id=boot_id(),
            agent_version=self._place.version,
        )

    async def welcomed(self, welcome: SiteWelcome) -> None:
        """Tell everything: the node first, then its whole spool."""
        self._ping_ms = min(max(welcome.ping_interval_ms, PING_MS_MIN), PING_MS_MAX)
        self._pinged.clear()
        self._report()
        async with self._turn:
            found = await asyncio.to_thread(self._look)
            self._told = found
            entries = [SpoolEntry(key=key, status=found[key]) for key in sorted(found)]
            self._link.say(NodeMessage(spool=SpoolReport(full=True, entries=entries)))
        self._ping()

    async def obey(self, order: SiteOrder) -> None:
        """One order. What cannot be done is logged: the site repeats what it still wants."""
        try:
            match order.WhichOneof("message"):
                case "stop":
                    cause = Cause.FENCE if order.stop.cause == jobs.RANK_CAUSE_FENCE else Cause.STOP
                    await self._touch(self._stop, order.stop.key, order.stop.grace_ms, cause)
                case "archive":
                    await self._touch(self._archive, order.archive.key)
                case "pong":
                    await self._renew(order.pong)
                case "read_log":
                    chunk = await asyncio.to_thread(self._read_log, order.read_log)
                    self._link.say(NodeMessage(log_chunk=chunk))
                case "list_goods" | "read_goods":
                    self._goods.serve(order, self._link.say)  # A stop never waits for a disk.
                case "open_tunnel":
                    self._visits.open(order.open_tunnel)
                case "jobs_over" if self._expiry is not None:
                    self._expiry.told(order.jobs_over)
                case _:
                    pass  # Something that a newer site agent knows and we do not.
        except (SpoolError, OSError) as error:
            _log.warning("an order was not carried out: %s", error)

    async def _touch(self, act: Callable[..., object], *arguments: object) -> None:
        async with self._turn:
            await asyncio.to_thread(act, *arguments)
        self._look_now.set()

    def _stop(self, key: str, grace_ms: int, cause: Cause) -> None:
        """A site that lost its memory may ask to stop what is archived: it is told of it again."""
        if self._spool.stop(key, grace_ms, cause).archived:
            self._recalled.add(key)

    def _archive(self, key: str) -> None:
        self._spool.archive(key)
        self._recalled.discard(key)

    # Telling.

    async def _keep_looking(self) -> None:
        """Tell of every change in the spool, soon after it happened: the kernel says when ranks
        start and end, and we look now and then besides.
        """
        notice = SpoolNotice(self._spool.root, self._look_now.set)
        try:
            while True:
                self._look_now.clear()
                try:
                    await self._tell_changes()
                    wait_s = LOOK_S if self._alive else LOOK_AT_ALL_S
                except (SpoolError, OSError) as error:
                    _log.warning("the spool could not be read: %s", error)
                    wait_s = LOOK_AT_ALL_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._look_now.wait()
                        await asyncio.sleep(SETTLE_S)
        finally:
            notice.close()

    async def _tell_changes(self) -> None:
        async with self._turn:
            found = await asyncio.to_thread(self._look)
            if self._held:
                self._held_back.set()
            gone = await asyncio.to_thread(self._archived, self._told.keys() - found.keys())
            changed = [k for k in sorted(found) if not same(found[k], self._told.get(k))]
            entries = [SpoolEntry(key=key, status=found[key]) for key in changed]
            entries += [SpoolEntry(key=key, gone=True) for key in sorted(gone)]
            self._told = {k: v for k, v in (self._told | found).items() if k not in gone}
            if entries:
                self._link.say(NodeMessage(spool=SpoolReport(entries=entries)))

    def _look(self) -> dict[str, jobs.RankStatus]:
        recalled = [self._spool.status(key) for key in sorted(self._recalled)]
        statuses = [*self._spool.known(), *(status for status in recalled if status.archived)]
        self._alive = frozenset(s.key for s in statuses if s.phase is not Phase.OVER)
        over = {s.key for s in statuses if s.phase is Phase.OVER and self._told_alive(s.key)}
        self._held = self._checkpoints.held(over, boot_ms())
        told = {s.key: to_proto(s, self._place.slot) for s in statuses}
        told |= {key: self._told[key] for key in self._held}
        for key, at_ms in self._checkpoints.newest_ms.items():
            if key in told:
                told[key].checkpoint_at_ms = at_ms
        return told

    def _told_alive(self, key: str) -> bool:
        return key in self._told and self._told[key].phase != jobs.RANK_PHASE_OVER

    def _archived(self, keys: Iterable[str]) -> frozenset[str]:
        """Those that were put away. A directory that merely vanished is never called over."""
        return frozenset(key for key in keys if self._spool.status(key).archived)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._report()

    def _report(self) -> None:
        place, watch = self._place, self._watch
        gpus = telemetry.Gpus(watch.gpu_uuids(), watch.telemetry, watch.instances())
        try:
            self._instances.write(len(gpus.uuids), gpus.mig)
        except OSError as error:  # Nothing new begins on them: executors know no newer names.
            _log.error("the names of MIG instances cannot be left: %s", error)
        told = telemetry.report(place.slot, gpus, place.isolation, watch.verdict())
        told.metrics_address = place.metrics_address
        if self._attester is not None and self._attester.latest is not None:
            told.attestation.CopyFrom(self._attester.latest)
        self._link.say(NodeMessage(report=told))
        if (watts := watch.gpu_watts()) is not None:
            self._link.say(NodeMessage(power=NodePower(gpu_watts=watts)))

    async def _keep_retention(self) -> None:
        while True:
            async with self._turn:
                try:
                    await asyncio.to_thread(self._spool.enforce_retention)
                except OSError as error:
                    _log.warning("the archive could not be trimmed: %s", error)
            await asyncio.sleep(RETENTION_S)

    async def _keep_finding_checkpoints(self) -> None:
        """What is found is told with the next look. A file system that hangs delays no other. The
        last ones of a rank are kept when it is over, and then its end is told."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECKPOINTS_S):
                    await self._held_back.wait()
            self._held_back.clear()
            if await asyncio.to_thread(self._checkpoints.keep_last):
                self._look_now.set()
            await asyncio.to_thread(self._checkpoints.look, self._alive)

    # Leases: ours is the clock that counts, from when we asked.

    async def _keep_pinging(self) -> None:
        while True:
            await asyncio.sleep(self._ping_ms / 1000)
            self._ping()

    def _ping(self) -> None:
        if not self._link.connected:
            return
        self._sequence += 1
        self._pinged[self._sequence] = boot_ms()
        for oldest in sorted(self._pinged)[:-PINGS_MAX]:
            del self._pinged[oldest]
        self._link.say(NodeMessage(ping=NodePing(sequence=self._sequence)))

    async def _renew(self, pong: NodePong) -> None:
        asked_ms = self._pinged.pop(pong.sequence, None)
        if asked_ms is None:
            return
        for key in sorted(self._alive):
            left_ms = pong.lease_ms.get(key.rpartition(".")[0], 0)
            if left_ms > 0:
                await asyncio.to_thread(self._spool.renew, key, asked_ms + left_ms)

    # Logs.

    def _read_log(self, order: ReadLog) -> LogChunk:
        """A stretch of a log. The status comes first: what a rank wrote before its end is there."""
        status = self._spool.status(order.key)
        if status.phase is Phase.ABSENT:
            return LogChunk(request=order.request, offset=order.offset, unknown=True)
        length = min(max(order.max_bytes, 0), CHUNK_BYTES_MAX)
        offset = max(order.offset, 0)
        part = self._spool.read_log(order.key, offset, length, order.since_ms)
        return LogChunk(
            request=order.request,
            chunk=part.data,
            offset=part.offset,
            over=status.phase is Phase.OVER and part.offset + len(part.data) >= part.total_bytes,
        )


def to_proto(status: RankStatus, slot: str) -> jobs.RankStatus:
    """A rank's status as it crosses the wire."""
    return jobs.RankStatus(
        rank=int(status.key.rpartition(".")[2]),
        node=slot,
        phase=PHASES[status.phase],
        exit_code=status.exit_code,
        signal=status.signal or 0,
        cause=CAUSES[status.cause] if status.cause is not None else None,
        started_at_ms=status.started_wall_ms or 0,
        ended_at_ms=status.ended_wall_ms or 0,
        log_bytes=status.log_bytes,
        detail=status.detail,
        egress=None if status.egress is None else _egress(status.egress),
        outputs=[
            jobs.WrittenOutput(dataset=o.dataset, digest=o.digest, size_bytes=o.size_bytes)
            for o in status.outputs
        ],
    )


def _egress(egress: Egress) -> jobs.RankEgress:
    uses = [
        jobs.EgressUse(connections=connections, sent_bytes=sent, received_bytes=received)
        for connections, sent, received in egress.uses
    ]
    return jobs.RankEgress(denied=egress.denied, uses=uses)


def same(new: jobs.RankStatus, told: jobs.RankStatus | None) -> bool:
    """Whether nothing changed but how much was logged, which alone is not worth a message."""
    if told is None:
        return False
    if new.log_bytes == told.log_bytes:
        return new == told
    level = jobs.RankStatus()
    level.CopyFrom(new)
    level.log_bytes = told.log_bytes
    return level == told
