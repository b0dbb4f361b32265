"""Each checker of services catches what it is there to catch, and lets pass what is right."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim import checks_services, checks_tables
from tests.sim.checks_services import as_many_as_wanted, never_too_many
from tests.sim.ledger import Run
from tests.sim.seeds import Dice
from tests.sim.services import Wish
from tests.sim.tables import AttemptRow, JobRow, Tables
from tests.sim.workload import Ask, draw_asks

SITE = "exch-a-1"
SERVICE = JobRow(1, "trust-a/radiology", "QUEUED", 0, "", "", None, wanted=2)
NOTHING = Tables({}, (), 0)


def replica(number: int, state: str = "RUNNING", *, reason: str = "") -> JobRow:
    """A replica of the service, begun once."""
    return JobRow(number, SERVICE.tenant, state, 1, reason, "", None, service=1)


def tables(*rows: JobRow, service: JobRow = SERVICE, at: tuple[AttemptRow, ...] = ()) -> Tables:
    return Tables({row.id: row for row in (service, *rows)}, at, 0)


def placed(job: int, slot: str, site: str = SITE) -> AttemptRow:
    return AttemptRow(job, 1, site, "RUNNING", True, "H100", 1000, 0, {f"{site}/{slot}": 1})


def asks(wish: Wish, wanted: int = 2) -> dict[int, Ask]:
    """The submission of the service, for it and for whatever replicas it has."""
    drawn = draw_asks(Dice(1, "test"), 1, 10)[0]
    drawn.wish, drawn.wanted = wish, wanted
    return dict.fromkeys(range(1, 9), drawn)


PLAIN = asks(Wish(2))
BOUNDED = asks(Wish(2, bounded=True))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param((replica(2), replica(3), replica(4)), id="a replica more than is wanted"),
        pytest.param(
            (replica(2), replica(3, "CANCELLING"), replica(4, "QUEUED")),
            id="one begun while another still ends",
        ),
        pytest.param(
            (replica(2), replica(3, "FAILED"), replica(4, "QUEUED")),
            id="one begun in the place of another that failed for good",
        ),
    ],
)
def test_too_many_are_caught(rows: tuple[JobRow, ...]) -> None:
    before = tables(*rows[:2])
    assert list(never_too_many(tables(*rows), before)) != []


def test_what_ends_a_while_longer_than_it_is_wanted_is_right() -> None:
    leaving = tables(replica(2), replica(3), replica(4, "CANCELLING"))
    assert list(never_too_many(leaving, leaving)) == []
    worn = tables(replica(2), replica(3, "FAILED", reason="REPLICA_WORN"), replica(4))
    assert list(never_too_many(worn, NOTHING)) == []


def test_a_replica_that_a_cancel_forgot_is_caught() -> None:
    going = replace(SERVICE, cancel_requested=True)
    kept = tables(replica(2), service=going)
    assert len(list(never_too_many(kept, kept))) == 1
    over = replace(going, state="CANCELLED")
    left = tables(replica(2, "CANCELLING"), service=over)
    assert len(list(checks_services.nothing_is_left(left))) == 1
    assert (
        list(checks_services.nothing_is_left(tables(replica(2, "CANCELLED"), service=over))) == []
    )


def test_what_runs_and_holds_nothing_is_caught() -> None:
    running = Run("job-b", 1, 0, 1, SITE, "n01", (0,), 0, 1_000)
    number_of = {"job-b": 2}.get
    for rows, caught in (
        ((replica(2, "CANCELLING"),), 0),
        ((replica(2, "CANCELLED"),), 1),
        ((replace(replica(2), attempts=2),), 1),
        ((), 1),
    ):
        found = checks_services.only_holders_run(tables(*rows), [running], number_of)
        assert len(list(found)) == caught


@pytest.mark.parametrize(
    ("over", "near", "far"),
    [
        ("node", placed(3, "n01"), placed(3, "n02")),
        ("leaf", placed(3, "n02"), placed(3, "n03")),
        ("site", placed(3, "n03"), placed(3, "n01", "exch-b-1")),
    ],
)
def test_two_replicas_in_one_domain_are_caught(
    over: str, near: AttemptRow, far: AttemptRow
) -> None:
    apart, liked = asks(Wish(2, over, required=True)), asks(Wish(2, over))
    for other, wished, caught in ((near, apart, 1), (far, apart, 0), (near, liked, 0)):
        both = tables(replica(2), replica(3), at=(placed(2, "n01"), other))
        assert len(list(checks_services.spread_is_kept([other], both, wished))) == caught


def test_a_replica_that_is_over_for_no_reason_is_caught() -> None:
    ends = checks_services.ends_of_replicas_are_right
    assert len(list(ends(tables(replica(2, "SUCCEEDED")), BOUNDED))) == 1
    failed = tables(replica(2, "FAILED", reason="EXIT_NONZERO"))
    assert len(list(ends(failed, PLAIN))) == 1
    assert list(ends(failed, BOUNDED)) == []


@pytest.mark.parametrize(
    ("rows", "caught"),
    [
        pytest.param((replica(2), replica(3, "QUEUED")), 0, id="as many as are wanted"),
        pytest.param((replica(2), replica(3, "FAILED")), 0, id="one of which failed for good"),
        pytest.param((replica(2),), 1, id="one too few"),
        pytest.param((replica(2), replica(3), replica(4)), 1, id="one too many"),
        pytest.param((replica(2), replica(3, "CANCELLING")), 1, id="one that does not end"),
    ],
)
def test_what_is_there_in_the_end_is_what_was_wanted(rows: tuple[JobRow, ...], caught: int) -> None:
    assert len(list(as_many_as_wanted(tables(*rows), PLAIN))) == caught


def test_a_number_of_replicas_that_was_answered_and_lost_is_caught() -> None:
    scaled = asks(Wish(2), wanted=3)
    assert len(list(as_many_as_wanted(tables(replica(2), replica(3)), scaled))) >= 1


def test_the_cancel_of_a_service_is_told_once() -> None:
    told = [("job-a", "QUEUED", "QUEUED"), ("job-a", "QUEUED", "CANCELLED")]
    assert list(checks_tables.moves_are_legal(told, {"job-a"})) == []
    assert len(list(checks_tables.moves_are_legal(told))) == 1
    assert len(list(checks_tables.moves_are_legal([told[0], *told], {"job-a"}))) == 1
