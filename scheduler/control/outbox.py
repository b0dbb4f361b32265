"""What a site is told: every row newer than what it has, each with its whole launch.

Launches are not stored. They are built from the spec, the placement and the policy in force, so
that an erased spec is nowhere else, and a site that asks again gets what holds now. So are grants:
what is to run is granted if it may be there by now, and its site starts nothing without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.control.life import stop_grace_ms
from scheduler.control.requirements import effective, launch_inputs
from scheduler.core.job_ids import JobIdCodec
from scheduler.core.residency import asked_of, permits, under
from scheduler.model.fleet import Isolation, Site
from scheduler.model.ids import AttemptKey, SiteId
from scheduler.model.job import Attempt, Job, JobKind, JobSpec, OnPartition
from scheduler.model.residency import Permit, Policy
from scheduler.model.sitelink import Desired, DesiredAction, DesiredAttempt, Launch
from scheduler.store import secrets
from scheduler.store.records import OutboxRow
from scheduler.store.store import Snapshot
from scheduler.wire.grants import Granter
from sovshared import sealing

ROWS_MAX = 2_000
"""Rows of one message."""
BYTES_MAX = 24 << 20
"""Commands and environments of one message: far below what a site accepts, or one tenant's large
specifications would keep everybody else's from it."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What telling takes besides what is stored."""

    codec: JobIdCodec
    granter: Granter
    epoch: int
    now_ms: int
    rows_max: int = ROWS_MAX


def desired(
    read: Snapshot, sending: Sending, site: SiteId, from_generation: int
) -> tuple[Desired, ...]:
    """What `site` lacks, given that it has `from_generation`; nothing when it lacks nothing.

    One message, up to the generation that fits into it. But what a snapshot from 0 lacks is not
    desired: one that does not fit is several parts, and the site acts once it has them all.
    A site that has more than was ever given out is told everything anew.
    """
    newest = read.fleet.contact(site).generation
    if from_generation > newest:
        from_generation = 0
    if from_generation == newest:
        return ()
    rows = read.outbox.since(site, from_generation)
    if from_generation == 0:
        attempts = _attempts(read, sending, site, rows)
        return _snapshot(sending.epoch, newest, attempts, sending.rows_max)
    to_generation = newest
    if len(rows) > sending.rows_max:
        to_generation = sorted(row.generation for row in rows)[sending.rows_max - 1]
        rows = tuple(row for row in rows if row.generation <= to_generation)
    attempts = _attempts(read, sending, site, rows)
    to_generation = _that_fits(attempts, to_generation)
    attempts = tuple(row for row in attempts if row.generation <= to_generation)
    return (Desired(sending.epoch, from_generation, to_generation, attempts),)


def _snapshot(
    epoch: int, newest: int, attempts: tuple[DesiredAttempt, ...], rows_max: int
) -> tuple[Desired, ...]:
    """Everything, in one message or in parts. Rows of one epoch up to one generation are always
    the same, except that forgotten ones may be dropped: so a site that counts them knows when it
    has all, from whichever sending each part came."""
    parts: list[list[DesiredAttempt]] = [[]]
    room = BYTES_MAX
    for row in attempts:
        size = _bytes_of(row.launch)
        if parts[-1] and (size > room or len(parts[-1]) >= rows_max):
            parts.append([])
            room = BYTES_MAX
        parts[-1].append(row)
        room -= size
    total = len(attempts) if len(parts) > 1 else 0
    return tuple(Desired(epoch, 0, newest, tuple(part), total) for part in parts)


def _that_fits(attempts: Sequence[DesiredAttempt], to_generation: int) -> int:
    """The last generation up to which all fits into a message, but the first one in any case:
    what shares a generation fits (`store.outbox.ROWS_OF_GENERATION_MAX`)."""
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
    sealed = sum(len(value) for _, value in launch.sealed_secrets)
    return sealed + sum(len(text.encode()) for text in texts)


