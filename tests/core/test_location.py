"""What round-trip times prove of a place, on simulated clocks: too much is never proved."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.location import (
    Finding,
    Heard,
    Located,
    Position,
    distance_m,
    locate,
)

OVERHEAD_US = 60
"""A signature, and two network cards."""


def at(north: float, east: float) -> Position:
    return Position(round(north * 1_000_000), round(east * 1_000_000))


LONDON, SLOUGH, MILTON_KEYNES = at(51.51, 0.0), at(51.51, -0.6), at(52.04, -0.76)
READING, CAMBRIDGE, MANCHESTER = at(51.45, -0.97), at(52.2, 0.12), at(53.48, -2.24)
BIRMINGHAM, BRISTOL, LEEDS = at(52.48, -1.9), at(51.45, -2.59), at(53.8, -1.55)
EDINBURGH, GLASGOW, NEWCASTLE = at(55.95, -3.19), at(55.86, -4.25), at(54.97, -1.61)
BELFAST, DOVER, DERRY = at(54.6, -5.93), at(51.13, 1.31), at(55.0, -7.31)
HOME = {
    "london": LONDON, "slough": SLOUGH, "milton-keynes": MILTON_KEYNES, "reading": READING,
    "cambridge": CAMBRIDGE, "manchester": MANCHESTER, "birmingham": BIRMINGHAM,
    "bristol": BRISTOL, "leeds": LEEDS, "edinburgh": EDINBURGH, "glasgow": GLASGOW,
    "newcastle": NEWCASTLE, "belfast": BELFAST,
}  # fmt: skip
ABROAD = {
    "Calais": at(50.95, 1.85), "Dublin": at(53.35, -6.26), "Paris": at(48.85, 2.35),
    "Amsterdam": at(52.37, 4.9), "Dundalk": at(54.0, -6.4), "Douglas": at(54.15, -4.48),
    "Letterkenny": at(54.95, -7.73), "Monaghan": at(54.25, -6.97), "St Helier": at(49.19, -2.1),
    "Reykjavik": at(64.15, -21.94), "Oslo": at(59.91, 10.75), "New York": at(40.71, -74.0),
}  # fmt: skip


def heard(place: Position, *, milli_slower: int = 0, overhead_us: int = OVERHEAD_US) -> list[Heard]:
    """What every landmark hears of who is at `place`, in vacuum or so many thousandths slower."""
    found: list[Heard] = []
    for number, (name, landmark) in enumerate(sorted(HOME.items())):
        way_us = -(-distance_m(place, landmark) // 149) * (1000 + milli_slower) // 1000
        found.append(Heard(name, f"operator-{number % 3}", landmark, way_us + overhead_us))
    return found


@pytest.mark.parametrize(
    "place", [LONDON, SLOUGH, MILTON_KEYNES, READING, CAMBRIDGE, MANCHESTER, BIRMINGHAM, LEEDS],
)  # fmt: skip
def test_who_is_at_home_near_landmarks_is_proved_to_be(place: Position) -> None:
    found = locate("GB", place, heard(place))
    assert found.verdict is Located.PROVED_IN, found


@pytest.mark.parametrize("place", [DOVER, DERRY], ids=["Dover", "Derry"])
def test_who_is_at_the_edge_is_not_proved_and_not_accused(place: Position) -> None:
    assert locate("GB", place, heard(place)).verdict is Located.UNPROVED


@pytest.mark.parametrize("place", ABROAD.values(), ids=ABROAD)
def test_who_is_abroad_is_never_proved_at_home(place: Position) -> None:
    assert locate("GB", None, heard(place, overhead_us=1)).verdict is Located.UNPROVED


@pytest.mark.parametrize("place", ABROAD.values(), ids=ABROAD)
def test_who_claims_another_place_than_answers_allow_is_found_out(place: Position) -> None:
    """Somebody in London answers; the site is declared to be elsewhere."""
    if distance_m(place, LONDON) < 40_000:
        return
    found = locate("GB", place, heard(LONDON))
    assert found.verdict is Located.CLAIM_FALSE
    assert "the declared place is" in found.detail


def test_a_delay_proves_nothing_and_accuses_nobody() -> None:
    delayed = [replace(one, rtt_min_us=one.rtt_min_us + 2_000) for one in heard(LONDON)]
    assert locate("GB", LONDON, delayed).verdict is Located.UNPROVED


@pytest.mark.parametrize(
    ("keep", "why"),
    [
        pytest.param(0, "no landmark was answered", id="none"),
        pytest.param(2, "found 2 landmarks", id="two landmarks"),
    ],
)
def test_few_landmarks_prove_nothing(keep: int, why: str) -> None:
    found = locate("GB", LONDON, sorted(heard(LONDON), key=lambda h: h.rtt_min_us)[:keep])
    assert (found.verdict, why in found.detail) == (Located.UNPROVED, True)


def test_one_operator_alone_proves_nothing() -> None:
    one = [replace(h, operator="only") for h in heard(LONDON)]
    assert "of 1 operators" in locate("GB", LONDON, one).detail


def test_one_operator_that_lies_cannot_bring_anybody_home() -> None:
    """A rogue operator says that whoever is in Paris answered it at once."""
    told = heard(ABROAD["Paris"])
    rogue = {h.operator for h in told if h.landmark == "london"}.pop()
    lied = [replace(h, rtt_min_us=20) if h.operator == rogue else h for h in told]
    assert locate("GB", None, lied).verdict is Located.UNPROVED


def test_a_country_that_is_not_drawn_is_proved_of_nobody() -> None:
    assert "no polygon of FR" in locate("FR", None, heard(LONDON)).detail


def test_answers_that_contradict_one_another_prove_nothing() -> None:
    impossible = [replace(h, rtt_min_us=30) for h in heard(LONDON)]
    assert locate("GB", None, impossible).verdict is Located.UNPROVED


def test_answers_that_take_too_long_count_for_nothing() -> None:
    slow = [replace(h, rtt_min_us=h.rtt_min_us + 30_000) for h in heard(LONDON)]
    assert locate("GB", LONDON, slow) == Finding(Located.UNPROVED, "no landmark was answered")


FOREIGN = st.one_of(
    st.builds(at, st.floats(46, 51), st.floats(1.6, 9)),  # France, Belgium, Germany.
    st.builds(at, st.floats(51.5, 54.0), st.floats(-10, -6.1)),  # Ireland, south of the border.
    st.builds(at, st.floats(54.05, 54.4), st.floats(-4.8, -4.3)),  # Isle of Man.
    st.builds(at, st.floats(51.5, 53.5), st.floats(3.4, 7)),  # The Netherlands.
    st.builds(at, st.floats(58, 62), st.floats(5, 11)),  # Norway.
)


@given(FOREIGN, st.integers(0, 500), st.lists(st.integers(0, 3_000), min_size=13, max_size=13))
def test_no_place_abroad_is_ever_proved_to_be_at_home(
    place: Position, milli_slower: int, delays_us: list[int]
) -> None:
    """Whatever the paths and delays: an answer can only be later than light."""
    told = heard(place, milli_slower=milli_slower, overhead_us=0)
    late = [replace(h, rtt_min_us=h.rtt_min_us + d) for h, d in zip(told, delays_us, strict=True)]
    assert locate("GB", None, late).verdict is Located.UNPROVED


@given(st.builds(at, st.floats(50, 58), st.floats(-5, 1.5)), st.integers(0, 1_000))
def test_who_is_where_he_says_is_never_accused(place: Position, milli_slower: int) -> None:
    assert locate("GB", place, heard(place, milli_slower=milli_slower)).verdict is not (
        Located.CLAIM_FALSE
    )
