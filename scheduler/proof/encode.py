"""The rule tree as a formula: true exactly where `core.residency.permits` answers Permit.

What work itself asks of nodes and of single facts (`Requirement.node_facts`, `facts`) is not in it:
it narrows whatever any policy permits by the same, and so makes none looser than another.
"""

from __future__ import annotations

from enum import Enum

from scheduler.core.node_facts import node_needs
from scheduler.core.policy.base import rules_of
from scheduler.model.residency import Assurance, FactKey, Policy, Requirement, Tier
from scheduler.model.rules import JOINTS, Condition, Invariant, NamedSet, Op
from scheduler.proof.solver import (
    Formula,
    either,
    equal,
    every,
    greater,
    implies,
    never,
    true_if,
)
from scheduler.proof.symbols import NOWHERE, Symbols


class Under(Enum):
    """What the work relies on beside the policy."""

    NOTHING = "nothing"
    AGREEMENT = "agreement"


def permits(policy: Policy, at: Symbols) -> Formula:
    """That `policy` lets the work be at the site, on a node that is isolated and known as it is."""
    parts: list[Formula] = [
        either(*at.asked.values()),
        never(equal(at.tier, int(Tier.UNSPECIFIED))),
        at.isolation >= int(policy.min_isolation),
        *(
            at.of_node[need.key].usable(need.least, need.max_age_ms)
            for need in node_needs(Requirement(()), policy)
        ),
        either(
            _all_rules(policy, at, Under.NOTHING),
            every(_honoured(policy, at), _all_rules(policy, at, Under.AGREEMENT)),
        ),
    ]
    return every(*parts)


def keeps(invariant: Invariant, policy: Policy, at: Symbols) -> Formula:
    """That a permitted world keeps to `invariant`, by facts that may be relied on."""
    must = either(
        _must(invariant.require, policy, at, Under.NOTHING),
        every(_honoured(policy, at), _must(invariant.require, policy, at, Under.AGREEMENT)),
    )
    return implies(holds(invariant.when, policy, at), must)


def _all_rules(policy: Policy, at: Symbols, under: Under) -> Formula:
    return every(
        *(
            implies(holds(rule.when, policy, at), _must(rule.require, policy, at, under))
            for rule in rules_of(policy)
        )
    )


def _must(require: Condition, policy: Policy, at: Symbols, under: Under) -> Formula:
    needed = [_usable(key, policy, at) for key in facts_of(require)]
    return every(*needed, holds(require, policy, at, under))


def _honoured(policy: Policy, at: Symbols) -> Formula:
    """That there is an agreement of a sort that the policy honours."""
    return every(at.agreed, either(*(at.instruments[name] for name in sorted(policy.instruments))))


def facts_of(condition: Condition) -> tuple[FactKey, ...]:
    """The facts that a condition speaks of."""
    found: dict[FactKey, None] = {}
    for node in condition.nodes():
        if node.op is Op.AGREED:
            found[FactKey.COUNTRY] = None
        elif node.fact:
            found[FactKey(node.fact)] = None
    return tuple(found)


def _usable(key: FactKey, policy: Policy, at: Symbols) -> Formula:
    own = [rule for rule in policy.facts if rule.fact == key]
    least = max(
        int(policy.min_assurance), int(Assurance.DECLARED), *(rule.min_assurance for rule in own)
    )
    ages = [policy.fact_max_age_ms, *(rule.max_age_ms for rule in own)]
    known = [age for age in ages if age is not None]
    return at.facts[key].usable(greater(at.min_assurance, least), min(known) if known else None)


def holds(it: Condition, policy: Policy, at: Symbols, under: Under = Under.NOTHING) -> Formula:
    """That a condition holds, of facts that may be relied on."""
    if it.op in JOINTS:
        parts = [holds(part, policy, at, under) for part in it.parts]
        return every(*parts) if it.op is Op.ALL else either(*parts)
    match it.op:
        case Op.TIER_AT_LEAST:
            return at.tier >= it.number
        case Op.TIER_AT_MOST:
            return at.tier <= it.number
        case Op.MARKED:
            return _touches(it, at.marked)
        case Op.OF_KIND:
            return _touches(it, at.kinds)
        case Op.PARENTS_IN:
            return every(
                *(
                    either(stake <= it.number, _among(country, it, policy, at, under))
                    for country, stake in at.stakes.items()
                )
            )
        case Op.AGREED:
            if under is Under.NOTHING:
                return true_if(False)
            return either(*(at.instruments[name] for name in (it.values or at.instruments)))
        case _:
            return _of_fact(it, policy, at, under)


def _of_fact(it: Condition, policy: Policy, at: Symbols, under: Under) -> Formula:
    fact = at.facts[FactKey(it.fact)]
    match it.op:
        case Op.EACH_IN:
            return every(
                *(
                    implies(said, _among(value, it, policy, at, under))
                    for value, said in fact.values.items()
                )
            )
        case Op.COVERS:
            return every(
                *(
                    implies(_among(value, it, policy, at, under), said)
                    for value, said in fact.values.items()
                )
            )
        case Op.ACCREDITED:
            return _accredited(it, at)
        case _:
            assert it.op is Op.KNOWN, f"{it.op} is of no fact"
            sure = fact.assurance >= it.number
            return sure if it.age_ms is None else every(sure, fact.age_ms <= it.age_ms)


def _accredited(it: Condition, at: Symbols) -> Formula:
    """The least of what is stated counts; what nobody knows counts as nothing."""
    parts: list[Formula] = []
    for value, said in at.facts[FactKey.ACCREDITATION].values.items():
        tier = int(Tier.__members__.get(value, Tier.UNSPECIFIED))
        enough = true_if(tier >= it.number) if it.number else at.tier <= tier
        parts.append(implies(said, every(enough, true_if(tier != 0))))
    return every(either(*at.facts[FactKey.ACCREDITATION].values.values()), *parts)


def _touches(it: Condition, has: dict[str, Formula]) -> Formula:
    return either(*(has[value] for value in (it.values or has)))


def _among(value: str, it: Condition, policy: Policy, at: Symbols, under: Under) -> Formula:
    """That `value` is among the values and sets of a condition."""
    if value in it.values:
        return true_if(True)
    return either(*(_in_set(value, name, policy, at, under) for name in it.sets))


def _in_set(value: str, name: NamedSet, policy: Policy, at: Symbols, under: Under) -> Formula:
    if value == NOWHERE:
        return true_if(False)
    allowed = true_if(value in policy.allowed_jurisdictions)
    match name:
        case NamedSet.WORK:
            return at.asked[value]
        case NamedSet.ALLOWED:
            return allowed if under is Under.NOTHING else either(allowed, at.opened[value])
        case NamedSet.HOME:
            return every(at.asked[value], allowed)
        case NamedSet.TOLERATED:
            return at.tolerated[value]
        case NamedSet.MARKINGS:
            return at.marked[value]
