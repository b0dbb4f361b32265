"""What is known of each rank of an attempt, and how that is put into a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from agent.site.state import Memory, NodeView, Observed, Rank, attempt_of
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.sitelink_pb2 import AttemptReport, DesiredAttempt

SpoolIndex = Mapping[str, list[tuple[str, jobs.RankStatus]]]


class Standing(Enum):
    """What is known of a rank. ABSENT: nothing was heard of it, so it may yet start."""

    ABSENT = "absent"
    PREPARED = "prepared"
    LIVE = "live"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class RankView:
    """A rank, what its node says of it, and whether that node can be spoken to.

    `rebooted`: the node was started anew since the attempt was launched on it.
    """

    rank: Rank
    node: NodeView
    standing: Standing
    status: jobs.RankStatus
    rebooted: bool = False

    @property
    def failed(self) -> bool:
        """Over, and not by a clean exit of its own; or its node was started anew under it."""
        if self.standing is not Standing.OVER:
            return self.rebooted
        clean = self.status.cause == jobs.RANK_CAUSE_EXIT and self.status.exit_code == 0
        return not clean or self.status.signal != 0


def index(observed: Observed) -> SpoolIndex:
    """Every rank that any spool holds, by attempt."""
    found: dict[str, list[tuple[str, jobs.RankStatus]]] = {}
    for slot in sorted(observed.nodes):
        for key, status in sorted(observed.nodes[slot].ranks.items()):
            found.setdefault(attempt_of(key), []).append((slot, status))
    return found


def all_ranks(wanted: tuple[Rank, ...], key: str, spooled: SpoolIndex) -> tuple[Rank, ...]:
    """The ranks of an attempt, with those a spool holds although its launch has none such."""
    places = {(rank.slot, rank.key) for rank in wanted}
    found = [(slot, f"{key}.{status.rank}", status.rank) for slot, status in spooled.get(key, [])]
    strays = [Rank(name, number, slot, 0, 0, ()) for slot, name, number in found
              if (slot, name) not in places]  # fmt: skip
    return (*wanted, *strays)


def look(rank: Rank, memory: Memory, observed: Observed) -> RankView:
    """Judge one rank by what its node's spool says of it."""
    node = observed.nodes.get(rank.slot, NodeView())
    boot_id = memory.boots.get(rank.slot)
    rebooted = node.known and boot_id is not None and boot_id != node.boot_id
    status = node.ranks.get(rank.key)
    if status is None:
        nothing = jobs.RankStatus(rank=rank.number, node=rank.slot)
        return RankView(rank, node, Standing.ABSENT, nothing, rebooted)
    standing = {
        jobs.RANK_PHASE_PREPARED: Standing.PREPARED,
        jobs.RANK_PHASE_OVER: Standing.OVER,
    }.get(status.phase, Standing.LIVE)
    return RankView(rank, node, standing, status, rebooted)


def never_started(view: RankView) -> RankView:
    """The view of a rank whose launch was certainly never asked for."""
    status = jobs.RankStatus(
        rank=view.rank.number,
        node=view.rank.slot,
        phase=jobs.RANK_PHASE_OVER,
        cause=jobs.RANK_CAUSE_NEVER_STARTED,
        detail="it was never launched",
    )
    return RankView(view.rank, view.node, Standing.OVER, status)


def phase_of(views: list[RankView], launching: bool) -> sitelink.AttemptPhase:
    """The phase of an attempt that is to run and is not over."""
    phases = {view.status.phase for view in views}
    if phases <= {jobs.RANK_PHASE_RUNNING, jobs.RANK_PHASE_OVER}:
        return sitelink.ATTEMPT_PHASE_RUNNING
    if phases == {jobs.RANK_PHASE_UNSPECIFIED} and not launching:
        return sitelink.ATTEMPT_PHASE_ACCEPTED
    return sitelink.ATTEMPT_PHASE_STARTING


def said(
    row: DesiredAttempt,
    views: list[RankView],
    phase: sitelink.AttemptPhase,
    reason: str = "",
    detail: str = "",
) -> AttemptReport:
    """A report on an attempt, with every rank that anything is known of."""
    return AttemptReport(
        job_id=row.job_id,
        attempt=row.attempt,
        phase=phase,
        ranks=[view.status for view in views if view.standing is not Standing.ABSENT],
        reason=reason,
        detail=detail,
    )


def concluded(row: DesiredAttempt, views: list[RankView], memory: Memory) -> AttemptReport:
    """The final word on an attempt, every rank of which is over.

    A loss outweighs the failures it causes: when a node goes, its peers exit with errors of their
    own, and the job must not be blamed for it.
    """
    if memory.verdict is not None:
        return said(row, views, memory.verdict.phase, memory.verdict.reason, memory.verdict.detail)
    for view in views:
        if why := loss_of(view):
            detail = f"rank {view.rank.number} on {view.rank.slot}: {view.status.detail}"
            return said(row, views, sitelink.ATTEMPT_PHASE_LOST, why, detail)
    return said(row, views, sitelink.ATTEMPT_PHASE_ENDED)


def loss_of(view: RankView) -> str:
    """How the site lost this rank, as a reason; empty if it did not."""
    if view.status.cause == jobs.RANK_CAUSE_FENCE:
        return "NODE_RUNTIME_LOST"
    lost = view.status.cause == jobs.RANK_CAUSE_LOST
    if view.rebooted and (lost or view.status.cause == jobs.RANK_CAUSE_NEVER_STARTED):
        return "NODE_LOST"
    return "RANK_LOST" if lost else ""


def undesired(
    key: str, ranks: list[jobs.RankStatus], phase: sitelink.AttemptPhase
) -> AttemptReport:
    """A report on an attempt that this site knows of and nobody desires here."""
    job_id, _, attempt = key.rpartition(".")
    return AttemptReport(
        job_id=job_id,
        attempt=int(attempt),
        phase=phase,
        ranks=ranks,
        detail="known to this site, and not desired here",
    )
