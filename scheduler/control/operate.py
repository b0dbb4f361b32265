"""What operators do to sites and nodes: close them, open them, empty them, declare them dead.

Each act is audited with who did it and why, whether or not it changed anything.
"""

from __future__ import annotations

from scheduler.control import evidence, recovery
from scheduler.control.life import Cause
from scheduler.core import recovery as proofs
from scheduler.model.identity import Principal
from scheduler.model.ids import NodeId, SiteId
from scheduler.model.reasons import Denial, Reason, invalid, not_found
from scheduler.store.store import Txn

REASON_CHARACTERS_MAX = 500
DEADLINE_MS_MAX = 30 * 24 * 3600 * 1000


def cordon(
    txn: Txn, principal: Principal, target: SiteId | NodeId, reason: str, now_ms: int
) -> None:
    """Lets no new work onto a site or node; what runs there goes on."""
    _refuse_bad_reason(reason)
    _close(txn, target, reason, None)
    held = len(recovery.live_on(txn, target))
    evidence.operated(txn.audit, "cordoned", principal, target, reason, held, now_ms)


def uncordon(
    txn: Txn, principal: Principal, target: SiteId | NodeId, reason: str, now_ms: int
) -> None:
    """Lets new work onto a site or node again; a drain that was not due yet is called off."""
    _refuse_bad_reason(reason)
    _refuse_unknown(txn, target)
    if "/" in target:
        txn.fleet.cordon_node(NodeId(target), False, "")
    else:
        txn.fleet.cordon_site(SiteId(target), False, "")
    evidence.operated(txn.audit, "uncordoned", principal, target, reason, 0, now_ms)


def drain(
    txn: Txn,
    principal: Principal,
    target: SiteId | NodeId,
    reason: str,
    deadline_ms: int,
    now_ms: int,
) -> int:
    """Lets no new work in; what still runs `deadline_ms` from now has to leave, never if 0.

    How many attempts are there now.
    """
    _refuse_bad_reason(reason)
    if not 0 <= deadline_ms <= DEADLINE_MS_MAX:
        detail = f"found {deadline_ms}, allowed 0 to {DEADLINE_MS_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "deadline_ms"))
    _close(txn, target, reason, now_ms + deadline_ms if deadline_ms else None)
    held = len(recovery.live_on(txn, target))
    evidence.operated(txn.audit, "drained", principal, target, reason, held, now_ms)
    return held


def end_drains(txn: Txn, now_ms: int) -> int:
    """Makes work leave the sites and nodes whose deadline has come; how much."""
    left = 0
    for target in txn.fleet.drains_due(now_ms):
        cause = Cause(f"{target} is being drained")
        for row in recovery.live_on(txn, target):
            left += recovery.preempt(txn, row, cause, now_ms)
        txn.fleet.drained(target)
    return left


def fence(txn: Txn, principal: Principal, node: NodeId, reason: str, now_ms: int) -> int:
    """An operator's word that nothing runs on `node`: it is off, or cut off for good.

    The node is closed as well. How many attempts ended by it; of others the rest is stopped.
    """
    _refuse_bad_reason(reason)
    _close(txn, node, reason, None)
    ended = 0
    proof = proofs.fenced(node, principal.path)
    cause = Cause("its node was fenced", principal.path)
    for row in recovery.live_on(txn, node):
        ended += recovery.conclude(txn, row, node, proof, cause, now_ms)
    evidence.operated(txn.audit, "fenced", principal, node, reason, ended, now_ms)
    return ended


def _close(txn: Txn, target: SiteId | NodeId, reason: str, drain_at_ms: int | None) -> None:
    _refuse_unknown(txn, target)
    if "/" in target:
        txn.fleet.cordon_node(NodeId(target), True, reason, drain_at_ms)
    else:
        txn.fleet.cordon_site(SiteId(target), True, reason, drain_at_ms)


def _refuse_unknown(txn: Txn, target: SiteId | NodeId) -> None:
    if "/" in target:
        if txn.fleet.node(NodeId(target)) is None:
            raise not_found("node", target)
    elif txn.fleet.site(SiteId(target)) is None:
        raise not_found("site", target)


def _refuse_bad_reason(reason: str) -> None:
    if not 1 <= len(reason.strip()) <= REASON_CHARACTERS_MAX:
        detail = f"found {len(reason)} characters, allowed 1 to {REASON_CHARACTERS_MAX}"
        raise invalid(Denial(Reason.INVALID_ARGUMENT, detail, "reason"))
