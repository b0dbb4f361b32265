"""Reservations: made where they are due, kept to by everybody else, and never late."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.backfill import RESERVATIONS_MAX, RESERVE_AFTER_MS
from scheduler.core.fleet import FleetState
from scheduler.core.planner import plan
from scheduler.model.fleet import Health
from scheduler.model.ids import JobId, NodeId, SiteId, TenantPath
from scheduler.model.plan import (
    JobChanged,
    JobClass,
    NodeChanged,
    Plan,
    Reservation,
    ReservationChanged,
    TenantsChanged,
    WindowChanged,
)
from scheduler.model.reasons import Reason
from scheduler.model.window import Window, WindowKind
from tests.core.builders import (
    H100,
    HOUR_MS,
    NOW_MS,
    fleet_of,
    gone,
    job_class,
    live,
    node,
    queued,
    report,
    tenant,
)

MINUTE_MS = 60_000
NODES = [node("london", f"n{n}") for n in range(1, 5)]
LONG_AGO_MS = NOW_MS - RESERVE_AFTER_MS - HOUR_MS


def keep(fleet: FleetState, made: Plan, now_ms: int = NOW_MS) -> None:
    """Applies a plan as the store would, what it keeps for jobs too."""
    for placement in made.placements:
        of = fleet.queued[placement.key.job].job_class
        fleet.apply(live(placement, of, placed_at_ms=now_ms))
    for job in made.released:
        fleet.apply(ReservationChanged(job, None))
    for each in made.reservations:
        fleet.apply(ReservationChanged(each.job, each))


def busy(*limits_h: int) -> FleetState:
    """A fleet of four nodes with a job on the first few, each with its time limit."""
    fleet = fleet_of(nodes=NODES)
    for n, hours in enumerate(limits_h):
        fleet.apply(queued(100 + n, job_class(gpus=8, limit_ms=hours * HOUR_MS)))
    keep(fleet, plan(fleet, NOW_MS))
    return fleet


def waiting(number: int, of: JobClass) -> JobChanged:
    """A job that has waited long enough."""
    return queued(number, of, at_ms=LONG_AGO_MS + number)


def starts(made: Plan) -> dict[int, int]:
    """When each new reservation begins, in hours from now."""
    return {int(r.job): (r.starts_at_ms - NOW_MS) // HOUR_MS for r in made.reservations}


def placed(made: Plan) -> set[int]:
    """The jobs that a plan places."""
    return {int(p.key.job) for p in made.placements}


def test_a_gang_is_promised_the_nodes_that_are_free_soonest() -> None:
    fleet = busy(5, 2, 9, 3)
    fleet.apply(waiting(1, job_class(nodes=2, gpus=8)))
    made = plan(fleet, NOW_MS)
    assert starts(made) == {1: 3}
    assert len(made.reservations[0].nodes) == 2
    keep(fleet, made)
    again = plan(fleet, NOW_MS + HOUR_MS)
    assert (again.reservations, again.released) == ((), ())


def test_nobody_else_takes_promised_nodes_unless_they_are_over_in_time() -> None:
    fleet = busy(2)
    fleet.apply(waiting(1, job_class(nodes=4, gpus=8)))
    keep(fleet, plan(fleet, NOW_MS))
    fleet.apply(queued(2, job_class("trust-b/genomics", limit_ms=2 * HOUR_MS)))
    fleet.apply(queued(3, job_class("trust-b/genomics", limit_ms=2 * HOUR_MS + 1)))
    made = plan(fleet, NOW_MS)
    assert placed(made) == {2}
    (late,) = [b for b in made.blocked if b.job_class.time_limit_bucket_ms > 2 * HOUR_MS]
    assert late.denials[0].reason is Reason.BEHIND_OTHERS


def test_several_gangs_are_promised_nodes_at_once_and_no_node_twice() -> None:
    fleet = busy(5, 2, 9, 3)
    fleet.apply(waiting(1, job_class(nodes=2, gpus=8)))
    fleet.apply(waiting(2, job_class("trust-b/genomics", nodes=2, gpus=8)))
    made = plan(fleet, NOW_MS)
    nodes = [name for each in made.reservations for name in each.nodes]
    assert len(nodes) == len(set(nodes)) == 4
    assert sorted(starts(made).values()) == [3, 9]
    assert len(made.reservations) <= RESERVATIONS_MAX


def test_a_promise_is_given_up_with_its_job() -> None:
    fleet = busy(2)
    fleet.apply(waiting(1, job_class(nodes=4, gpus=8)))
    keep(fleet, plan(fleet, NOW_MS))
    fleet.apply(gone(1))
    made = plan(fleet, NOW_MS)
    assert made.released == (JobId(1),)
    keep(fleet, made)
    assert fleet.reservations == {}


def test_a_promise_ends_when_its_job_starts() -> None:
    fleet = busy(2, 2, 2, 2)
    fleet.apply(waiting(1, job_class(nodes=2, gpus=8)))
    keep(fleet, plan(fleet, NOW_MS))
    for n in range(4):
        fleet.apply(gone(100 + n))
    made = plan(fleet, NOW_MS + HOUR_MS)
    assert (placed(made), made.released) == ({1}, (JobId(1),))


def test_it_is_made_anew_when_its_nodes_fail() -> None:
    fleet = busy(5, 2, 9, 3)
    fleet.apply(waiting(1, job_class(nodes=2, gpus=8)))
    made = plan(fleet, NOW_MS)
    keep(fleet, made)
    lost = next(n for n in NODES if n.id == made.reservations[0].nodes[0])
    fleet.apply(NodeChanged(lost.id, lost, report(lost, health=Health.FAILED)))
    again = plan(fleet, NOW_MS)
    assert starts(again) == {1: 5}
    assert lost.id not in again.reservations[0].nodes
    assert again.released == ()


def test_it_is_given_up_when_quota_stands_in_the_way() -> None:
    fleet = busy(2)
    fleet.apply(waiting(1, job_class(nodes=4, gpus=8)))
    keep(fleet, plan(fleet, NOW_MS))
    tight = [tenant("trust-a", limit=9), tenant("trust-a/radiology")]
    fleet.apply(TenantsChanged(tuple(tight)))
    made = plan(fleet, NOW_MS)
    assert (made.reservations, made.released) == ((), (JobId(1),))


def test_no_nodes_are_promised_that_are_set_aside_for_others() -> None:
    fleet = busy(2, 3)
    fleet.apply(waiting(1, job_class(nodes=3, gpus=8)))
    keep(fleet, plan(fleet, NOW_MS))
    (before,) = fleet.reservations.values()
    window = Window(
        "fans", WindowKind.MAINTENANCE, SiteId("london"), (NodeId("london/n3"),),
        NOW_MS + HOUR_MS, NOW_MS + 9 * HOUR_MS, "fans", "o", TenantPath(""),
    )  # fmt: skip
    assert "london/n3" in before.nodes
    fleet.apply(WindowChanged("fans", window))
    made = plan(fleet, NOW_MS)
    assert [set(r.nodes) for r in made.reservations] == [{"london/n1", "london/n2", "london/n4"}]


@dataclass
class Day:
    """Virtual time over one site: jobs come, run for at most their limit, and end."""

    fleet: FleetState
    now_ms: int = NOW_MS
    ends: dict[int, int] = field(default_factory=dict[int, int])
    runs_ms: dict[int, int] = field(default_factory=dict[int, int])
    promised: dict[int, Reservation] = field(default_factory=dict[int, Reservation])
    kept_promises: int = 0

    def submit(self, number: int, of: JobClass, runs_ms: int) -> None:
        """A job comes; how long it will run is known to nobody."""
        self.runs_ms[number] = runs_ms
        self.fleet.apply(queued(number, of, at_ms=self.now_ms))

    def advance(self, until_ms: int) -> None:
        """Lives through every end and every promise until then."""
        while True:
            due = [ms for ms in self.ends.values()]
            due += [r.starts_at_ms for r in self.promised.values()]
            following = min((ms for ms in due if ms > self.now_ms), default=until_ms)
            self.now_ms = min(following, until_ms)
            for number in sorted(n for n, ms in self.ends.items() if ms <= self.now_ms):
                self.fleet.apply(gone(number))
                del self.ends[number]
            self.cycle()
            if self.now_ms == until_ms:
                return

    def cycle(self) -> None:
        """Plans, keeps the plan, and holds it against what was promised."""
        made = plan(self.fleet, self.now_ms)
        keep(self.fleet, made, self.now_ms)
        for placement in made.placements:
            number = int(placement.key.job)
            self.ends[number] = self.now_ms + self.runs_ms[number]
            if (promise := self.promised.pop(number, None)) is not None:
                assert self.now_ms <= promise.starts_at_ms, f"job {number} starts late"
                self.kept_promises += 1
        for each in made.reservations:
            earlier = self.promised.get(int(each.job))
            assert earlier is None or each.starts_at_ms <= earlier.starts_at_ms
            self.promised[int(each.job)] = each
        for number, promise in self.promised.items():
            assert promise.starts_at_ms > self.now_ms, f"job {number} was promised this moment"
            assert self.fleet.reservations[JobId(number)] == promise


jobs = st.tuples(
    st.integers(1, 4),  # Nodes.
    st.sampled_from((1, 2, 4, 8)),  # GPUs.
    st.integers(1, 12),  # Limit, in units of ten minutes.
    st.integers(1, 10),  # Tenths of it that it runs.
    st.sampled_from(("trust-a/radiology", "trust-b/genomics")),
    st.integers(0, 20),  # Minutes until the next.
)


@settings(max_examples=60)
@given(st.lists(jobs, min_size=5, max_size=40))
def test_no_reservation_is_ever_delayed_by_backfilled_jobs(
    stream: list[tuple[int, int, int, int, str, int]],
) -> None:
    day = Day(fleet_of(nodes=NODES))
    for number, (nodes, gpus, tens, tenths, project, pause) in enumerate(stream, start=1):
        limit_ms = tens * 10 * MINUTE_MS
        of = job_class(project, nodes=nodes, gpus=8 if nodes > 1 else gpus, limit_ms=limit_ms)
        day.submit(number, of, limit_ms * tenths // 10)
        day.advance(day.now_ms + pause * MINUTE_MS)
    day.advance(day.now_ms + len(stream) * 5 * HOUR_MS)
    assert not day.fleet.queued, "everything starts in the end"
    assert not day.fleet.reservations


def test_the_property_sees_promises_that_were_kept() -> None:
    day = Day(fleet_of(nodes=NODES))
    for number in range(1, 9):
        day.submit(number, job_class(gpus=8, limit_ms=number * HOUR_MS), number * HOUR_MS)
        day.advance(day.now_ms + MINUTE_MS)
    day.submit(50, job_class(nodes=4, gpus=8), HOUR_MS)
    for number in range(60, 90):
        day.submit(number, job_class(limit_ms=HOUR_MS), HOUR_MS // 2)
        day.advance(day.now_ms + 10 * MINUTE_MS)
    day.advance(day.now_ms + 48 * HOUR_MS)
    assert day.kept_promises > 0


def test_who_was_promised_nodes_has_them_although_an_older_one_of_its_kind_came_back() -> None:
    big = job_class(gpus=8, limit_ms=2 * HOUR_MS)
    fleet = fleet_of(queued(7, big), nodes=NODES[:1])
    until_ms = NOW_MS + HOUR_MS
    kept = Reservation(JobId(7), SiteId("london"), H100, (NODES[0].id,), until_ms)
    fleet.apply(ReservationChanged(JobId(7), kept))
    fleet.apply(queued(3, big, attempt=2))
    made = plan(fleet, NOW_MS)
    assert [placed.key.job for placed in made.placements] == [7]
    assert made.released == (7,)
    [blocked] = made.blocked
    assert [denial.reason for denial in blocked.denials] == [Reason.BEHIND_OTHERS]
