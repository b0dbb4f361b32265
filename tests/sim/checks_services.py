"""Checkers over services: as many replicas as are wanted, apart where that must be, and then none.

Each is a function from facts to sentences, one per violation, and knows no code under test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from tests.sim.ledger import Run
from tests.sim.tables import HOLDING, OVER, AttemptRow, JobRow, Tables
from tests.sim.workload import Ask

NODES_OF_LEAF = 2  # As the fleet is drawn: n01 and n02, n03 and n04.
WORN = "REPLICA_WORN"


def never_too_many(tables: Tables, before: Tables) -> Iterator[str]:
    """Those that are not ending are no more than are wanted, and none is begun while so many,
    those that are ending and those that failed for good included, are there."""
    for service, replicas in services(tables):
        wanted = 0 if service.cancel_requested else service.wanted or 0
        there = [row for row in replicas if row.state not in OVER]
        staying = [row for row in there if row.state != "CANCELLING"]
        if len(staying) > wanted:
            yield f"service {service.id} is to have {wanted} replicas and keeps {_told(staying)}"
        begun = [row for row in there if row.id not in before.jobs]
        if begun and len(there) + _failed(replicas) > wanted:
            yield f"service {service.id} is to have {wanted} replicas and began {_told(begun)}"


def nothing_is_left(tables: Tables) -> Iterator[str]:
    """A service that is over has no replica that is not."""
    for service, replicas in services(tables):
        left = [row for row in replicas if row.state not in OVER]
        if service.state in OVER and left:
            yield f"service {service.id} is {service.state} and has {_told(left)}"


def only_holders_run(
    tables: Tables, alive: Iterable[Run], number_of: Callable[[str], int | None]
) -> Iterator[str]:
    """What runs is of the last attempt of a job that holds nodes: so no more replicas of a service
    run than have such a row."""
    for run in alive:
        number = number_of(run.job)
        job = tables.jobs.get(number) if number is not None else None
        if job is None or job.state not in HOLDING or job.attempts != run.attempt:
            yield f"{run.key} runs at {run.site}/{run.slot}, and its attempt holds nothing"


def spread_is_kept(
    placed: Iterable[AttemptRow], tables: Tables, asks: Mapping[int, Ask]
) -> Iterator[str]:
    """Where distance is required, no replica is placed in a domain that another is in."""
    holding = tables.holding()
    for attempt in placed:
        wish, service = asks[attempt.job].wish, tables.jobs[attempt.job].service
        if wish is None or not (wish.over and wish.required):
            continue
        own = domains(attempt, wish.over)
        for other in holding:
            if other.job != attempt.job and tables.jobs[other.job].service == service:
                for domain in sorted(own & domains(other, wish.over)):
                    yield f"replica {attempt.job} was placed in {domain}, where {other.job} is"


def ends_of_replicas_are_right(tables: Tables, asks: Mapping[int, Ask]) -> Iterator[str]:
    """A replica never succeeds, and gives up only where its service says how often to try."""
    for service, replicas in services(tables):
        wish = asks[service.id].wish
        assert wish is not None, "only services have replicas"
        for row in replicas:
            gave_up = row.state == "FAILED" and row.reason != WORN
            if row.state == "SUCCEEDED" or (gave_up and not wish.bounded):
                yield f"replica {row.id} of service {service.id} is {row.state}: {row.message}"


def as_many_as_wanted(tables: Tables, asks: Mapping[int, Ask]) -> Iterator[str]:
    """Once all is calm each service has what its tenant wanted last; nothing of it is on its way
    out."""
    for service, replicas in services(tables):
        if service.state in OVER or service.cancel_requested:
            continue
        asked = asks[service.id].wanted
        if service.wanted != asked:
            yield f"service {service.id} is to have {service.wanted}, its tenant wants {asked}"
        there = [row for row in replicas if row.state not in OVER]
        if not len(there) <= asked <= len(there) + _failed(replicas):
            yield (
                f"service {service.id} is to have {asked} replicas: {_failed(replicas)} failed"
                f" for good, and there are {_told(there)}"
            )
        if late := [row for row in there if row.state in ("CANCELLING", "LOST")]:
            yield f"of service {service.id} there are still {_told(late)}"


def services(tables: Tables) -> Iterator[tuple[JobRow, list[JobRow]]]:
    """Each service with all the replicas that it ever had."""
    replicas: defaultdict[int, list[JobRow]] = defaultdict(list)
    for row in tables.jobs.values():
        if row.service is not None:
            replicas[row.service].append(row)
    for number, row in sorted(tables.jobs.items()):
        if row.wanted is not None:
            yield row, replicas[number]


def domains(attempt: AttemptRow, over: str) -> set[str]:
    """The domains that a placement is in."""
    return {domain_of(node, over) for node in attempt.nodes}


def domain_of(node: str, over: str) -> str:
    """The site, leaf or node that a node is in."""
    site, _, slot = node.partition("/")
    if over == "leaf":
        return f"{site}/leaf-{1 + (int(slot.removeprefix('n')) - 1) // NODES_OF_LEAF}"
    return site if over == "site" else node


def _failed(replicas: Iterable[JobRow]) -> int:
    return sum(row.state == "FAILED" and row.reason != WORN for row in replicas)


def _told(rows: Iterable[JobRow]) -> str:
    return ", ".join(f"{row.id} {row.state}" for row in rows) or "none"
