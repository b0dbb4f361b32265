"""What a site should do next: desired rows against what is observed, as pure decisions.

For each attempt: look at its ranks. All over: say how it ended, give the reservation back.
Something is wrong, or it is no longer wanted: stop every rank that may live, and say nothing final
before all are over. Wanted and not all there: launch it, which is safe to repeat. Otherwise: let it
run.

Three rules carry the safety of it. A rank is over only when its node's spool says so (a key that
never started is given up there first), or when it is certain that it was never launched. What an
unreachable node may run is never concluded, only waited for. And what nobody desires is stopped
only once something is known of what is desired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.site.state import (
    ORDER,
    Action,
    Archive,
    Drop,
    GiveUp,
    Memory,
    Observed,
    Progress,
    Release,
    Report,
    Start,
    StopRank,
    Verdict,
    ranks_of,
)
from agent.site.view import (
    RankView,
    SpoolIndex,
    Standing,
    all_ranks,
    concluded,
    index,
    look,
    never_started,
    phase_of,
    said,
    undesired,
)
from sovapi.v1 import jobs_pb2 as jobs
from sovapi.v1 import sitelink_pb2 as sitelink
from sovapi.v1.sitelink_pb2 import DesiredAttempt

START_PATIENCE_MS = 180_000  # An attempt that has not fully started by then is given up.
START_TRIES_MAX = 6
UNDESIRED_GRACE_MS = 10_000  # For what runs although nobody desires it.
UNDESIRED_PATIENCE_MS = 30_000  # After a start, node agents get this long to tell of their ranks.


def reconcile(desired: Mapping[str, DesiredAttempt], observed: Observed) -> tuple[Action, ...]:
    """Actions that bring the site to `desired`, stops first, and a report on each attempt."""
    spooled = index(observed)
    actions: list[Action] = []
    for key in sorted(desired):
        row = desired[key]
        if row.action == sitelink.DESIRED_ACTION_FORGET:
            actions += forget(key, spooled, observed)
        else:
            actions += pursue(key, row, spooled, observed)
    if observed.generation > 0:  # An empty journal knows nothing of what is desired.
        reserved = observed.reservations or frozenset[str]()
        for key in sorted((spooled.keys() | reserved) - desired.keys()):
            actions += end_undesired(key, spooled, observed)
    return tuple(sorted(actions, key=lambda action: ORDER.index(type(action))))


def pursue(
    key: str, row: DesiredAttempt, spooled: SpoolIndex, observed: Observed
) -> Iterator[Action]:
    """One attempt that is to run or to stop."""
    memory = observed.memory.get(key, Memory())
    ranks = all_ranks(ranks_of(key, row.launch), key, spooled)
    views = [look(rank, memory, observed) for rank in ranks]
    own, strays = split(views, row)
    stop_wanted = row.action == sitelink.DESIRED_ACTION_STOP
    stopping = stop_wanted or memory.verdict is not None
    if stopping and never_launched(key, views, memory, observed):
        views = own = [never_started(view) for view in own]
    if all(view.standing is Standing.OVER for view in views):
        yield from release(key, observed)
        yield Report(key, concluded(row, own, memory))
    elif stopping or any(view.failed or unfit(view, observed) for view in own):
        grace_ms = row.stop_grace_ms if stop_wanted else row.launch.stop_grace_ms
        yield from stop_all(views, grace_ms, observed)
        yield Report(key, said(row, own, sitelink.ATTEMPT_PHASE_STOPPING))
    else:
        yield from stop_all(strays, UNDESIRED_GRACE_MS, observed)
        yield from start_or_adopt(key, own, memory, observed)
        yield Report(key, said(row, own, phase_of(own, key in observed.launching)))


def split(views: list[RankView], row: DesiredAttempt) -> tuple[list[RankView], list[RankView]]:
    """The ranks on the attempt's own nodes, and those that other nodes tell of.

    The latter are stopped and waited for, but a node says nothing about the fate of work that is
    not its own.
    """
    places = {node.slot for node in row.launch.nodes}
    if not places:
        return views, []
    own = [view for view in views if view.rank.slot in places]
    return own, [view for view in views if view.rank.slot not in places]


def never_launched(key: str, views: list[RankView], memory: Memory, observed: Observed) -> bool:
    """Whether it is certain that no launch of this attempt was ever under way."""
    untouched = not memory.boots and not memory.unsure and key not in observed.launching
    return untouched and all(view.standing is Standing.ABSENT for view in views)


def unfit(view: RankView, observed: Observed) -> bool:
    """Whether a rank may live on a node that can be spoken to and whose raylet is dead."""
    dead_ms = view.node.runtime_dead_ms or 0
    out_of_grace = dead_ms > observed.runtime_grace_ms
    return view.standing is not Standing.OVER and view.node.known and out_of_grace


def stop_all(views: list[RankView], grace_ms: int, observed: Observed) -> Iterator[Action]:
    """Stop whatever is not over, give up what has not begun; wait for nodes out of reach."""
    for view in views:
        if view.standing is not Standing.OVER and view.node.known:
            cause = jobs.RANK_CAUSE_FENCE if unfit(view, observed) else jobs.RANK_CAUSE_STOP
            yield StopRank(view.rank.slot, view.rank.key, grace_ms, cause)


def start_or_adopt(
    key: str, views: list[RankView], memory: Memory, observed: Observed
) -> Iterator[Action]:
    """An attempt that is to run, with nothing against it."""
    progress = observed.progress.get(key, Progress())
    missing = [v for v in views if v.standing in (Standing.ABSENT, Standing.PREPARED)]
    reserved = observed.reservations is not None and key in observed.reservations
    if key in observed.launching or (not missing and reserved):
        return
    if missing and (failure := hopeless(progress)) is not None:
        # A rank that may run on a node out of reach is waited for, however long.
        if all(view.node.known for view in missing) or not (memory.boots or memory.unsure):
            yield GiveUp(key, failure.reason, failure.detail)
        return
    reachable = all(view.node.known and view.node.runtime_dead_ms == 0 for view in views)
    if reachable and observed.reservations is not None and progress.may_try:
        yield Start(key, begins=bool(missing))


def hopeless(progress: Progress) -> Verdict | None:
    """Why starting is to be given up, if it is."""
    failed = progress.failure
    if failed is not None and (not progress.retryable or progress.tries >= START_TRIES_MAX):
        return failed
    if progress.waiting_ms > START_PATIENCE_MS:
        detail = f"not started after {progress.waiting_ms // 1000} s"
        return failed or Verdict(sitelink.ATTEMPT_PHASE_FAILED_TO_START, "START_FAILED", detail)
    return None


def release(key: str, observed: Observed) -> Iterator[Action]:
    """Give the reservation back, unless a launch under way might make it again."""
    if key in (observed.reservations or ()) and key not in observed.launching:
        yield Release(key)


def forget(key: str, spooled: SpoolIndex, observed: Observed) -> Iterator[Action]:
    """An attempt whose end is committed: what lives against all expectation is fenced."""
    entries = [entry for entry in spooled.get(key, []) if observed.nodes[entry[0]].known]
    for slot, status in entries:
        rank_key = f"{key}.{status.rank}"
        if status.phase == jobs.RANK_PHASE_OVER:
            yield Archive(slot, rank_key)
        else:
            yield StopRank(slot, rank_key, UNDESIRED_GRACE_MS, jobs.RANK_CAUSE_FENCE)
    if all(status.phase == jobs.RANK_PHASE_OVER for _, status in entries):
        yield from release(key, observed)
    held = key in observed.launching or key in (observed.reservations or ())
    if not entries and not held:
        yield Drop(key)


def end_undesired(key: str, spooled: SpoolIndex, observed: Observed) -> Iterator[Action]:
    """An attempt that this site knows of and nobody desires: stopped, reported, kept till told."""
    entries = spooled.get(key, [])
    for slot, status in entries:
        if status.phase != jobs.RANK_PHASE_OVER and observed.nodes[slot].known:
            rank_key = f"{key}.{status.rank}"
            yield StopRank(slot, rank_key, UNDESIRED_GRACE_MS, jobs.RANK_CAUSE_STOP)
    over = all(status.phase == jobs.RANK_PHASE_OVER for _, status in entries)
    all_told = all(node.known for node in observed.nodes.values())
    settled = over and all_told and observed.age_ms > UNDESIRED_PATIENCE_MS
    if settled:
        yield from release(key, observed)
    if entries:
        phase = sitelink.ATTEMPT_PHASE_ENDED if settled else sitelink.ATTEMPT_PHASE_STOPPING
        yield Report(key, undesired(key, [status for _, status in entries], phase))
