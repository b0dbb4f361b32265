"""What is found out about nodes: when it is news, when it is kept, and that what speaks against a
node is not lost.

What was proved holds until it expires: that it could not be proved again meanwhile is the ordinary
answer under load, and no evidence of anything.

A claim that was refuted stays refuted: the same claim, measured again with a worse result or not at
all, is not believed again. Another claim is: a corrected place, a new location key, a new boot.
"""

from __future__ import annotations

from scheduler.control import evidence
from scheduler.core.node_facts import weaker
from scheduler.model.ids import NodeId
from scheduler.model.residency import NodeFact
from scheduler.store.store import Txn

RENEW_AFTER_MS = 60_000
"""What is found again with the same result is written no more often than this."""


def learn(txn: Txn, node: NodeId, fact: NodeFact, now_ms: int) -> bool:
    """Takes a finding about a node; whether it was worth writing. News is in the audit log."""
    entry = txn.fleet.node(node)
    if entry is None:
        return False
    before = [known for known in entry.node.facts if known.key is fact.key]
    if before and before[0].claim == fact.claim and _stands(before[0], fact, now_ms):
        return False
    news = weaker(before, [fact])
    if not news and now_ms - before[0].observed_at_ms < RENEW_AFTER_MS:
        return False
    txn.certificates.of_nodes.know(node, fact, now_ms)
    if news:
        evidence.node_known(txn.audit, node, fact, now_ms)
    return True


def _stands(before: NodeFact, found: NodeFact, now_ms: int) -> bool:
    """Whether what was known of the same claim goes on to be what is known of it."""
    if before.refutes():
        return True
    lasts = before.expires_at_ms is not None and now_ms < before.expires_at_ms
    return lasts and found.assurance < before.assurance and not found.refutes()
