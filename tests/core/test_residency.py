from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.core.residency import (
    admission_denials,
    needed_facts,
    next_change_ms,
    permits,
)
from scheduler.model.fleet import Site
from scheduler.model.reasons import Reason
from scheduler.model.residency import (
    Assurance,
    Deny,
    Fact,
    FactKey,
    Party,
    Permit,
    Policy,
    Requirement,
    Tier,
)
from scheduler.model.rules import FactRule
from tests.core.builders import GB_ONLY, NOW_MS, POLICY, site

LONDON = site()


def with_fact(of: Site, key: FactKey, **changes: object) -> Site:
    return replace(
        of,
        facts=tuple(
            replace(fact, **changes) if fact.key is key else fact  # type: ignore[arg-type]
            for fact in of.facts
        ),
    )


def without(of: Site, key: FactKey) -> Site:
    return replace(of, facts=tuple(fact for fact in of.facts if fact.key is not key))


def reasons(
    requirement: Requirement = GB_ONLY, at: Site = LONDON, policy: Policy = POLICY
) -> list[Reason]:
    verdict = permits(requirement, at, policy, NOW_MS)
    return [denial.reason for denial in verdict.denials] if isinstance(verdict, Deny) else []


ALL_SIX = [Reason.FOREIGN_COMPULSION] * 6
US_PARENT = (Party("Giant Inc", "US", 25_001),)
TOLERANT = replace(GB_ONLY, tolerate_foreign_compulsion=("US",))
MARKED = replace(GB_ONLY, markings=("SENSITIVE",))


