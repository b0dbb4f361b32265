"""The site's Ray driver: the only importer of ray, a process of its own, stateless.

Reads one line of JSON with its configuration (`address` of the head, optionally `reserve_ms`, how
long to wait for nodes), then one call a line; answers one line a call, in any
order. Losing Ray's head ends this process (Ray sees to it, and `watch` if Ray does not); the site
agent starts another, which finds everything by name: the placement group `<job>.<attempt>`, the
executor `executor/<node>`. Ends when its input does.

`launch` is: reserve the nodes and prepare every rank (the barrier), start every rank. Each step is
a swap or idempotent, so a launch cut off anywhere is simply done again. It stops nothing: what a
failed launch left is stopped by the site agent through the node agents, and its reservation
released after that.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, cast

import ray
from ray import util
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RaySystemError, RayTaskError
from ray.util import get_placement_group, placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup

from agent.node.clock import boot_ms
from agent.node.executor import NotGranted, Prepared, RankSpec, ResidentExecutor
from agent.site import executor as port
from agent.site.launch_order import ATTEMPT_KEY, Failed, Rank, first_line, ranks_of, result
from agent.site.watch import Watch

NAMESPACE = "sov"
THREADS = 16  # Launches served at once.
QUICK_THREADS = 4  # Other calls, which must not wait behind launches that wait for nodes.
EXECUTOR_CALLS = 64  # Calls one executor serves at once.
RESERVE_MS = 20_000  # Unless the configuration says otherwise.
STEP_S = 45.0  # Preparing or starting all ranks of a gang, an executor's restart included.
ATTEMPT_S = 25.0  # One try of it, above the time a shim is given to come up.
RETRY_PAUSE_S = 0.3
REMOVE_S = 10.0
BUNDLE_PART_BYTES = 4 * 1024 * 1024
WATCH_EVERY_S = 2.0
GCS_SILENT_S = 20.0  # Ray gives up by itself before that when configured as this project does.

Asked: TypeAlias = tuple[Rank, Any]  # The reference of a call about it.


class Driver:
    """What the calls do. Thread-safe; holds nothing but handles that can be had again."""

    def __init__(self, reserve_ms: int) -> None:
        self._reserve_ms = reserve_ms
        self._executors: dict[str, Any] = {}
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
        """Ask for its handle again next time."""
        with self._lock:
            self._executors.pop(node, None)

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
            asked = self._ask_to_prepare(order, ranks)
            reserve(order, ranks, self._reserve_ms)
            prepared = self._prepare(order, ranks, asked)
            self._deliver_bundle(order, ranks, prepared)
            self._start(order, ranks, prepared)
        except Failed as failed:
            return result(key, failed.reason, failed.detail, retryable=failed.retryable)
        except RayError as error:
            return result(key, port.REASON_NODE, first_line(error), retryable=True)
        return result(key)

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

    def _start(
        self,
        order: Mapping[str, Any],
        ranks: Sequence[Rank],
        prepared: Mapping[str, tuple[Prepared, int]],
    ) -> None:
        """Start every rank. One that was given up fails the launch: the gang can never be whole."""
        leader = prepared[ranks[0].key][0]
        local_world: dict[str, int] = {}
        for rank in ranks:
            local_world[rank.node] = local_world.get(rank.node, 0) + 1

        def spec(rank: Rank) -> RankSpec:
            answer, answered_ms = prepared[rank.key]
            until = None
            if order["leased"] and order["lease_ms"] is not None:
                # The node's clock was read before its answer came: counted so, the lease is never
                # longer.
                left_ms = order["given_boot_ms"] + order["lease_ms"] - answered_ms
                until = answer["boot_ms"] + left_ms
            return rank_spec(order, rank, leader, len(ranks), local_world[rank.node], until)

        statuses = self._everywhere(
            "start", ranks, lambda actor, rank: actor.start.remote(rank.key, dict(spec(rank)))
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
                    raise refused(f"{step} of {rank.key} on {rank.node}", error) from error
            asked = ()
            if trouble and time.monotonic() >= give_up_at:
                raise Failed(port.REASON_NODE, trouble, retryable=True)
            if trouble:
                time.sleep(RETRY_PAUSE_S)
        return answers

    def release(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `executor.Executor.release`."""
        key = str(params["key"])
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


