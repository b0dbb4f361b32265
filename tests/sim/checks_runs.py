"""Checkers over the ledger: what really ran, compared with what was asked for and permitted.

Each is a function from facts to sentences, one per violation; none knows the code under test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.sim.ledger import Ledger, Run
from tests.sim.truth import History
from tests.sim.workload import Ask

LAUNCH_MS_MAX = 100_000
"""A rank starts at most so long after its site agent's last look at the facts: two steps of a
launch, and one late call."""
NEVER_MS = 1 << 60

Disturbed = Mapping[str, Sequence[tuple[int, int]]]
"""Per site, the spans in which something was done to it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A node's size, as bought."""

    gpus: int


def nothing_ran_twice(ledger: Ledger) -> Iterator[str]:
    """A rank of an attempt is started at most once, ever and anywhere."""
    seen: dict[str, Run] = {}
    for run in ledger.runs:
        if run.key in seen:
            yield f"{run.key} ran at {_where(seen[run.key])} and again at {_where(run)}"
        seen[run.key] = run


def attempts_never_overlap(ledger: Ledger) -> Iterator[str]:
    """Of a job, no process of one attempt lives while one of another does."""
    by_job: defaultdict[str, list[Run]] = defaultdict(list)
    for run in ledger.runs:
        by_job[run.job].append(run)
    for runs in by_job.values():
        for first, second in _overlapping(runs):
            if first.attempt != second.attempt:
                yield f"{first.key} at {_where(first)} overlaps {second.key} at {_where(second)}"


def gpus_never_shared(ledger: Ledger) -> Iterator[str]:
    """A GPU serves one rank at a time, and the shims' locks are never what ensures it."""
    for runs in _by_node(ledger).values():
        for first, second in _overlapping(runs):
            if common := sorted(set(first.gpus) & set(second.gpus)):
                yield f"{first.key} and {second.key} share GPU {common} of {_where(first)}"
    for key in ledger.gpu_conflicts:
        yield f"{key} was started on a GPU that was in use; only its lock prevented that"


def nodes_never_oversubscribed(
    ledger: Ledger, machines: Mapping[tuple[str, str], Machine]
) -> Iterator[str]:
    """Ranks use GPUs that their node has, and together no more than it has."""
    for place, runs in _by_node(ledger).items():
        has = machines[place].gpus
        for run in runs:
            if any(not 0 <= gpu < has for gpu in run.gpus):
                yield f"{run.key} uses GPUs {run.gpus} of {_where(run)}, which has {has}"
            beside = [r for r in runs if r.started_ms <= run.started_ms < _end(r)]
            used = sum(len(r.gpus) for r in beside)
            if used > has:
                yield f"{used} of {has} GPUs of {_where(run)} are in use when {run.key} starts"


def neighbours_agree(ledger: Ledger, asks: Mapping[str, Ask]) -> Iterator[str]:
    """Jobs are on one node together only where the sharing that each asked for allows it."""
    for runs in _by_node(ledger).values():
        for first, second in _overlapping(runs):
            if first.job == second.job:
                continue
            one, other = asks[first.job], asks[second.job]
            kinds = {one.shape.sharing, other.shape.sharing}
            same = one.tenant.split("/")[0] == other.tenant.split("/")[0]
            if "none" in kinds or (not same and kinds != {"any"}):
                yield (
                    f"{first.key} ({one.tenant}, {one.shape.sharing}) and {second.key}"
                    f" ({other.tenant}, {other.shape.sharing}) are both on {_where(first)}"
                )


def nothing_ran_outside(
    ledger: Ledger, asks: Mapping[str, Ask], truth: History, placed_ms: Mapping[str, int]
) -> Iterator[str]:
    """No process starts at a site that its job may not be at, by the oracle.

    Facts are the site's own, as they are when its agent looks at them for the last time, which is
    a bounded time before the start. The law is the operator's, at some instant between the commit
    of the attempt's placement (`placed_ms`, by attempt key) and that look.
    """
    for run in ledger.runs:
        if run.started_ms - run.ordered_ms > LAUNCH_MS_MAX:
            yield f"{run.key} started {run.started_ms - run.ordered_ms} ms after it was ordered"
        since_ms = placed_ms.get(f"{run.job}.{run.attempt}")
        if since_ms is None:
            yield f"{run.key} ran at {_where(run)} and was never placed"
            continue
        laws, need = truth.laws_during(since_ms, run.ordered_ms), asks[run.job].need
        if not truth.permitted_at(need, run.site, run.ordered_ms, laws):
            yield f"{run.key} ran at {_where(run)}, where {need} forbids it"


def gangs_start_whole_or_stop(ledger: Ledger, disturbed: Disturbed, bound_ms: int) -> Iterator[str]:
    """A gang of which one rank runs is complete, or has stopped, after a bounded time.

    The bound counts the time in which nothing was done to the site.
    """
    for runs in _by_attempt(ledger).values():
        if len(runs) == runs[0].world:
            continue
        ends_ms = max(_end(run) for run in runs)
        begins_ms = min(run.started_ms for run in runs)
        calm_ms = _calm_ms(disturbed.get(runs[0].site, ()), begins_ms, ends_ms)
        if calm_ms > bound_ms:
            yield (
                f"{runs[0].job}.{runs[0].attempt}: {len(runs)} of {runs[0].world} ranks ran for"
                f" {calm_ms} undisturbed ms"
            )


def nothing_runs(ledger: Ledger) -> Iterator[str]:
    """At the very end no process is left."""
    for run in ledger.alive():
        yield f"{run.key} still runs at {_where(run)}"


def _by_node(ledger: Ledger) -> dict[tuple[str, str], list[Run]]:
    found: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in ledger.runs:
        found[run.site, run.slot].append(run)
    return dict(sorted(found.items()))


def _by_attempt(ledger: Ledger) -> dict[tuple[str, int], list[Run]]:
    found: defaultdict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in ledger.runs:
        found[run.job, run.attempt].append(run)
    return dict(sorted(found.items()))


def _overlapping(runs: Iterable[Run]) -> Iterator[tuple[Run, Run]]:
    """Pairs that lived at the same time. One that ends when the other starts does not."""
    living: list[Run] = []
    for run in sorted(runs, key=lambda r: r.started_ms):
        living = [other for other in living if _end(other) > run.started_ms]
        for other in living:
            yield other, run
        living.append(run)


def _end(run: Run) -> int:
    return NEVER_MS if run.ended_ms is None else run.ended_ms


def _where(run: Run) -> str:
    return f"{run.site}/{run.slot}@{run.started_ms}"


def _calm_ms(disturbed: Sequence[tuple[int, int]], from_ms: int, to_ms: int) -> int:
    """How much of a span lies outside all the others."""
    calm_ms, at_ms = 0, from_ms
    for begins_ms, ends_ms in sorted(disturbed):
        calm_ms += max(0, min(begins_ms, to_ms) - at_ms)
        at_ms = max(at_ms, min(ends_ms, to_ms))
    return calm_ms + max(0, to_ms - at_ms)
