"""The site agent: carries out what the machine asks for, and tells it what became of it.

Owns no decision. Killed at any moment it loses nothing: the journal and the nodes' spools have all,
and the jobs run on without it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never, cast

from agent.site import events as ev
from agent.site.bundles import BundleCache, BundleFailed, hex_of
from agent.site.executor import (
    REASON_DATA,
    REASON_GRANT,
    REASON_IMAGE,
    REASON_KEY,
    WHOLE_MILLI,
    Executor,
    ExecutorUnavailable,
    LaunchOrder,
    RankOrder,
    whole_gpus,
)
from agent.site.granted import REASON as GRANT_REFUSED
from agent.site.guard import Guard
from agent.site.journal import JournalFile, JournalUnwritable
from agent.site.machine import FIRST_LEASE_MS_MAX, SiteMachine
from agent.site.nodelink import NodeLinkServer
from agent.site.session import ControlSession
from agent.site.state import Archive, Release, StopRank, ranks_of
from sovapi.v1 import common_pb2 as common
from sovapi.v1.sitelink_pb2 import Launch

TICK_MS = 200
EVENTS_MAX = 100_000  # Waiting; more can only mean that this agent is stuck, and it ends.
BATCH_MAX = 512
RAY_LOOK_S = 1.0

LEVELS = {
    common.ISOLATION_NONE: "none",
    common.ISOLATION_PIDNS: "pidns",
    common.ISOLATION_UID: "uid",
    common.ISOLATION_CONTAINER: "uid",  # The most that a shim gives.
}
REFUSED = {
    REASON_GRANT: GRANT_REFUSED,
    REASON_DATA: "DATA_MISSING",
    REASON_IMAGE: "IMAGE_UNAVAILABLE",
    REASON_KEY: "KEY_WITHHELD",
}
"""What a node refused that is for the control plane to know as such."""
_log = logging.getLogger(__name__)


class Inbox:
    """Events in the order they came, for the one task that feeds the machine."""

    def __init__(self) -> None:
        self._events: deque[ev.Event] = deque()
        self._arrived = asyncio.Event()

    def put(self, event: ev.Event) -> None:
        """Add one."""
        assert len(self._events) < EVENTS_MAX, "events come faster than they are taken in"
        self._events.append(event)
        self._arrived.set()

    async def take(self, wait_s: float) -> list[ev.Event]:
        """What is there, at once or within `wait_s`; otherwise nothing."""
        if not self._events:
            self._arrived.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._arrived.wait()
            except TimeoutError:
                return []
        return [self._events.popleft() for _ in range(min(len(self._events), BATCH_MAX))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """Everything that the machine's instructions are carried out with."""

    journal: JournalFile
    guard: Guard
    executor: Executor
    nodes: NodeLinkServer
    session: ControlSession
    bundles: BundleCache


