"""Answers as plain frozen values: what the SDK hands out and `-o json` prints.

The names here are public and stable; docs/cli.md lists them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sovapi.v1 import common_pb2, jobs_pb2

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
"""States that a job never leaves."""


@dataclass(frozen=True, slots=True)
class RankInfo:
    """One process of an attempt. `exit_code` is None while it runs or when a signal ended it."""

    rank: int
    node: str
    phase: str
    exit_code: int | None
    signal: int | None
    cause: str | None
    started_at_ms: int | None
    ended_at_ms: int | None
    log_bytes: int
    detail: str
    denied: int | None = None
    """Tries to reach what the job does not list; None: its network was not its own, or it is not
    over."""


@dataclass(frozen=True, slots=True)
class AttemptInfo:
    """One try at running a job: where it was and how it ended."""

    number: int
    site: str
    country: str
    nodes: tuple[str, ...]
    state: str
    reason: str | None
    message: str
    placed_at_ms: int | None
    started_at_ms: int | None
    ended_at_ms: int | None
    ranks: tuple[RankInfo, ...]


@dataclass(frozen=True, slots=True)
class TasksInfo:
    """The tasks of an array or the replicas of a service, counted. `queued` has those without a
    place, also those whose turn in the array is not near."""

    total: int
    queued: int
    live: int
    succeeded: int
    failed: int
    cancelled: int
    ready: int | None = None
    """Of a service: replicas that do their work, of `total` that there are to be."""

    @property
    def over(self) -> int:
        """How many are over."""
        return self.succeeded + self.failed + self.cancelled


@dataclass(frozen=True, slots=True)
class AwaitedInfo:
    """A job that another waits for, and the state that it must reach."""

    job: str
    state: str


@dataclass(frozen=True, slots=True)
class EffectiveInfo:
    """What must hold of a site by the labels of a job's inputs, and the sites that hold them."""

    jurisdictions: tuple[str, ...]
    tier: str
    markings: tuple[str, ...]
    data_kinds: tuple[str, ...]
    tolerate_foreign_compulsion: tuple[str, ...]
    data_sites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job as the control plane last said. `id` is None for a dry run, which makes no job."""

    id: str | None
    name: str
    tenant: str
    owner: str
    state: str
    reason: str | None
    message: str
    exit_code: int | None
    submitted_at_ms: int | None
    ended_at_ms: int | None
    nodes: int
    gpus: int
    attempts: tuple[AttemptInfo, ...]
    array_id: str | None = None
    task: int | None = None
    tasks: TasksInfo | None = None
    waits_for: tuple[AwaitedInfo, ...] = ()
    estimated_start_ms: int | None = None
    estimated_start_p90_ms: int | None = None
    effective_residency: EffectiveInfo | None = None
    """Where the job reads datasets; None: what it asks for is all."""

    @property
    def label(self) -> str:
        """The id as people read it: a task is JOB[7]."""
        return f"{self.array_id}[{self.task}]" if self.array_id else self.id or "-"

    @property
    def is_over(self) -> bool:
        """Whether the state is final."""
        return self.state in TERMINAL

    @property
    def attempt(self) -> AttemptInfo | None:
        """The latest attempt."""
        return self.attempts[-1] if self.attempts else None


def enum_name(name: str, prefix: str) -> str:
    """`JOB_STATE_RUNNING` as people know it: `RUNNING`."""
    return name.removeprefix(f"{prefix}_")


def state_name(state: jobs_pb2.JobState) -> str:
    """The state's word; a number that this client does not know stays a number."""
    if state in jobs_pb2.JobState.values():
        return enum_name(jobs_pb2.JobState.Name(state), "JOB_STATE")
    return f"STATE_{state}"


def _rank(rank: jobs_pb2.RankStatus) -> RankInfo:
    known_cause = rank.cause in jobs_pb2.RankCause.values() and rank.cause != 0
    known_phase = rank.phase in jobs_pb2.RankPhase.values()
    phase = jobs_pb2.RankPhase.Name(rank.phase) if known_phase else str(rank.phase)
    cause = jobs_pb2.RankCause.Name(rank.cause) if known_cause else ""
    return RankInfo(
        rank=rank.rank,
        node=rank.node,
        phase=enum_name(phase, "RANK_PHASE"),
        exit_code=rank.exit_code if rank.HasField("exit_code") else None,
        signal=rank.signal or None,
        cause=enum_name(cause, "RANK_CAUSE") or None,
        started_at_ms=rank.started_at_ms or None,
        ended_at_ms=rank.ended_at_ms or None,
        log_bytes=rank.log_bytes,
        detail=rank.detail,
        denied=rank.egress.denied if rank.HasField("egress") else None,
    )


def _attempt(attempt: jobs_pb2.Attempt) -> AttemptInfo:
    return AttemptInfo(
        number=attempt.number,
        site=attempt.site,
        country=attempt.country,
        nodes=tuple(attempt.nodes),
        state=state_name(attempt.state),
        reason=attempt.reason or None,
        message=attempt.message,
        placed_at_ms=attempt.placed_at_ms or None,
        started_at_ms=attempt.started_at_ms or None,
        ended_at_ms=attempt.ended_at_ms or None,
        ranks=tuple(_rank(r) for r in sorted(attempt.ranks, key=lambda r: r.rank)),
    )


def _tasks(counts: jobs_pb2.TaskCounts) -> TasksInfo:
    return TasksInfo(
        total=counts.total,
        queued=counts.queued,
        live=counts.live,
        succeeded=counts.succeeded,
        failed=counts.failed,
        cancelled=counts.cancelled,
        ready=counts.ready if counts.HasField("ready") else None,
    )


def job_info(job: jobs_pb2.Job) -> JobInfo:
    """The job as a plain value."""
    resources = job.spec.resources
    return JobInfo(
        id=job.id or None,
        name=job.name,
        tenant=job.tenant,
        owner=job.owner,
        state=state_name(job.state),
        reason=job.reason or None,
        message=job.message,
        exit_code=job.exit_code if job.HasField("exit_code") else None,
        submitted_at_ms=job.submitted_at_ms or None,
        ended_at_ms=job.ended_at_ms or None,
        nodes=resources.nodes,
        gpus=resources.nodes * resources.gpus_per_node,
        attempts=tuple(_attempt(a) for a in sorted(job.attempts, key=lambda a: a.number)),
        array_id=job.array_id or None,
        task=job.task if job.HasField("task") else None,
        tasks=_tasks(job.tasks) if job.HasField("tasks") else None,
        waits_for=tuple(AwaitedInfo(d.job, state_name(d.state)) for d in job.waits_for),
        estimated_start_ms=job.estimated_start_ms or None,
        estimated_start_p90_ms=job.estimated_start_p90_ms or None,
        effective_residency=(
            _effective(job.effective_residency) if job.HasField("effective_residency") else None
        ),
    )


def _effective(found: jobs_pb2.ResidencyRequirement) -> EffectiveInfo:
    return EffectiveInfo(
        jurisdictions=tuple(found.jurisdictions),
        tier=enum_name(common_pb2.Tier.Name(found.tier), "TIER"),
        markings=tuple(found.markings),
        data_kinds=tuple(found.data_kinds),
        tolerate_foreign_compulsion=tuple(found.tolerate_foreign_compulsion),
        data_sites=tuple(found.data_sites.sites),
    )
