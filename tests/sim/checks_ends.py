"""Checkers over how jobs ended: what tenants are told must be what their processes did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tests.sim.ledger import Ledger, Run
from tests.sim.tables import OVER, JobRow, Tables
from tests.sim.workload import Ask

SIGNAL_BASE = 128


def ends_are_true(
    tables: Tables, ledger: Ledger, public: Mapping[int, str], asks: Mapping[int, Ask]
) -> Iterator[str]:
    """State, reason and exit code of each ended job agree with what its ranks did."""
    for number, job in sorted(tables.jobs.items()):
        runs = ledger.of(public[number], job.attempts)
        match job.state:
            case "SUCCEEDED":
                yield from _succeeded(job, runs, asks[number])
            case "FAILED":
                yield from _failed(job, runs)
            case "CANCELLED" if not _may_cancel(job, asks[number]):
                yield f"job {number} is CANCELLED and nobody asked for it"
            case _:
                pass


def _may_cancel(job: JobRow, ask: Ask) -> bool:
    """Whether somebody asked for the end of a job; of a replica, by some change of its service."""
    changes = ask.wish.changes if job.service is not None and ask.wish is not None else ()
    return ask.cancel_asked or bool(changes)


def _succeeded(job: JobRow, runs: list[Run], ask: Ask) -> Iterator[str]:
    clean = {run.rank for run in runs if run.clean}
    if clean != set(range(ask.shape.ranks)):
        yield f"job {job.id} SUCCEEDED, but only ranks {sorted(clean)} of {ask.shape.ranks} did"
    if job.exit_code != 0:
        yield f"job {job.id} SUCCEEDED with exit code {job.exit_code}"


def _failed(job: JobRow, runs: list[Run]) -> Iterator[str]:
    exits = {r.exit_code for r in runs if r.why == "exit" and not r.signal}
    signals = {SIGNAL_BASE + r.signal for r in runs if r.why == "exit" and r.signal}
    limits = {r.rank for r in runs if r.why == "time_limit"}
    if job.reason == "EXIT_NONZERO" and job.exit_code not in exits - {0}:
        yield f"job {job.id} FAILED with exit code {job.exit_code}, its ranks exited with {exits}"
    if job.reason == "SIGNALLED" and job.exit_code not in signals:
        yield f"job {job.id} FAILED with code {job.exit_code}, its ranks with {signals}"
    if job.reason == "TIME_LIMIT" and not limits:
        yield f"job {job.id} FAILED by its time limit, which no rank reached"
    if not job.reason:
        yield f"job {job.id} FAILED without a reason"


def clean_work_counts(
    tables: Tables, ledger: Ledger, public: Mapping[int, str], asks: Mapping[int, Ask]
) -> Iterator[str]:
    """What ran to a clean end on every rank is not run again, and its job has succeeded.

    Excepted is work under a lease: its site may be out of reach for longer than the lease; and a
    replica of a service, which is started again.
    """
    for number, job in sorted(tables.jobs.items()):
        if asks[number].leased or job.service is not None:
            continue
        for attempt in range(1, job.attempts + 1):
            clean = {run.rank for run in ledger.of(public[number], attempt) if run.clean}
            if clean != set(range(asks[number].shape.ranks)):
                continue
            if attempt < job.attempts:
                yield f"job {number} ran cleanly in attempt {attempt} of {job.attempts}"
            elif job.state in OVER and job.state != "SUCCEEDED":
                yield f"job {number} ran cleanly and is {job.state}"


def nothing_is_lost(
    tables: Tables, row_ids: Mapping[str, int], asks: Iterable[Ask]
) -> Iterator[str]:
    """Every accepted job is there, and no job is there that nobody submitted."""
    accepted = {row_ids[ask.job] for ask in asks if ask.job is not None}
    for number in sorted(accepted - tables.jobs.keys()):
        yield f"job {number} was accepted and is gone"
    own = {number for number, job in tables.jobs.items() if job.service in accepted}
    unknown = sorted(tables.jobs.keys() - accepted - own)
    for number in unknown:
        yield f"job {number} of {tables.jobs[number].tenant} is there and was never answered for"


def refusals_are_right(asks: Iterable[Ask]) -> Iterator[str]:
    """What can never run is refused at the door."""
    for ask in asks:
        if ask.impossible and ask.job is not None:
            yield f"submission {ask.number} was accepted although {ask.impossible}"


def everything_ended(tables: Tables, may_wait: Mapping[int, str]) -> Iterator[str]:
    """With faults off, every job ends, unless there is a true reason why it has to wait."""
    for number, job in sorted(tables.jobs.items()):
        if job.state not in OVER and not (job.state == "QUEUED" and may_wait.get(number)):
            yield f"job {number} is still {job.state} ({job.reason} {job.message})"


def canaries_kept(
    seen: Mapping[str, set[str]], asks: Iterable[Ask], sites_of: Mapping[str, set[str]]
) -> Iterator[str]:
    """No site ever got a byte of the environment or arguments of a job that was never placed
    there; the name goes to no site at all. `seen`: by canary, the sites whose sessions carried it.
    """
    for ask in asks:
        placed = sites_of.get(ask.job or "", set[str]())
        for canary in ask.canaries:
            allowed = set[str]() if "-name-" in canary else placed
            for site in sorted(seen.get(canary, set[str]()) - allowed):
                yield f"{site} was sent {canary} of a job that was never placed there"
