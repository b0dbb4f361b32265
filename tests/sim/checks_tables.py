"""Checkers over the control plane's tables, after each commit: what it believes must be possible.

Quotas, capacity, residency and moves are judged by rules of their own, not by `core`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from tests.sim.checks_runs import Machine
from tests.sim.clock import WALL_AT_START_MS
from tests.sim.fleet import TenantPlan
from tests.sim.tables import HOLDING, OVER, AttemptRow, Tables
from tests.sim.truth import History
from tests.sim.workload import Ask

MOVES: Mapping[str, frozenset[str]] = {
    "QUEUED": frozenset({"PLACED", "CANCELLED", "FAILED"}),
    "PLACED": frozenset({"STARTING", "RUNNING", "CANCELLING", "LOST", "PREEMPTING"}),
    "STARTING": frozenset({"RUNNING", "CANCELLING", "LOST", "PREEMPTING"}),
    "RUNNING": frozenset({"CANCELLING", "LOST", "PREEMPTING"}),
    "PREEMPTING": frozenset({"CANCELLING", "LOST"}),
    "CANCELLING": frozenset(),
    "LOST": frozenset({"STARTING", "RUNNING", "CANCELLING"}),
}
"""Besides these: whatever holds nodes may end, and go back to the queue unless it is cancelled."""


def may_move(before: str, after: str) -> bool:
    """Whether a job may go from one state to the other in one step."""
    if before in OVER:
        return False
    if before in HOLDING and after in ("SUCCEEDED", "FAILED"):
        return True
    if before in HOLDING and after == "QUEUED":
        return before != "CANCELLING"
    if before == "CANCELLING":
        return after == "CANCELLED"
    return after in MOVES[before]


def moves_are_legal(
    moves: list[tuple[str, str, str]], services: Collection[str] = ()
) -> Iterator[str]:
    """Every move of a job, as the audit log tells it, is one that the life of a job has.

    The cancel of a service is told once while it waits for its replicas' ends.
    """
    at: dict[str, str] = {}
    marked: set[str] = set()
    for job, before, after in moves:
        if job in services and job not in marked and before == after == at.get(job, "QUEUED"):
            marked.add(job)
            continue
        if before != at.get(job, "QUEUED"):
            yield f"job {job} moves from {before}, but it was {at.get(job, 'QUEUED')}"
        if not may_move(before, after):
            yield f"job {job} moves from {before} to {after}"
        at[job] = after


def quotas_hold(tables: Tables, before: Tables, tenants: Mapping[str, TenantPlan]) -> Iterator[str]:
    """After a placement no limit over its tenant is exceeded by what is placed."""
    had = {(a.job, a.attempt) for a in before.attempts}
    new = [a for a in tables.holding() if (a.job, a.attempt) not in had]
    used: defaultdict[tuple[str, str], int] = defaultdict(int)
    for attempt in tables.holding():
        for path in ancestry(tables.jobs[attempt.job].tenant):
            used[path, attempt.gpu_class] += attempt.gpu_milli
            used[path, "*"] += attempt.gpu_milli
    for attempt in new:
        for path in ancestry(tables.jobs[attempt.job].tenant):
            for name, gpus in tenants[path].limits.items():
                if name in (attempt.gpu_class, "*") and used[path, name] > gpus * 1000:
                    yield (
                        f"job {attempt.job} was placed although {path} then uses"
                        f" {used[path, name]} of {gpus * 1000} milli-GPU of {name}"
                    )


def placements_fit(tables: Tables, machines: Mapping[tuple[str, str], Machine]) -> Iterator[str]:
    """No GPU is given to two attempts that hold nodes, and none that is not there."""
    given: defaultdict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in tables.holding():
        for node in attempt.nodes:
            given[node].append(attempt)
    for node, attempts in sorted(given.items()):
        site, _, slot = node.partition("/")
        taken = 0
        for attempt in attempts:
            mask = attempt.nodes[node]
            if mask & taken:
                yield f"job {attempt.job} was given GPUs {mask:b} of {node}; {taken:b} are taken"
            if mask >> machines[site, slot].gpus:
                yield f"job {attempt.job} was given GPUs {mask:b} of {node}, which it lacks"
            if attempt.site != site:
                yield f"job {attempt.job} at {attempt.site} was given {node}"
            taken |= mask


def one_attempt_holds(tables: Tables) -> Iterator[str]:
    """Only the last attempt of a job that holds nodes is live, and those of others are not."""
    holding = {(a.job, a.attempt) for a in tables.holding()}
    for attempt in tables.attempts:
        if attempt.live is not ((attempt.job, attempt.attempt) in holding):
            state = tables.jobs[attempt.job].state
            yield f"attempt {attempt.job}.{attempt.attempt} of a {state} job: live {attempt.live}"


def placed_whole(tables: Tables, asks: Mapping[int, Ask]) -> Iterator[str]:
    """Every attempt has as many nodes, and as many GPUs on each, as its job asked for."""
    for attempt in tables.attempts:
        shape = asks[attempt.job].shape
        if len(attempt.nodes) != shape.nodes:
            yield f"job {attempt.job} asked for {shape.nodes} nodes, was given {attempt.nodes}"
        for node, mask in attempt.nodes.items():
            if mask.bit_count() != shape.gpus:
                yield f"job {attempt.job} asked for {shape.gpus} GPUs, was given {mask:b} of {node}"


def placed_where_permitted(
    attempts: list[AttemptRow], asks: Mapping[int, Ask], declared: History
) -> Iterator[str]:
    """When an attempt is placed, the oracle permits its site by what was declared then."""
    for attempt in attempts:
        need, at_ms = asks[attempt.job].need, attempt.placed_wall_ms - WALL_AT_START_MS
        laws = declared.laws_during(at_ms, at_ms)
        if not declared.permitted_at(need, attempt.site, at_ms, laws):
            yield f"job {attempt.job} was placed at {attempt.site}, where {need} forbids it"


def ancestry(tenant: str) -> list[str]:
    """A tenant and all above it."""
    parts = tenant.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
