"""The clients of `bench submit`, in a process of their own: what they send is made before the clock
starts, so that little but sending is counted against whoever answers.

Run as `python -m bench.submit_load`: an order as JSON on standard input; figures go to standard
output.
"""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251 (drawn from a stated seed)
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import grpc

from sovapi.v1 import common_pb2, jobs_pb2
from sovshared import pki, spiffe, tls

Submits: TypeAlias = "grpc.aio.StreamUnaryMultiCallable[bytes, jobs_pb2.SubmitManyResponse]"
Submit: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, jobs_pb2.SubmitResponse]"

SUBMIT = "/sovapi.v1.JobService/Submit"
SUBMIT_MANY = "/sovapi.v1.JobService/SubmitMany"
PROJECTS = 40
CONCURRENT = 64
"""Single submissions under way at the same time."""
CALL_S_MAX = 300
MINUTE_MS = 60_000
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Order:
    """What to send, and to whom. `batch` 0: a call each; else jobs in one message of a stream."""

    port: int
    credentials: str
    jobs: int
    batch: int
    seed: int


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it. Latencies are of single calls."""

    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float


def projects() -> list[str]:
    """Leaves of the tree, all the caller's own."""
    return [f"bench/p{number:02}" for number in range(PROJECTS)]


def submissions(seed: int, count: int) -> list[jobs_pb2.SubmitRequest]:
    """Jobs as people write them: no two alike, in some 2,000 classes, each under a key."""
    draw = random.Random(seed)
    return [_submission(draw, f"{seed}-{number}") for number in range(count)]


def _submission(draw: random.Random, key: str) -> jobs_pb2.SubmitRequest:
    gpus = draw.choice((1, 1, 1, 2, 4, 8))
    spec = jobs_pb2.JobSpec(
        name=f"train-{key}",
        kind=jobs_pb2.JOB_KIND_BATCH,
        project=draw.choice(projects()),
        command=["python", "train.py", "--epochs", "3", "--shard", key],
        env={"EPOCHS": "3", "SHARD": key},
        resources=jobs_pb2.Resources(
            nodes=1,
            gpus_per_node=gpus,
            gpu_classes=["H200"],
            gpu_share_milli=1000,
            cpu_arch=common_pb2.CPU_ARCH_AMD64,
            tasks_per_node=1,
            cpu_milli_per_node=8_000 * gpus,
            memory_bytes_per_node=64 * GIB * gpus,
            interconnect=common_pb2.INTERCONNECT_ANY,
        ),
        topology=jobs_pb2.Topology(
            within=jobs_pb2.TOPOLOGY_LEVEL_SITE, mode=jobs_pb2.TOPOLOGY_MODE_REQUIRED
        ),
        residency=jobs_pb2.ResidencyRequirement(
            jurisdictions=["GB"],
            tier=common_pb2.TIER_OFFICIAL,
            node_sharing=jobs_pb2.NODE_SHARING_TENANT,
            min_assurance=common_pb2.ASSURANCE_DECLARED,
        ),
        priority=draw.choice((jobs_pb2.PRIORITY_SPOT, jobs_pb2.PRIORITY_NORMAL)),
        time_limit_ms=draw.choice((30, 60, 120, 240, 480, 960, 1440)) * MINUTE_MS,
        preemption=jobs_pb2.Preemption(allowed=True, grace_ms=MINUTE_MS),
        retries=jobs_pb2.Retries(hardware=3),
        on_partition=jobs_pb2.ON_PARTITION_KEEP,
    )
    return jobs_pb2.SubmitRequest(spec=spec, idempotency_key=f"bench-{key}")


def messages(order: Order) -> list[bytes]:
    """All that will be sent, as bytes."""
    made = submissions(order.seed, order.jobs)
    if not order.batch:
        return [request.SerializeToString() for request in made]
    return [
        jobs_pb2.SubmitManyRequest(requests=made[at : at + order.batch]).SerializeToString()
        for at in range(0, len(made), order.batch)
    ]


async def _stream(channel: grpc.aio.Channel, sent: Sequence[bytes], jobs: int) -> list[float]:
    async def each() -> AsyncIterator[bytes]:
        for message in sent:
            yield message

    call: Submits = channel.stream_unary(
        SUBMIT_MANY, response_deserializer=jobs_pb2.SubmitManyResponse.FromString
    )
    response = await call(each(), timeout=CALL_S_MAX)
    assert len(response.results) == jobs, f"{len(response.results)} results for {jobs} jobs"
    refused = [result for result in response.results if not result.job_id]
    assert not refused, f"{len(refused)} were refused, the first: {refused[0]}"
    return [0.0]


async def _singly(channel: grpc.aio.Channel, sent: Sequence[bytes]) -> list[float]:
    call: Submit = channel.unary_unary(
        SUBMIT, response_deserializer=jobs_pb2.SubmitResponse.FromString
    )
    left, took_ms = iter(sent), list[float]()

    async def client() -> None:
        for message in left:
            began_ns = time.perf_counter_ns()
            response = await call(message, timeout=CALL_S_MAX)
            took_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
            assert response.job.id, "a job has an id"

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(client())
    return took_ms


async def send(order: Order) -> Found:
    """Sends it all over one connection."""
    sent = messages(order)
    identity = pki.load(Path(order.credentials))
    options = tls.channel_options(spiffe.control_plane(), spiffe.DEFAULT_TRUST_DOMAIN)
    credentials = tls.channel_credentials(identity)
    address = f"127.0.0.1:{order.port}"
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        await channel.channel_ready()
        began_s, began_cpu_s = time.perf_counter(), _cpu_s()
        if order.batch:
            took_ms = await _stream(channel, sent, order.jobs)
        else:
            took_ms = await _singly(channel, sent)
        seconds, cpu_s = time.perf_counter() - began_s, _cpu_s() - began_cpu_s
    ordered = sorted(took_ms)
    return Found(seconds, cpu_s, statistics.median(ordered), ordered[len(ordered) * 99 // 100])


def _cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(send(Order(**json.load(sys.stdin)))))))