@pytest.mark.parametrize(
    ("requirement", "at", "policy", "want"),
    [
        pytest.param(GB_ONLY, LONDON, POLICY, [], id="a British site may hold British work"),
        pytest.param(
            GB_ONLY, site(country="NO"), POLICY, [Reason.JURISDICTION, *ALL_SIX],
            id="a Norwegian site may not, and everybody who runs it is named",
        ),
        pytest.param(
            replace(GB_ONLY, jurisdictions=("GB", "NO")), site(country="NO"), POLICY, [],
            id="work that names Norway may go there",
        ),
        pytest.param(
            replace(GB_ONLY, jurisdictions=("GB", "NO")),
            site(country="NO"),
            replace(POLICY, allowed_jurisdictions=("GB",)),
            [Reason.JURISDICTION_NOT_ALLOWED, *ALL_SIX],
            id="but not where the policy does not allow Norway",
        ),
        pytest.param(
            GB_ONLY, site(country="IM"), POLICY,
            [Reason.JURISDICTION, Reason.JURISDICTION_NOT_ALLOWED, *ALL_SIX],
            id="the Isle of Man is not GB",
        ),
        pytest.param(
            GB_ONLY, site(parents=US_PARENT), POLICY, [Reason.FOREIGN_COMPULSION],
            id="a parent with more than a quarter is control",
        ),
        pytest.param(
            GB_ONLY, site(parents=(Party("Maybe", "US", 25_001, at_most=True),)), POLICY,
            [Reason.FOREIGN_COMPULSION], id="a parent that may have more is control",
        ),
        pytest.param(
            GB_ONLY, site(parents=(Party("Giant Inc", "US", 25_000),)), POLICY, [],
            id="a parent with a quarter exactly is not",
        ),
        pytest.param(
            TOLERANT, site(parents=US_PARENT), POLICY, [], id="unless the work tolerates it"
        ),
        pytest.param(
            TOLERANT, site(country="US"), POLICY,
            [Reason.JURISDICTION, Reason.JURISDICTION_NOT_ALLOWED],
            id="tolerating a country's law does not widen where the work may be",
        ),
        pytest.param(
            GB_ONLY, site(parents=(Party("Nobody knows", "", 100_000),)), POLICY,
            [Reason.FOREIGN_COMPULSION], id="a parent from nowhere is foreign",
        ),
        pytest.param(
            GB_ONLY, site(support_desk=("GB", "IN")), POLICY, [Reason.FOREIGN_COMPULSION],
            id="support that follows the sun is seen",
        ),
        pytest.param(
            GB_ONLY, site(sinks=("GB", "IE")), POLICY, [Reason.FOREIGN_COMPULSION],
            id="backups abroad are seen",
        ),
        pytest.param(
            GB_ONLY, site(key_custodian=()), POLICY, [Reason.FACT_MISSING],
            id="a fact without a value says nothing",
        ),
        pytest.param(
            replace(GB_ONLY, tier=Tier.SECRET), LONDON,
            replace(POLICY, control_plane_tier=Tier.SECRET), [],
            id="work at the site's own tier may be there",
        ),
        pytest.param(
            replace(GB_ONLY, tier=Tier.TOP_SECRET), LONDON,
            replace(POLICY, control_plane_tier=Tier.TOP_SECRET), [Reason.TIER_ABOVE_SITE],
            id="work above the site's tier may not",
        ),
        pytest.param(
            replace(GB_ONLY, tier=Tier.SECRET), LONDON, POLICY, [Reason.TIER_ABOVE_CONTROL_PLANE],
            id="nor work above the control plane's own",
        ),
        pytest.param(
            GB_ONLY, site(accreditation=("Official-ish",)), POLICY, [Reason.TIER_ABOVE_SITE],
            id="an accreditation that nobody knows is none",
        ),
        pytest.param(MARKED, LONDON, POLICY, [], id="a site that handles the marking may hold it"),
        pytest.param(
            MARKED, site(markings=()), POLICY, [Reason.MARKING], id="one that handles none may not"
        ),
        pytest.param(
            MARKED, without(LONDON, FactKey.MARKINGS), POLICY, [Reason.FACT_MISSING],
            id="markings are a needed fact of marked work",
        ),
        pytest.param(
            GB_ONLY, without(LONDON, FactKey.MARKINGS), POLICY, [], id="and of no other work"
        ),
        pytest.param(
            Requirement(jurisdictions=()), LONDON, POLICY,
            [Reason.REQUIREMENT_EMPTY, Reason.JURISDICTION, *ALL_SIX],
            id="no jurisdiction is not any jurisdiction",
        ),
        pytest.param(
            replace(GB_ONLY, agreements=("uk-ca",)), LONDON, POLICY, [],
            id="an agreement that is not in force takes nothing away",
        ),
        pytest.param(
            GB_ONLY, replace(LONDON, facts=(*LONDON.facts, LONDON.facts[0])), POLICY,
            [Reason.FACT_MISSING], id="a fact stated twice is not known",
        ),
    ],
)  # fmt: skip
def test_verdicts(requirement: Requirement, at: Site, policy: Policy, want: list[Reason]) -> None:
    assert reasons(requirement, at, policy) == want


@pytest.mark.parametrize(
    ("changes", "policy", "want"),
    [
        ({"expires_at_ms": NOW_MS}, POLICY, Reason.FACT_EXPIRED),
        (
            {"observed_at_ms": 0},
            replace(POLICY, fact_max_age_ms=NOW_MS - 1),
            Reason.FACT_TOO_OLD,
        ),
        ({"assurance": Assurance.UNSPECIFIED}, POLICY, Reason.FACT_TOO_WEAK),
        (
            {"assurance": Assurance.DECLARED},
            replace(POLICY, min_assurance=Assurance.AUDITED),
            Reason.FACT_TOO_WEAK,
        ),
    ],
    ids=["expired", "too old", "of no assurance", "weaker than the policy asks"],
)
@pytest.mark.parametrize("key", needed_facts(MARKED))
def test_each_needed_fact_must_be_sound(
    key: FactKey, changes: dict[str, object], policy: Policy, want: Reason
) -> None:
    fresh = replace(
        LONDON, facts=tuple(replace(fact, observed_at_ms=NOW_MS) for fact in LONDON.facts)
    )
    at = with_fact(fresh, key, **changes)
    verdict = permits(MARKED, at, policy, NOW_MS)
    assert isinstance(verdict, Deny)
    assert [(d.reason, d.subject) for d in verdict.denials] == [(want, "london")]
    assert verdict.denials[0].detail.startswith(str(key))


