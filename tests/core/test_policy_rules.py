"""Rules of a pack: what they narrow, what they say, and what no rule can open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.policy import words
from scheduler.core.residency import needed_facts, next_change_ms, permits
from scheduler.model.fleet import Site
from scheduler.model.reasons import Reason
from scheduler.model.residency import Assurance, Deny, FactKey, Party, Permit, Requirement, Tier
from scheduler.model.rules import Condition, FactRule, NamedSet, Op, Rule
from tests.core.builders import GB_ONLY, NOW_MS, POLICY, site

IN_GB = Condition(Op.EACH_IN, FactKey.COUNTRY, ("GB",))
PATIENTS = Condition(Op.MARKED, values=("PATIENT",))
RULE = Rule("patients-stay", "patients' data stays in the United Kingdom", "a guidance", IN_GB)
TO_NORWAY = replace(GB_ONLY, jurisdictions=("GB", "NO"))
NORWAY, LONDON = site("oslo", "NO"), site()


def denied(
    require: Condition, when: Condition, work: Requirement = TO_NORWAY, at: Site = NORWAY
) -> list[str]:
    """Ids of the rules that deny."""
    policy = replace(POLICY, rules=(replace(RULE, require=require, when=when),))
    verdict = permits(work, at, policy, NOW_MS)
    return [d.rule for d in verdict.denials] if isinstance(verdict, Deny) else []


ALWAYS = Condition(Op.ALL)
NEVER = Condition(Op.ANY)
OWNED = site("hall", parents=(Party("Fund", "NO", 11_000),))


@pytest.mark.parametrize(
    ("require", "when", "work", "at", "holds"),
    [
        pytest.param(IN_GB, ALWAYS, TO_NORWAY, NORWAY, False, id="a country that is not listed"),
        pytest.param(IN_GB, ALWAYS, TO_NORWAY, LONDON, True, id="one that is"),
        pytest.param(IN_GB, PATIENTS, TO_NORWAY, NORWAY, True, id="not about this work"),
        pytest.param(
            IN_GB, Condition(Op.TIER_AT_LEAST, number=1), TO_NORWAY, NORWAY, False, id="by tier"),
        pytest.param(
            IN_GB, Condition(Op.OF_KIND, values=("health",)),
            replace(TO_NORWAY, data_kinds=("health",)), NORWAY, False, id="by kind of data"),
        pytest.param(
            Condition(Op.EACH_IN, "landlord", ("GB",), (NamedSet.TOLERATED,)), ALWAYS,
            replace(TO_NORWAY, tolerate_foreign_compulsion=("NO",)), NORWAY, True,
            id="a set that the work names"),
        pytest.param(
            Condition(Op.PARENTS_IN, "ultimate_parents", ("GB",), number=10_000), ALWAYS,
            GB_ONLY, OWNED, False, id="a parent above a lower threshold"),
        pytest.param(
            Condition(Op.PARENTS_IN, "ultimate_parents", ("GB",), number=11_000), ALWAYS,
            GB_ONLY, OWNED, True, id="a parent at the threshold"),
        pytest.param(
            Condition(Op.ACCREDITED, "accreditation", number=int(Tier.TOP_SECRET)), ALWAYS,
            GB_ONLY, LONDON, False, id="an accreditation that it lacks"),
        pytest.param(
            Condition(Op.COVERS, "markings", ("SENSITIVE",)), ALWAYS,
            GB_ONLY, LONDON, True, id="a marking that it may handle"),
        pytest.param(
            Condition(Op.KNOWN, "country", number=int(Assurance.ATTESTED)), ALWAYS,
            GB_ONLY, LONDON, False, id="a fact that is not sure enough"),
        pytest.param(
            Condition(Op.KNOWN, "country", age_ms=NOW_MS - 1), ALWAYS,
            GB_ONLY, LONDON, False, id="a fact that is too old"),
        pytest.param(
            Condition(Op.ANY, parts=(IN_GB, Condition(Op.EACH_IN, "landlord", ("NO",)))), ALWAYS,
            TO_NORWAY, NORWAY, True, id="one of two"),
        pytest.param(
            Condition(Op.ALL, parts=(IN_GB, NEVER)), ALWAYS, GB_ONLY, LONDON, False,
            id="both of two"),
    ],
)  # fmt: skip
def test_a_rule(
    require: Condition, when: Condition, work: Requirement, at: Site, holds: bool
) -> None:
    assert denied(require, when, work, at) == ([] if holds else ["patients-stay"])


def test_a_denial_tells_rule_text_source_and_what_was_found() -> None:
    verdict = permits(TO_NORWAY, NORWAY, replace(POLICY, rules=(RULE,)), NOW_MS)
    assert isinstance(verdict, Deny)
    [denial] = verdict.denials
    assert (denial.reason, denial.subject, denial.rule) == (
        Reason.POLICY_RULE,
        "oslo",
        "patients-stay",
    )
    assert denial.detail == (
        "patients' data stays in the United Kingdom: needed country is in GB, found country NO"
        " (a guidance)"
    )


def test_a_rule_of_every_policy_tells_its_id_too() -> None:
    verdict = permits(GB_ONLY, site(sinks=("GB", "IE")), POLICY, NOW_MS)
    assert isinstance(verdict, Deny)
    assert [denial.rule for denial in verdict.denials] == ["base/law-sinks"]


def test_no_rule_of_a_pack_opens_anything() -> None:
    wide = replace(RULE, require=Condition(Op.EACH_IN, FactKey.COUNTRY, ("GB", "NO", "US")))
    for at in (LONDON, NORWAY, site("texas", "US")):
        for work in (GB_ONLY, TO_NORWAY):
            before = permits(work, at, POLICY, NOW_MS)
            assert type(permits(work, at, replace(POLICY, rules=(wide,)), NOW_MS)) is type(before)


def test_a_fact_that_only_a_rule_speaks_of_is_needed_by_the_work_it_is_about() -> None:
    policy = replace(POLICY, rules=(replace(RULE, require=Condition(Op.COVERS, "markings")),))
    assert FactKey.MARKINGS in needed_facts(GB_ONLY, policy)
    assert FactKey.MARKINGS not in needed_facts(GB_ONLY)
    others = tuple(fact for fact in LONDON.facts if fact.key is not FactKey.MARKINGS)
    unstated = replace(LONDON, facts=others)
    verdict = permits(GB_ONLY, unstated, policy, NOW_MS)
    assert isinstance(verdict, Deny)
    assert [d.reason for d in verdict.denials] == [Reason.FACT_MISSING]


def test_a_pack_may_ask_more_of_one_fact_than_of_the_others() -> None:
    sure = replace(POLICY, facts=(FactRule("sinks", min_assurance=int(Assurance.ATTESTED)),))
    young = replace(POLICY, facts=(FactRule("sinks", max_age_ms=NOW_MS - 1),))
    for policy, reason in ((sure, Reason.FACT_TOO_WEAK), (young, Reason.FACT_TOO_OLD)):
        verdict = permits(GB_ONLY, LONDON, policy, NOW_MS)
        assert isinstance(verdict, Deny)
        assert [(d.reason, d.detail.split()[0]) for d in verdict.denials] == [(reason, "sinks")]


def test_a_verdict_is_kept_no_longer_than_a_rule_lets_a_fact_age() -> None:
    aged = replace(RULE, require=Condition(Op.KNOWN, "country", age_ms=NOW_MS + 7))
    policy = replace(POLICY, rules=(aged,), facts=(FactRule("sinks", max_age_ms=NOW_MS + 9),))
    at_ms = next_change_ms(LONDON, policy, NOW_MS)
    assert at_ms == NOW_MS + 8
    assert isinstance(permits(GB_ONLY, LONDON, policy, at_ms - 1), Permit)
    assert isinstance(permits(GB_ONLY, LONDON, policy, at_ms), Deny)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (ALWAYS, "always"),
        (NEVER, "never"),
        (Condition(Op.ALL, parts=(IN_GB, Condition(Op.ANY, parts=(IN_GB, PATIENTS)))),
            "country is in GB and (country is in GB or the work is marked PATIENT)"),
        (Condition(Op.KNOWN, "sinks", number=2, age_ms=86_400_000),
            "sinks is AUDITED or better and at most 1 days old"),
        (Condition(Op.PARENTS_IN, "ultimate_parents", ("GB",), number=12_500),
            "every parent with more than 12.5 % is under the law of GB"),
    ],
)  # fmt: skip
def test_a_condition_in_words(condition: Condition, said: str) -> None:
    assert words.condition(condition) == said
