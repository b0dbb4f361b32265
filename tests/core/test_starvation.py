"""However much comes after it, a job has run by its bound of waiting (`core/ageing.py`): random
jobs against random streams of younger work that never lets the fleet go idle."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scheduler.core.ageing import SHORTEST_PATIENCE, STARVATION_BOUND_MS
from scheduler.core.backfill import RESERVE_AFTER_MS
from scheduler.model.ids import JobId
from scheduler.model.job import Priority
from scheduler.model.plan import JobClass
from scheduler.model.tenancy import QueueOrder
from tests.core.builders import HOUR_MS, fleet_of, job_class, node, tenant
from tests.core.preempting_time import Town

NODES, NODE_GPUS = 2, 8
OWN, OTHERS = "trust-a/radiology", "trust-b/genomics"
VICTIM, FIRST_OF_STREAM = JobId(1), 2
LIMIT_HOURS_MAX = 12
STEP_MS = 4 * HOUR_MS
QUEUE_MIN_GPUS = NODES * NODE_GPUS
"""The stream sees to it that at least so much of each project waits."""
THOROUGH = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Work:
    """What a job asks for; it runs for the whole of its limit."""

    nodes: int
    gpus: int
    hours: int
    priority: Priority
    project: str = OWN

    def job_class(self) -> JobClass:
        """As the planner knows it."""
        return job_class(
            self.project,
            nodes=self.nodes,
            gpus=NODE_GPUS if self.nodes > 1 else self.gpus,
            limit_ms=self.hours * HOUR_MS,
            priority=self.priority,
        )

    def all_gpus(self) -> int:
        """Over its nodes."""
        return self.nodes * (NODE_GPUS if self.nodes > 1 else self.gpus)


def works(projects: tuple[str, ...] = (OWN,)) -> st.SearchStrategy[Work]:
    return st.builds(
        Work,
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([1, 4, 8]),
        st.integers(1, LIMIT_HOURS_MAX),
        st.sampled_from([Priority.SPOT, Priority.NORMAL, Priority.HIGH]),
        st.sampled_from(projects),
    )


def hostile(stream: list[Work]) -> list[Work]:
    """The stream, with whole nodes of the highest priority in it: those alone fill the fleet."""
    return [*stream, Work(1, NODE_GPUS, LIMIT_HOURS_MAX, Priority.HIGH)]


def waits_gpus(town: Town, project: str) -> int:
    """What waits of a project, the victim left out."""
    return sum(
        job.job_class.resources.nodes * max(1, job.job_class.resources.gpus_per_node)
        for job in town.fleet.queued.in_line()
        if job.job_class.tenant == project and job.id != VICTIM
    )


def ran_after_ms(victim: Work, stream: list[Work], order: QueueOrder, until_ms: int) -> int | None:
    """How long after it came the job is over; None: it is not by then. The stream begins before
    it, so that it finds the fleet full, and goes on all the time."""
    tree = [tenant("trust-a"), tenant("trust-b"), tenant(OTHERS), tenant(OWN, order=order)]
    nodes = [node("london", f"n{n}", gpus=NODE_GPUS) for n in range(NODES)]
    town = Town(fleet_of(nodes=nodes, tenants=tree))
    number = FIRST_OF_STREAM
    projects = sorted({work.project for work in stream})
    came_ms: int | None = None
    for turn in range(1 + until_ms // STEP_MS):
        for project in projects:
            own = [work for work in stream if work.project == project]
            while waits_gpus(town, project) < QUEUE_MIN_GPUS:
                work = own[number % len(own)]
                town.submit(number, work.job_class(), work.hours * HOUR_MS)
                number += 1
        if turn == 1:
            came_ms = town.now_ms
            town.submit(int(VICTIM), victim.job_class(), victim.hours * HOUR_MS)
        town.step(STEP_MS)
        # What time alone brings: nodes are kept for who has waited so long.
        town.step(RESERVE_AFTER_MS)
        is_over = VICTIM not in town.fleet.live and town.fleet.queued.get(VICTIM) is None
        if came_ms is not None and is_over:
            return town.now_ms - came_ms
    return None


def bound_ms(victim: Work, order: QueueOrder) -> int:
    """By when it has run: its bound of waiting; then at most what runs there goes on to its limit,
    twice, since the other organisation may have its turn between; then its own time."""
    waits_ms = STARVATION_BOUND_MS
    if order is QueueOrder.SHORTEST:
        waits_ms = max(waits_ms, SHORTEST_PATIENCE * victim.hours * HOUR_MS)
    return waits_ms + (2 * LIMIT_HOURS_MAX + victim.hours) * HOUR_MS + 6 * STEP_MS


@THOROUGH
@given(
    works(),
    st.lists(works((OWN, OTHERS)), max_size=4),
    st.sampled_from([QueueOrder.AGE, QueueOrder.SHORTEST]),
)
@example(
    Work(2, 1, 1, Priority.SPOT),
    [Work(1, 1, 1, Priority.SPOT)] * 3 + [Work(1, 1, 4, Priority.SPOT, OTHERS)],
    QueueOrder.SHORTEST,
)
@example(
    Work(2, 1, 3, Priority.NORMAL),
    [
        Work(1, 4, 5, Priority.SPOT),
        Work(1, 1, 6, Priority.SPOT),
        Work(1, 8, 11, Priority.SPOT),
    ],
    QueueOrder.AGE,
)
def test_every_job_has_run_by_its_bound_whatever_comes_after_it(
    victim: Work, stream: list[Work], order: QueueOrder
) -> None:
    bound = bound_ms(victim, order)
    ran = ran_after_ms(victim, hostile(stream), order, bound + 4 * STEP_MS)
    assert ran is not None, "it waits still"
    assert ran <= bound


def test_the_property_sees_jobs_that_wait_for_days() -> None:
    """A fleet that is filled by others for ever: without ageing the job would never run."""
    for order in (QueueOrder.AGE, QueueOrder.SHORTEST):
        victim = Work(2, NODE_GPUS, 12, Priority.SPOT)
        ran = ran_after_ms(victim, hostile([]), order, 2 * bound_ms(victim, order))
        assert ran is not None, "it waits still"
        assert ran > STARVATION_BOUND_MS // 2
