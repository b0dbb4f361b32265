"""Defects planted in the code under test, each of which some checker must see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agent.site import granted, guard, reconcile
from agent.site.state import Memory, Observed, Rank, Release
from agent.site.view import RankView, Standing, look
from scheduler.control import outbox, services
from scheduler.control.control import Control
from scheduler.core import allowance, answers, quota, residency, rooms
from scheduler.core.spread import Spreads
from scheduler.model.job import JobState
from scheduler.model.residency import FactKey, Permit
from scheduler.model.sitelink import Launch
from scheduler.store import leaves, standing
from scheduler.store.records import JobRow
from scheduler.store.store import Txn
from sovapi.v1 import jobs_pb2 as jobs
from tests.sim import plane
from tests.sim.faults import Fault, FaultPlan, Kind
from tests.sim.network import Weather
from tests.sim.run import FAULTS_MS, run_seed
from tests.sim.spool import Entry, RankSpec, SimSpool

SEEDS = range(1, 7)
JOBS = 40
CALM_MS = 120_000


def often(kind: Kind, lasts_ms: int) -> FaultPlan:
    """One kind of fault, again and again."""
    gap_ms = 15_000
    faults = [
        Fault(at_ms, kind, lasts_ms, number)
        for number, at_ms in enumerate(range(gap_ms, FAULTS_MS, gap_ms))
    ]
    return FaultPlan(tuple(faults), Weather(), 0, 0, 0)


CALM = FaultPlan((), Weather(), 0, 0, 0)


def permits_anything(*_: object) -> Permit:
    return Permit((FactKey.COUNTRY,))


def objects_to_nothing(*_: object) -> tuple[()]:
    return ()


def objects_not(*_: object) -> None:
    return None


def is_within(*_: object) -> bool:
    return True


def always_the_first(_free_mask: int, count: int) -> int:
    return (1 << count) - 1


def assert_caught(checks: tuple[str, ...], plan: FaultPlan) -> None:
    """One of the seeds makes one of the checkers speak."""
    seen: list[str] = []
    for seed in SEEDS:
        result = run_seed(seed, jobs=JOBS, plan=plan, calm_ms_max=CALM_MS)
        if any(violation.startswith(checks) for violation in result.violations):
            return
        seen += result.violations
    raise AssertionError(f"none of {checks} spoke; seen was {seen}")


def test_a_control_plane_that_does_not_wait_for_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hasty(Control):
        def __init__(self, **known: Any) -> None:
            super().__init__(**known, lapse_after_ms=12_000)

    monkeypatch.setattr(plane, "Control", Hasty)
    assert_caught(("overlap",), often(Kind.CUT_SITE, 40_000))


def test_a_site_that_takes_silence_of_a_node_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(rank: Rank, memory: Memory, observed: Observed) -> RankView:
        seen = look(rank, memory, observed)
        if seen.node.known:
            return seen
        status = jobs.RankStatus(
            rank=rank.number, node=rank.slot, phase=jobs.RANK_PHASE_OVER,
            cause=jobs.RANK_CAUSE_LOST,
        )  # fmt: skip
        return replace(seen, standing=Standing.OVER, status=status)

    monkeypatch.setattr(reconcile, "look", hasty)
    assert_caught(("overlap", "gpus"), often(Kind.NODE_UNREACHABLE, 60_000))


def test_a_site_that_gives_reservations_back_while_ranks_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rightly = reconcile.start_or_adopt

    def hasty(key: str, *others: Any) -> Iterator[object]:
        yield from rightly(key, *others)
        yield Release(key)

    monkeypatch.setattr(reconcile, "start_or_adopt", hasty)
    assert_caught(("release",), CALM)


@pytest.mark.interpreted
def test_a_planner_and_a_writer_that_permit_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "permits", permits_anything)
    monkeypatch.setattr(answers, "permits", permits_anything)
    assert_caught(("residency",), CALM)


def test_a_guard_that_permits_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "judge", objects_to_nothing)
    assert_caught(("outside",), often(Kind.FACTS_CHANGE, 60_000))


def test_a_site_that_takes_every_grant_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("refuse_row", "refuse_start"):
        monkeypatch.setattr(granted.SiteGrants, check, objects_not)
    assert_caught(("outside", "twice", "gpus"), often(Kind.INTRUDER, 60_000))


@pytest.mark.interpreted
def test_a_planner_and_a_writer_that_know_no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for judge in (allowance, quota):
        monkeypatch.setattr(judge, "within", is_within)
    assert_caught(("quota",), CALM)


@pytest.mark.interpreted
def test_a_planner_and_a_writer_that_give_gpus_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "choose_gpus", always_the_first)
    unchecked = tuple(check for check in standing.CHECKS if check.__name__ != "_room")
    assert len(unchecked) == len(standing.CHECKS) - 1
    monkeypatch.setattr(standing, "CHECKS", unchecked)
    assert_caught(("fit", "gpus"), CALM)


def test_a_node_that_starts_a_rank_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = SimSpool.start

    def again(self: SimSpool, key: str, spec: RankSpec) -> str:
        told = rightly(self, key, spec)
        entry = self.entries.get(key)
        if entry is not None and entry.run is not None and entry.exit is None:
            self.entries[key] = Entry()
            return rightly(self, key, spec)
        return told

    monkeypatch.setattr(SimSpool, "start", again)
    assert_caught(("twice", "gpus"), often(Kind.RAY_LOST, 4_000))


def test_a_control_plane_that_tells_sites_the_names_of_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rightly = outbox.launch

    def talkative(spec: Any, *others: Any) -> Launch:
        told = rightly(spec, *others)
        return replace(told, env=(*told.env, ("JOB_NAME", spec.name)))

    monkeypatch.setattr(outbox, "launch", talkative)
    assert_caught(("canary",), CALM)


def test_a_move_that_is_not_in_the_audit_log(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(leaves, "moved", silent)
    assert_caught(("rebuild",), CALM)


def test_a_service_that_does_not_wait_for_the_end_of_replicas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rightly = services.due

    def hasty(txn: Txn, service: JobRow) -> services.Due:
        if (due := rightly(txn, service)).surplus:
            return due
        there = txn.jobs.open_tasks(service.id, 10)
        staying = [row for row in there if row.state is not JobState.CANCELLING]
        failed = txn.jobs.task_counts([service])[service.id].failed
        return services.Due(missing=max(0, (service.replicas or 0) - failed - len(staying)))

    monkeypatch.setattr(services, "due", hasty)
    assert_caught(("replicas",), CALM)


@pytest.mark.interpreted
def test_a_planner_that_heeds_no_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    def anywhere(_self: Spreads, _apart: object, answer: object, _order: object) -> object:
        return answer

    monkeypatch.setattr(Spreads, "narrowed", anywhere)
    assert_caught(("spread",), CALM)
