"""Which sites are sought after: those that a job could do without go to whom they alone suit.

Simple equivalent: spread what every job asks for over all GPUs that it may use by law and model,
and see where more is asked for than elsewhere. A job that may go to several sites then takes the
one that is pressed least, so that work that the law, or a model that it names, keeps to few sites
finds room there. Departure: it is learned with the mix of requests (`mix`), once a day, as a fact.

What is learned of a site is against its GPU class as a whole: how classes stand to one another is
in the placement score (`packing`). In one legal zone all is alike, and nothing is learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from scheduler.core.answers import ClassAnswer
from scheduler.core.fleet import FleetState
from scheduler.core.packing import PPM
from scheduler.model.ids import GpuClass
from scheduler.model.plan import JobClass, SitePress

STEP_PPM = 50_000
"""Sites whose press differs by less are alike: the lowest name goes first, as elsewhere."""

Pool: TypeAlias = tuple[GpuClass, int]
"""The GPUs of one class at one site, by its number."""
Reach: TypeAlias = tuple[Pool, ...]
"""Where a job may go: sites as bits."""


def pressed(fleet: FleetState, now_ms: int) -> tuple[SitePress, ...]:
    """How sought after each site is, for each GPU class that it has; those that are as usual, and
    those that nobody may use now, are left out."""
    capacity = _capacity_milli(fleet)
    demand: dict[Reach, int] = {}
    for job_class, jobs in _classes(fleet):
        ask = fleet.queued.ask_for(job_class)
        milli = jobs * ask.nodes * ask.shape.gpu_milli()
        if milli:
            reach = _reach(fleet.answer_to(job_class, now_ms).classes)
            demand[reach] = demand.get(reach, 0) + milli
    asked = _spread(demand, capacity)
    in_class, all_in_class = dict[GpuClass, int](), dict[GpuClass, int]()
    for pool, milli in asked.items():
        in_class[pool[0]] = in_class.get(pool[0], 0) + milli
        all_in_class[pool[0]] = all_in_class.get(pool[0], 0) + capacity[pool]
    total, everything = sum(asked.values()), sum(all_in_class.values())
    found: list[SitePress] = []
    for pool, milli in sorted(asked.items()):
        name, number = pool
        own = milli * PPM * everything // (capacity[pool] * total)
        usual = in_class[name] * PPM * everything // (all_in_class[name] * total)
        ppm = (own - usual + STEP_PPM // 2) // STEP_PPM * STEP_PPM
        if ppm:
            found.append(SitePress(fleet.order[number][0].id, name, ppm))
    return tuple(found)


def live_by_class(fleet: FleetState) -> Iterable[tuple[JobClass, int]]:
    """How many of each class are live; of one that is there as several objects, by each of them: to
    hash a class costs more than all else here."""
    counts = Counter([id(live.job_class) for live in fleet.live.values()])
    objects = {id(live.job_class): live.job_class for live in fleet.live.values()}
    return [(objects[number], count) for number, count in counts.items()]


def _classes(fleet: FleetState) -> Iterable[tuple[JobClass, int]]:
    """What waits and runs."""
    jobs: dict[JobClass, int] = {}
    for job_class, running in live_by_class(fleet):
        jobs[job_class] = jobs.get(job_class, 0) + running
    for job_class, waiting in fleet.classes.items():
        jobs[job_class] = jobs.get(job_class, 0) + len(waiting)
    return jobs.items()


def _reach(places: Iterable[ClassAnswer]) -> Reach:
    return tuple((where.gpu_class, where.sites) for where in places)


def _capacity_milli(fleet: FleetState) -> dict[Pool, int]:
    found: dict[Pool, int] = {}
    for number, (_, index, _) in enumerate(fleet.order):
        for node in index.layout.nodes:
            if node.gpus:
                pool = node.gpu_class, number
                found[pool] = found.get(pool, 0) + node.gpus * 1000
    return found


def _spread(demand: Mapping[Reach, int], capacity: Mapping[Pool, int]) -> dict[Pool, int]:
    """What is asked of each pool, were every job cut up among all that it may use."""
    asked: dict[Pool, int] = {}
    for reach, milli in sorted(demand.items()):
        pools = [
            pool for pool in capacity if any(n == pool[0] and s >> pool[1] & 1 for n, s in reach)
        ]
        room = sum(capacity[pool] for pool in pools)
        for pool in pools:
            asked[pool] = asked.get(pool, 0) + milli * capacity[pool] // room
    return {pool: milli for pool, milli in asked.items() if milli}
