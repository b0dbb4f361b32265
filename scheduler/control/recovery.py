"""Ends that no site reported: leases that lapsed, nodes that booted anew, an operator's word.

The proofs are `core.recovery`'s; here they are read from the store and made so. Where an attempt
lost some of its nodes only, its site is told to stop the rest, and it is over when that is proved.
"""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.control.follow import follow
from scheduler.control.life import Cause, Live, begin_stop, settle, stop, stop_grace_ms
from scheduler.core import lifecycle
from scheduler.core import recovery as proofs
from scheduler.core.lifecycle import Event, step
from scheduler.core.recovery import Gone, Over
from scheduler.model.ids import NodeId, SiteId, site_of
from scheduler.model.job import Job
from scheduler.model.reasons import Reason
from scheduler.store.records import AttemptRow
from scheduler.store.store import Txn

LAPSES_PER_TICK_MAX = 10_000
"""Most attempts that one tick ends; the next one goes on."""


def end_lapsed(txn: Txn, silence_ms: Mapping[SiteId, int], lapse_after_ms: int, now_ms: int) -> int:
    """Ends leased attempts of sites that were silent for too long; how many."""
    ended = 0
    for site in sorted(site for site, ms in silence_ms.items() if ms > lapse_after_ms):
        leased = [row for row in txn.attempts.live_at(site) if row.leased]
        for row in leased[: LAPSES_PER_TICK_MAX - ended]:
            job = _whole(txn, row)
            for over in proofs.lapsed_leases([job], silence_ms, lapse_after_ms=lapse_after_ms):
                end(txn, row, over, Cause("its lease lapsed"), now_ms)
                ended += 1
    return ended


def conclude_reboot(txn: Txn, node: NodeId, now_ms: int) -> None:
    """A node has booted anew: what ran on it under an earlier boot does not run any more."""
    entry = txn.fleet.node(node)
    if entry is None or entry.report is None:
        return
    new_boot = entry.report.boot_id
    for row in _live_on(txn, node):
        seen = next(f for f in txn.attempts.footings(row.key) if f.node == node)
        proof = proofs.rebooted(node, seen.boot_id, new_boot)
        if proof is not None:
            conclude(txn, row, node, proof, Cause("its node was booted anew"), now_ms)


def conclude(
    txn: Txn, row: AttemptRow, node: NodeId, proof: Gone, cause: Cause, now_ms: int
) -> bool:
    """Nothing of an attempt runs on `node` any more; whether that ends the attempt."""
    txn.attempts.set_gone(row.key, node, proof.reason)
    before = "nothing of it ran there any more before"
    gone = {f.node: Gone(f.gone, before) for f in txn.attempts.footings(row.key) if f.gone}
    gone[node] = proof
    job = _whole(txn, row)
    for over in proofs.over_with([job], gone):
        end(txn, row, over, cause, now_ms)
        return True
    stop(txn, row, 0, cause.what)
    return False


def end(txn: Txn, row: AttemptRow, over: Over, cause: Cause, now_ms: int) -> None:
    """An attempt is certainly over, although its site did not say so."""
    job = txn.jobs.row(row.key.job)
    assert job is not None
    whole = _whole(txn, row)
    live = Live(job, row, whole, whole.attempts[-1].ranks)
    outcome = lifecycle.lapsed(whole, over.reason, over.detail)
    after = settle(txn, live, outcome, cause=cause, now_ms=now_ms)
    stop(txn, row, 0, cause.what)
    follow(txn, after, now_ms)


def preempt(
    txn: Txn, row: AttemptRow, cause: Cause, now_ms: int, *, because: Reason | None = None
) -> bool:
    """Makes an attempt leave its nodes; whether it was not leaving yet.

    With its job's grace, unless a fault (`because`) leaves none.
    """
    job = txn.jobs.row(row.key.job)
    assert job is not None
    if step(job.state, Event.PREEMPT) is None:
        return False
    grace_ms = 0 if because is not None else stop_grace_ms(txn.jobs.spec(job.spec_number))
    begin_stop(
        txn,
        job,
        row,
        Event.PREEMPT,
        grace_ms=grace_ms,
        cause=cause,
        because=because,
        now_ms=now_ms,
    )
    return True


def live_on(txn: Txn, target: SiteId | NodeId) -> tuple[AttemptRow, ...]:
    """Attempts that hold something of a site or node."""
    if "/" in target:
        return _live_on(txn, NodeId(target))
    return txn.attempts.live_at(SiteId(target))


def _live_on(txn: Txn, node: NodeId) -> tuple[AttemptRow, ...]:
    keys = {held.key for held in txn.attempts.occupants([node]).get(node, ())}
    return tuple(row for row in txn.attempts.live_at(site_of(node)) if row.key in keys)


def _whole(txn: Txn, row: AttemptRow) -> Job:
    job = txn.jobs.get(row.key.job)
    assert job is not None, "an attempt has a job"
    return job
