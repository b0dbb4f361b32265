"""What the trace of a day does not know of, drawn from the seed: kinds of work beside plain jobs.

The work is the trace's: what is elastic does as much with fewer nodes in more time, an array's
tasks share out what the one job had to do. Only a share of a GPU does less, and a service more: it
runs to the end of the day. Of what runs when the day begins none is changed.
"""

from __future__ import annotations

import random  # noqa: TID251 (drawn from a stated seed)
from dataclasses import replace
from typing import TypeAlias

from scheduler.model.job import JobArray, JobKind, JobSpec, Retries
from scheduler.model.service import WITHOUT_END, Service

LIMIT_MS_MAX = 30 * 24 * 3_600_000
ELASTIC_NODES_MIN = 16
"""Gangs of so many nodes and more may be elastic, ..."""
ELASTIC_PERCENT = 12
"""... so many in a hundred of them are, and then do with this part of their nodes."""
LEAST_PART = 4
ARRAY_PERCENT = 2
"""Of jobs of one node."""
TASKS = 4
SHARE_PERCENT = 5
"""Of jobs of one GPU; they take this part of it."""
SHARE_MILLI = 500
SERVICE_PERMILLE = 1
"""Of jobs of one GPU, which are each replica's."""
REPLICAS = 4

Kind: TypeAlias = tuple[JobSpec, int, int]
"""What is asked for, how long all of its nodes take for it, and how many such it is."""


def kind_of(spec: JobSpec, runs_ms: int, draw: random.Random) -> Kind:
    """The same work, or another kind of it."""
    asked, permille = spec.resources, draw.randrange(1000)
    plain = spec, runs_ms, 1
    if asked.nodes > 1:
        may = asked.nodes >= ELASTIC_NODES_MIN
        return _elastic(spec, runs_ms) if may and permille < 10 * ELASTIC_PERCENT else plain
    if permille < 10 * ARRAY_PERCENT:
        array = JobArray(TASKS, TASKS)
        return replace(spec, array=array), max(1_000, runs_ms // TASKS), TASKS
    if asked.gpus_per_node > 1:
        return plain
    if permille >= 1000 - SERVICE_PERMILLE:
        return _service(spec)
    part = replace(asked, gpu_share_milli=SHARE_MILLI)
    is_share = permille < 10 * (ARRAY_PERCENT + SHARE_PERCENT)
    return (replace(spec, resources=part), runs_ms, 1) if is_share else plain


def _elastic(spec: JobSpec, runs_ms: int) -> Kind:
    asked = spec.resources
    nodes = -(-asked.nodes // LEAST_PART)
    limit_ms = min(LIMIT_MS_MAX, spec.time_limit_ms * LEAST_PART)
    resources = replace(asked, nodes=nodes, max_nodes=asked.nodes)
    return replace(spec, resources=resources, time_limit_ms=limit_ms), runs_ms, 1


def _service(spec: JobSpec) -> Kind:
    endless = replace(
        spec,
        kind=JobKind.SERVICE,
        service=Service(REPLICAS),
        retries=Retries(hardware=WITHOUT_END, application=WITHOUT_END),
        time_limit_ms=LIMIT_MS_MAX,
    )
    return endless, LIMIT_MS_MAX, REPLICAS
