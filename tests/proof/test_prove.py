"""What is proved of a change of policy, and the world that is shown where it cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler.model.proofs import NO_LOOSER, Finding, Standing, ToProve
from scheduler.model.residency import Assurance, Policy, Tier
from scheduler.model.rules import Condition, FactRule, Invariant, Op, Rule
from scheduler.proof.prove import prove

MILLISECONDS_MAX = 60_000
IN_GB = Condition(Op.EACH_IN, "country", ("GB",))
SECRET = Condition(Op.TIER_AT_LEAST, number=int(Tier.SECRET))
STAYS = Rule("secret-stays", "SECRET work stays in the United Kingdom", "a law", IN_GB, SECRET)
NEVER_LEAVES = Invariant("secret-never-leaves", "SECRET never leaves GB", "a law", IN_GB, SECRET)
IN_FORCE = Policy(
    name="in-force",
    allowed_jurisdictions=("GB", "NO"),
    control_plane_tier=Tier.SECRET,
    min_assurance=Assurance.AUDITED,
    fact_max_age_ms=1_000,
    min_isolation=2,
    facts=(FactRule("key_custodian", min_assurance=3, max_age_ms=500),),
    rules=(STAYS,),
    invariants=(NEVER_LEAVES,),
)


def findings(after: Policy, before: Policy = IN_FORCE) -> dict[str, Finding]:
    return {f.claim: f for f in prove(ToProve(before, after, MILLISECONDS_MAX)).findings}


def test_a_policy_is_no_looser_than_itself_and_keeps_its_invariants() -> None:
    proof = prove(ToProve(IN_FORCE, IN_FORCE, MILLISECONDS_MAX))
    assert proof.holds()
    assert [finding.claim for finding in proof.findings] == ["secret-never-leaves", NO_LOOSER]


@pytest.mark.parametrize("invariants", [(NEVER_LEAVES,), ()], ids=["declared", "dropped as well"])
def test_dropping_the_secret_rule_is_answered_with_secret_work_abroad(
    invariants: tuple[Invariant, ...],
) -> None:
    found = findings(replace(IN_FORCE, rules=(), invariants=invariants))
    for claim in ("secret-never-leaves", NO_LOOSER):
        assert found[claim].standing is Standing.BROKEN
        shown = "\n".join(found[claim].counterexample)
        assert "work: SECRET" in shown
        assert "site: country NO (" in shown


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        pytest.param(
            replace(IN_FORCE, allowed_jurisdictions=("GB", "NO", "FR")), "FR", id="a country"
        ),
        pytest.param(
            replace(IN_FORCE, controlling_stake_milli_percent=30_000), " 25.001 %", id="a stake"
        ),
        pytest.param(
            replace(IN_FORCE, control_plane_tier=Tier.TOP_SECRET), "TOP_SECRET", id="a tier"
        ),
        pytest.param(
            replace(IN_FORCE, min_assurance=Assurance.DECLARED), "(DECLARED", id="an assurance"
        ),
        pytest.param(replace(IN_FORCE, fact_max_age_ms=2_000), "1001 ms old", id="an age"),
        pytest.param(replace(IN_FORCE, min_isolation=1), "isolation none", id="an isolation"),
        pytest.param(replace(IN_FORCE, facts=()), "key_custodian", id="one fact's quality"),
    ],
)  # fmt: skip
def test_whatever_is_loosened_is_found_and_shown(after: Policy, shown: str) -> None:
    found = findings(after)
    assert found["secret-never-leaves"].standing is Standing.PROVED
    assert found[NO_LOOSER].standing is Standing.BROKEN
    assert shown in "\n".join(found[NO_LOOSER].counterexample)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(replace(IN_FORCE, allowed_jurisdictions=("GB",)), id="a country less"),
        pytest.param(replace(IN_FORCE, allowed_jurisdictions=("GB",), rules=()),
            id="a rule that nothing needs any more"),
        pytest.param(replace(IN_FORCE, controlling_stake_milli_percent=0), id="every stake counts"),
        pytest.param(replace(IN_FORCE, min_isolation=3), id="more isolation"),
        pytest.param(replace(IN_FORCE, rules=(replace(STAYS, when=Condition(Op.ALL)),)),
            id="a rule about more work"),
    ],
)  # fmt: skip
def test_what_only_narrows_is_proved(after: Policy) -> None:
    assert findings(after)[NO_LOOSER].standing is Standing.PROVED


def test_a_rule_that_asks_less_is_looser() -> None:
    either = Condition(Op.ANY, parts=(IN_GB, Condition(Op.EACH_IN, "landlord", ("NO",))))
    found = findings(replace(IN_FORCE, rules=(replace(STAYS, require=either),)))
    assert {finding.standing for finding in found.values()} == {Standing.BROKEN}


def test_a_proof_that_does_not_end_in_time_proves_nothing() -> None:
    proof = prove(ToProve(IN_FORCE, replace(IN_FORCE, rules=()), 0))
    assert not proof.holds()