def _attempts(
    read: Snapshot, sending: Sending, site: SiteId, rows: tuple[OutboxRow, ...]
) -> tuple[DesiredAttempt, ...]:
    wanted = [row.key.job for row in rows if row.action is not DesiredAction.FORGET]
    jobs = tuple(read.jobs.rows(wanted).values())
    attempts = {
        attempt.key: (attempt, _told(job, sending.codec))
        for job in read.jobs.whole(jobs, with_spec=True)
        for attempt in job.attempts
        if attempt.site == site
    }
    declared = read.fleet.site(site)
    floor = Isolation.UNSPECIFIED if declared is None else declared.min_isolation
    policy = read.tenancy.policy()
    specs = [spec for _, spec in attempts.values() if spec is not None]
    sealed = secrets.sealed(read, (name for spec in specs for _, name in spec.secrets))
    told = (
        DesiredAttempt(
            key=row.key,
            generation=row.generation,
            action=row.action,
            stop_grace_ms=row.grace_ms,
            stop_reason=row.reason,
            launch=_launch_of(read, row, attempts, policy, floor, sealed),
        )
        for row in rows
    )
    if declared is None:
        return tuple(told)
    agreed = read.tenancy.agreements.admitted([row.key for row in rows])
    return tuple(_granted(row, sending, declared, policy, agreed.get(row.key, "")) for row in told)


def _granted(
    row: DesiredAttempt, sending: Sending, site: Site, policy: Policy, agreement: str
) -> DesiredAttempt:
    """The row with its grant, if it is to run and may be there by now, under the `agreement` that
    admitted it."""
    launch = row.launch
    if row.action is not DesiredAction.RUN or launch is None:
        return row
    asked = under(launch.residency, agreement)
    if not isinstance(permits(asked, site, policy, sending.now_ms), Permit):
        return row
    job_id = sending.codec.encode(row.key.job)
    grant = sending.granter.grant(
        job_id,
        launch,
        attempt=row.key.attempt,
        site=site.id,
        generation=row.generation,
        now_ms=sending.now_ms,
    )
    return replace(row, launch=replace(launch, grant=grant))


def _launch_of(
    read: Snapshot,
    row: OutboxRow,
    attempts: Mapping[AttemptKey, tuple[Attempt, JobSpec | None]],
    policy: Policy,
    floor: Isolation,
    sealed: Mapping[str, bytes],
) -> Launch | None:
    """None for what is to be forgotten, and where a STOP is for something never placed there."""
    if row.action is DesiredAction.FORGET or row.key not in attempts:
        return None
    attempt, spec = attempts[row.key]
    if spec is None:
        return None
    told = launch(spec, attempt, policy, floor)
    if spec.secrets:
        told = replace(told, sealed_secrets=_sealed(spec, sealed))
    if spec.inputs:
        told = replace(told, residency=effective(read, spec), inputs=launch_inputs(read, spec))
    return told


def _told(job: Job, codec: JobIdCodec) -> JobSpec | None:
    """The specification, with what only this task of an array, or replica, is told."""
    spec = job.spec
    if spec is None or job.array_id is None:
        return spec
    if spec.array is not None:
        ours = (
            ("SOV_ARRAY_COUNT", str(spec.array.count)),
            ("SOV_ARRAY_INDEX", str(job.task)),
            ("SOV_ARRAY_JOB_ID", codec.encode(job.array_id)),
        )
    else:
        ours = (
            ("SOV_REPLICA", str(job.task)),
            ("SOV_SERVICE_JOB_ID", codec.encode(job.array_id)),
        )
    return replace(spec, env=tuple(sorted((*spec.env, *ours))))


def _sealed(spec: JobSpec, known: Mapping[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    """The job's secrets as they are now; of one that was removed its node says that it lacks."""
    return tuple((variable, known[name]) for variable, name in spec.secrets if name in known)


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
        gpu_share_milli=resources.milli_each(),
        mig_profile=resources.mig_profile,
        time_limit_ms=spec.time_limit_ms,
        stop_grace_ms=stop_grace_ms(spec),
        signal_before_end=spec.signal_before_end,
        leased=spec.on_partition is OnPartition.REQUEUE,
        min_isolation=max(Isolation(policy.min_isolation), floor),
        residency=asked_of(spec),
        policy_revision=policy.revision,
        controlling_stake_milli_percent=policy.controlling_stake_milli_percent,
        secrets=tuple((variable, sealing.opaque(name)) for variable, name in spec.secrets),
        key_ticket=spec.key_ticket,
        image=spec.image,
        egress=spec.egress,
        outputs=spec.outputs,
        ray=spec.kind is JobKind.RAY,
    )
