"""What is found out about nodes: when it is news, when it is kept, and that what speaks against a
node is not lost.

What was proved holds until it expires: that it could not be proved again meanwhile is the ordinary
answer under load, and no evidence of anything.

A claim that was refuted stays refuted: the same claim, measured again with a worse result or not at
all, is not believed again. Another claim is: a corrected place, a new location key, a new boot.
"""

from __future__ import annotations

from hashlib import sha256

from scheduler.control import evidence
from scheduler.core.node_facts import weaker
from scheduler.model.fleet import Attestation, NodeReport
from scheduler.model.ids import NodeId
from scheduler.model.residency import Assurance, NodeFact, NodeFactKey
from scheduler.store.store import Txn

RENEW_AFTER_MS = 60_000
"""What is found again with the same result is written no more often than this."""


ATTESTATION_LIFE_MS = 2 * 3600 * 1000
"""What a verifier said counts for so long; nodes ask theirs every hour."""
DETAIL_CHARACTERS_MAX = 500
_VERDICTS = frozenset({"PASSED", "FAILED"})


def attested(report: NodeReport, said: Attestation, now_ms: int) -> NodeFact:
    """What a node says that a verifier on it said. It is the node's own word: nobody else looked.

    The claim is the node's incarnation: GPUs that failed stay so until it has booted again.
    """
    verdict = said.verdict if said.verdict in _VERDICTS else "NONE"
    observed_at_ms = min(said.observed_at_ms, now_ms)
    gpus = sha256(" ".join(report.gpu_uuids).encode()).hexdigest()[:16]
    return NodeFact(
        key=NodeFactKey.ATTESTATION,
        values=(verdict,),
        assurance=Assurance.ATTESTED if verdict == "PASSED" else Assurance.UNSPECIFIED,
        asserted_by=f"a verifier on {report.node}",
        observed_at_ms=observed_at_ms,
        expires_at_ms=None if verdict == "FAILED" else observed_at_ms + ATTESTATION_LIFE_MS,
        evidence_digest=said.evidence_digest[:DETAIL_CHARACTERS_MAX],
        claim=f"boot {report.boot_id[:64]} with GPUs {gpus}",
        detail=said.detail[:DETAIL_CHARACTERS_MAX],
    )


def learn(txn: Txn, node: NodeId, fact: NodeFact, now_ms: int) -> bool:
    """Takes a finding about a node; whether it was worth writing. News is in the audit log."""
    entry = txn.fleet.node(node)
    if entry is None:
        return False
    before = [known for known in entry.node.facts if known.key is fact.key]
    if before and before[0].claim == fact.claim and _stands(before[0], fact, now_ms):
        return False
    news = weaker(before, [fact])
    if not news and fact.observed_at_ms - before[0].observed_at_ms < RENEW_AFTER_MS:
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
