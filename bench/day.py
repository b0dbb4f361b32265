"""A day of the reference fleet through the real control plane, in virtual time.

Admission, store, planner, desired state and reports of sites are the product's; sites and the work
are simulated (`country`). What is judged is judged outside of it, from what ran where: law, domains
of gangs, and that no GPU is held twice; every hour all invariants are, and all who wait are asked
about: when they will have started in nine cases of ten. A stated part of the jobs are elastic,
arrays, services and shares of GPUs (`day_kinds`). Tenants go by `shortest`, as in `jct` and
`fair`. What was not in use is told by its cause (`day_account`). Beside it a queue that skips ahead
plays the same jobs.

`--hours` and `--pods` make the day and the fleet smaller; the jobs are thinned as the fleet is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import traces
from bench.country import BEGIN_MS, OPERATOR, Country, Run
from bench.day_account import Account
from bench.day_asked import Asked
from bench.day_queue import skip_ahead, unbound
from bench.day_world import (
    FILL_MS,
    HOUR_MS,
    REPAIR_MS,
    Arrival,
    Day,
    country_of,
    drawn,
    powered_gpus,
    tenants_of,
)
from bench.record import Result
from bench.stored import sqlite_database
from bench.worlds import FOLDER, Shape, shape_from
from scheduler.control.policies import Change
from scheduler.core.fleet import FleetState
from scheduler.core.invariants import check_world, world_of
from scheduler.model.identity import Principal, Role
from scheduler.model.ids import JobId, NodeId, TenantPath
from scheduler.model.job import NodePlacement, TopologyLevel
from scheduler.model.tenancy import QueueOrder, Tenant
from scheduler.store.store import Txn

GRAIN_MS = 30_000
PLANS_AT_ONCE = 1
"""Plans of one moment: production makes one in two seconds while anybody waits."""
ASK_EVERY_MS = HOUR_MS // 2
"""So often is asked when those who wait will start."""
PERCENTILE = 95
WHOLE_MILLI = 1000
SIZES = ((1, "1"), (8, "2-8"), (64, "9-64"), (512, "65-512"), (1 << 30, "513-"))
"""Gangs by size: up to so many GPUs, and what they are called."""


@dataclass(slots=True)
class Judge:
    """What is true of what ran, whoever says what. Times since the beginning, in ms."""

    day: Day
    end_ms: int
    used_milli_ms: int = 0
    """In milli-GPU times milliseconds, of the day itself: what was before it is not counted."""
    held_milli_ms: int = 0
    """The same with what was before."""
    useful_milli_ms: int = 0
    placements: int = 0
    checked: int = 0
    topology_violations: int = 0
    residency_violations: int = 0
    started_ms: dict[JobId, int] = field(default_factory=lambda: {})
    arrivals: dict[JobId, Arrival] = field(default_factory=lambda: {})
    held: dict[NodeId, int] = field(default_factory=lambda: {})
    shared: dict[tuple[NodeId, int], int] = field(default_factory=lambda: {})
    """Of GPUs that are shared, by their bit, how much is held, in thousandths."""
    countries: dict[str, str] = field(default_factory=lambda: {})
    models: dict[NodeId, str] = field(default_factory=lambda: {})

    def placed(self, run: Run) -> None:
        """A placement was committed."""
        self.placements += 1
        placement = run.placement
        spec = self.arrivals[run.submitted].spec
        self.started_ms.setdefault(run.submitted, run.told_ms - BEGIN_MS)
        wanted = spec.resources.gpu_classes
        self.residency_violations += (
            self.countries[placement.site] not in spec.residency.jurisdictions
        )
        slots = {part.node.partition("/")[2] for part in placement.nodes}
        leaves = {slot[:3] for slot in slots}
        within = spec.topology.within
        apart = (within is TopologyLevel.NODE and len(slots) > 1) or (
            within is TopologyLevel.LEAF and len(leaves) > 1
        )
        self.topology_violations += apart
        for part in placement.nodes:
            assert not wanted or self.models[part.node] in wanted, f"{part.node} is no {wanted}"
            self._take(part, spec.resources.milli_each())

    def _take(self, part: NodePlacement, milli_each: int) -> None:
        held, key = self.held.get(part.node, 0), (part.node, part.gpu_mask)
        if milli_each == WHOLE_MILLI or key not in self.shared:
            assert not held & part.gpu_mask, f"{part.node} is held twice"
            self.held[part.node] = held | part.gpu_mask
        if milli_each < WHOLE_MILLI:
            self.shared[key] = self.shared.get(key, 0) + milli_each
            assert self.shared[key] <= WHOLE_MILLI, f"more than one GPU of {part.node} is held"

    def _give_back(self, part: NodePlacement, milli_each: int) -> None:
        if milli_each < WHOLE_MILLI:
            key = part.node, part.gpu_mask
            self.shared[key] -= milli_each
            if self.shared[key]:
                return
            del self.shared[key]
        self.held[part.node] &= ~part.gpu_mask

    def world(self, state: FleetState) -> None:
        """Every invariant of what runs: it takes too long to look more often than once an hour."""
        faults = check_world(world_of(state), state.live.values())
        assert not faults, faults
        self.checked += len(state.live)

    def over(self, run: Run) -> None:
        """Nothing of an attempt runs any more."""
        milli = self._count(run, run.ended_ms - BEGIN_MS)
        self.useful_milli_ms += milli * run.useful_ms
        milli_each = self.arrivals[run.submitted].spec.resources.milli_each()
        for part in run.placement.nodes:
            self._give_back(part, milli_each)

    def at_the_end(self, running: Sequence[Run]) -> None:
        """What still runs is counted to the end; its work is not lost yet."""
        for run in running:
            milli = self._count(run, self.end_ms)
            since_ms = run.started_ms if run.started_ms >= 0 else BEGIN_MS + self.end_ms
            self.useful_milli_ms += milli * (BEGIN_MS + self.end_ms - since_ms)

    def _count(self, run: Run, until_ms: int) -> int:
        """Counts what an attempt held; how many milli-GPU."""
        milli, told_ms = run.placement.gpu_milli, run.told_ms - BEGIN_MS
        self.held_milli_ms += milli * (until_ms - told_ms)
        self.used_milli_ms += milli * max(0, until_ms - max(FILL_MS, told_ms))
        return milli

    def waits(self) -> list[tuple[int, int]]:
        """GPUs and wait in ms of each job that arrived."""
        return [
            (each.gpus, self.started_ms.get(job, self.end_ms) - each.at_ms)
            for job, each in self.arrivals.items()
        ]


@dataclass(frozen=True, slots=True)
class Lived:
    """A day that is over: what is to be judged of it, where its GPU-time went, what was told of
    starts, how many jobs were refused at the door, and how often was planned."""

    judge: Judge
    account: Account
    asked: Asked
    refused: int
    plans: int


def run(data: Path | None, hours: int = 24, pods: int = 0) -> Result:
    """The bench. `pods`: of the fleet; 0: all."""
    folder = traces.folder(data, FOLDER)
    whole = shape_from(folder)
    shape = replace(whole, pods=min(whole.pods, pods or whole.pods))
    day = drawn(folder, shape, hours, 1000 * shape.pods // whole.pods)
    begun_s, cpu_s = time.monotonic(), time.process_time()
    with sqlite_database() as url:
        lived = _live(url, day, FILL_MS + hours * HOUR_MS)
    took = {"wall_s": time.monotonic() - begun_s, "cpu_s": time.process_time() - cpu_s}
    return _result(day, shape, lived, took)


def _live(url: str, day: Day, end_ms: int) -> Lived:
    """Has the day happen."""
    country, judge = Country(url, GRAIN_MS, PLANS_AT_ONCE), Judge(day, end_ms)
    country.placed, country.over = judge.placed, judge.over
    for site, nodes in day.sites:
        judge.countries[site.id] = country_of(site)
        judge.models |= {node.id: node.gpu_class for node in nodes}
    with country.store.transaction() as txn:
        change = Change(day.policy, reason="day", override="work may go abroad")
        country.control.apply_policy(txn, OPERATOR, change, dry_run=False, now_ms=country.now_ms)
    country.declare(day.sites)
    with country.store.transaction() as txn:
        paths = tenants_of(day.arrivals)
        tree = [Tenant(path, queue_order=QueueOrder.SHORTEST) for path in paths]
        country.control.apply_tenants(
            txn, OPERATOR, tree, reason="day", dry_run=False, now_ms=country.now_ms
        )
    refused: list[Arrival] = []
    for at_ms, some in _together(day.arrivals):
        country.at(BEGIN_MS + at_ms, lambda txn, s=some: _arrive(txn, country, judge, s, refused))
    for outage in day.outages:
        country.at(
            BEGIN_MS + outage.at_ms, lambda txn, o=outage: country.fail(txn, o.node, REPAIR_MS)
        )
    checked_ms = asked_ms = BEGIN_MS
    powered = {site.id: powered_gpus(site, nodes) for site, nodes in day.sites}
    account = Account(powered, FILL_MS, end_ms, HOUR_MS)
    asked = Asked(judge.arrivals, judge.started_ms)
    while (next_ms := country.next_ms()) is not None and next_ms <= BEGIN_MS + end_ms:
        country.run_until(next_ms)
        account.note(country.state, country.now_ms)
        if next_ms >= asked_ms + ASK_EVERY_MS:
            asked.ask(country.state, country.now_ms)
            asked_ms = next_ms
        if next_ms >= checked_ms + HOUR_MS:
            judge.world(country.state)
            checked_ms = next_ms
    asked.hear()
    judge.world(country.state)
    judge.at_the_end([run for run in country.runs.values() if run.ended_ms < 0])
    country.store.close()
    account.until(end_ms)
    return Lived(judge, account, asked, len(refused), country.plans)


def _together(arrivals: Sequence[Arrival]) -> list[tuple[int, list[Arrival]]]:
    """What arrives in one moment of one organisation, which submits it in one call."""
    found: dict[tuple[int, str], list[Arrival]] = {}
    for each in arrivals:
        moment_ms = -(-each.at_ms // GRAIN_MS) * GRAIN_MS
        organisation = each.spec.project.partition("/")[0]
        found.setdefault((moment_ms, organisation), []).append(each)
    return [(moment_ms, some) for (moment_ms, _), some in found.items()]


def _arrive(
    txn: Txn, country: Country, judge: Judge, some: Sequence[Arrival], refused: list[Arrival]
) -> None:
    organisation = TenantPath(some[0].spec.project.partition("/")[0])
    who = Principal(f"/tenant/{organisation}/user/bench", Role.TENANT, organisation)
    made = country.submit_each(txn, who, [(each.spec, each.work()) for each in some])
    for job, arrival in zip(made, some, strict=True):
        if job is None:
            refused.append(arrival)
        else:
            judge.arrivals[job] = arrival


def _result(day: Day, shape: Shape, lived: Lived, took_s: Mapping[str, float]) -> Result:
    judge, asked = lived.judge, lived.asked
    gpus = sum(node.gpus for _, nodes in day.sites for node in nodes)
    powered = sum(powered_gpus(site, nodes) for site, nodes in day.sites)
    down_ms = sum(max(0, min(REPAIR_MS, judge.end_ms - each.at_ms)) for each in day.outages)
    healthy_gpu_ms = powered * (judge.end_ms - FILL_MS) - down_ms * shape.gpus_per_node
    queue = skip_ahead(day, GRAIN_MS, FILL_MS, judge.end_ms)
    own, theirs = _p95_ms(judge.waits()), _p95_ms(queue.waits_ms)
    used, beside = (
        judge.used_milli_ms / WHOLE_MILLI / healthy_gpu_ms,
        queue.used_gpu_ms / healthy_gpu_ms,
    )
    allowed = skip_ahead(unbound(day), GRAIN_MS, FILL_MS, judge.end_ms).used_gpu_ms
    return Result(
        bench="day",
        figures={
            "utilisation": round(used, 4),
            "goodput": round(judge.useful_milli_ms / max(1, judge.held_milli_ms), 4),
            "topology_violations": judge.topology_violations,
            "residency_violations": judge.residency_violations,
            "wait_p95_ratio_by_gang": {
                name: round(own[name] / max(GRAIN_MS, theirs[name]), 3)
                for name in own
                if name in theirs
            },
            "estimate_coverage": round(asked.coverage(judge.end_ms), 4),
            **{name: round(seconds, 1) for name, seconds in took_s.items()},
            "placements": judge.placements,
            "jobs": len(judge.arrivals),
            "refused": lived.refused,
            "plans": lived.plans,
            "estimates": len(asked.known(judge.end_ms)),
            "unused": lived.account.unused(),
            "used_by_hour": {
                f"{hour:02}": part for hour, part in enumerate(lived.account.by_step())
            },
            "attempts_checked": judge.checked,
            "hours": (judge.end_ms - FILL_MS) // HOUR_MS,
            "gpus": gpus,
            "powered_gpus": powered,
            "outages": len(day.outages),
        },
        yardstick={
            "utilisation": round(beside, 4),
            "utilisation_without_law_caps_and_failures": round(allowed / healthy_gpu_ms, 4),
            "wait_p95_s": {name: round(ms / 1000) for name, ms in theirs.items()},
        },
        ratios={"utilisation_to_queue": round(used / beside, 4)},
        runs=1,
    )


def _p95_ms(waits: Sequence[tuple[int, int]]) -> dict[str, int]:
    """The ninety-fifth percentile of waits, by the size of gangs."""
    by_size: dict[str, list[int]] = {}
    for gpus, wait_ms in waits:
        name = next(name for most, name in SIZES if gpus <= most)
        by_size.setdefault(name, []).append(wait_ms)
    place = {name: len(found) * PERCENTILE // 100 for name, found in by_size.items()}
    return {name: sorted(found)[place[name]] for name, found in sorted(by_size.items())}
