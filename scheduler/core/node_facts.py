"""What is known of a node beside its site's facts: whether it suffices, and until when.

A node that something speaks against (its claimed place is refuted, its GPUs failed) takes no work
at all, and nothing but another claim brings it back: that a measurement is repeated with a worse
result, expires or is lost must open nothing. Beside that, work and policy may ask how well each
fact is known; then one that is missing, expired, too old or too weak denies the node.

A proved location is of use where it was proved to be in the country that the site declares now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler.model.ids import NodeId
from scheduler.model.reasons import Denial, Reason
from scheduler.model.residency import (
    Assurance,
    NodeFact,
    NodeFactKey,
    Policy,
    Requirement,
)
from scheduler.model.rules import FactRule


@dataclass(frozen=True, slots=True, order=True)
class NodeNeed:
    """How well one fact about a node must be known."""

    key: NodeFactKey
    least: int
    """The least assurance."""
    max_age_ms: int | None = None


NodeNeeds = tuple[NodeNeed, ...]


def node_needs(requirement: Requirement, policy: Policy) -> NodeNeeds:
    """What must be known of each node: the strictest of what work and policy ask, by key."""
    asked = (*policy.node_facts, *requirement.node_facts)
    return tuple(_strictest(key, asked) for key in sorted({rule.fact for rule in asked}))


def _strictest(key: str, asked: Iterable[FactRule]) -> NodeNeed:
    own = [rule for rule in asked if rule.fact == key]
    ages = [rule.max_age_ms for rule in own if rule.max_age_ms is not None]
    least = max(int(Assurance.DECLARED), *(rule.min_assurance for rule in own))
    return NodeNeed(NodeFactKey(key), least, min(ages, default=None))


def node_denials(
    needs: NodeNeeds, node: NodeId, facts: Sequence[NodeFact], country: str, now_ms: int
) -> tuple[Denial, ...]:
    """Everything that is known, or not known, against `node` of a site in `country`."""
    denials = [
        Denial(Reason.NODE_REFUTED, f"{fact.key} is {fact.values[0]}: {fact.detail}", node)
        for fact in facts
        if fact.refutes()
    ]
    for need in needs:
        stated = [fact for fact in facts if fact.key is need.key]
        for fault in _faults(need, stated, country, now_ms):
            denials.append(Denial(Reason.NODE_FACTS, fault, node))
    return tuple(denials)


def _faults(need: NodeNeed, stated: Sequence[NodeFact], country: str, now_ms: int) -> Iterable[str]:
    if len(stated) != 1:
        yield f"{need.key} is needed: it is {'not known' if not stated else 'stated twice'}"
        return
    fact = stated[0]
    if fact.refutes():
        yield f"{need.key} is {fact.values[0]}"
    if fact.expires_at_ms is not None and now_ms >= fact.expires_at_ms:
        yield f"{need.key} expired {now_ms - fact.expires_at_ms} ms ago"
    age_ms = now_ms - fact.observed_at_ms
    if need.max_age_ms is not None and age_ms > need.max_age_ms:
        yield f"{need.key} was observed {age_ms} ms ago, allowed {need.max_age_ms} ms"
    if fact.assurance < need.least:
        found = f"{fact.values[0] if fact.values else 'nothing'}, {fact.assurance.name}"
        yield f"{need.key} is {found}, needed {Assurance(need.least).name}"
    if need.key is NodeFactKey.LOCATION and fact.values[1:] != (country,):
        yield f"{need.key} is of {', '.join(fact.values[1:]) or 'nowhere'}, needed {country}"


def suffices(needs: NodeNeeds, facts: Sequence[NodeFact], country: str, now_ms: int) -> bool:
    """Whether as much is known of a node with these facts as is needed."""
    return not any(
        fault
        for need in needs
        for fault in _faults(need, [f for f in facts if f.key is need.key], country, now_ms)
    )


def node_change_ms(needs: NodeNeeds, facts: Sequence[NodeFact], now_ms: int) -> int | None:
    """The first moment after `now_ms` at which time alone changes what these facts are worth."""
    moments: list[int] = []
    for need in needs:
        for fact in facts:
            if fact.key is not need.key:
                continue
            if fact.expires_at_ms is not None:
                moments.append(fact.expires_at_ms)
            if need.max_age_ms is not None:
                moments.append(fact.observed_at_ms + need.max_age_ms + 1)
    return min((moment for moment in moments if moment > now_ms), default=None)


def weaker(before: Sequence[NodeFact], after: Sequence[NodeFact]) -> bool:
    """Whether something is known otherwise than before, and not only of a later moment."""
    return [_said(fact) for fact in before] != [_said(fact) for fact in after]


def _said(fact: NodeFact) -> tuple[object, ...]:
    return fact.key, fact.values, fact.assurance, fact.claim