class SiteAgent:
    """Runs one machine."""

    def __init__(
        self, machine: SiteMachine, hands: Hands, inbox: Inbox, boot_ms: Callable[[], int]
    ) -> None:
        self._machine = machine
        self._hands = hands
        self._inbox = inbox
        self._boot_ms = boot_ms
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Serve until cancelled. A part that fails ends all of it: the supervisor starts anew."""
        async with self._group as group:
            group.create_task(self._hands.session.run())
            group.create_task(self._keep_looking_at_ray())
            while True:
                rest_ms = self._machine.rest_ms(self._boot_ms(), TICK_MS)
                events = await self._inbox.take(rest_ms / 1000) or [ev.Tick()]
                for instruction in self._machine.step(events, self._boot_ms()):
                    self._carry_out(instruction)

    def _carry_out(self, instruction: ev.Instruction) -> None:
        match instruction:
            case ev.Persist():
                self._group.create_task(self._persist(instruction))
            case ev.Reserve():
                self._group.create_task(self._reserve(instruction))
            case ev.LaunchAttempt():
                self._group.create_task(self._launch(instruction))
            case Release():
                self._group.create_task(self._release(instruction.key))
            case StopRank() | Archive() | ev.SendPong():
                self._hands.nodes.order(instruction)
            case ev.SendReport() | ev.SendHeartbeat():
                self._hands.session.say(instruction)
            case ev.Note():
                _log.warning("%s", instruction.text)
            case _:
                assert_never(instruction)

    async def _persist(self, instruction: ev.Persist) -> None:
        try:
            await asyncio.to_thread(self._hands.journal.store, instruction.journal)
        except JournalUnwritable as error:
            self._inbox.put(ev.PersistFailed(instruction.version, str(error)))
        else:
            self._inbox.put(ev.Persisted(instruction.version))

    async def _reserve(self, instruction: ev.Reserve) -> None:
        launch = instruction.launch
        slots = tuple(node.slot for node in launch.nodes)
        shape = {
            "gpus_per_node": launch.gpus_per_node,
            "gpu_milli": gpu_milli(launch),
            "mig_profile": launch.mig_profile,
        }
        await self._hands.executor.reserve(instruction.key, slots, whole_gpus(shape))
        self._inbox.put(ev.ReserveFinished(instruction.key))

    async def _release(self, key: str) -> None:
        result = await self._hands.executor.release(key)
        if not result.ok:
            _log.warning("%s was not released: %s %s", key, result.reason, result.detail)
        self._inbox.put(ev.Released(key, result.ok))

    async def _launch(self, instruction: ev.LaunchAttempt) -> None:
        """Fetch, ask the guard once more if that took time, launch; whatever happens, say how it
        ended.
        """
        key, launch = instruction.key, instruction.launch
        try:
            path = await self._bundle(key, launch)
            isolation = {node.slot: instruction.isolation for node in launch.nodes}
            if path and (refusal := self._hands.guard(launch, isolation)) is not None:
                finished = ev.LaunchFinished(key, False, refusal.detail, refused=refusal.reason)
                self._inbox.put(finished)
                return
            given_boot_ms = self._boot_ms()  # First: between the two we may be stopped.
            lease_ms = self._lease_ms(instruction, given_boot_ms)
            if lease_ms == 0:
                self._inbox.put(ev.LaunchFinished(key, False, "its lease lapsed meanwhile"))
                return
            order = order_of(instruction, path, lease_ms, given_boot_ms)
        except BundleFailed as error:
            finished = ev.LaunchFinished(key, False, str(error), retryable=error.retryable)
            self._inbox.put(finished)
            return
        except OrderInvalid as error:
            self._inbox.put(ev.LaunchFinished(key, False, str(error), retryable=False))
            return
        result = await self._hands.executor.launch(order)
        detail = "" if result.ok else f"{result.reason}: {result.detail}"
        refused = REFUSED.get(result.reason, "")
        finished = ev.LaunchFinished(
            key, result.ok, detail, retryable=result.retryable, refused=refused
        )
        self._inbox.put(finished)

    async def _bundle(self, key: str, launch: Launch) -> str | None:
        if not launch.bundle_digest:
            return None
        job_id, _, attempt = key.rpartition(".")
        path = await self._hands.bundles.get(
            launch.bundle_digest,
            lambda: self._hands.session.fetch_bundle(launch.bundle_digest, job_id, int(attempt)),
        )
        return str(path)

    def _lease_ms(self, instruction: ev.LaunchAttempt, now_ms: int) -> int | None:
        """What is left of the lease now: fetching took its time."""
        if instruction.lease_ms is None:
            return None
        left_ms = self._machine.lease_left_ms(now_ms)
        return min(left_ms, FIRST_LEASE_MS_MAX)

    async def _keep_looking_at_ray(self) -> None:
        while True:
            try:
                nodes = await self._hands.executor.nodes()
                held = await self._hands.executor.reservations()
                alive = frozenset(node.node for node in nodes if node.alive)
                self._inbox.put(ev.RuntimeChanged(alive))
                self._inbox.put(ev.ReservationsSeen(frozenset(row.key for row in held)))
            except ExecutorUnavailable:
                self._inbox.put(ev.RuntimeChanged(None))
                self._inbox.put(ev.ReservationsSeen(None))
            await asyncio.sleep(RAY_LOOK_S)


class OrderInvalid(Exception):
    """A launch asks for what this release cannot give; the message names the field."""


def order_of(
    instruction: ev.LaunchAttempt,
    bundle_path: str | None,
    lease_ms: int | None,
    given_boot_ms: int,
) -> LaunchOrder:
    """A launch in the executor's words."""
    launch = instruction.launch
    job_id, _, attempt = instruction.key.rpartition(".")
    ranks = tuple(
        RankOrder(
            rank=rank.number,
            node=rank.slot,
            node_rank=rank.node_rank,
            local_rank=rank.local_rank,
            gpus=rank.gpus,
        )
        for rank in ranks_of(instruction.key, launch)
    )
    return LaunchOrder(
        key=instruction.key,
        job_id=job_id,
        attempt=int(attempt),
        ranks=ranks,
        argv=tuple(launch.command),
        env=dict(launch.env),
        gpus_per_node=launch.gpus_per_node,
        num_nodes=len(launch.nodes),
        gpu_milli=gpu_milli(launch),
        mig_profile=launch.mig_profile,
        isolation=LEVELS.get(cast("common.Isolation", instruction.isolation), "none"),
        grace_ms=launch.stop_grace_ms,
        bundle_digest=hex_of(launch.bundle_digest) if launch.bundle_digest else None,
        bundle_path=bundle_path,
        image=launch.image,
        leased=launch.leased,
        lease_ms=lease_ms,
        given_boot_ms=given_boot_ms,
        time_limit_ms=launch.time_limit_ms or None,
        signal_before_end=_warning(launch),
        egress=tuple(launch.egress),
        ray=launch.ray,
        grant=base64.b64encode(launch.grant).decode(),
        inputs=tuple((i.dataset, i.version, i.mount) for i in launch.inputs),
        outputs=tuple((o.dataset, getattr(o, "from")) for o in launch.outputs),
        keys={
            "secrets": dict(launch.secrets),
            "sealed": {
                variable: base64.b64encode(value).decode()
                for variable, value in launch.sealed_secrets.items()
            },
            "ticket": base64.b64encode(launch.key_ticket).decode(),
        },
    )


def gpu_milli(launch: Launch) -> int:
    """How much of each GPU it has."""
    return launch.gpu_share_milli or WHOLE_MILLI


def _warning(launch: Launch) -> tuple[int, int] | None:
    """The signal before the time limit, by number."""
    if not launch.HasField("signal_before_end"):
        return None
    name = launch.signal_before_end.signal
    try:
        number = signal.Signals[f"SIG{name.removeprefix('SIG')}"]
    except KeyError as error:
        found = f"found {name[:40]!r}, allowed a signal's name such as USR1"
        raise OrderInvalid(f"launch.signal_before_end.signal: {found}") from error
    return int(number), launch.signal_before_end.before_ms
