"""Why GPUs of a day are idle: each for the first cause that holds."""

from __future__ import annotations

import pytest

from bench.country import BEGIN_MS
from bench.day_account import IDLE, Account
from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.model.ids import GpuClass, JobId, SiteId
from scheduler.model.plan import Reservation, ReservationChanged
from tests.core.builders import H100, HOUR_MS, commit, fleet_of, job_class, node, queued

N1, N2 = node("london", "n1"), node("london", "n2")


def half_full() -> FleetState:
    """Two nodes of eight GPUs; a job has five GPUs of one."""
    fleet = fleet_of(queued(100, job_class(gpus=5)), nodes=[N1, N2])
    commit(fleet, plan(fleet, BEGIN_MS))
    return fleet


def unused(fleet: FleetState, powered: int = 16) -> dict[str, float]:
    """How an hour goes in which things stand so."""
    account = Account({SiteId("london"): powered}, 0, HOUR_MS, HOUR_MS)
    account.note(fleet, BEGIN_MS)
    account.until(HOUR_MS)
    return {cause: round(part * powered) for cause, part in account.unused().items() if part}


def test_where_nobody_waits_who_may_be_there_nobody_could_use_it() -> None:
    fleet = half_full()
    assert unused(fleet) == {"unwanted": 11}
    fleet.apply(queued(1, job_class(gpus=8, classes=(GpuClass("A100"),))))
    assert unused(fleet) == {"unwanted": 11}


def test_who_waits_fits_neither_beside_others_nor_on_what_is_empty() -> None:
    fleet = half_full()
    fleet.apply(queued(1, job_class(nodes=2, gpus=8)))
    assert unused(fleet) == {"parts": 3, "nodes": 8}


def test_what_is_promised_is_kept() -> None:
    fleet = half_full()
    fleet.apply(queued(1, job_class(nodes=2, gpus=8)))
    kept = Reservation(JobId(1), SiteId("london"), H100, (N1.id, N2.id), BEGIN_MS + HOUR_MS)
    fleet.apply(ReservationChanged(JobId(1), kept))
    assert unused(fleet) == {"kept": 11}


def test_what_has_no_power_is_not_counted() -> None:
    fleet = half_full()
    fleet.apply(queued(1, job_class(nodes=2, gpus=8)))
    assert unused(fleet, powered=6) == {"parts": 1}


def test_time_is_counted_in_steps_from_the_beginning_to_the_end() -> None:
    fleet = half_full()
    account = Account({SiteId("london"): 16}, HOUR_MS, 3 * HOUR_MS, HOUR_MS)
    account.note(fleet_of(nodes=[N1, N2]), BEGIN_MS)
    account.note(fleet, BEGIN_MS + 2 * HOUR_MS)
    account.until(9 * HOUR_MS)
    assert list(account.by_step()) == [0, pytest.approx(5 / 16, abs=1e-4)]
    assert set(account.unused()) == set(IDLE)