def test_the_requirement_may_ask_for_more_assurance_than_the_policy() -> None:
    demanding = replace(GB_ONLY, min_assurance=Assurance.ATTESTED)
    assert set(reasons(demanding)) == {Reason.FACT_TOO_WEAK}
    assert len(reasons(demanding)) == len(needed_facts(demanding))


@pytest.mark.parametrize(
    ("asked", "want"),
    [
        (FactRule("key_custodian", Assurance.AUDITED), []),
        (FactRule("key_custodian", Assurance.MEASURED), [Reason.FACT_TOO_WEAK]),
        (FactRule("sinks", 0, NOW_MS), []),
        (FactRule("sinks", 0, NOW_MS - 1), [Reason.FACT_TOO_OLD]),
    ],
    ids=["as sure as it is", "surer than it is", "as fresh as it is", "fresher than it is"],
)
def test_the_requirement_may_ask_more_of_one_fact_than_of_the_others(
    asked: FactRule, want: list[Reason]
) -> None:
    sure = replace(
        LONDON,
        facts=tuple(
            replace(fact, assurance=Assurance.AUDITED, observed_at_ms=0) for fact in LONDON.facts
        ),
    )
    verdict = permits(replace(GB_ONLY, facts=(asked,)), sure, POLICY, NOW_MS)
    denials = verdict.denials if isinstance(verdict, Deny) else ()
    assert [denial.reason for denial in denials] == want
    assert all(denial.detail.startswith(asked.fact) for denial in denials)


def test_a_fact_that_only_the_requirement_speaks_of_is_needed() -> None:
    asked = replace(GB_ONLY, facts=(FactRule("markings"),))
    assert FactKey.MARKINGS in needed_facts(asked)
    assert FactKey.MARKINGS not in needed_facts(GB_ONLY)
    assert reasons(GB_ONLY, without(LONDON, FactKey.MARKINGS)) == []
    assert reasons(asked, without(LONDON, FactKey.MARKINGS)) == [Reason.FACT_MISSING]


def test_admission_names_what_no_site_could_meet() -> None:
    asked = Requirement(jurisdictions=("FR", "GB"), tier=Tier.SECRET, agreements=("x",))
    assert [(d.reason, d.subject) for d in admission_denials(asked, POLICY, NOW_MS)] == [
        (Reason.AGREEMENT_UNKNOWN, "residency.agreements"),
        (Reason.JURISDICTION_NOT_ALLOWED, "residency.jurisdictions"),
        (Reason.TIER_ABOVE_CONTROL_PLANE, "residency.tier"),
    ]
    assert admission_denials(GB_ONLY, POLICY, NOW_MS) == ()


countries = st.sampled_from(["GB", "NO", "US"])
listed = st.lists(countries, min_size=0, max_size=2, unique=True).map(tuple)


@st.composite
def sites(draw: st.DrawFn) -> Site:
    made: list[Fact] = []
    for key in FactKey:
        if draw(st.integers(0, 9)) == 0:
            continue
        values = {
            FactKey.ACCREDITATION: draw(st.sampled_from([("OFFICIAL",), ("SECRET",), ("?",)])),
            FactKey.MARKINGS: draw(st.sampled_from([(), ("SENSITIVE",)])),
        }.get(key, draw(st.sampled_from([("GB",), ("GB",), ("GB",), ("US",), ("NO", "GB")])))
        made.append(
            Fact(
                key,
                values,
                draw(st.sampled_from([Assurance.AUDITED, Assurance.ATTESTED, Assurance.DECLARED])),
                "somebody",
                draw(st.integers(NOW_MS - 100, NOW_MS)),
                draw(st.sampled_from([None, None, NOW_MS - 1, NOW_MS + 1, NOW_MS + 50])),
            )
        )
    stake = draw(st.sampled_from([0, 25_000, 60_000]))
    parents = (Party("Parent", draw(countries), stake),) if draw(st.booleans()) else ()
    return replace(LONDON, facts=tuple(made), parents=parents)


