"""How work ranks within its own project: whom it may have leave, and what a guarantee covers first.

Higher priority ranks higher. Work that waited keeps what it had aged to (`ageing`) when it was
placed: else what came later would have it leave at once. In a project with `queue_order: shortest`,
work of one priority ranks by its *service*, and the less the higher:

* what it asks for, GPUs times time limit, where the limit tells something;
* else GPUs times how long it is to be expected to go on, by how long it has run in all its attempts
  and what the project's own jobs tell of that (`lengths`). A limit that was left out tells nothing,
  nor does one beyond UNTOLD_MS.

A difference below PRECEDENCE_PERMILLE ends nobody: a restart would cost more than is gained. The
first kind of service never changes. The second does when a job passes a level, each once in its
life, and when the project's jobs have told something new, once a day. In between, two jobs cannot
take turns in ending one another; `stakes` has the proof.

Work of such a project that was submitted longer ago than its bound of waiting (`ageing`) ranks
above all of its priority: what waited so long is not ended for what is shorter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from scheduler.core import ageing
from scheduler.core.ageing import AGEING_MAX_MS, ageing_ms
from scheduler.core.lengths import (
    LEVELS,
    NOTHING_LEARNED,
    Ahead,
    ahead_ms,
    begins_ms,
    level_of,
)
from scheduler.model.job import DEFAULT_TIME_LIMIT_MS, Priority
from scheduler.model.plan import JobClass, LiveAttempt
from scheduler.model.tenancy import QueueOrder

PRECEDENCE_PERMILLE = 1250
"""Work comes before work of its project whose service is so much more."""
UNTOLD_MS = 90 * 24 * 3600 * 1000
"""A limit from here on says only that the job will end some day."""

Rank: TypeAlias = tuple[Priority, int]
"""Priority, and the negative of the service (GPU-milliseconds); 0: above all who have one."""

Moment: TypeAlias = int | None
"""In milliseconds; None: never."""


def tells_length(job_class: JobClass) -> bool:
    """Whether the time limit of a job says how long it may well run."""
    limit_ms = job_class.time_limit_bucket_ms
    return limit_ms != DEFAULT_TIME_LIMIT_MS and limit_ms < UNTOLD_MS


def gpus_of(job_class: JobClass) -> int:
    """How many GPUs its service is counted for; work without any counts as one."""
    return job_class.resources.nodes * max(1, job_class.resources.gpus_per_node)


def service_gpu_ms(job_class: JobClass, ahead: Ahead) -> int:
    """The service of a queued job of the class, as above; never 0."""
    gpus = gpus_of(job_class)
    if tells_length(job_class):
        return gpus * job_class.time_limit_bucket_ms
    return gpus * ahead_ms(ahead, gpus, level_of(job_class.had_gpu_ms // gpus))


def rank_of(job_class: JobClass, order: QueueOrder, ahead: Ahead = NOTHING_LEARNED) -> Rank:
    """How work of the class ranks in a project of this order when it starts."""
    if order is not QueueOrder.SHORTEST:
        return job_class.priority, 0
    return job_class.priority, -service_gpu_ms(job_class, ahead)


def rank_at(live: LiveAttempt, order: QueueOrder, ahead: Ahead, now_ms: int) -> tuple[Rank, Moment]:
    """How an attempt ranks at `now_ms`, and when that changes next by time alone."""
    return rank_since(
        live.job_class,
        order,
        ahead,
        submitted_at_ms=_submitted_ms(live),
        placed_at_ms=live.placed_at_ms,
        began_at_ms=live.started_at_ms or live.placed_at_ms,
        now_ms=now_ms,
    )


def rank_since(
    job_class: JobClass,
    order: QueueOrder,
    ahead: Ahead,
    *,
    submitted_at_ms: int,
    placed_at_ms: int,
    began_at_ms: int,
    now_ms: int,
) -> tuple[Rank, Moment]:
    """The same of an attempt that was placed and began at these times."""
    step_ms = ageing_ms(order, job_class.time_limit_bucket_ms)
    waited_ms = placed_at_ms - submitted_at_ms
    priority = Priority(ageing.rank_of(job_class.priority, waited_ms, step_ms))
    patient_ms = submitted_at_ms + 2 * step_ms
    if order is not QueueOrder.SHORTEST or now_ms >= patient_ms:
        return (priority, 0), None
    if tells_length(job_class):
        return (priority, -service_gpu_ms(job_class, ahead)), patient_ms
    gpus = gpus_of(job_class)
    had_ms = job_class.had_gpu_ms // gpus
    level = level_of(had_ms + max(0, now_ms - began_at_ms))
    if level + 1 < LEVELS:
        patient_ms = min(patient_ms, began_at_ms - had_ms + begins_ms(level + 1))
    return (priority, -gpus * ahead_ms(ahead, gpus, level)), patient_ms


def has_aged(live: LiveAttempt) -> bool:
    """Whether an attempt may rank above its class for how long its job waited to be placed."""
    return live.placed_at_ms - _submitted_ms(live) >= AGEING_MAX_MS


def with_service(job_class: JobClass, had_gpu_ms: int, order: QueueOrder) -> JobClass:
    """The class of a job that waits again and has had so much; only levels make classes differ."""
    if order is not QueueOrder.SHORTEST or tells_length(job_class):
        return job_class
    gpus = gpus_of(job_class)
    return replace(job_class, had_gpu_ms=gpus * begins_ms(level_of(had_gpu_ms // gpus)))


def with_less_service(job_class: JobClass) -> Iterator[JobClass]:
    """The classes that a job of this one was in before, when it had had less."""
    gpus = gpus_of(job_class)
    for level in reversed(range(level_of(job_class.had_gpu_ms // gpus))):
        yield replace(job_class, had_gpu_ms=gpus * begins_ms(level))


def outranks(rank: Rank, other: Rank) -> bool:
    """Whether work of `rank` may have work of `other` leave, in one project."""
    if rank[0] != other[0]:
        return rank[0] > other[0]
    return rank[1] != 0 and other[1] * 1000 <= rank[1] * PRECEDENCE_PERMILLE


def _submitted_ms(live: LiveAttempt) -> int:
    return live.placed_at_ms if live.submitted_at_ms is None else live.submitted_at_ms
