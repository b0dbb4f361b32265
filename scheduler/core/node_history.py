"""What was known of nodes while work was on them: judged again, and told in its certificate.

A *spell* is a time during which the same was known of a node without a gap. Of the moments inside
one, all that is kept is how old the fact ever was: it is judged as if it always had been that old.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.core.node_facts import NodeNeeds, node_change_ms, node_denials
from scheduler.model.ids import NodeId
from scheduler.model.reasons import Denial
from scheduler.model.residency import NodeFact, NodeFactKey

EVIDENCE_MAX = 4_500
"""Spells that a certificate tells; how many there were is said as well. A gang has 4,096 nodes."""
LANDMARKS_MAX = 3
"""Landmarks that a certificate names for each spell: the nearest."""


@dataclass(frozen=True, slots=True)
class NodeThen:
    """A spell: what was known of a node from `since_ms` on, last found so at `renewed_ms`.

    `stalest_ms`: how long ago it had been observed, at the worst moment between the two.
    """

    node: NodeId
    fact: NodeFact
    since_ms: int
    renewed_ms: int
    stalest_ms: int

    def as_of(self, at_ms: int) -> NodeFact:
        """The fact as it was known at a moment of the spell or after it."""
        if at_ms >= self.renewed_ms:
            return self.fact
        return replace(self.fact, observed_at_ms=at_ms - self.stalest_ms, expires_at_ms=None)


Histories = Mapping[NodeId, Sequence[NodeThen]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of nodes from a moment on: what must be known, and in which country."""

    at_ms: int
    needs: NodeNeeds
    country: str


@dataclass(frozen=True, slots=True)
class Against:
    """A time during which something was known, or not known, against a node."""

    from_ms: int
    to_ms: int
    denials: tuple[Denial, ...]


def against(
    node: NodeId, history: Sequence[NodeThen], asked: Sequence[Asked], end_ms: int
) -> Iterator[Against]:
    """The times that stand against `node` between the first of `asked` and `end_ms`."""
    begin_ms = asked[0].at_ms
    if not history and not any(each.needs for each in asked):
        return
    moments = {each.at_ms for each in asked} | {spell.since_ms for spell in history}
    moments |= {spell.renewed_ms for spell in history}
    at_ms = begin_ms
    while at_ms < end_ms or at_ms == begin_ms:
        now = next(each for each in reversed(asked) if each.at_ms <= at_ms)
        facts = _known(history, at_ms)
        changes = [moment for moment in moments if moment > at_ms]
        fades_ms = node_change_ms(now.needs, facts, at_ms)
        changes += [end_ms] if fades_ms is None else [end_ms, fades_ms]
        to_ms = min(changes)
        if denials := node_denials(now.needs, node, facts, now.country, at_ms):
            yield Against(at_ms, to_ms, denials)
        if to_ms <= at_ms:
            return
        at_ms = to_ms


def _known(history: Sequence[NodeThen], at_ms: int) -> tuple[NodeFact, ...]:
    """What was known at a moment; `history` is oldest first for each key."""
    newest = {spell.fact.key: spell for spell in history if spell.since_ms <= at_ms}
    return tuple(newest[key].as_of(at_ms) for key in sorted(newest))


def spells_of(
    stays: Sequence[tuple[Sequence[NodeId], int, int]], histories: Histories
) -> tuple[NodeThen, ...]:
    """What was known of nodes while work was there: `stays` are nodes, from when, until when."""
    told: dict[tuple[NodeId, NodeFactKey, int], NodeThen] = {}
    for nodes, from_ms, to_ms in stays:
        for node in nodes:
            ends_ms: dict[NodeFactKey, int] = {}
            for spell in reversed(histories.get(node, ())):
                key = spell.fact.key
                lasted_until_ms = ends_ms.get(key, to_ms + 1)
                ends_ms[key] = spell.since_ms
                if spell.since_ms <= to_ms and lasted_until_ms > from_ms:
                    told[node, key, spell.since_ms] = spell
    return tuple(told[which] for which in sorted(told))


def evidence(spell: NodeThen) -> dict[str, object]:
    """A spell as a certificate tells it."""
    fact = spell.fact
    told: dict[str, object] = {
        "node": spell.node,
        "key": fact.key.value,
        "values": list(fact.values),
        "assurance": fact.assurance.name,
        "asserted_by": fact.asserted_by,
        "detail": fact.detail,
        "known_from": spell.since_ms,
        "renewed": spell.renewed_ms,
        "observed_at_ms": fact.observed_at_ms,
        "expires_at_ms": fact.expires_at_ms,
        "digest": fact.evidence_digest,
    }
    if fact.key is NodeFactKey.LOCATION:
        told["bound_m"] = fact.bound_m
        told["landmarks"] = [
            {"landmark": h.landmark, "operator": h.operator, "rtt_us": h.rtt_min_us, "at": h.at_ms}
            for h in fact.heard[:LANDMARKS_MAX]
        ]
    return told
