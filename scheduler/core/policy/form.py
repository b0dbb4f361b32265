"""Whether a pack's rules are well formed: what each condition needs, and nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from scheduler.model.agreements import Instrument
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import Assurance, FactKey, Policy, Tier
from scheduler.model.rules import JOINTS, OF_WORK, Condition, Invariant, NamedSet, Op, Rule

RULES_MAX = 100
NODES_MAX = 200
"""Conditions of one rule."""
VALUES_MAX = 300
TEXT_CHARACTERS_MAX = 500
STAKE_MAX = 100_000

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_COUNTRY = re.compile(r"[A-Z]{2}")
MARKING = re.compile(r"[A-Z0-9][A-Z0-9 ._-]{0,62}")
WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_OF_COUNTRY = frozenset(FactKey) - {
    FactKey.ACCREDITATION,
    FactKey.MARKINGS,
    FactKey.ULTIMATE_PARENTS,
}
_FACTS: dict[Op, frozenset[FactKey]] = {
    Op.EACH_IN: _OF_COUNTRY,
    Op.COVERS: frozenset({FactKey.MARKINGS}),
    Op.ACCREDITED: frozenset({FactKey.ACCREDITATION}),
    Op.PARENTS_IN: frozenset({FactKey.ULTIMATE_PARENTS}),
    Op.KNOWN: frozenset(FactKey),
}
"""The facts that each operation can be about; those not here are about none."""
_ASSURANCES = frozenset(Assurance) - {Assurance.UNSPECIFIED}
_INSTRUMENTS = ", ".join(sorted(Instrument))
_VALUES = {
    Op.MARKED: (MARKING, "a marking, in capital letters"),
    Op.COVERS: (MARKING, "a marking, in capital letters"),
    Op.OF_KIND: (WORD, "a kind of data, in small letters"),
    Op.AGREED: (re.compile("|".join(sorted(Instrument))), _INSTRUMENTS),
    Op.EACH_IN: (_COUNTRY, "two capital letters each"),
    Op.PARENTS_IN: (_COUNTRY, "two capital letters each"),
}
_NUMBERS = {
    Op.TIER_AT_LEAST: max(Tier),
    Op.TIER_AT_MOST: max(Tier),
    Op.ACCREDITED: max(Tier),
    Op.KNOWN: max(Assurance),
    Op.PARENTS_IN: STAKE_MAX,
}


def faults(policy: Policy) -> Iterator[Denial]:
    """Everything that is wrong with the facts, rules and invariants of a pack."""
    stated: tuple[tuple[str, Sequence[Rule | Invariant]], ...] = (
        ("rules", policy.rules),
        ("invariants", policy.invariants),
    )
    for name, many in stated:
        if len(many) > RULES_MAX:
            yield _fault(name, f"{len(many)}", f"at most {RULES_MAX}")
        for n, each in enumerate(many[:RULES_MAX]):
            yield from _rule(f"{name}[{n}]", each)
        yield from _twice(f"{name}.id", [each.id for each in many])
    for name, asked in (("facts", policy.facts), ("node_facts", policy.node_facts)):
        yield from _twice(f"{name}.fact", [rule.fact for rule in asked])
        for n, rule in enumerate(asked):
            if rule.min_assurance not in _ASSURANCES:
                # One that only a newer client knows would ask for nothing.
                found = str(rule.min_assurance)
                yield _fault(
                    f"{name}[{n}].min_assurance", found, "declared, audited, attested or measured"
                )
            if rule.max_age_ms is not None and rule.max_age_ms <= 0:
                yield _fault(f"{name}[{n}].max_age_ms", str(rule.max_age_ms), "from 1")
    for name in sorted(frozenset(policy.instruments) - frozenset(Instrument)):
        yield _fault("instruments", repr(name[:80]), _INSTRUMENTS)
    yield from _twice("instruments", list(policy.instruments))


def _rule(field: str, rule: Rule | Invariant) -> Iterator[Denial]:
    if not _ID.fullmatch(rule.id):
        yield _fault(f"{field}.id", repr(rule.id[:80]), "small letters, digits and '-'")
    for name, text in (("text", rule.text), ("cites", rule.cites)):
        if not 1 <= len(text.strip()) <= TEXT_CHARACTERS_MAX:
            found = f"{len(text)} characters"
            yield _fault(f"{field}.{name}", found, f"1 to {TEXT_CHARACTERS_MAX}")
    if not rule.when.is_of_work():
        allowed = "what the work alone decides: its tier, its markings, its kinds of data"
        yield _fault(f"{field}.when", "a condition on the site", allowed)
    for name, tree in (("when", rule.when), ("require", rule.require)):
        nodes = list(tree.nodes())
        if len(nodes) > NODES_MAX:
            yield _fault(f"{field}.{name}", f"{len(nodes)} conditions", f"at most {NODES_MAX}")
        yield from chain.from_iterable(_node(f"{field}.{name}", node) for node in nodes)


def _node(field: str, node: Condition) -> Iterator[Denial]:
    said = f"{field} ({node.op})"
    facts = _FACTS.get(node.op, frozenset[FactKey]())
    if (node.fact or facts) and node.fact not in facts:
        allowed = " or ".join(sorted(facts)) or "none"
        yield _fault(f"{said}.fact", node.fact or "none", allowed)
    if node.parts and node.op not in JOINTS:
        yield _fault(f"{said}.parts", str(len(node.parts)), "none")
    if not 0 <= node.number <= _NUMBERS.get(node.op, 0):
        yield _fault(f"{said}.number", str(node.number), f"0 to {_NUMBERS.get(node.op, 0)}")
    if node.age_ms is not None and (node.op is not Op.KNOWN or node.age_ms <= 0):
        yield _fault(f"{said}.age_ms", str(node.age_ms), "from 1, of a fact that must be known")
    yield from _values(said, node)


def _values(said: str, node: Condition) -> Iterator[Denial]:
    pattern, allowed = _VALUES.get(node.op, (None, "none"))
    if len(node.values) > VALUES_MAX:
        yield _fault(f"{said}.values", str(len(node.values)), f"at most {VALUES_MAX}")
    for value in node.values[:VALUES_MAX]:
        if pattern is None or not pattern.fullmatch(value):
            yield _fault(f"{said}.values", repr(value[:80]), allowed)
    markings = node.op is Op.COVERS
    for name in node.sets:
        fits = node.op in (Op.EACH_IN, Op.PARENTS_IN, Op.COVERS)
        if not fits or (name is NamedSet.MARKINGS) is not markings:
            yield _fault(f"{said}.sets", name, "a set of what the condition is about")
    needs = node.op in (Op.EACH_IN, Op.PARENTS_IN, Op.COVERS)
    if needs and not node.values and not node.sets:
        yield _fault(f"{said}.values", "none", "one at least")
    assert node.op in OF_WORK | JOINTS | frozenset(_FACTS) | {Op.AGREED}, "every operation is known"


def _twice(field: str, names: list[str]) -> Iterator[Denial]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield _fault(field, f"{name!r} twice", "each once")


def _fault(field: str, found: str, allowed: str) -> Denial:
    detail = f"found {found}, allowed {allowed}"
    return Denial(Reason.INVALID_ARGUMENT, detail, f"policy.{field}")
