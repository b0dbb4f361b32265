"""What is known of nodes, and was known when: for placements now, and certificates later."""

from __future__ import annotations

from collections.abc import Iterable

from scheduler.core.node_facts import weaker
from scheduler.core.node_history import NodeThen
from scheduler.model.ids import NodeId
from scheduler.model.residency import NodeFact
from scheduler.store.bulk import IDS, How, Statement, inserting
from scheduler.store.codec import decode, encode
from scheduler.store.fleet import FleetWriter
from scheduler.store.link import Link
from scheduler.store.schema_evidence import NODE_FACTS

HISTORY_MAX = 500
"""Spells that are kept of each fact about a node; of the time before it is not known what was."""

_BEGIN = inserting(NODE_FACTS, How.REPLACE)
_GO_ON = Statement(
    NODE_FACTS,
    "UPDATE node_facts SET renewed_ms = ?, body = ?,"
    " stalest_ms = CASE WHEN stalest_ms < ? THEN ? ELSE stalest_ms END"
    " WHERE node = ? AND key = ? AND since_ms = ?",
    exact=True,
)
_LAST = Statement(NODE_FACTS, "SELECT MAX(since_ms) FROM node_facts WHERE node = ? AND key = ?")
_FORGET = Statement(
    NODE_FACTS,
    "DELETE FROM node_facts WHERE node = ? AND key = ? AND since_ms < (SELECT since_ms FROM"
    " node_facts WHERE node = ? AND key = ? ORDER BY since_ms DESC LIMIT 1 OFFSET ?)",
)
_OF = Statement(
    NODE_FACTS,
    f"SELECT node, key, since_ms, renewed_ms, stalest_ms, body FROM node_facts WHERE node IN {IDS}",
)


class NodeFacts:
    """The facts about nodes, with what they were before."""

    def __init__(self, link: Link, fleet: FleetWriter) -> None:
        self._link = link
        self._fleet = fleet

    def know(self, node: NodeId, fact: NodeFact, now_ms: int) -> None:
        """From now on this is what is known of a declared node."""
        entry = self._fleet.node(node)
        assert entry is not None, f"{node} is not declared"
        before = [known for known in entry.node.facts if known.key is fact.key]
        others = [known for known in entry.node.facts if known.key is not fact.key]
        self._fleet.put_node_facts(node, (*others, fact))
        since_ms = self._since_ms(node, fact) if _goes_on(before, fact, now_ms) else None
        if since_ms is None:
            of = (node, fact.key.value)
            # Of what is found out within one millisecond, the last is what was known.
            begins_ms = max(now_ms, self._since_ms(node, fact) or 0)
            self._link.do(_BEGIN, (*of, begins_ms, begins_ms, 0, encode(fact)))
            self._link.do(_FORGET, (*of, *of, HISTORY_MAX - 1))
        else:
            age_ms = now_ms - before[0].observed_at_ms
            of = (node, fact.key.value, since_ms)
            self._link.do(_GO_ON, (now_ms, encode(fact), age_ms, age_ms, *of))

    def history(self, nodes: Iterable[NodeId]) -> tuple[NodeThen, ...]:
        """What was known of these nodes, by node and key, oldest first."""
        rows = self._link.among(_OF, sorted(set(nodes)))
        return tuple(
            NodeThen(NodeId(node), decode(NodeFact, body), since_ms, renewed_ms, stalest_ms)
            for node, _, since_ms, renewed_ms, stalest_ms, body in sorted(
                rows, key=lambda row: (row[0], row[1], row[2])
            )
        )

    def _since_ms(self, node: NodeId, fact: NodeFact) -> int | None:
        return self._link.rows(_LAST, (node, fact.key.value))[0][0]


def _goes_on(before: list[NodeFact], fact: NodeFact, now_ms: int) -> bool:
    """Whether it is still known what was, without a time in between when it was not."""
    if not before or weaker(before, [fact]):
        return False
    return before[0].expires_at_ms is None or now_ms < before[0].expires_at_ms
