"""Agreements: what they open, to whom and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.core.classes import class_of
from scheduler.core.residency import admission_denials, next_change_ms, permits, under
from scheduler.model.agreements import Agreement, Instrument, Scope
from scheduler.model.ids import TenantPath
from scheduler.model.reasons import Reason
from scheduler.model.residency import Deny, FactKey, Permit, Policy, Requirement, Tier
from scheduler.model.rules import Condition, Op, Rule
from tests.core.builders import NOW_MS, site, spec

PACT = Agreement(
    name="uk-ca",
    instrument=Instrument.TREATY,
    text="shared compute",
    cites="a treaty",
    jurisdictions=("CA",),
    scope=Scope(
        tier_max=int(Tier.OFFICIAL),
        kinds=("batch",),
        tenants=(TenantPath("trust"),),
        markings=("SENSITIVE",),
        data_kinds=("personal",),
    ),
    valid_from_ms=NOW_MS - 1_000,
    valid_until_ms=NOW_MS + 1_000,
)
POLICY = Policy(instruments=("treaty",), agreements=(PACT,), control_plane_tier=Tier.SECRET)
WORK = Requirement(
    jurisdictions=("CA", "GB"),
    tolerate_foreign_compulsion=("CA",),
    agreements=("uk-ca",),
    tenant="trust/lab",
    kind="batch",
)
TORONTO, LONDON = site("toronto", "CA"), site()


def verdict(
    work: Requirement = WORK, policy: Policy = POLICY, now_ms: int = NOW_MS
) -> Permit | set[Reason]:
    found = permits(work, TORONTO, policy, now_ms)
    return {denial.reason for denial in found.denials} if isinstance(found, Deny) else found


def with_pact(**changes: object) -> Policy:
    return replace(POLICY, agreements=(replace(PACT, **changes),))  # type: ignore[arg-type]


def test_an_agreement_opens_its_country_and_the_permit_names_it() -> None:
    found = verdict()
    assert isinstance(found, Permit)
    assert found.agreement == "uk-ca"


def test_what_needs_no_agreement_names_none() -> None:
    found = permits(WORK, LONDON, POLICY, NOW_MS)
    assert isinstance(found, Permit)
    assert found.agreement == ""
    assert permits(WORK, TORONTO, replace(POLICY, allowed_jurisdictions=("CA", "GB")), 1) == found


NOT_ALLOWED = Reason.JURISDICTION_NOT_ALLOWED
OUTSIDE = {NOT_ALLOWED, Reason.AGREEMENT_SCOPE}
LAPSED = {NOT_ALLOWED, Reason.AGREEMENT_EXPIRED}


@pytest.mark.parametrize(
    ("work", "policy", "want"),
    [
        pytest.param(replace(WORK, agreements=()), POLICY, {NOT_ALLOWED}, id="no opting in"),
        pytest.param(
            WORK, replace(POLICY, agreements=()), {NOT_ALLOWED, Reason.AGREEMENT_UNKNOWN},
            id="revoked"),
        pytest.param(WORK, replace(POLICY, instruments=("contract",)), OUTSIDE, id="not honoured"),
        pytest.param(WORK, with_pact(valid_until_ms=NOW_MS), LAPSED, id="ended"),
        pytest.param(WORK, with_pact(valid_from_ms=NOW_MS + 1), LAPSED, id="not begun"),
        pytest.param(WORK, with_pact(sites=("montreal",)), {NOT_ALLOWED}, id="another site"),
        pytest.param(WORK, with_pact(jurisdictions=("FR",)), {NOT_ALLOWED}, id="another country"),
        pytest.param(replace(WORK, tenant="trustees"), POLICY, OUTSIDE, id="another tenant"),
        pytest.param(replace(WORK, kind="service"), POLICY, OUTSIDE, id="another kind of work"),
        pytest.param(replace(WORK, kind=""), POLICY, OUTSIDE, id="nobody said which kind"),
        pytest.param(replace(WORK, tier=Tier.SECRET), POLICY, OUTSIDE, id="above its tier"),
        pytest.param(replace(WORK, data_kinds=("health",)), POLICY, OUTSIDE, id="other data"),
        pytest.param(
            replace(WORK, markings=("ATOMIC",)), POLICY, {*OUTSIDE, Reason.MARKING}, id="a marking"
        ),
        pytest.param(
            replace(WORK, jurisdictions=("GB",)), POLICY, {Reason.JURISDICTION}, id="not asked for"
        ),
        pytest.param(
            replace(WORK, tolerate_foreign_compulsion=()), POLICY, {Reason.FOREIGN_COMPULSION},
            id="it says nothing of whose law is borne"),
    ],
)  # fmt: skip
def test_what_it_does_not_open(work: Requirement, policy: Policy, want: set[Reason]) -> None:
    assert verdict(work, policy) == want


def test_a_rule_may_ask_for_an_instrument() -> None:
    rule = Rule("r", "t", "c", Condition(Op.AGREED, values=("contract",)))
    assert verdict(policy=replace(POLICY, rules=(rule,))) == {Reason.POLICY_RULE}
    of_treaty = replace(rule, require=Condition(Op.AGREED, values=("treaty",)))
    assert isinstance(verdict(policy=replace(POLICY, rules=(of_treaty,))), Permit)
    assert isinstance(permits(WORK, LONDON, replace(POLICY, rules=(of_treaty,)), NOW_MS), Deny)


def test_two_agreements_open_nothing_together_that_neither_does() -> None:
    rule = Rule("r", "t", "c", Condition(Op.AGREED, values=("contract",)))
    other = replace(PACT, name="other", instrument=Instrument.CONTRACT, jurisdictions=("FR",))
    both = replace(
        POLICY, rules=(rule,), agreements=(PACT, other), instruments=("contract", "treaty")
    )
    asking = replace(WORK, agreements=("other", "uk-ca"))
    assert verdict(asking, both) == {Reason.POLICY_RULE}


def test_work_that_is_there_under_one_agreement_is_judged_by_no_other() -> None:
    both = replace(POLICY, agreements=(PACT, replace(PACT, name="zz")))
    work = replace(WORK, agreements=("uk-ca", "zz"))
    found = verdict(under(work, "zz"), both)
    assert isinstance(found, Permit)
    assert found.agreement == "zz"
    assert verdict(under(work, ""), both) == {NOT_ALLOWED}


def test_a_verdict_holds_no_longer_than_the_agreement() -> None:
    assert next_change_ms(TORONTO, POLICY, NOW_MS) == PACT.valid_until_ms
    assert next_change_ms(TORONTO, POLICY, NOW_MS - 2_000) == PACT.valid_from_ms
    assert isinstance(verdict(now_ms=PACT.valid_until_ms - 1), Permit)
    assert verdict(now_ms=PACT.valid_until_ms) == LAPSED


def test_admission_lets_in_what_an_agreement_opens() -> None:
    assert admission_denials(WORK, POLICY, NOW_MS) == ()
    late = admission_denials(WORK, POLICY, PACT.valid_until_ms)
    assert [denial.reason for denial in late] == [Reason.AGREEMENT_EXPIRED, NOT_ALLOWED]
    at_home = replace(WORK, jurisdictions=("GB",), agreements=("none-such",))
    (unknown,) = admission_denials(at_home, POLICY, NOW_MS)
    assert unknown.reason is Reason.AGREEMENT_UNKNOWN


def test_a_class_says_whose_work_it_is_only_where_an_agreement_is_named() -> None:
    plain = spec()
    assert class_of(plain, plain.project).residency == plain.residency
    named = replace(plain, residency=replace(plain.residency, agreements=("uk-ca",)))
    asked = class_of(named, named.project).residency
    assert (asked.tenant, asked.kind) == (plain.project, "batch")


def test_facts_are_needed_under_an_agreement_as_without() -> None:
    for key in FactKey:
        if key is FactKey.MARKINGS:
            continue
        less = replace(TORONTO, facts=tuple(f for f in TORONTO.facts if f.key is not key))
        found = permits(WORK, less, POLICY, NOW_MS)
        assert isinstance(found, Deny)
        assert Reason.FACT_MISSING in {denial.reason for denial in found.denials}
