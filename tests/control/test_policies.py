"""Another policy comes into force where it is proved, or where somebody says why all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.control.policies import Change, Proved
from scheduler.model.proofs import NO_LOOSER, Finding, Proof, Standing
from scheduler.model.reasons import Code, Reason, Refused
from scheduler.model.residency import Assurance, Policy
from scheduler.model.rules import Condition, FactRule, NamedSet, Op, Rule
from tests.control.plant import OLGA, Plant

WIDER = Policy(allowed_jurisdictions=("GB", "NO"))
TEXT = "nothing is permitted that the policy in force does not permit"


def proof(standing: Standing, *shown: str, claim: str = NO_LOOSER) -> Proof:
    return Proof((Finding(claim, TEXT, standing, shown),))


def apply(
    plant: Plant, found: Proof | None, override: str = "", against: Policy | None = None
) -> int:
    """Applies the wider policy; the revision in force."""
    with plant.store.read() as view:
        before = view.tenancy.policy()
    proved = None if found is None else Proved(against or before, found)
    with plant.store.transaction() as txn:
        change = Change(WIDER, "test", proved, override)
        return plant.control.apply_policy(txn, OLGA, change, dry_run=False, now_ms=plant.now_ms)[1]


def refused(act: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as caught:
        act()
    return caught.value


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        pytest.param(proof(Standing.BROKEN, "a world"), Reason.POLICY_LOOSER, id="looser"),
        pytest.param(
            proof(Standing.BROKEN, "a world", claim="stays"),
            Reason.POLICY_INVARIANT,
            id="an invariant that is broken",
        ),
        pytest.param(proof(Standing.UNKNOWN), Reason.POLICY_NOT_PROVED, id="no answer in time"),
        pytest.param(Proof(()), Reason.POLICY_NOT_PROVED, id="nothing was asked"),
        pytest.param(None, Reason.POLICY_NOT_PROVED, id="nothing was proved"),
    ],
)
def test_what_is_not_proved_is_refused_and_changes_nothing(
    plant: Plant, found: Proof | None, reason: Reason
) -> None:
    refusal = refused(lambda: apply(plant, found))
    assert (refusal.code, refusal.reason) == (Code.FAILED_PRECONDITION, reason)
    shown = [denial.detail for denial in refusal.denials]
    assert shown == ["a world"] or reason is Reason.POLICY_NOT_PROVED
    with plant.store.read() as view:
        assert view.tenancy.policy() == Policy()


def test_what_is_proved_comes_into_force(plant: Plant) -> None:
    assert apply(plant, proof(Standing.PROVED)) == 2


def test_an_override_is_in_the_log_with_what_was_found(plant: Plant) -> None:
    assert apply(plant, proof(Standing.BROKEN, "a world"), "a ministerial decision") == 2
    with plant.store.read() as view:
        leaf = [leaf for leaf in view.audit.all() if leaf.kind == "policy_in_force"][-1]
    body = json.loads(leaf.body)
    assert body["override"] == "a ministerial decision"
    assert body["proof"] == [{"claim": NO_LOOSER, "standing": "broken"}]


def test_a_proof_against_another_policy_proves_nothing(plant: Plant) -> None:
    other = replace(Policy(), name="another")
    refusal = refused(lambda: apply(plant, proof(Standing.PROVED), against=other))
    assert refusal.code is Code.ABORTED


def test_an_override_of_blanks_is_none(plant: Plant) -> None:
    refused(lambda: apply(plant, proof(Standing.BROKEN, "a world"), "  "))


IN_GB = Condition(Op.EACH_IN, "country", ("GB",))
GOOD = Rule("a-rule", "text", "source", IN_GB)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (replace(GOOD, id="A rule"), "id"),
        (replace(GOOD, text=" "), "text"),
        (replace(GOOD, cites=""), "cites"),
        (replace(GOOD, when=IN_GB), "when"),
        (replace(GOOD, require=replace(IN_GB, values=())), "require (each_in).values"),
        (replace(GOOD, require=replace(IN_GB, values=("gb",))),
            "require (each_in).values"),
        (replace(GOOD, require=replace(IN_GB, fact="markings")),
            "require (each_in).fact"),
        (replace(GOOD, require=replace(IN_GB, number=1)), "require (each_in).number"),
        (replace(GOOD, require=replace(IN_GB, age_ms=1)), "require (each_in).age_ms"),
        (replace(GOOD, require=replace(IN_GB, parts=(IN_GB,))),
            "require (each_in).parts"),
        (replace(GOOD, require=replace(IN_GB, sets=(NamedSet.MARKINGS,))),
            "require (each_in).sets"),
        (replace(GOOD, require=Condition(Op.ALL, parts=(IN_GB,) * 201)), "require"),
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused_by_field(
    plant: Plant, rule: Rule, field: str
) -> None:
    change = Change(replace(Policy(), rules=(rule,)), "test", override="a test")
    with plant.store.transaction() as txn:
        refusal = refused(
            lambda: plant.control.apply_policy(
                txn, OLGA, change, dry_run=False, now_ms=plant.now_ms
            )
        )
    assert f"policy.rules[0].{field}" in {denial.subject for denial in refusal.denials}


@pytest.mark.parametrize("kind", ["facts", "node_facts"])
def test_how_sure_a_fact_must_be_is_said_in_words_that_both_know(plant: Plant, kind: str) -> None:
    """What a newer client asks for would be nothing here, and so looser than it was meant."""
    asked = FactRule("sinks" if kind == "facts" else "location", Assurance.UNSPECIFIED, 1_000)
    change = Change(replace(Policy(), **{kind: (asked,)}), "test", override="a test")  # type: ignore[arg-type]
    with plant.store.transaction() as txn:
        refusal = refused(
            lambda: plant.control.apply_policy(
                txn, OLGA, change, dry_run=False, now_ms=plant.now_ms
            )
        )
    assert [denial.subject for denial in refusal.denials] == [f"policy.{kind}[0].min_assurance"]


def test_rules_come_back_from_the_store_as_they_were(plant: Plant) -> None:
    nested = Condition(Op.ANY, parts=(IN_GB, Condition(Op.ALL, parts=(IN_GB,))))
    policy = replace(Policy(), rules=(replace(GOOD, require=nested),))
    plant.apply_policy(policy)
    with plant.store.read() as view:
        assert view.tenancy.policy().rules == policy.rules
