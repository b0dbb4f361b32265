"""What a site is told: every row newer than what it has, each with its whole launch.

Launches are not stored. They are built from the spec, the placement and the policy in force, so
that an erased spec is nowhere else, and a site that asks again gets what holds now.
"""

from __future__ import annotations

from collections.abc import Mapping

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
    return Desired(epoch, from_generation, to_generation, _attempts(read, site, rows))


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
