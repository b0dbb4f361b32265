"""The yardstick of `bench launch`: Ray alone reserving nodes and forking an empty Python process.

A process of its own, on the same cell, answering one line a call: `python -m bench.ray_yardstick`.
Resident actors, as warm as ours; a placement group of the same shape, pinned to the same nodes.
Begins when the group is asked for; ends when the last process's own first statement runs, which is
the very process, interpreter included, that a launch of ours ends with.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import ray
from ray.util import placement_group, remove_placement_group

from deploy.local.ray_cell import RayCell

WORD = ("python3", "-c", "import time; print(time.clock_gettime_ns(time.CLOCK_REALTIME))")
"""An empty Python process that says when its first statement ran, by the machine's clock."""

WAIT_S = 60
LINE_BYTES_MAX = 1 << 20


class Forker:
    """A node's resident actor."""

    def fork(self, path: str) -> int:
        """An empty Python process, found on `path`; back when it was made, with its number."""
        environment = {"PATH": path}
        self.last = subprocess.Popen(WORD, stdout=subprocess.PIPE, env=environment)
        return self.last.pid

    def reap(self) -> int:
        """When its first statement ran, in nanoseconds of UTC; asked after it is over."""
        said, _ = self.last.communicate(timeout=WAIT_S)
        return int(said)


class Yardstick:
    """The process, as the bench talks to it."""

    def __init__(self, cell: RayCell, slots: Sequence[str], gpus: int, path: str) -> None:
        """`path`: where processes look for their interpreter."""
        self._told = {"address": cell.address, "slots": list(slots), "gpus": gpus, "path": path}
        self._environment = cell.driver_environment()
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Yardstick:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.ray_yardstick"),
            stdin=pipe,
            stdout=pipe,
            env=self._environment,
            limit=LINE_BYTES_MAX,
        )
        await self._ask(self._told)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def launch_ms(self, nodes: int) -> float:
        """From asking for a group on so many nodes to the first statement on the last of them."""
        return float((await self._ask({"nodes": nodes}))["ms"])

    async def _ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        while line := await process.stdout.readline():
            if line.startswith(b"{"):
                return json.loads(line)
        raise RuntimeError("the yardstick's process ended")


def _launch_ns(actors: Sequence[Any], told: Mapping[str, Any], nodes: int, name: str) -> int:
    slots, actors = told["slots"][:nodes], actors[:nodes]
    began_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    strategy = "STRICT_SPREAD" if nodes > 1 else "STRICT_PACK"
    labels = [{"node": slot} for slot in slots]
    bundles: list[dict[str, float]] = [{"GPU": told["gpus"]} for _ in slots]
    group = placement_group(bundles, strategy, name, "detached", bundle_label_selector=labels)
    assert group.wait(WAIT_S), "Ray did not reserve the nodes"
    ray.get([actor.fork.remote(told["path"]) for actor in actors], timeout=WAIT_S)
    words = ray.get([actor.reap.remote() for actor in actors], timeout=WAIT_S)
    remove_placement_group(group)
    return max(words) - began_ns


def main() -> None:
    """Answer until the input ends."""
    told = json.loads(sys.stdin.readline())
    cast("Any", ray).init(
        address=told["address"], namespace="bench", log_to_driver=False, configure_logging=False
    )
    remote = cast("Any", ray).remote(Forker)
    options = {"num_cpus": 0, "num_gpus": 0}
    actors = [
        remote.options(**options, label_selector={"node": slot}).remote() for slot in told["slots"]
    ]
    ray.get([actor.fork.remote(told["path"]) for actor in actors])
    ray.get([actor.reap.remote() for actor in actors])
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for number, line in enumerate(sys.stdin):
        took_ns = _launch_ns(actors, told, json.loads(line)["nodes"], f"yardstick-{number}")
        sys.stdout.write(json.dumps({"ms": took_ns / 1e6}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
