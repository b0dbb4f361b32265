"""The port through which a site agent starts work: what it asks, what it is told.

Two implementations: `RayDriverProcess` (here; the driver itself is `ray_driver.py`, a process of
its own, because losing Ray's head ends the process that uses it) and the simulator's. Only starting
goes this way. Stops, exits and logs go through the node agents, which need no Ray.

Every call may be repeated. `launch` for a key that was launched, wholly or in part, converges: no
rank runs twice. When it fails, some ranks may have started; the caller stops them through the node
agents, which also gives up the keys that have not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, cast

LINE_BYTES_MAX = 4 * 1024 * 1024
CALLS_MAX = 256  # Calls in flight; one more is refused as retryable.
CALL_TIMEOUT_S = 120.0
BACKOFF_S_FIRST, BACKOFF_S_MAX = 0.5, 15.0
STEADY_S = 30.0  # A driver that lived this long is replaced at once, any other after a pause.
STOP_S = 10.0
WHOLE_MILLI = 1000  # Of a GPU.

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOrder:
    """One rank and its place."""

    rank: int
    node: str  # The node's label in Ray: its slot name.
    node_rank: int
    local_rank: int
    gpus: tuple[int, ...]


NO_KEYS: Mapping[str, Any] = {"secrets": {}, "sealed": {}, "ticket": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOrder:
    """One attempt of a job, placed. `key` is `<job id>.<attempt>`."""

    key: str
    job_id: str
    attempt: int
    ranks: tuple[RankOrder, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    gpus_per_node: int
    num_nodes: int
    isolation: str  # none | pidns | uid
    grace_ms: int
    gpu_milli: int = WHOLE_MILLI  # Of each GPU: less than 1000 of one that is shared.
    mig_profile: str = ""  # Of the one unit on each node: an instance that is cut so.
    bundle_digest: str | None = None
    image: str = ""  # That its ranks run in, by digest.
    bundle_path: str | None = None  # Where the driver reads it, on the site agent's host.
    leased: bool = False
    lease_ms: int | None = None  # What was left of the lease at `given_boot_ms`.
    given_boot_ms: int = 0  # This machine's CLOCK_BOOTTIME.
    time_limit_ms: int | None = None
    signal_before_end: tuple[int, int] | None = (
        None  # Signal number, milliseconds before the limit.
    )
    egress: tuple[str, ...] = ()  # host:port that its ranks may reach.
    ray: bool = False  # Its ranks make a Ray cluster of their own.
    grant: str = ""  # As its nodes check it, in base64.
    inputs: tuple[tuple[str, str, str], ...] = ()  # Dataset, version, mount.
    outputs: tuple[tuple[str, str], ...] = ()  # Dataset, path in the working directory.
    keys: Mapping[str, Any] = field(default_factory=lambda: dict(NO_KEYS))
    """What of it is sealed, as its nodes open it (`KeysAsked`, there)."""


def whole_gpus(order: Mapping[str, Any]) -> int:
    """How many GPUs of each node an order, as plain values, has whole: what Ray is asked to hold.

    A share takes none of Ray's. Ray would choose a GPU for it by itself, not always as the planner
    did, and then lack a whole one that is free. Shares are held by the ranks' shims, and so are
    instances of GPUs that are cut.
    """
    whole = int(order["gpu_milli"]) == WHOLE_MILLI and not order["mig_profile"]
    return int(order["gpus_per_node"]) if whole else 0


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """What became of a launch or release.

    `ok`: every rank was started, now or before (some may be over already). Otherwise `reason` is
    one of the REASON_ constants, and `retryable` says whether the same order may succeed later
    unchanged.
    """

    key: str
    ok: bool
    reason: str = ""
    detail: str = ""
    retryable: bool = False


REASON_DRIVER = "driver_unavailable"  # No driver, or it was lost during the call.
REASON_PLACEMENT = "placement_unavailable"  # Ray could not reserve the nodes in time.
REASON_NODE = "node_unavailable"  # An executor did not answer.
REASON_ORDER = "order_invalid"  # The order cannot be carried out anywhere.
REASON_RANK = "rank_refused"  # A node refused to prepare or start a rank.
REASON_GRANT = "grant_refused"  # A node was shown no grant that lets it start a rank.
REASON_DATA = "data_missing"  # What is to be read is not in the site's store.
REASON_IMAGE = "image_unavailable"  # The image cannot be had from the site's store.
REASON_KEY = "key_withheld"  # A tenant's key service gave a node no key.
REASON_GIVEN_UP = "given_up"  # A key was stopped before it could start.
REASON_INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Reservation:
    """A placement group of ours. `state` is Ray's: PENDING, CREATED, RESCHEDULING."""

    key: str
    state: str


