"""Nodes that say they have failed: what runs there is stopped, and runs again elsewhere.

New work is kept from them by `NodeReport.ready`. What runs is stopped without grace: nothing that a
broken GPU still writes is to be trusted, so the last checkpoint counts. A job leaves its nodes, the
well ones of a gang too, as a preempted one does, and is queued again when its site has said that
every rank is over. That counts as a fault of the hardware.

A breaker guards against telemetry that errs: where more than half of a site's nodes (and more than
a handful) say that they have failed, none of their work is touched; operators decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from scheduler.control import recovery
from scheduler.control.life import Cause
from scheduler.model.fleet import Health, NodeReport
from scheduler.model.ids import NodeId, SiteId, site_of
from scheduler.model.reasons import Reason
from scheduler.store.store import Txn

BREAKER_NODES_MIN = 4
"""Fewer nodes than these never open the breaker: at a small site they may well be half."""
BREAKER_SHARE_PERCENT = 50
"""NVSentinel stops quarantining at more than half of the nodes, too."""


def move_work(txn: Txn, site: SiteId, reports: Sequence[NodeReport], now_ms: int) -> int:
    """Makes work leave those nodes of `reports` that have failed; how many attempts began to.

    Called with every report, not only with news: work may have been placed while one was under way.
    """
    failed = {r.node: r for r in reports if r.health is Health.FAILED and site_of(r.node) == site}
    hit = {node: recovery.live_on(txn, node) for node in txn.fleet.nodes_by_id(failed)}
    if not any(hit.values()) or breaker_open(txn, site):
        return 0
    moved = 0
    for node, rows in hit.items():
        cause = Cause(f"node {node} failed: {failed[node].health_detail}")
        for row in rows:
            if row.reason is not Reason.NODE_FAILED:
                moved += recovery.preempt(txn, row, cause, now_ms, because=Reason.NODE_FAILED)
    return moved


def breaker_open(txn: Txn, site: SiteId) -> bool:
    """Whether so much of a site says it has failed that nobody is to believe it."""
    entries = list(txn.fleet.nodes(site))
    failed: list[NodeId] = [
        entry.node.id
        for entry in entries
        if entry.report is not None and entry.report.health is Health.FAILED
    ]
    return too_many(len(failed), len(entries))


def too_many(failed: int, nodes: int) -> bool:
    """Whether so many of a site's nodes cannot well have failed all at once."""
    share_percent = 100 * failed // max(1, nodes)
    return failed >= BREAKER_NODES_MIN and share_percent > BREAKER_SHARE_PERCENT
