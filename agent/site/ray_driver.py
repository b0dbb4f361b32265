"""The site's Ray driver: the only importer of ray, a process of its own, stateless.

Reads one line of JSON with its configuration (`address` of the head, optionally `reserve_ms`, how
long to wait for nodes), then one call a line; answers one line a call, in any
order. Losing Ray's head ends this process (Ray sees to it, and `watch` if Ray does not); the site
agent starts another, which finds everything by name: the placement group `<job>.<attempt>`, the
executor `executor/<node>`. Ends when its input does.

`launch` is: reserve the nodes (unless `reserve` did so ahead of it), start every rank. Where ranks
must be told what only their nodes know (a port of the node's own network, the moment that a lease
is counted from), or need a bundle, all are prepared before one starts. Each step is a swap or
idempotent, so a launch cut off anywhere is simply done again. It stops nothing: what a failed
launch left is stopped by the site agent through the node agents, and its reservation released after
that.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import ray
from ray import util
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RaySystemError, RayTaskError
from ray.util import get_placement_group, placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup

from agent.node.asked import Hello, Prepared, RankSpec
from agent.node.clock import boot_ms
from agent.node.executor import ExecutorError, ResidentExecutor
from agent.site import executor as port
from agent.site.ahead import Ahead
from agent.site.driver_calls import Method, serve
from agent.site.launch_order import (
    ATTEMPT_KEY,
    Failed,
    Rank,
    first_line,
    ranks_of,
    result,
    starts_at_once,
)
from agent.site.rank_specs import meeting_places, rank_specs
from agent.site.watch import Watch

NAMESPACE = "sov"
EXECUTOR_CALLS = 64  # Calls one executor serves at once.
RESERVE_MS = 20_000  # Unless the configuration says otherwise.
STEP_S = 45.0  # Preparing or starting all ranks of a gang, an executor's restart included.
ATTEMPT_S = 25.0  # One try of it, above the time a shim is given to come up.
RETRY_PAUSE_S = 0.3
REMOVE_S = 10.0
BUNDLE_PART_BYTES = 4 << 20
WATCH_EVERY_S = 2.0
GCS_SILENT_S = 20.0  # Ray gives up by itself before that when configured as this project does.

Asked: TypeAlias = tuple[Rank, Any]  # The reference of a call about it.


class Driver:
    """What the calls do. Thread-safe; holds nothing but handles that can be had again."""

    def __init__(self, reserve_ms: int) -> None:
        self._reserve_ms = reserve_ms
        self._executors: dict[str, Any] = {}
        self._hellos: dict[str, Hello] = {}
        self._ahead = Ahead()
        self._lock = threading.Lock()

    def executor(self, node: str) -> Any:
        """The resident executor of a node; made if it does not exist. Never waits."""
        with self._lock:
            if node not in self._executors:
                actor = cast("Any", ray.remote(ResidentExecutor))
                self._executors[node] = actor.options(
                    name=f"executor/{node}",
                    lifetime="detached",
                    get_if_exists=True,
                    num_cpus=0,
                    num_gpus=0,
                    max_restarts=-1,
                    max_task_retries=0,
                    max_concurrency=EXECUTOR_CALLS,
                    label_selector={"node": node},
                ).remote()
            return self._executors[node]

    def forget_executor(self, node: str) -> None:
        """Ask for its handle again next time, and for what it says of itself."""
        with self._lock:
            self._executors.pop(node, None)
            self._hellos.pop(node, None)

    def warm(self) -> None:
        """Have an executor on every live node before the first launch asks for it."""
        for row in self.nodes({})["rows"]:
            if row["alive"]:
                self.executor(row["node"])

    def launch(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `executor.Executor.launch`."""
        order = cast("Mapping[str, Any]", params["order"])
        key = str(order["key"])
        try:
            ranks = ranks_of(order)
            at_once = starts_at_once(order)
            asked = [] if at_once else self._ask_to_prepare(order, ranks)
            self._reserve(order, ranks)
            nodes = meeting_places(ranks, self._hellos_of(order, ranks))
            prepared: dict[str, tuple[Prepared, int]] = {}
            if not at_once or len(nodes) < order["num_nodes"] > 1:
                prepared = self._prepare(order, ranks, asked)
                self._deliver_bundle(order, ranks, prepared)
            self._start(rank_specs(order, ranks, nodes, prepared), ranks)
        except Failed as failed:
            return result(key, failed.reason, failed.detail, retryable=failed.retryable)
        except RayError as error:
            return result(key, port.REASON_NODE, first_line(error), retryable=True)
        return result(key)

    def reserve(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `executor.Executor.reserve`. What comes of it is kept for the launch."""
        if (outcome := self._ahead.begin(key := str(params["key"]))) is None:
            return result(key)
        try:
            reserve(key, params["nodes"], int(params["gpus"]), self._reserve_ms)
        except Exception as failed:
            outcome.set_exception(failed)
            raise
        outcome.set_result(None)
        return result(key)

    def _reserve(self, order: Mapping[str, Any], ranks: Sequence[Rank]) -> None:
        """Hold the order's nodes, unless that was done ahead or is being done."""
        if (outcome := self._ahead.take(str(order["key"]))) is not None:
            return outcome.result()
        nodes = [*dict(sorted((rank.order["node_rank"], rank.node) for rank in ranks)).values()]
        reserve(str(order["key"]), nodes, port.whole_gpus(order), self._reserve_ms)

    def _hellos_of(self, order: Mapping[str, Any], ranks: Sequence[Rank]) -> Mapping[str, Hello]:
        """What the nodes of a gang said of themselves, by node; asked of each once."""
        if order["num_nodes"] == 1 or order["isolation"] == "none":
            return {}
        with self._lock:
            known = {r.node: self._hellos[r.node] for r in ranks if r.node in self._hellos}
        lacking = [*{r.node: r for r in ranks if r.node not in known}.values()]
        answers = self._everywhere("hello", lacking, lambda actor, _: actor.hello.remote())
        told = {rank.node: cast("Hello", answers[rank.key]) for rank in lacking}
        with self._lock:
            self._hellos |= told
        return known | told

    def _ask_to_prepare(self, order: Mapping[str, Any], ranks: Sequence[Rank]) -> list[Asked]:
        """Room is made while Ray still reserves: it is no rank's yet, and stopping gives it up."""
        with self._lock:
            if any(rank.node not in self._executors for rank in ranks):
                return []  # To ask for one is to make it.
        digest = order["bundle_digest"]
        return [(r, self.executor(r.node).prepare.remote(r.key, digest)) for r in ranks]

    def _prepare(
        self, order: Mapping[str, Any], ranks: Sequence[Rank], asked: Sequence[Asked]
    ) -> dict[str, tuple[Prepared, int]]:
        """Prepare every rank; its answer, and our boot time when all had answered."""
        digest = order["bundle_digest"]
        answers = self._everywhere(
            "prepare", ranks, lambda actor, rank: actor.prepare.remote(rank.key, digest), asked
        )
        now = boot_ms()
        return {key: (cast("Prepared", answers[key]), now) for key in answers}

    def _deliver_bundle(
        self,
        order: Mapping[str, Any],
        ranks: Sequence[Rank],
        prepared: Mapping[str, tuple[Prepared, int]],
    ) -> None:
        """Hand the bundle, part by part, to the nodes that lack it."""
        lacking = {rank.node: rank for rank in ranks if not prepared[rank.key][0]["has_bundle"]}
        if not lacking:
            return
        digest, path = order["bundle_digest"], order["bundle_path"]
        if path is None or not Path(path).is_file():
            # Gone again since it was fetched, to make room for others: the next try fetches it.
            gone = path is not None
            raise Failed(port.REASON_ORDER, f"bundle {digest}: no file at {path}", retryable=gone)
        one_each = list(lacking.values())
        with open(path, "rb") as file:
            offset = 0
            while part := file.read(BUNDLE_PART_BYTES):
                self._everywhere(
                    "bundle",
                    one_each,
                    lambda actor, _, at=offset, what=part: actor.put_bundle.remote(
                        digest, at, what
                    ),
                )
                offset += len(part)
        self._everywhere("bundle", one_each, lambda actor, _: actor.seal_bundle.remote(digest))

    def _start(self, specs: Mapping[str, RankSpec], ranks: Sequence[Rank]) -> None:
        """Start every rank. One that was given up fails the launch: the gang can never be whole."""
        statuses = self._everywhere(
            "start", ranks, lambda actor, rank: actor.start.remote(rank.key, dict(specs[rank.key]))
        )
        for key in sorted(statuses):
            status = cast("Mapping[str, Any]", statuses[key])
            if status["cause"] == "never_started":
                detail = f"rank {key} was given up before it ran"
                raise Failed(port.REASON_GIVEN_UP, detail, retryable=False)

    def _everywhere(
        self,
        step: str,
        ranks: Sequence[Rank],
        call: Callable[[Any, Rank], Any],
        asked: Sequence[Asked] = (),
    ) -> dict[str, Any]:
        """`call` for each rank on its node's executor, all at once; answers by rank key. `asked`:
        such calls that were made already.

        An executor that is away 'may or may not have run' the call: the same call is made again,
        which the executor's idempotence allows. What it refuses is final.
        """
        answers: dict[str, Any] = {}
        give_up_at = time.monotonic() + STEP_S
        while missing := [rank for rank in ranks if rank.key not in answers]:
            asked = asked or [(rank, call(self.executor(rank.node), rank)) for rank in missing]
            try_until = min(give_up_at, time.monotonic() + ATTEMPT_S)
            trouble = ""
            for rank, reference in asked:
                try:
                    wait_s = max(0.0, try_until - time.monotonic())
                    answers[rank.key] = ray.get(reference, timeout=wait_s)
                except (RayActorError, GetTimeoutError) as error:
                    trouble = f"{step} on {rank.node}: {first_line(error)}"
                    self.forget_executor(rank.node)
                except RayTaskError as error:
                    self.forget_executor(rank.node)  # What it told us may be what it refuses.
                    raise refused(f"{step} of {rank.key} on {rank.node}", error) from error
            asked = ()
            if trouble and time.monotonic() >= give_up_at:
                raise Failed(port.REASON_NODE, trouble, retryable=True)
            if trouble:
                time.sleep(RETRY_PAUSE_S)
        return answers

    def release(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `executor.Executor.release`."""
        self._ahead.take(key := str(params["key"]))
        group = find_group(key)
        if group is None:
            return result(key)
        remove_placement_group(group)
        give_up_at = time.monotonic() + REMOVE_S
        while any(row["key"] == key for row in self.reservations({})["rows"]):
            if time.monotonic() >= give_up_at:
                detail = f"reservation {key} is not gone after {REMOVE_S:.0f} s"
                return result(key, port.REASON_PLACEMENT, detail, retryable=True)
            time.sleep(0.05)
        return result(key)

    def reservations(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """See `executor.Executor.reservations`."""
        table = cast("dict[str, dict[str, Any]]", cast("Any", util).placement_group_table())
        rows = [
            {"key": row["name"], "state": row["state"]}
            for row in table.values()
            if ATTEMPT_KEY.fullmatch(row["name"]) and row["state"] != "REMOVED"
        ]
        return {"rows": sorted(rows, key=lambda row: row["key"])}

    def nodes(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """See `executor.Executor.nodes`. Of several raylets with one label the live one counts."""
        found: dict[str, dict[str, Any]] = {}
        for row in cast("list[Mapping[str, Any]]", ray.nodes()):
            node = row.get("Labels", {}).get("node")
            if node is None or (node in found and not row["Alive"]):
                continue
            found[node] = {
                "node": node,
                "alive": bool(row["Alive"]),
                "address": row["NodeManagerAddress"],
                "detail": "" if row["Alive"] else str(row.get("DeathReasonMessage", ""))[:500],
            }
        return {"rows": [found[node] for node in sorted(found)]}


def reserve(key: str, nodes: Sequence[str], gpus: int, wait_ms: int) -> None:
    """Hold these nodes under a key, all or nothing; a group that exists is the one we want.

    A group that this call made and that cannot be had in time is given back. One from before is
    left: ranks may run in it.
    """
    # A bundle must ask for something: without GPUs it asks for one byte of memory.
    bundle: dict[str, float] = {"GPU": gpus} if gpus else {"memory": 1}
    made = True
    try:
        group = placement_group(
            [dict(bundle) for _ in nodes],
            "STRICT_SPREAD" if len(nodes) > 1 else "STRICT_PACK",
            key,
            "detached",
            bundle_label_selector=[{"node": node} for node in nodes],
        )
    except RaySystemError as error:
        made = False
        if "already exists" not in str(error) or (group := find_group(key)) is None:
            raise Failed(port.REASON_PLACEMENT, first_line(error), retryable=True) from error
    if not group.wait(wait_ms / 1000):
        if made:
            remove_placement_group(group)
        detail = (
            f"no reservation on {', '.join(nodes)} in {wait_ms} ms: busy, or no such live raylet"
        )
        raise Failed(port.REASON_PLACEMENT, detail, retryable=True)


def find_group(key: str) -> PlacementGroup | None:
    """The placement group of that name, if there is one."""
    try:
        return get_placement_group(key)
    except ValueError:
        return None


def refused(call: str, error: RayTaskError) -> Failed:
    """What the executor raised in a call, without Ray's frames around it."""
    cause = getattr(error, "cause", None)
    said = cause if isinstance(cause, BaseException) else error
    reason = said.reason if isinstance(said, ExecutorError) else port.REASON_RANK
    return Failed(reason, f"{call}: {first_line(said)}", retryable=False)


def main() -> None:
    """Take stdin and stdout for the protocol, before anything of Ray's can write there."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    quiet = os.open(os.devnull, os.O_RDONLY)
    os.dup2(quiet, 0)
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with lock:
            while line:
                line = line[os.write(answers, line) :]

    config = json.loads(calls.readline(port.LINE_BYTES_MAX))
    cast("Any", ray).init(
        address=config["address"], namespace=NAMESPACE, log_to_driver=False, configure_logging=False
    )
    driver = Driver(int(config.get("reserve_ms", RESERVE_MS)))
    driver.warm()
    Watch(ray.nodes, every_s=WATCH_EVERY_S, silence_s=GCS_SILENT_S).start()
    gc.freeze()  # What is here stays: no collection need look at it in the midst of a launch.
    send({"ready": os.getpid()})
    methods: dict[str, Method] = {
        "launch": driver.launch,
        "reserve": driver.reserve,
        "release": driver.release,
        "reservations": driver.reservations,
        "nodes": driver.nodes,
    }
    serve(methods, calls, send)
    os._exit(0)  # Ray's own farewell may wait for a head that is gone.


if __name__ == "__main__":
    main()