def rank_spec(
    order: Mapping[str, Any],
    rank: Rank,
    leader: Prepared,
    world_size: int,
    local_world_size: int,
    lease_until_ms: int | None,
) -> RankSpec:
    """What an executor needs to start one rank."""
    warn = order["signal_before_end"]
    return {
        "job_id": order["job_id"],
        "attempt": order["attempt"],
        "rank": rank.order["rank"],
        "local_rank": rank.order["local_rank"],
        "node_rank": rank.order["node_rank"],
        "world_size": world_size,
        "local_world_size": local_world_size,
        "num_nodes": order["num_nodes"],
        "gpus_per_node": order["gpus_per_node"],
        "gpu_milli": order["gpu_milli"],
        "gpus": list(rank.order["gpus"]),
        "visible_gpus": [g for r in order["ranks"] if r["node"] == rank.node for g in r["gpus"]],
        "master_address": leader["address"],
        "master_port": leader["port"],
        "argv": list(order["argv"]),
        "env": dict(order["env"]),
        "bundle_digest": order["bundle_digest"],
        "isolation": order["isolation"],
        "grace_ms": order["grace_ms"],
        "lease_until_ms": lease_until_ms,
        "time_limit_ms": order["time_limit_ms"],
        "signal_before_end": (warn[0], warn[1]) if warn else None,
        "egress": list(order["egress"]),
        "grant": order["grant"],
    }


def reserve(order: Mapping[str, Any], ranks: Sequence[Rank], wait_ms: int) -> None:
    """Hold the order's nodes under its key, all or nothing; a group that exists is the one we want.

    A group that this call made and that cannot be had in time is given back. One from before is
    left: ranks may run in it.
    """
    key = str(order["key"])
    places = sorted({(rank.order["node_rank"], rank.node) for rank in ranks})
    gpus = port.whole_gpus(order)
    # A bundle must ask for something: without GPUs it asks for one byte of memory.
    bundle: dict[str, float] = {"GPU": gpus} if gpus else {"memory": 1}
    made = True
    try:
        group = placement_group(
            [dict(bundle) for _ in places],
            "STRICT_SPREAD" if len(places) > 1 else "STRICT_PACK",
            key,
            "detached",
            bundle_label_selector=[{"node": node} for _, node in places],
        )
    except RaySystemError as error:
        made = False
        if "already exists" not in str(error) or (group := find_group(key)) is None:
            raise Failed(port.REASON_PLACEMENT, first_line(error), retryable=True) from error
    if not group.wait(wait_ms / 1000):
        if made:
            remove_placement_group(group)
        named = ", ".join(node for _, node in places)
        detail = f"no reservation on {named} in {wait_ms} ms: busy, or no such live raylet"
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
    reason = port.REASON_GRANT if isinstance(said, NotGranted) else port.REASON_RANK
    return Failed(reason, f"{call}: {first_line(said)}", retryable=False)


def serve(driver: Driver, calls: Any, send: Callable[[Mapping[str, Any]], None]) -> None:
    """Answer calls until there are no more."""
    methods = {
        "launch": driver.launch,
        "release": driver.release,
        "reservations": driver.reservations,
        "nodes": driver.nodes,
    }

    def answer(call: Mapping[str, Any]) -> None:
        try:
            send({"id": call["id"], "result": methods[call["method"]](call["params"])})
        except Exception as error:  # A call must not take the others along.
            send({"id": call["id"], "error": first_line(error)})

    slow, quick = ThreadPoolExecutor(THREADS), ThreadPoolExecutor(QUICK_THREADS)
    for line in iter(lambda: calls.readline(port.LINE_BYTES_MAX), b""):
        call = json.loads(line)
        (slow if call["method"] == "launch" else quick).submit(answer, call)
    for pool in (slow, quick):
        pool.shutdown(wait=False, cancel_futures=True)


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
    send({"ready": os.getpid()})
    serve(driver, calls, send)
    os._exit(0)  # Ray's own farewell may wait for a head that is gone.


if __name__ == "__main__":
    main()