fact_rules = st.builds(
    FactRule,
    st.sampled_from(FactKey),
    st.sampled_from([Assurance.DECLARED, Assurance.AUDITED]),
    st.sampled_from([None, 50, 200]),
)
requirements = st.builds(
    Requirement,
    facts=st.lists(fact_rules, max_size=2, unique_by=lambda rule: rule.fact).map(tuple),
    jurisdictions=listed,
    tier=st.sampled_from([Tier.OFFICIAL, Tier.SECRET]),
    markings=st.sampled_from([(), ("SENSITIVE",)]),
    tolerate_foreign_compulsion=listed,
)
policies = st.builds(
    Policy,
    allowed_jurisdictions=listed,
    control_plane_tier=st.sampled_from([Tier.OFFICIAL, Tier.SECRET]),
    fact_max_age_ms=st.sampled_from([None, 50, 200]),
    min_assurance=st.sampled_from([Assurance.DECLARED, Assurance.AUDITED]),
)


def worse(of: Site, key: FactKey, how: str) -> Site:
    """`of` with the fact `key` deleted, expired or weakened."""
    if how == "deleted":
        return without(of, key)
    if how == "expired":
        return with_fact(of, key, expires_at_ms=NOW_MS)
    return with_fact(of, key, assurance=Assurance.UNSPECIFIED)


@given(requirements, sites(), policies, st.sampled_from(["deleted", "expired", "weakened"]))
def test_losing_a_fact_never_opens_and_always_closes_what_relied_on_it(
    requirement: Requirement, at: Site, policy: Policy, how: str
) -> None:
    before = permits(requirement, at, policy, NOW_MS)
    for key in FactKey:
        after = permits(requirement, worse(at, key, how), policy, NOW_MS)
        if isinstance(before, Deny) or key in before.relied_on:
            assert isinstance(after, Deny)
        else:
            assert after == before


@given(requirements, sites(), policies)
def test_what_the_requirement_asks_of_facts_opens_nothing(
    requirement: Requirement, at: Site, policy: Policy
) -> None:
    plain = permits(replace(requirement, facts=()), at, policy, NOW_MS)
    assert isinstance(plain, Permit) or isinstance(permits(requirement, at, policy, NOW_MS), Deny)


@given(sites(), policies)
def test_a_fact_that_is_lost_denies_the_best_of_sites(at: Site, policy: Policy) -> None:
    """The property above, where there is always a Permit to lose."""
    good = replace(at, facts=LONDON.facts, parents=())
    wide = replace(policy, allowed_jurisdictions=("GB",), fact_max_age_ms=None)
    assert isinstance(permits(MARKED, good, wide, NOW_MS), Permit)
    for key in needed_facts(MARKED):
        for how in ("deleted", "expired", "weakened"):
            assert isinstance(permits(MARKED, worse(good, key, how), wide, NOW_MS), Deny)


@given(requirements, sites(), policies, st.integers(0, 300))
def test_a_verdict_holds_until_the_moment_that_is_told(
    requirement: Requirement, at: Site, policy: Policy, later_ms: int
) -> None:
    until_ms = next_change_ms(at, policy, NOW_MS, requirement.facts)
    before = permits(requirement, at, policy, NOW_MS)
    after = permits(requirement, at, policy, NOW_MS + later_ms)
    if until_ms is None or NOW_MS + later_ms < until_ms:
        assert type(before) is type(after)
    if isinstance(before, Deny):
        assert isinstance(after, Deny), "time only takes away"
