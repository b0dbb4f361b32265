"""Policies on the wire."""

from __future__ import annotations

from hashlib import sha256
from typing import TypeVar

from google.protobuf.message import DecodeError

from scheduler.model.fleet import Isolation
from scheduler.model.proofs import Finding, Standing
from scheduler.model.reasons import Denial, Reason, invalid
from scheduler.model.residency import Assurance, FactKey, Policy, Tier
from scheduler.model.rules import Condition, Invariant, NamedSet, Op, Rule
from scheduler.wire.enums import known, number
from scheduler.wire.spec import (
    node_rule_to_proto,
    node_rules_from_proto,
    rule_to_proto,
    rules_from_proto,
)
from sovapi.v1 import common_pb2, policy_pb2

SIGNED_AS = b"sovereign policy pack v1\n"
"""Comes before a pack in what is signed: no signature of another statement is one of a pack."""
DEPTH_MAX = 16
"""Conditions within conditions."""

_Said = TypeVar("_Said", Op, NamedSet, FactKey)


def policy_to_proto(policy: Policy) -> policy_pb2.Policy:
    """What the operator allows at most, without agreements, which are asked for apart."""
    return policy_pb2.Policy(
        revision=policy.revision,
        name=policy.name,
        digest=policy.digest,
        signed_by=policy.signed_by,
        instruments=policy.instruments,
        allowed_jurisdictions=policy.allowed_jurisdictions,
        control_plane_tier=number(common_pb2.Tier, policy.control_plane_tier),
        controlling_stake_milli_percent=policy.controlling_stake_milli_percent,
        min_assurance=number(common_pb2.Assurance, policy.min_assurance),
        fact_max_age_ms=policy.fact_max_age_ms,
        min_isolation=number(common_pb2.Isolation, Isolation(policy.min_isolation)),
        facts=[rule_to_proto(rule) for rule in policy.facts],
        node_facts=[node_rule_to_proto(rule) for rule in policy.node_facts],
        rules=[
            policy_pb2.PolicyRule(
                id=rule.id,
                text=rule.text,
                cites=rule.cites,
                require=_condition_to_proto(rule.require),
                when=_condition_to_proto(rule.when),
            )
            for rule in policy.rules
        ],
        invariants=[
            policy_pb2.PolicyInvariant(
                id=invariant.id,
                text=invariant.text,
                cites=invariant.cites,
                require=_condition_to_proto(invariant.require),
                when=_condition_to_proto(invariant.when),
            )
            for invariant in policy.invariants
        ],
    )


def policy_from_proto(message: policy_pb2.Policy) -> Policy:
    """What the operator allows at most, without agreements, which come by themselves.

    Raises Refused where a rule says what nobody knows.
    """
    return Policy(
        revision=message.revision,
        name=message.name,
        digest=message.digest,
        signed_by=message.signed_by,
        instruments=tuple(message.instruments),
        allowed_jurisdictions=tuple(message.allowed_jurisdictions),
        control_plane_tier=known(Tier, message.control_plane_tier),
        controlling_stake_milli_percent=message.controlling_stake_milli_percent,
        min_assurance=known(Assurance, message.min_assurance),
        fact_max_age_ms=message.fact_max_age_ms if message.HasField("fact_max_age_ms") else None,
        min_isolation=known(Isolation, message.min_isolation),
        facts=rules_from_proto(message.facts, "policy.facts"),
        node_facts=node_rules_from_proto(message.node_facts, "policy.node_facts"),
        rules=tuple(
            Rule(
                rule.id,
                rule.text,
                rule.cites,
                _condition_from_proto(rule.require, f"rules[{n}].require"),
                _condition_from_proto(rule.when, f"rules[{n}].when"),
            )
            for n, rule in enumerate(message.rules)
        ),
        invariants=tuple(
            Invariant(
                each.id,
                each.text,
                each.cites,
                _condition_from_proto(each.require, f"invariants[{n}].require"),
                _condition_from_proto(each.when, f"invariants[{n}].when"),
            )
            for n, each in enumerate(message.invariants)
        ),
    )


def pack_from_wire(pack: bytes) -> policy_pb2.Policy:
    """The policy in a pack's bytes, with their digest; refuses what is none."""
    try:
        message = policy_pb2.Policy.FromString(pack)
    except DecodeError:
        found = f"{len(pack)} bytes that are no encoded Policy"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, f"found {found}", "pack")) from None
    message.digest = sha256(pack).hexdigest()
    return message


def finding_to_proto(finding: Finding) -> policy_pb2.PolicyFinding:
    """A claim about a policy, and what became of it."""
    return policy_pb2.PolicyFinding(
        claim=finding.claim,
        text=finding.text,
        standing=finding.standing,
        counterexample=finding.counterexample,
    )


def finding_from_proto(message: policy_pb2.PolicyFinding) -> Finding:
    """As `finding_to_proto`; a standing that we do not know proves nothing."""
    proved = message.standing in tuple(Standing)
    standing = Standing(message.standing) if proved else Standing.UNKNOWN
    return Finding(message.claim, message.text, standing, tuple(message.counterexample))


def _condition_to_proto(condition: Condition) -> policy_pb2.PolicyCondition:
    return policy_pb2.PolicyCondition(
        op=condition.op,
        fact=condition.fact,
        values=condition.values,
        sets=condition.sets,
        number=condition.number,
        age_ms=condition.age_ms,
        parts=[_condition_to_proto(part) for part in condition.parts],
    )


def _condition_from_proto(
    message: policy_pb2.PolicyCondition, field: str, depth: int = 0
) -> Condition:
    """A condition; a `when` that is left out says nothing, and so holds always."""
    if depth > DEPTH_MAX:
        found = f"found conditions {depth} deep, allowed {DEPTH_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, found, f"policy.{field}"))
    return Condition(
        op=_named(Op, message.op or Op.ALL, f"{field}.op"),
        fact=_named(FactKey, message.fact, f"{field}.fact") if message.fact else "",
        values=tuple(message.values),
        sets=tuple(_named(NamedSet, name, f"{field}.sets") for name in message.sets),
        number=message.number,
        age_ms=message.age_ms if message.HasField("age_ms") else None,
        parts=tuple(
            _condition_from_proto(part, f"{field}.parts[{n}]", depth + 1)
            for n, part in enumerate(message.parts)
        ),
    )


def _named(kind: type[_Said], name: str, field: str) -> _Said:
    """The member of that name; what a newer client knows and we do not is refused, not guessed."""
    if name not in tuple(kind):
        allowed = ", ".join(sorted(kind))
        detail = f"found {name[:64]!r}, allowed {allowed}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, f"policy.{field}"))
    return kind(name)
