"""What may be written as a destination, and what is told of a job's way out."""

from __future__ import annotations

import pytest

from scheduler.core.egress import Control, fault, of_attempt, overall
from scheduler.model.ids import AttemptKey, GpuClass, JobId, NodeId, SiteId
from scheduler.model.job import (
    Attempt,
    EgressUse,
    JobState,
    Placement,
    RankCause,
    RankEgress,
    RankPhase,
    RankStatus,
)


@pytest.mark.parametrize(
    "destination",
    ["data.example.org:443", "a:1", "203.0.113.9:65535", "[2001:db8::7]:8443", "10.1.2.3:80"],
)
def test_a_host_and_a_port_is_a_destination(destination: str) -> None:
    # 203.0.113.0/24 is for documentation, and no less an address for that.
    assert fault(destination) is None


@pytest.mark.parametrize(
    "destination",
    [
        *("", "a", ":1", "a:", "a:0", "a:65536", "a:+1", "a:08", "a b:1", "a.:1", "A:1", "-a:1"),
        *("https://a:1", "a/b:1", "*.example.org:443", "2001:db8::7:443", "[2001:DB8::7]:443"),
        *("localhost:80", "x.localhost:80", "127.0.0.1:80", "[::1]:80", "[::]:80", "0.0.0.0:80"),
        *("169.254.169.254:80", "[fe80::1]:80", "224.0.0.1:80", "255.255.255.255:80"),
        *("198.18.0.1:80", "[::ffff:10.0.0.1]:80", "1.2.3:80", "01.2.3.4:80", "[10.0.0.1]:80"),
    ],
)
def test_anything_else_is_none_and_its_fault_says_what_is_allowed(destination: str) -> None:
    assert fault(destination)


LONDON = SiteId("london")


def rank(
    number: int, node: str, egress: RankEgress | None, cause: RankCause = RankCause.EXIT
) -> RankStatus:
    return RankStatus(
        number,
        NodeId(f"{LONDON}/{node}"),
        RankPhase.OVER,
        cause=cause,
        started_at_ms=1,
        egress=egress,
    )


def attempt(*ranks: RankStatus) -> Attempt:
    key = AttemptKey(JobId(1), 1)
    return Attempt(
        key=key,
        site=LONDON,
        placement=Placement(key, LONDON, GpuClass(""), (), 0),
        state=JobState.SUCCEEDED,
        placed_at_ms=1,
        ranks=ranks,
    )


def test_ranks_of_one_node_share_a_network_and_the_later_look_counts_for_all() -> None:
    early = RankEgress(1, (EgressUse(1, 10, 100),))
    late = RankEgress(2, (EgressUse(3, 30, 300),))
    other = RankEgress(5, (EgressUse(1, 1, 1),))
    told = of_attempt(attempt(rank(0, "a", late), rank(1, "a", early), rank(2, "b", other)), 1)
    assert told.control is Control.CONTROLLED
    assert told.denied == 7
    assert told.uses == (EgressUse(4, 31, 301),)


def test_a_site_that_tells_of_more_or_fewer_destinations_than_there_are_changes_nothing() -> None:
    much = RankEgress(0, (EgressUse(1, 1, 1),) * 3)
    assert of_attempt(attempt(rank(0, "a", much)), 1).uses == (EgressUse(1, 1, 1),)
    assert of_attempt(attempt(rank(0, "a", RankEgress())), 2).uses == (EgressUse(),) * 2


@pytest.mark.parametrize(
    ("ranks", "control"),
    [
        pytest.param((), Control.NOTHING_RAN, id="no process, nothing to control"),
        pytest.param((rank(0, "a", None),), Control.NOT_CONTROLLED, id="the node's network"),
        pytest.param(
            (rank(0, "a", RankEgress()), rank(1, "b", None)),
            Control.NOT_CONTROLLED,
            id="one of two had its node's network",
        ),
        pytest.param(
            (rank(0, "a", RankEgress()), rank(1, "b", None, RankCause.LOST)),
            Control.NOT_KNOWN,
            id="how one ended was lost",
        ),
    ],
)
def test_the_least_that_is_known_of_any_process_is_told(
    ranks: tuple[RankStatus, ...], control: Control
) -> None:
    assert overall([of_attempt(attempt(*ranks), 0)]) is control
    good = of_attempt(attempt(rank(0, "a", RankEgress())), 0)
    expected = Control.CONTROLLED if control is Control.NOTHING_RAN else control
    assert overall([good, of_attempt(attempt(*ranks), 0)]) is expected
