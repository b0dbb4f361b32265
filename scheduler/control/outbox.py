"""What a site is told: every row newer than what it has, each with its whole launch.

Launches are not stored. They are built from the spec, the placement and the policy in force, so
that an erased spec is nowhere else, and a site that asks again gets what holds now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from scheduler.control.life import stop_grace_ms
from scheduler.model.fleet import Isolation
from scheduler.model.ids import AttemptKey, SiteId
from scheduler.model.job import Attempt, JobSpec, OnPartition
from scheduler.model.residency import Policy
from scheduler.model.sitelink import Desired, DesiredAction, DesiredAttempt, Launch
from scheduler.store.records import OutboxRow
from scheduler.store.store import Snapshot

ROWS_MAX = 2_000
"""Rows of one message, except that a snapshot from 0 is never cut: what it lacks is not desired."""
BYTES_MAX = 24 << 20
"""Commands and environments of one message, with the same exception: far below what a site accepts,
or one tenant's large specifications would keep everybody else's from it."""


def desired(read: Snapshot, site: SiteId, from_generation: int, epoch: int) -> Desired | None:
    """What `site` lacks, given that it has `from_generation`; None when it lacks nothing.

    A site that has more than was ever given out is told everything anew.
    """
    newest = read.fleet.contact(site).generation
    if from_generation > newest:
        from_generation = 0
    if from_generation == newest:
        return None
    rows = read.outbox.since(site, from_generation)
    to_generation = newest
    if from_generation and len(rows) > ROWS_MAX:
        to_generation = sorted(row.generation for row in rows)[ROWS_MAX - 1]
        rows = tuple(row for row in rows if row.generation <= to_generation)
    attempts = _attempts(read, site, rows)
    if from_generation:
        to_generation = _that_fits(attempts, to_generation)
        attempts = tuple(row for row in attempts if row.generation <= to_generation)
    return Desired(epoch, from_generation, to_generation, attempts)


def _that_fits(attempts: Sequence[DesiredAttempt], to_generation: int) -> int:
    """The last generation up to which all fits into a message, but the first one in any case."""
    bytes_of: Counter[int] = Counter()
    for row in attempts:
        bytes_of[row.generation] += _bytes_of(row.launch)
    total, fits = 0, 0
    for generation in sorted(bytes_of):
        total += bytes_of[generation]
        if fits and total > BYTES_MAX:
            return fits
        fits = generation
    return to_generation


def _bytes_of(launch: Launch | None) -> int:
    if launch is None:
        return 0
    texts = (*launch.command, *(text for pair in launch.env for text in pair))
    return sum(len(text.encode()) for text in texts)


def _attempts(
    read: Snapshot, site: SiteId, rows: tuple[OutboxRow, ...]
) -> tuple[DesiredAttempt, ...]:
    wanted = [row.key.job for row in rows if row.action is not DesiredAction.FORGET]
    jobs = tuple(read.jobs.rows(wanted).values())
    attempts = {
        attempt.key: (attempt, job.spec)
        for job in read.jobs.whole(jobs, with_spec=True)
        for attempt in job.attempts
        if attempt.site == site
    }
    declared = read.fleet.site(site)
    floor = Isolation.UNSPECIFIED if declared is None else declared.min_isolation
    policy = read.tenancy.policy()
    return tuple(
        DesiredAttempt(
            key=row.key,
            generation=row.generation,
            action=row.action,
            stop_grace_ms=row.grace_ms,
            stop_reason=row.reason,
            launch=_launch_of(row, attempts, policy, floor),
        )
        for row in rows
    )


def _launch_of(
    row: OutboxRow,
    attempts: Mapping[AttemptKey, tuple[Attempt, JobSpec | None]],
    policy: Policy,
    floor: Isolation,
) -> Launch | None:
    """None for what is to be forgotten, and where a STOP is for something never placed there."""
    if row.action is DesiredAction.FORGET or row.key not in attempts:
        return None
    attempt, spec = attempts[row.key]
    if spec is None:
        return None
    return launch(spec, attempt, policy, floor)


def launch(spec: JobSpec, attempt: Attempt, policy: Policy, floor: Isolation) -> Launch:
    """All that a site is told about a job: neither its name nor its tenant."""
    resources = spec.resources
    per_gpu = resources.tasks_per_gpu and resources.gpus_per_node > 0
    return Launch(
        command=spec.command,
        env=spec.env,
        bundle_digest=spec.bundle_digest,
        nodes=attempt.placement.nodes,
        tasks_per_node=resources.gpus_per_node if per_gpu else resources.tasks_per_node,
        gpus_per_node=resources.gpus_per_node,
        gpu_share_milli=resources.gpu_share_milli,
        time_limit_ms=spec.time_limit_ms,
        stop_grace_ms=stop_grace_ms(spec),
        signal_before_end=spec.signal_before_end,
        leased=spec.on_partition is OnPartition.REQUEUE,
        min_isolation=max(Isolation(policy.min_isolation), floor),
        residency=spec.residency,
        policy_revision=policy.revision,
        controlling_stake_milli_percent=policy.controlling_stake_milli_percent,
        secrets=spec.secrets,
        image=spec.image,
    )
