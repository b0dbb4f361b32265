"""What is known of nodes: what it opens, and that losing any of it opens nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.node_facts import node_change_ms, node_denials, node_needs
from scheduler.core.node_history import NodeThen
from scheduler.core.planner import plan
from scheduler.core.stays import Bounds, FactsThen, PolicyThen, Stay, intervals
from scheduler.model.ids import SiteId, node_id
from scheduler.model.plan import NodeChanged
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, NodeFact
from scheduler.model.rules import FactRule
from tests.core.builders import (
    GB_ONLY,
    NOW_MS,
    POLICY,
    PROVED,
    fleet_of,
    job_class,
    located,
    node,
    queued,
    report,
    site,
)

N01 = node_id(SiteId("london"), "n01")
ASKED = replace(GB_ONLY, node_facts=(PROVED,))
NEEDS = node_needs(ASKED, POLICY)


def reasons(*facts: NodeFact, country: str = "GB", now_ms: int = NOW_MS) -> list[Reason]:
    return [denial.reason for denial in node_denials(NEEDS, N01, facts, country, now_ms)]


@pytest.mark.parametrize(
    ("facts", "country", "later_ms", "want"),
    [
        pytest.param((located(),), "GB", 0, [], id="proved to be where its site is"),
        pytest.param((), "GB", 0, [Reason.NODE_FACTS], id="nobody measured it"),
        pytest.param((located("UNPROVED"),), "GB", 0, [Reason.NODE_FACTS], id="not proved"),
        pytest.param((located(),), "NO", 0, [Reason.NODE_FACTS], id="its site says another place"),
        pytest.param((located(),), "GB", 600_000, [Reason.NODE_FACTS], id="expired"),
        pytest.param(
            (located(expires_at_ms=None),), "GB", 600_001, [Reason.NODE_FACTS], id="too old"
        ),
        pytest.param((located(), located()), "GB", 0, [Reason.NODE_FACTS], id="said twice"),
    ],
)
def test_what_is_asked_of_a_location(
    facts: tuple[NodeFact, ...], country: str, later_ms: int, want: list[Reason]
) -> None:
    assert reasons(*facts, country=country, now_ms=NOW_MS + later_ms) == want


def test_a_refuted_claim_closes_a_node_to_work_that_asks_for_nothing() -> None:
    [denial] = node_denials((), N01, (located("CLAIM_FALSE", detail="too soon"),), "GB", NOW_MS)
    assert (denial.reason, denial.subject) == (Reason.NODE_REFUTED, N01)
    assert denial.detail == "location is CLAIM_FALSE: too soon"


def test_policy_and_work_ask_together_for_the_stricter() -> None:
    policy = replace(POLICY, node_facts=(FactRule("location", Assurance.DECLARED, 60_000),))
    [need] = node_needs(ASKED, policy)
    assert (need.least, need.max_age_ms) == (Assurance.MEASURED, 60_000)


@st.composite
def locations(draw: st.DrawFn) -> NodeFact:
    return located(
        draw(st.sampled_from(["PROVED_IN", "PROVED_IN", "UNPROVED"])),
        draw(st.sampled_from(["GB", "GB", "NO"])),
        observed_at_ms=NOW_MS - draw(st.integers(0, 700_000)),
        expires_at_ms=NOW_MS + draw(st.integers(-10, 600_000)),
        assurance=draw(st.sampled_from(Assurance)),
    )


rules = st.builds(
    FactRule, st.just("location"), st.sampled_from(Assurance), st.sampled_from([None, 60_000])
)


@given(
    fact=locations(),
    asked=st.lists(rules, min_size=1, max_size=2),
    how=st.sampled_from(["deleted", "expired", "weakened", "not proved"]),
)
def test_losing_what_is_known_only_closes(fact: NodeFact, asked: list[FactRule], how: str) -> None:
    needs = node_needs(replace(GB_ONLY, node_facts=tuple(asked)), POLICY)
    less: dict[str, tuple[NodeFact, ...]] = {
        "deleted": (),
        "expired": (replace(fact, expires_at_ms=NOW_MS),),
        "weakened": (replace(fact, assurance=Assurance.UNSPECIFIED),),
        "not proved": (located("UNPROVED", assurance=Assurance.UNSPECIFIED),),
    }
    assert node_denials(needs, N01, less[how], "GB", NOW_MS), f"{how}, and it permits"


@given(facts=st.lists(locations(), max_size=1), step_ms=st.integers(1, 800_000))
def test_time_only_closes_and_is_foretold(facts: list[NodeFact], step_ms: int) -> None:
    before = node_denials(NEEDS, N01, facts, "GB", NOW_MS)
    after = node_denials(NEEDS, N01, facts, "GB", NOW_MS + step_ms)
    change_ms = node_change_ms(NEEDS, facts, NOW_MS)
    if before:
        assert after
    elif change_ms is None or NOW_MS + step_ms < change_ms:
        assert not after


def test_the_planner_takes_a_proved_node_and_leaves_it_out_when_its_time_is_up() -> None:
    proved = node("london", "n01", facts=(located(),))
    unproved = node("london", "n02", facts=(located("UNPROVED"),))
    job = queued(1, job_class(residency=ASKED))
    fleet = fleet_of(job, nodes=[proved, unproved])
    [placed] = plan(fleet, NOW_MS).placements
    assert [part.node for part in placed.nodes] == [proved.id]
    assert plan(fleet, NOW_MS + 600_000).placements == ()
    renewed = replace(
        proved,
        facts=(located(observed_at_ms=NOW_MS + 600_000, expires_at_ms=NOW_MS + 1_200_000),),
    )
    fleet.apply(NodeChanged(renewed.id, renewed, report(renewed)))
    assert len(plan(fleet, NOW_MS + 600_001).placements) == 1


def test_the_planner_puts_nothing_on_a_refuted_node() -> None:
    refuted = node("london", "n01", facts=(located("CLAIM_FALSE"),))
    fleet = fleet_of(queued(1, job_class()), nodes=[refuted])
    assert plan(fleet, NOW_MS).placements == ()
    fleet.apply(NodeChanged(refuted.id, replace(refuted, facts=()), report(refuted)))
    assert len(plan(fleet, NOW_MS).placements) == 1


STAY = Stay(1, SiteId("london"), (N01,), NOW_MS, NOW_MS, NOW_MS + 900_000)


def spell(fact: NodeFact, since_ms: int, renewed_ms: int, stalest_ms: int = 0) -> NodeThen:
    return NodeThen(N01, fact, NOW_MS + since_ms, NOW_MS + renewed_ms, stalest_ms)


def judged(*spells: NodeThen) -> list[tuple[int, int, Bounds]]:
    facts = {STAY.site: (FactsThen(0, "sha256:f", site()),)}
    found = intervals(ASKED, [STAY], facts, [PolicyThen(0, "sha256:p", POLICY)], {N01: spells})
    told: list[tuple[int, int, Bounds]] = []
    for each in found:
        # Times are in what denials say: neighbours that are judged alike are one here.
        alike = bool(told) and told[-1][2] is each.bounds
        begin_ms = told.pop()[0] if alike else each.from_ms - NOW_MS
        told.append((begin_ms, each.to_ms - NOW_MS, each.bounds))
    return told


IN, OUT = Bounds.IN_BOUNDS, Bounds.OUT_OF_BOUNDS


def test_a_stay_is_in_bounds_while_a_spell_of_proofs_lasts() -> None:
    later = located(observed_at_ms=NOW_MS + 400_000, expires_at_ms=NOW_MS + 1_000_000)
    assert judged(spell(later, -1_000, 400_000, 250_000)) == [(0, 900_000, IN)]


def test_a_proof_that_was_not_renewed_shows_from_the_moment_it_expired() -> None:
    assert judged(spell(located(), 0, 0)) == [(0, 600_000, IN), (600_000, 900_000, OUT)]


def test_a_claim_that_was_refuted_shows_from_the_moment_it_was_known() -> None:
    refuted = located("CLAIM_FALSE", observed_at_ms=NOW_MS + 300_000)
    found = judged(spell(located(), 0, 0), spell(refuted, 300_000, 300_000))
    assert found == [(0, 300_000, IN), (300_000, 900_000, OUT)]


def test_renewals_too_far_apart_do_not_count_as_fresh() -> None:
    later = located(observed_at_ms=NOW_MS + 880_000, expires_at_ms=NOW_MS + 1_480_000)
    found = judged(spell(later, 0, 880_000, 700_000))
    assert found == [(0, 880_000, OUT), (880_000, 900_000, IN)]
