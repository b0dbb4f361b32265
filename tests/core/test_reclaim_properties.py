"""Reclaim over random organisations: victims are found in one plan when there are any, and what is
guaranteed is had once they have taken their grace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scheduler.core.fleet import FleetState
from scheduler.core.quota import ALL_CLASSES, used_milli
from scheduler.model.ids import JobId, TenantPath
from scheduler.model.plan import JobClass, LiveAttempt
from scheduler.model.residency import NodeSharing
from tests.core.builders import HOUR_MS, fleet_of, job_class, node, tenant
from tests.core.preempting_time import Town

NODE_GPUS, NODES_MAX = 4, 3
GRACE_MS, SOON_MS = 30_000, 1_000
OWNER, LENDERS = "own/work", ("bee/work", "cat/work")
FIRST_OF_OWNER = 100
THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Case:
    """A full fleet, and what an owner comes with."""

    nodes: int
    guarantees: dict[str, int]
    others: list[tuple[str, int]]
    """Whose, and how many GPUs."""
    own: list[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Guarantees that the fleet can keep, and borrowers who fill it."""
    nodes = draw(st.integers(1, NODES_MAX))
    left = nodes * NODE_GPUS
    guarantees: dict[str, int] = {}
    for name in ("own", "bee", "cat"):
        guarantees[name] = draw(st.integers(1 if name == "own" else 0, left if left else 0))
        left -= guarantees[name]
        left = max(left, 0)
    sizes = st.sampled_from([1, 1, 1, 2, 4])
    others = draw(st.lists(st.tuples(st.sampled_from(LENDERS), sizes), min_size=1, max_size=14))
    return Case(nodes, guarantees, others, draw(st.lists(sizes, min_size=1, max_size=6)))


def work(project: str, gpus: int) -> JobClass:
    """Work that shares its nodes with anybody, and takes its grace."""
    made = job_class(project, gpus=gpus, sharing=NodeSharing.ANY)
    return replace(made, grace_ms=GRACE_MS, min_runtime_ms=0)


def filled(case: Case) -> Town:
    """The fleet when the owner comes."""
    tree = [tenant(name, guarantee=gpus) for name, gpus in case.guarantees.items()]
    tree += [tenant(path) for path in (OWNER, *LENDERS)]
    nodes = [node("london", f"n{n}", gpus=NODE_GPUS) for n in range(case.nodes)]
    here = Town(fleet_of(nodes=nodes, tenants=tree))
    for number, (project, gpus) in enumerate(case.others, start=1):
        here.submit(number, work(project, gpus), 99 * HOUR_MS)
    here.step(0)
    for number, gpus in enumerate(case.own, start=FIRST_OF_OWNER):
        here.submit(number, work(OWNER, gpus), 99 * HOUR_MS)
    return here


def used(fleet: FleetState, name: str) -> int:
    return used_milli(fleet.usage, TenantPath(name), ALL_CLASSES) // 1000


def waiting(fleet: FleetState) -> list[int]:
    """What the owner's jobs that wait take."""
    return [
        job.job_class.resources.gpus_per_node
        for job in fleet.queued.in_line()
        if job.job_class.tenant == OWNER
    ]


def on(fleet: FleetState, name: str) -> Iterator[LiveAttempt]:
    for live in fleet.live.values():
        if any(part.node == name for part in live.placement.nodes):
            yield live


def has_victims(fleet: FleetState, case: Case, gpus: int) -> bool:
    """Whether some who borrow can leave some node so that the owner has so many GPUs there, within
    its guarantee, and everybody else keeps theirs. Every set is tried."""
    if used(fleet, "own") + gpus > case.guarantees["own"]:
        return False
    for name in fleet.nodes:
        here = list(on(fleet, name))
        free = NODE_GPUS - sum(live.placement.gpu_milli // 1000 for live in here)
        if free >= gpus:
            return True
        theirs = [live for live in here if live.tenant != OWNER]
        for count in range(1, len(theirs) + 1):
            for leaving in combinations(theirs, count):
                gone = {"bee": 0, "cat": 0}
                for live in leaving:
                    gone[live.tenant.partition("/")[0]] += live.placement.gpu_milli // 1000
                enough = free + sum(gone.values()) >= gpus
                if enough and all(
                    not lost or used(fleet, who) - lost >= case.guarantees[who]
                    for who, lost in gone.items()
                ):
                    return True
    return False


@THOROUGH
@given(cases())
def test_victims_are_found_in_one_plan_and_the_guarantee_is_had_after_their_grace(
    case: Case,
) -> None:
    here = filled(case)
    for _ in range(len(case.own) + 1):
        before = {name: used(here.fleet, name) for name in case.guarantees}
        possible = [gpus for gpus in waiting(here.fleet) if has_victims(here.fleet, case, gpus)]
        made = here.step(SOON_MS)
        if not possible:
            break
        asked = {each.beneficiary for each in made.preemptions if each.beneficiary is not None}
        placed = {placement.key.job for placement in made.placements}
        helped = {job for job in (*asked, *placed) if int(job) >= FIRST_OF_OWNER}
        assert helped, "somebody could leave, or there was room"
        here.step(GRACE_MS)
        here.step(SOON_MS)
        for job in helped:
            assert JobId(job) in here.fleet.live, "who others left for has its place"
        for name, least in case.guarantees.items():
            assert used(here.fleet, name) >= min(least, before[name]), f"{name} lost what it has"
    assert not any(has_victims(here.fleet, case, gpus) for gpus in waiting(here.fleet))


def test_the_property_sees_guarantees_that_are_had() -> None:
    case = Case(2, {"own": 6, "bee": 2, "cat": 0}, [("bee/work", 1)] * 4 + [("cat/work", 2)] * 2,
                [4, 2])  # fmt: skip
    here = filled(case)
    assert used(here.fleet, "own") == 0
    assert has_victims(here.fleet, case, 4)
    for _ in range(4):
        here.step(GRACE_MS)
    assert [used(here.fleet, name) for name in ("own", "bee", "cat")] == [6, 2, 0]