@dataclass(frozen=True, slots=True)
class RayNode:
    """A raylet by label. Not alive is not stopped: what it started may run on."""

    node: str
    alive: bool
    address: str
    detail: str = ""


class ExecutorUnavailable(Exception):
    """The way in is closed for now; ask again."""


class Executor(Protocol):
    """How a site agent starts work."""

    async def launch(self, order: LaunchOrder) -> LaunchResult:
        """Reserve, prepare all, start all; repeatable."""
        ...

    async def reserve(self, key: str, nodes: Sequence[str], gpus: int) -> LaunchResult:
        """Hold an attempt's nodes, first rank's first, with so many whole GPUs of each, ahead of
        its launch. It need not be told: `launch` holds them where this did not. Repeatable.
        """
        ...

    async def release(self, key: str) -> LaunchResult:
        """Give an attempt's reservation back; only when all its ranks are over. Repeatable."""
        ...

    async def reservations(self) -> tuple[Reservation, ...]:
        """Every reservation held, by key. ExecutorUnavailable when nobody can say."""
        ...

    async def nodes(self) -> tuple[RayNode, ...]:
        """Every labelled raylet, dead ones included. ExecutorUnavailable when nobody can say."""
        ...


class RayDriverProcess:
    """Keeps the driver process up and talks JSON lines with it.

    The child is lost whenever Ray's head is; it is started again for as long as this runs, at once
    and then with a back-off, and calls in flight fail as retryable.
    """

    def __init__(self, config: Mapping[str, object], *, environment: Mapping[str, str]) -> None:
        """`config` is the driver's (see `ray_driver`); `environment` is all it gets to
        see.
        """
        self._config = dict(config)
        self._environment = dict(environment)
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.restarts = 0

    async def __aenter__(self) -> RayDriverProcess:
        self._task = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def pid(self) -> int | None:
        """The driver's pid while there is one."""
        return self._process.pid if self._process is not None else None

    async def wait_ready(self) -> None:
        """Until a driver is connected to Ray."""
        await self._ready.wait()

    async def launch(self, order: LaunchOrder) -> LaunchResult:
        """See `Executor.launch`."""
        return await self._do("launch", order.key, {"order": _plain(order)})

    async def reserve(self, key: str, nodes: Sequence[str], gpus: int) -> LaunchResult:
        """See `Executor.reserve`."""
        params = {"key": key, "nodes": list(nodes), "gpus": gpus}
        return await self._do("reserve", key, params)

    async def release(self, key: str) -> LaunchResult:
        """See `Executor.release`."""
        return await self._do("release", key, {"key": key})

    async def reservations(self) -> tuple[Reservation, ...]:
        """See `Executor.reservations`."""
        answer = await self._call("reservations", {})
        return tuple(Reservation(**row) for row in cast("list[dict[str, Any]]", answer["rows"]))

    async def nodes(self) -> tuple[RayNode, ...]:
        """See `Executor.nodes`."""
        answer = await self._call("nodes", {})
        return tuple(RayNode(**row) for row in cast("list[dict[str, Any]]", answer["rows"]))

    async def _do(self, method: str, key: str, params: Mapping[str, object]) -> LaunchResult:
        try:
            answer = await self._call(method, params)
        except ExecutorUnavailable as lost:
            return LaunchResult(key, False, REASON_DRIVER, str(lost), retryable=True)
        except ValueError as error:
            return LaunchResult(key, False, REASON_ORDER, str(error))
        return LaunchResult(**answer)

    async def _call(self, method: str, params: Mapping[str, object]) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or not self._ready.is_set():
            raise ExecutorUnavailable("the Ray driver is not up")
        if len(self._calls) >= CALLS_MAX:
            raise ExecutorUnavailable(f"{CALLS_MAX} calls to the Ray driver are in flight")
        self._next += 1
        number = self._next
        line = json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"
        if len(line) > LINE_BYTES_MAX:
            raise ValueError(f"{method} takes {len(line)} bytes: at most {LINE_BYTES_MAX}")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[number] = answer
        try:
            process.stdin.write(line)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await process.stdin.drain()
                return await answer
        except TimeoutError:
            raise ExecutorUnavailable(f"no answer to {method} in {CALL_TIMEOUT_S:.0f} s") from None
        except (BrokenPipeError, ConnectionResetError):
            raise ExecutorUnavailable("the Ray driver was lost") from None
        finally:
            del self._calls[number]

    async def _supervise(self) -> None:
        backoff_s = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._run_once()
            finally:
                self._ready.clear()
                self._process = None
                for call in self._calls.values():
                    if not call.done():
                        call.set_exception(ExecutorUnavailable("the Ray driver was lost"))
            backoff_s = 0.0 if clock() - began > STEADY_S else backoff_s
            self.restarts += 1
            await asyncio.sleep(backoff_s)
            backoff_s = min(max(2 * backoff_s, BACKOFF_S_FIRST), BACKOFF_S_MAX)

    async def _run_once(self) -> None:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent.site.ray_driver"),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=self._environment,
            limit=LINE_BYTES_MAX,
            start_new_session=True,
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        chatter = asyncio.create_task(_pass_on(process.stderr))
        try:
            process.stdin.write(json.dumps(self._config).encode() + b"\n")
            await self._read_answers(process.stdout)
        except (ValueError, KeyError, TypeError, ConnectionError) as error:
            _log.warning("the Ray driver broke the protocol: %s", error)
        finally:
            await asyncio.shield(_end(process))
            chatter.cancel()
        _log.warning("the Ray driver ended with %s", process.returncode)

    async def _read_answers(self, stream: asyncio.StreamReader) -> None:
        """Hand answers to their callers until the end of the stream. A late answer has no
        caller.
        """
        while line := await stream.readline():
            message = cast("dict[str, Any]", json.loads(line))
            if "ready" in message:
                self._ready.set()
                continue
            call = self._calls.get(message["id"])
            if call is None or call.done():
                continue
            if "error" in message:
                call.set_exception(ExecutorUnavailable(str(message["error"])))
            else:
                call.set_result(message["result"])


def _plain(order: LaunchOrder | RankOrder) -> dict[str, Any]:
    """As JSON takes it. `asdict` copies all of it for safety, and takes ten times as long."""
    plain = {field.name: getattr(order, field.name) for field in fields(order)}
    if isinstance(order, LaunchOrder):
        plain |= {"ranks": [_plain(rank) for rank in order.ranks], "env": dict(order.env)}
    return plain


async def _pass_on(stream: asyncio.StreamReader) -> None:
    """The driver's own words, and Ray's, into our log."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:  # A line over the limit: skip what is buffered.
            line = b"(a line too long to show)\n"
        if not line:
            return
        _log.info("ray driver: %s", line.decode(errors="replace").rstrip()[:2000])


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the driver's input, which ends it; kill it, and only it, if that takes too long."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
