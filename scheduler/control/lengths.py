"""Has projects that go by `shortest` learn from their own jobs how long their work runs.

Once a day each, a few in a turn. What it tells is `core/lengths`'s; it is a fact of the store, and
reaches planners by the change feed.
"""

from __future__ import annotations

from itertools import chain, islice

from scheduler.core.lengths import LEARN_EVERY_MS, RUNS_MAX, Run, learned
from scheduler.core.ranks import gpus_of, tells_length
from scheduler.model.ids import TenantPath
from scheduler.model.plan import LengthsChanged
from scheduler.model.tenancy import QueueOrder
from scheduler.store.store import Txn

PROJECTS_A_TURN = 16
"""Projects that are looked at in a turn; one that learns ends it."""
TURN_MS = 1_000
"""Turns so far apart, or further, begin with different projects."""


def turn(txn: Txn, now_ms: int) -> None:
    """Has a project learn, if one's time has come."""
    tenants = txn.tenancy.tree().tenants
    projects = sorted(
        path for path, each in tenants.items() if each.queue_order is QueueOrder.SHORTEST
    )
    if not projects:
        return
    first = now_ms // TURN_MS % len(projects)
    for project in islice(chain(projects[first:], projects[:first]), PROJECTS_A_TURN):
        learned_at_ms = txn.learned.lengths(project).learned_at_ms
        if not learned_at_ms or now_ms >= learned_at_ms + LEARN_EVERY_MS:
            told = learned(_runs(txn, project, now_ms))
            txn.learned.put_lengths(LengthsChanged(project, told, now_ms))
            return


def _runs(txn: Txn, project: TenantPath, now_ms: int) -> list[Run]:
    """How long the project's newest jobs have run, of those that did not declare it."""
    runs: list[Run] = []
    for row in txn.learned.runs(project, RUNS_MAX, now_ms):
        job_class = txn.jobs.job_class(row.class_id)
        if not tells_length(job_class):
            runs.append(Run(gpus_of(job_class), row.ran_ms, row.is_over))
    return runs
